// A finished request in vLLM's shape. Knows no engine.
import type { FinishReason } from '../engine/engine.ts'
import type { Choice } from '../engine/logprobs.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Answer, Result, Timings } from './completion.ts'

export interface Logprob {
  readonly logprob: number
  /** 1 is the likeliest; null for a chosen token that is not among the reported ones. */
  readonly rank: number | null
  readonly decoded_token: string
}

/** Token id -> how likely it was: the chosen token and the likeliest ones. */
export type PositionLogprobs = Readonly<Record<number, Logprob>>

export interface CompletionOutput {
  readonly index: number
  readonly text: string
  readonly token_ids: readonly number[]
  /** null unless logprobs were asked for. */
  readonly cumulative_logprob: number | null
  readonly logprobs: readonly PositionLogprobs[] | null
  readonly finish_reason: FinishReason | null
  /** The stop string or stop token; null for end-of-sequence and length. */
  readonly stop_reason: string | number | null
}

export interface RequestOutput {
  readonly request_id: string
  /** null where the prompt was given as ids. */
  readonly prompt: string | null
  readonly prompt_token_ids: readonly number[]
  /** null for the first token, which has nothing before it. */
  readonly prompt_logprobs: readonly (PositionLogprobs | null)[] | null
  readonly outputs: readonly CompletionOutput[]
  readonly finished: boolean
  readonly num_cached_tokens: number
  readonly metrics: Timings
}

export function requestOutput(
  id: string,
  prompt: string | null,
  result: Result,
  tokenizer: Tokenizer,
): RequestOutput {
  return {
    request_id: id,
    prompt,
    prompt_token_ids: result.prompt_token_ids,
    prompt_logprobs: result.prompt_logprobs?.map((choice) => choice && position(choice, tokenizer)) ?? null,
    outputs: result.answers.map((answer) => output(answer, tokenizer)),
    finished: result.answers.every((answer) => answer.finish_reason !== null),
    num_cached_tokens: result.usage.prompt_tokens_details.cached_tokens,
    metrics: result.timings,
  }
}

function output(answer: Answer, tokenizer: Tokenizer): CompletionOutput {
  const { index, text, token_ids, logprobs, finish_reason, stop_reason } = answer
  return {
    index,
    text,
    token_ids,
    cumulative_logprob: logprobs?.reduce((sum, choice) => sum + (choice.logprob ?? 0), 0) ?? null,
    logprobs: logprobs?.map((choice) => position(choice, tokenizer)) ?? null,
    finish_reason,
    stop_reason,
  }
}

function position({ token, logprob, top }: Choice, tokenizer: Tokenizer): PositionLogprobs {
  const entry = (id: number, value: number, rank: number | null) =>
    [id, { logprob: value, rank, decoded_token: tokenizer.piece(id) }] as const
  const likeliest = (top ?? []).map((at, i) => entry(at.token, at.logprob, i + 1))
  return Object.fromEntries([entry(token, logprob ?? 0, null), ...likeliest])
}
