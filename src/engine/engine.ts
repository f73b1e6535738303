// Token ids in, token ids out: many requests at once over one model and one paged cache. Knows no text.
// The property that guards it: tokens do not depend on batching, chunking, preemption or cached prefixes.
import type { Choice } from './logprobs.ts'
import type { GrammarCounts, GrammarRequest } from './masking.ts'
import type { SamplingParams } from './sampling.ts'

/** Sizes of an engine, spelled as vLLM spells them. */
export interface EngineLimits {
  /** Most tokens of a sequence, prompt and answer together. */
  readonly max_model_len: number
  /** Most sequences in one step. */
  readonly max_num_seqs: number
  /** Most rows in one step: the token budget that prompts and answers share. */
  readonly max_num_batched_tokens: number
  /** Bytes of the latent cache, and the tokens that it holds. */
  readonly cache_bytes: number
  readonly cache_tokens: number
}

export interface EngineRequest {
  readonly prompt_token_ids: readonly number[]
  readonly params: SamplingParams
  /** Answers to the same prompt; they share its pages. Default 1. */
  readonly n?: number
  /** Lower is served first; default 0. */
  readonly priority?: number
  /** Requests share cached prefixes only with requests of the same salt. */
  readonly cache_salt?: string
  /** What the answer must be; each of the n answers follows it by itself. */
  readonly grammar?: GrammarRequest | null
  /** Tell how much of the prompt is computed while it is. */
  readonly progress?: boolean
}

/** A prompt in the making. */
export interface PromptProgress {
  readonly total: number
  /** Of these found in the cache, and computed or found by now. */
  readonly cached: number
  readonly processed: number
  /** Milliseconds since the first step. */
  readonly ms: number
}

/** What is known once the prompt is computed. */
export interface PromptReport {
  /** Prompt tokens found in the cache. */
  readonly cachedTokens: number
  /** Milliseconds from arrival to the first step, and from there to the end of the prompt. */
  readonly queuedMs: number
  readonly prefillMs: number
  /** With prompt_logprobs: each prompt token after the ones before it; null for the first. */
  readonly logprobs: readonly (Choice | null)[] | null
}

export type FinishReason = 'stop' | 'length'

export interface TokenEvent {
  /** Which of the n answers. */
  readonly index: number
  /** Null only where an answer ends without a further token: max_tokens 0, or a grammar that allows nothing more. */
  readonly choice: Choice | null
  readonly finish: FinishReason | null
  /** The stop token that ended the answer; null for end-of-sequence, length and running answers. */
  readonly stopToken: number | null
  /** With an answer's first event. */
  readonly prompt: PromptReport | null
  /** In events without a token, before the first one, where it was asked for. */
  readonly progress?: PromptProgress
}

export interface EngineStats {
  readonly backend: string
  readonly limits: EngineLimits
  readonly running: number
  readonly waiting: number
  readonly pages: {
    readonly total: number
    readonly free: number
    readonly cached: number
    readonly held: number
  }
  readonly steps: number
  readonly promptTokens: number
  readonly outputTokens: number
  readonly preemptions: number
  readonly prefixQueries: number
  readonly prefixHits: number
  readonly grammars: GrammarCounts
}

/** The same in this thread (local.ts) and across a worker thread (worker.ts). */
export interface Engine {
  readonly limits: EngineLimits
  /** What a user should know of how it was opened (a slower backend than wished, say). */
  readonly warnings: readonly string[]
  /** The answer's tokens as they come. Leaving the loop cancels; so does `signal`, which makes the loop throw. */
  generate(request: EngineRequest, signal?: AbortSignal): AsyncGenerator<TokenEvent, void, undefined>
  stats(): Promise<EngineStats>
  close(): Promise<void>
}
