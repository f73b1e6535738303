// `latent serve`: a server that stays up, says what is active in one line, and stops without cutting answers: over a
// model, or over other servers (--upstream). Knows flags and signals; HTTP is src/server.
import type { Command } from 'commander'
import type { LLM } from '../llm/load.ts'
import { version } from '../llm/version.ts'
import { describeBytes } from '../model/fields.ts'
import type { App } from '../server/app.ts'
import type { Jobs } from '../server/job.ts'
import type { Listening } from '../server/listen.ts'
import { RequestError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import { addCachingOption, addEngineOptions, addTemplateOption, openModel, sayDemo } from './model.ts'
import { defined } from './parse.ts'
import { addServerOptions, logOptions, type ServeFlags, sharedOptions, tlsOf } from './serving.ts'

const examples = `
Clients use it as they use OpenAI's, with the address as their base URL; /docs lists what there is:
  $ latent serve ./DeepSeek-V2-Lite-Chat --port 8000
  $ curl localhost:8000/v1/chat/completions -d '{"messages":[{"role":"user","content":"Who are you?"}]}'
  $ latent serve --upstream http://gpu1:8000 --upstream http://gpu2:8000 --api-key team:sk-...

The first Ctrl-C (or SIGTERM) lets running answers finish; the second ends them.`

export function addServe(program: Command, io: Io): void {
  const command = program
    .command('serve')
    .summary('an OpenAI-compatible server')
    .description(
      'Serves a model over HTTP, as OpenAI, Anthropic and DeepSeek spell it; or a front for several servers.',
    )
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
    const named = { ...flags, ...defined({ model: model ?? flags.model }) }
    if (flags.upstream === undefined) return serveModel(io, named)
    if (named.model !== undefined) {
      throw new RequestError(`a gateway runs no model itself; leave out '${named.model}' or --upstream`)
    }
    await serveGateway(io, named)
  })
}

async function serveModel(io: Io, flags: ServeFlags): Promise<void> {
  const { createServer } = await import('../server/server.ts')
  const shared = await sharedOptions(io, flags) // a bad flag should not cost the time of loading
  tlsOf(flags)
  const llm = await openModel(io, flags)
  try {
    const { app, jobs, site, warmUp } = createServer(llm, {
      ...defined({ names: flags.servedModelName, maxQueue: flags.maxQueue }),
      ...shared,
      ...logOptions(io, flags),
      strict: flags.strict ?? false,
    })
    await stayUp(io, flags, { app, jobs }, async (at) => {
      if (flags.model === undefined) sayDemo(io)
      if (flags.warmUp) await warmUp()
      const { backend } = await llm.stats()
      return `${site.names[0]} at ${at.url}/v1 · ${[backend, ...features(llm, flags), ...guards(flags, shared)].join(' · ')}`
    })
  } finally {
    await llm.close()
  }
}

async function serveGateway(io: Io, flags: ServeFlags): Promise<void> {
  const { createGateway } = await import('../server/gateway.ts')
  const { createGuard } = await import('../server/server.ts')
  const { readUpstream } = await import('../server/upstream.ts')
  const shared = await sharedOptions(io, flags)
  const { guard, observer } = createGuard(shared)
  const upstreams = (flags.upstream ?? []).map((url) => readUpstream(url, io.env))
  const gateway = createGateway({ ...shared, upstreams, guard, observers: [observer], version: version() })
  try {
    await gateway.probe()
    await stayUp(io, flags, gateway, async (at) => {
      const marks = gateway.upstreams.map(({ name, mark }) => `${name} ${mark}`)
      return `gateway at ${at.url}/v1 · ${[...marks, ...guards(flags, shared)].join(' · ')}`
    })
  } finally {
    gateway.close()
  }
}

/** Listens, says the one line that tells what is active, and returns when the last answer after a stop has ended. */
async function stayUp(
  io: Io,
  flags: ServeFlags,
  { app, jobs }: { readonly app: App; readonly jobs: Jobs },
  ready: (at: Listening) => Promise<string>,
): Promise<void> {
  const { listen } = await import('../server/listen.ts')
  const at = await listen(app, { host: flags.host, port: flags.port, tls: tlsOf(flags) })
  const stopped = untilStopped(io, jobs, at)
  await io.write(`${await ready(at)}\n`)
  await stopped
}

const whole = (count: number): string => count.toLocaleString('en')

function features({ limits }: LLM, flags: ServeFlags): readonly string[] {
  return [
    `context ${whole(limits.max_model_len)} tokens`,
    `cache ${whole(limits.cache_tokens)} tokens (${describeBytes(limits.cache_bytes)} of ${flags.kvDtype ?? 'f32'})`,
    `${limits.max_num_seqs} sequences at a time`,
    flags.prefixCaching === false ? 'no prefix cache' : 'prefix cache',
  ]
}

function guards(flags: ServeFlags, { keys }: { readonly keys?: readonly unknown[] }): readonly string[] {
  const far = !['127.0.0.1', 'localhost', '::1'].includes(flags.host)
  return [
    ...(keys
      ? [`${keys.length} ${keys.length === 1 ? 'key' : 'keys'}`]
      : far
        ? ['open to everyone, no keys']
        : []),
    ...(flags.strict ? ['strict'] : []),
  ]
}

function untilStopped(io: Io, jobs: Jobs, at: Listening): Promise<void> {
  return new Promise((resolve) => {
    let asked = false
    const stop = (): void => {
      if (asked) {
        jobs.abortAll(new DOMException('the server stops', 'AbortError'))
        at.closeNow()
        return
      }
      asked = true
      if (jobs.running > 0) {
        io.note(`latent: stopping; answers still being written: ${jobs.running} (Ctrl-C again ends them)`)
      }
      void jobs
        .drain()
        .then(() => at.close())
        .then(resolve)
    }
    io.onInterrupt(stop)
    io.onTerminate(stop)
  })
}
