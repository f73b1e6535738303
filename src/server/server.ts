// A model and the settings of a server -> its app: the one door for `latent serve` and for programs that mount latent in
// a server of their own.
import type { LLM } from '../llm/load.ts'
import { type App, createApp, type Guard } from './app.ts'
import { createJobs, type Jobs, type Observer } from './job.ts'
import { now, type Site } from './site.ts'
import { createStore, type StoreLimits } from './store.ts'

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

const openGuard: Guard = { key: () => null, allow: () => ({}) }

export function createServer(llm: LLM, options: ServerOptions = {}): Server {
  const { names = [llm.name], aliases = ['deepseek-chat'] } = options
  const most = llm.limits.max_num_seqs + (options.maxQueue ?? 256)
  const jobs = createJobs({ most, timeoutMs: options.requestTimeoutMs ?? 0 }, options.observers ?? [])
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
    warm: () => warm,
    report: options.report ?? (() => undefined),
  }
  const app = createApp(site, { guard: options.guard ?? openGuard, origins: options.origins ?? [] })
  async function warmUp(): Promise<void> {
    await llm.chat('Hi', { max_tokens: 2, temperature: 0 }).result()
    warm = true
  }
  return { app, site, jobs, warmUp }
}
