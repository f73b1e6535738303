// From a request that has been read to a completion that runs: let in, its prompt encoded and measured while the status
// line can still say what is wrong with it.
import type { Completion } from '../llm/completion.ts'
import { CapacityError } from '../tensor/error.ts'
import { type Options, type Warning, warningHeader } from './fields.ts'
import type { Job } from './job.ts'
import type { Site } from './site.ts'

/** Who asks, as the middle layers of the server found out. */
export interface Caller {
  readonly id: string
  readonly key: string | null
}

export interface Asked extends Caller {
  readonly endpoint: string
  readonly stream: boolean
  readonly options: Options
}

/** A job, and what `open` makes of its options; what is wrong with the prompt is thrown here. */
export function start(
  site: Site,
  request: Request,
  asked: Asked,
  open: (options: Options) => Completion,
): { readonly completion: Completion; readonly job: Job } {
  const { job, made } = begin(site, request, asked, 1, (options) => [open(options)])
  return { completion: made[0], job }
}

/** One job for several prompts of ids. */
export function startAll(
  site: Site,
  request: Request,
  asked: Asked,
  prompts: readonly (readonly number[])[],
): { readonly completions: readonly Completion[]; readonly job: Job } {
  const { job, made } = begin(site, request, asked, prompts.length, (options) =>
    prompts.map((prompt) => site.llm.complete(prompt, options)),
  )
  return { completions: made, job }
}

function begin(
  site: Site,
  request: Request,
  { id, key, endpoint, stream, options }: Asked,
  prompts: number,
  open: (options: Options) => readonly Completion[],
): { readonly job: Job; readonly made: readonly Completion[] } {
  const n = countOf(options.n) * prompts
  const job = site.jobs.begin(request, {
    id,
    key,
    endpoint,
    stream,
    n,
    maxTokens: isCount(options.max_tokens) ? options.max_tokens : null,
  })
  try {
    const made = open({ ...options, signal: job.signal })
    for (const completion of made) checkLength(completion.prompt().length, options, site)
    return { job, made }
  } catch (error) {
    job.end(null, 'error', error)
    throw error
  }
}

/** How the answers of a job are sent, streamed or whole, whatever the protocol. */
export function sendingOf(site: Site, caller: Caller, job: Job, warnings: readonly Warning[]) {
  return {
    headers: warningHeader(warnings),
    abort: job.abort,
    onError: (error: unknown) => site.report(error, caller.id),
    onEnd: () => job.end(null, 'abort'),
    keepAliveMs: site.keepAliveMs,
  }
}

/** What is wrong with n is said below; here it only has to be a number. */
const countOf = (n: unknown): number => (isCount(n) && n > 0 ? n : 1)
const isCount = (n: unknown): n is number => Number.isSafeInteger(n)

function checkLength(tokens: number, { max_tokens }: Options, { llm }: Site): void {
  const { max_model_len } = llm.limits
  if (tokens < max_model_len || (tokens === max_model_len && max_tokens === 0)) return
  throw new CapacityError(
    `the prompt has ${tokens} tokens, this model's context here is ${max_model_len}, the answer included; shorten the prompt, or start the server with a larger --max-model-len`,
  )
}
