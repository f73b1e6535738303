// `latent serve`: flags -> a server that stays up, says what is active in one line, and stops without cutting answers.
// Knows flags and signals; HTTP is src/server.
import { type Command, Option } from 'commander'
import type { LLM } from '../llm/load.ts'
import { describeBytes, parseBytes } from '../model/fields.ts'
import type { Listening } from '../server/listen.ts'
import type { Server } from '../server/server.ts'
import { RequestError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import {
  addCachingOption,
  addEngineOptions,
  addTemplateOption,
  type ModelFlags,
  openModel,
  sayDemo,
} from './model.ts'
import { collect, defined, numberOf, wholeOf } from './parse.ts'

interface ServeFlags extends ModelFlags {
  readonly host: string
  readonly port: number
  readonly servedModelName?: readonly string[]
  readonly allowedOrigins?: readonly string[]
  readonly maxQueue?: number
  readonly maxBody?: number
  readonly requestTimeout?: number
  readonly sslCertfile?: string
  readonly sslKeyfile?: string
  readonly sslCaCerts?: string
  readonly strict?: boolean
  readonly warmUp: boolean
}

const examples = `
Clients use it as they use OpenAI's, with the address as their base URL:
  $ latent serve --model ./DeepSeek-V2-Lite-Chat --port 8000
  $ curl localhost:8000/v1/chat/completions -d '{"messages":[{"role":"user","content":"Who are you?"}]}'

The first Ctrl-C (or SIGTERM) lets running answers finish; the second ends them.`

export function addServe(program: Command, io: Io): void {
  const command = program
    .command('serve')
    .summary('an OpenAI-compatible server')
    .description('Serves a model over HTTP, as OpenAI, Anthropic and DeepSeek spell it.')
    .argument('[model]', 'folder, hub name or `demo` (or --model)')
    .option('-m, --model <model>', 'the same as the argument')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
  addServerOptions(command)
  addTemplateOption(command)
  addCachingOption(addEngineOptions(command))
  command.addHelpText('after', examples).action(async (model: string | undefined, flags: ServeFlags) => {
    if (model !== undefined && flags.model !== undefined && model !== flags.model) {
      throw new RequestError(`two models are named, '${model}' and '${flags.model}'; name one`)
    }
    await serve(io, { ...flags, ...defined({ model: model ?? flags.model }) })
  })
}

function addServerOptions(command: Command): void {
  const option = (
    group: string,
    flags: string,
    help: string,
    parse?: (text: string, before: never) => unknown,
  ): void => {
    const made = new Option(flags, help).helpGroup(group)
    command.addOption(parse ? made.argParser(parse as (text: string) => unknown) : made)
  }
  const net = 'Network:'
  command.addOption(
    new Option('--host <address>', 'address to listen at').default('127.0.0.1').helpGroup(net),
  )
  command.addOption(
    new Option('--port <n>', 'port, 0 for a free one')
      .argParser(wholeOf('--port', 0))
      .default(8000)
      .helpGroup(net),
  )
  option(net, '--allowed-origins <origin>', 'a page that may call, or * (repeatable)', collect as never)
  option(net, '--ssl-certfile <file>', 'certificate, for https')
  option(net, '--ssl-keyfile <file>', 'its key')
  option(net, '--ssl-ca-certs <file>', 'authorities')
  const requests = 'Requests:'
  option(
    requests,
    '--served-model-name <name>',
    'what requests call the model (repeatable; default: its own name)',
    collect as never,
  )
  option(
    requests,
    '--max-queue <n>',
    'sequences that may wait; more get 503 (default: 256)',
    wholeOf('--max-queue', 0),
  )
  option(requests, '--max-body <size>', 'largest body of a request (default: 32MiB)', (text) =>
    parseBytes(text, '--max-body'),
  )
  option(
    requests,
    '--request-timeout <seconds>',
    'longest an answer may take (default: no limit)',
    numberOf('--request-timeout'),
  )
  option(requests, '--strict', 'refuse fields that nothing knows')
  option(requests, '--no-warm-up', 'be ready at once; the first answer takes longer')
}

async function serve(io: Io, flags: ServeFlags): Promise<void> {
  const tls = tlsOf(flags)
  const { createServer } = await import('../server/server.ts')
  const { listen } = await import('../server/listen.ts')
  const llm = await openModel(io, flags)
  try {
    const server = createServer(llm, {
      ...defined({
        names: flags.servedModelName,
        maxQueue: flags.maxQueue,
        maxBody: flags.maxBody,
        origins: flags.allowedOrigins,
        requestTimeoutMs: flags.requestTimeout === undefined ? undefined : flags.requestTimeout * 1000,
      }),
      strict: flags.strict ?? false,
      report: (error, id) =>
        io.note(`${io.err.red('error')} ${id} ${error instanceof Error ? error.stack : String(error)}`),
    })
    const at = await listen(server.app, { host: flags.host, port: flags.port, tls })
    if (flags.model === undefined) sayDemo(io)
    if (flags.warmUp) await server.warmUp()
    await io.write(`${describe(llm, server, at)}\n`)
    await untilStopped(io, server, at)
  } finally {
    await llm.close()
  }
}

function tlsOf({ sslCertfile: cert, sslKeyfile: key, sslCaCerts: ca }: ServeFlags) {
  if (cert === undefined && key === undefined) return undefined
  if (cert !== undefined && key !== undefined) return { cert, key, ...(ca !== undefined && { ca }) }
  throw new RequestError('https needs both --ssl-certfile and --ssl-keyfile')
}

const whole = (count: number): string => count.toLocaleString('en')

/** The one line that says what is active. */
function describe(llm: LLM, { site }: Server, { url }: Listening): string {
  const { limits } = llm
  return [
    `${site.names[0]} at ${url}/v1`,
    `context ${whole(limits.max_model_len)} tokens`,
    `cache ${whole(limits.cache_tokens)} tokens (${describeBytes(limits.cache_bytes)})`,
    `${limits.max_num_seqs} sequences at a time`,
    ...(site.strict ? ['strict'] : []),
  ].join(' · ')
}

function untilStopped(io: Io, { jobs }: Server, at: Listening): Promise<void> {
  return new Promise((resolve) => {
    let asked = false
    const stop = (): void => {
      if (asked) {
        jobs.abortAll(new DOMException('the server stops', 'AbortError'))
        at.closeNow()
        return
      }
      asked = true
      if (jobs.running > 0)
        io.note(`latent: ${jobs.running} answers are still being written; Ctrl-C again ends them`)
      void jobs
        .drain()
        .then(() => at.close())
        .then(resolve)
    }
    io.onInterrupt(stop)
    io.onTerminate(stop)
  })
}
