// What every endpoint of one server shares: the model, its names, the settings, and who is at work.
import type { LLM } from '../llm/load.ts'
import { Failure } from './failure.ts'
import type { Jobs } from './job.ts'
import type { Store } from './store.ts'

export interface Settings {
  /** Names that requests may use; the first is said in answers. */
  readonly names: readonly string[]
  /** Unknown fields are errors, not warnings. */
  readonly strict: boolean
  /** Bytes of a request's body. */
  readonly maxBody: number
  readonly keepAliveMs: number
}

export interface Site extends Settings {
  readonly llm: LLM
  readonly jobs: Jobs
  /** Answers that clients may come back to. */
  readonly responses: Store
  /** Seconds since 1970 when the model was loaded. */
  readonly created: number
  /** latent's own. */
  readonly version: string
  /** What Prometheus reads. */
  metrics(): Promise<string>
  /** Whether the first answer has been made, so that nobody waits for what is done once. */
  warm(): boolean
  /** Errors that are the server's own, for its log. */
  report(error: unknown, id: string): void
}

/** Refuses a model that is not served; a request without one means the one there is. */
export function checkModel(site: Site, model: unknown): string {
  if (model === undefined || model === null || model === '') return site.names[0]
  if (typeof model !== 'string') {
    throw new Failure(400, `model must be a name, ${JSON.stringify(model)} given`, { param: 'model' })
  }
  if (site.names.includes(model)) return model
  throw new Failure(
    404,
    `the model '${model.slice(0, 100)}' is not served here; there is ${site.names.map((name) => `'${name}'`).join(', ')}`,
    { param: 'model', code: 'model_not_found' },
  )
}

/** Seconds since 1970, as `created` is counted. */
export const now = (): number => Math.floor(Date.now() / 1000)
