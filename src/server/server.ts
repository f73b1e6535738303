// A model and the settings of a server -> its app: the one door for `latent serve` and for programs that mount latent in
// a server of their own.
import type { LLM } from '../llm/load.ts'
import { version } from '../llm/version.ts'
import { type App, createApp, type Guard, type Route, routes } from './app.ts'
import { createJobs, type Jobs, type Observer } from './job.ts'
import { createKeys, type Key } from './keys.ts'
import { createLog, type Log } from './log.ts'
import { createMetrics } from './metrics.ts'
import { createRates, type RateLimits } from './rates.ts'
import { now, type Site } from './site.ts'
import { createStore, type StoreLimits } from './store.ts'

export { hashKey, parseKeys, readKeyFile } from './keys.ts'
export { listen } from './listen.ts'
export type { App, Guard, Key, Observer, RateLimits, Route }
export { routes }

export interface LogSettings {
  readonly write: (line: string) => void
  readonly format: 'json' | 'text'
  /** Also what was asked and answered. */
  readonly prompts?: boolean
}

export interface ServerOptions {
  /** Names that requests may use, the first the one that answers say; default the model's own. */
  readonly names?: readonly string[]
  /** Further names for the same; default DeepSeek's own, `deepseek-chat`. */
  readonly aliases?: readonly string[]
  /** Refuse fields that nothing knows, instead of warning. */
  readonly strict?: boolean
  /** Bytes of a request's body; default 32 MiB. */
  readonly maxBody?: number
  /** Sequences that may wait beside those that run; default 256. */
  readonly maxQueue?: number
  /** Milliseconds an answer may take; 0 is no limit. Default 0. */
  readonly requestTimeoutMs?: number
  readonly keepAliveMs?: number
  /** How much of /v1/responses is kept in memory; default 1000 responses and 64 MiB. */
  readonly responses?: StoreLimits
  /** Origins whose pages may call; '*' is all. Default none. */
  readonly origins?: readonly string[]
  /** Host names under which the server answers; default all. */
  readonly hosts?: readonly string[]
  /** Keys that may ask; default nobody needs one. */
  readonly keys?: readonly Key[]
  /** What each key may ask in a minute; default no limit. */
  readonly rates?: RateLimits
  /** Further routes, or others; default `routes`. */
  readonly routes?: readonly Route[]
  readonly log?: LogSettings
  /** Instead of `keys` and `rates`. */
  readonly guard?: Guard
  readonly observers?: readonly Observer[]
  /** An error of the server's own. */
  readonly report?: (error: unknown, id: string) => void
}

export interface Server {
  readonly app: App
  readonly site: Site
  readonly jobs: Jobs
  /** One short answer, so that the first caller does not wait for what is done once. */
  warmUp(): Promise<void>
}

/** Keys and limits as one guard, and what has to hear of answers for it. */
export function createGuard({ keys, rates }: Pick<ServerOptions, 'keys' | 'rates'>): {
  readonly guard: Guard
  readonly observer: Observer
} {
  const { allow, observer } = createRates(rates ?? { requests: null, tokens: null })
  return { guard: { key: keys ? createKeys(keys) : () => null, allow }, observer }
}

function openLog(llm: LLM, model: string, settings: LogSettings | undefined): Log | null {
  if (!settings) return null
  const { prompts = false, ...rest } = settings
  return createLog({ ...rest, model, ...(prompts && { decode: (ids) => llm.tokenizer.decode(ids) }) })
}

export function createServer(llm: LLM, options: ServerOptions = {}): Server {
  const { names = [llm.name], aliases = ['deepseek-chat'] } = options
  const [model] = names
  const guarding = createGuard(options)
  const log = openLog(llm, model, options.log)
  const metrics = createMetrics({
    model,
    maxModelLen: llm.limits.max_model_len,
    stats: () => llm.stats(),
    sequences: () => jobs.sequences,
  })
  const logging = log ? [log.observer] : []
  const observers = [metrics.observer, guarding.observer, ...logging, ...(options.observers ?? [])]
  const most = llm.limits.max_num_seqs + (options.maxQueue ?? 256)
  const jobs = createJobs({ most, timeoutMs: options.requestTimeoutMs ?? 0 }, observers)
  let warm = false
  const site: Site = {
    names: [...new Set([...names, ...aliases])],
    strict: options.strict ?? false,
    maxBody: options.maxBody ?? 32 * 2 ** 20,
    keepAliveMs: options.keepAliveMs ?? 15_000,
    llm,
    jobs,
    responses: createStore(options.responses ?? { most: 1000, bytes: 64 * 2 ** 20 }),
    created: now(),
    version: version(),
    metrics: metrics.text,
    warm: () => warm,
    report(error, id) {
      log?.report(error, id)
      options.report?.(error, id)
    },
  }
  const app = createApp(site, {
    guard: options.guard ?? guarding.guard,
    origins: options.origins ?? [],
    hosts: options.hosts,
    routes: options.routes ?? routes,
    answered: (answered) => observers.forEach((observer) => observer.answered?.(answered)),
  })
  async function warmUp(): Promise<void> {
    await llm.chat('Hi', { max_tokens: 2, temperature: 0 }).result()
    warm = true
  }
  return { app, site, jobs, warmUp }
}
