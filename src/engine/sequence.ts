// One answer in the making: its tokens, and how many of them the cache holds. Plain state; the scheduler and the
// engine move it.
//
//   tokens   [ prompt ............ | output ....... ]
//   computed [ latents in `pages` .......... )          the rest is what a step still has to compute
//   published[ whole pages others may share )           always <= computed / pageSize
import type { Matcher } from './matcher.ts'
import type { Counts } from './sampler.ts'
import type { SamplingParams } from './sampling.ts'

export class Sequence {
  /** Arrival number: who came first. */
  readonly order: number
  readonly priority: number
  readonly params: SamplingParams
  readonly seed: number
  readonly prompt: readonly number[]
  readonly promptLength: number
  readonly tokens: number[]
  /** Most tokens it may grow to, prompt included. */
  readonly maxLength: number
  /** Keeps prefixes of different tenants apart; '' shares with everyone. */
  readonly salt: string
  /** Waits until this one has computed the prompt they share. */
  leader: Sequence | null = null

  computed = 0
  pages: number[] = []
  published = 0
  /** Publication number of the last published page (PagePool). */
  link = 0
  /** Prompt tokens that were found in the cache when it first ran; null before. */
  cachedTokens: number | null = null
  counts: Counts
  /** Its place in the grammar of its answer. Knows tokens, not pages: preemption does not touch it. */
  readonly matcher: Matcher | null
  readonly promptLogits: boolean
  /** Prompt positions whose log-probabilities are already out. */
  promptScored = 0
  arrived: number
  started: number | null = null
  /** Whether its listener wants to know how far the prompt is. */
  progress = false

  constructor(given: {
    order: number
    priority: number
    params: SamplingParams
    seed: number
    prompt: readonly number[]
    maxLength: number
    salt: string
    counts: Counts
    matcher: Matcher | null
    now: number
  }) {
    this.order = given.order
    this.priority = given.priority
    this.params = given.params
    this.seed = given.seed
    this.prompt = given.prompt
    this.promptLength = given.prompt.length
    this.tokens = [...given.prompt]
    this.maxLength = given.maxLength
    this.salt = given.salt
    this.counts = given.counts
    this.matcher = given.matcher
    this.promptLogits = given.params.prompt_logprobs !== null
    this.arrived = given.now
  }

  /** Tokens that the cache does not hold yet: one when decoding, many when new. */
  get missing(): number {
    return this.tokens.length - this.computed
  }

  get outputLength(): number {
    return this.tokens.length - this.promptLength
  }
}

/** Who is served first: lower priority number, then earlier arrival. */
export function before(a: Sequence, b: Sequence): number {
  return a.priority - b.priority || a.order - b.order
}
