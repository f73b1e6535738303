// The flags of `latent serve` and what they set. Knows spellings; the command is serve.ts.
import { type Command, Option } from 'commander'
import { parseBytes } from '../model/fields.ts'
import type { Key, ServerOptions } from '../server/server.ts'
import { RequestError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import type { ModelFlags } from './model.ts'
import { collect, defined, numberOf, oneOf, wholeOf } from './parse.ts'

const formats = ['text', 'json', 'none'] as const

export interface ServeFlags extends ModelFlags {
  readonly host: string
  readonly port: number
  readonly allowedOrigins?: readonly string[]
  readonly allowedHosts?: readonly string[]
  readonly sslCertfile?: string
  readonly sslKeyfile?: string
  readonly sslCaCerts?: string
  readonly apiKey?: readonly string[]
  readonly apiKeyFile?: string
  readonly requestsPerMinute?: number
  readonly tokensPerMinute?: number
  readonly servedModelName?: readonly string[]
  readonly maxQueue?: number
  readonly maxBody?: number
  readonly requestTimeout?: number
  readonly strict?: boolean
  readonly warmUp: boolean
  readonly logFormat?: (typeof formats)[number]
  readonly logPrompts?: boolean
  readonly upstream?: readonly string[]
}

export function addServerOptions(command: Command): void {
  const group =
    (heading: string) =>
    (
      flags: string,
      help: string,
      parse?: (text: string, before: never) => unknown,
      fallback?: unknown,
    ): void => {
      const made = new Option(flags, help).helpGroup(heading)
      if (parse) made.argParser(parse as (text: string) => unknown)
      if (fallback !== undefined) made.default(fallback)
      command.addOption(made)
    }
  const many = collect as never
  const net = group('Network:')
  net('--host <address>', 'address to listen at', undefined, '127.0.0.1')
  net('--port <n>', 'port, 0 for a free one', wholeOf('--port', 0), 8000)
  net('--allowed-origins <origin>', 'a page that may call, or * (repeatable)', many)
  net(
    '--allowed-hosts <name>',
    'a name this server goes by; others are refused (repeatable; default: any)',
    many,
  )
  net('--ssl-certfile <file>', 'certificate, for https')
  net('--ssl-keyfile <file>', 'its key')
  net('--ssl-ca-certs <file>', 'authorities')
  const who = group('Who may ask:')
  who('--api-key <key>', 'a key, `name:key`, or `name:sha256:hash` (repeatable; also LATENT_API_KEYS)', many)
  who('--api-key-file <file>', 'keys, one a line')
  who('--requests-per-minute <n>', 'for each key', wholeOf('--requests-per-minute', 1))
  who(
    '--tokens-per-minute <n>',
    'for each key, prompts and answers together',
    wholeOf('--tokens-per-minute', 1),
  )
  const requests = group('Requests:')
  requests('--served-model-name <name>', 'what requests call the model (repeatable; default: its own)', many)
  requests(
    '--max-queue <n>',
    'sequences that may wait; more get 503 (default: 256)',
    wholeOf('--max-queue', 0),
  )
  requests('--max-body <size>', 'largest body of a request (default: 32MiB)', (text) =>
    parseBytes(text, '--max-body'),
  )
  requests(
    '--request-timeout <seconds>',
    'longest an answer may take (default: any)',
    numberOf('--request-timeout'),
  )
  requests('--strict', 'refuse fields that nothing knows')
  requests('--no-warm-up', 'be ready at once; the first answer takes longer')
  const logs = group('Logs, on stderr:')
  logs(
    '--log-format <format>',
    'text, json or none (default: text on a terminal, else json)',
    oneOf('--log-format', formats),
  )
  logs('--log-prompts', 'also what was asked and answered')
  group('Gateway:')(
    '--upstream <url>',
    'pass requests on to this server instead of running a model (repeatable; #key=... for its key)',
    many,
  )
}

/** What the flags say that a server and a gateway share. */
export async function sharedOptions(io: Io, flags: ServeFlags) {
  const { requestTimeout: seconds, requestsPerMinute, tokensPerMinute } = flags
  if (seconds !== undefined && seconds < 0) {
    throw new RequestError(
      `--request-timeout is ${seconds}, wanted seconds from 0 (no limit)`,
      'request_timeout',
    )
  }
  const limited = requestsPerMinute !== undefined || tokensPerMinute !== undefined
  const keys = await readKeys(io, flags)
  return {
    ...defined({
      maxBody: flags.maxBody,
      requestTimeoutMs: seconds === undefined ? undefined : seconds * 1000,
      origins: flags.allowedOrigins,
      hosts: flags.allowedHosts,
      keys: keys.length > 0 ? keys : undefined,
      rates: limited ? { requests: requestsPerMinute ?? null, tokens: tokensPerMinute ?? null } : undefined,
    }),
    report: (error: unknown, id: string): void => {
      if (flags.logFormat !== 'none') return
      io.note(`${id} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    },
  }
}

async function readKeys(io: Io, flags: ServeFlags): Promise<readonly Key[]> {
  const { parseKeys, readKeyFile } = await import('../server/keys.ts')
  const given = (flags.apiKey ?? []).join('\n')
  return [
    ...(given === '' ? [] : parseKeys(given, '--api-key')),
    ...(flags.apiKeyFile === undefined ? [] : readKeyFile(flags.apiKeyFile)),
    ...(io.env.LATENT_API_KEYS ? parseKeys(io.env.LATENT_API_KEYS, 'LATENT_API_KEYS') : []),
  ]
}

export function logOptions(io: Io, flags: ServeFlags): Pick<ServerOptions, 'log'> {
  const format = flags.logFormat ?? (io.live ? 'text' : 'json')
  if (format === 'none') return {}
  return { log: { write: (line) => io.note(line), format, prompts: flags.logPrompts ?? false } }
}

export function tlsOf({ sslCertfile: cert, sslKeyfile: key, sslCaCerts: ca }: ServeFlags) {
  if (cert === undefined && key === undefined) return undefined
  if (cert !== undefined && key !== undefined) return { cert, key, ...(ca !== undefined && { ca }) }
  throw new RequestError('https needs both --ssl-certfile and --ssl-keyfile')
}
