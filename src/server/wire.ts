// Results and pieces of them in the members that clients read: usage in OpenAI's and DeepSeek's shape at once,
// llama.cpp's timings, log-probabilities of both of OpenAI's endpoints. Knows no endpoint's envelope.
import type { Choice } from '../engine/logprobs.ts'
import type { Result } from '../llm/completion.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

export function usageOf({ usage }: Result) {
  const { cached_tokens } = usage.prompt_tokens_details
  return {
    prompt_tokens: usage.prompt_tokens,
    completion_tokens: usage.completion_tokens,
    total_tokens: usage.total_tokens,
    prompt_tokens_details: { cached_tokens },
    completion_tokens_details: { reasoning_tokens: 0 },
    prompt_cache_hit_tokens: cached_tokens,
    prompt_cache_miss_tokens: usage.prompt_tokens - cached_tokens,
  }
}

/** llama.cpp's `timings`, and how long the request waited. */
export function timingsOf({ usage, timings }: Result) {
  const cache = usage.prompt_tokens_details.cached_tokens
  const prompt = usage.prompt_tokens - cache
  const each = (ms: number, count: number): number => (count > 0 ? ms / count : 0)
  return {
    cache_n: cache,
    prompt_n: prompt,
    prompt_ms: timings.prompt_ms,
    prompt_per_token_ms: each(timings.prompt_ms, prompt),
    prompt_per_second: timings.prompt_per_second,
    predicted_n: usage.completion_tokens,
    predicted_ms: timings.predicted_ms,
    predicted_per_token_ms: each(timings.predicted_ms, usage.completion_tokens - 1),
    predicted_per_second: timings.predicted_per_second,
    queued_ms: timings.queued_ms,
  }
}

/** JSON has no infinity; OpenAI writes -9999 for a token that cannot come. */
const finite = (logprob: number | null): number => Math.max(logprob ?? 0, -9999)

/** `choices[].logprobs.content` of chat completions. */
export function chatLogprobs(choices: readonly Choice[], tokenizer: Tokenizer) {
  const entry = (token: number, logprob: number | null) => ({
    token: tokenizer.piece(token),
    logprob: finite(logprob),
    bytes: [...tokenizer.bytes(token)],
  })
  return choices.map(({ token, logprob, top }) => ({
    ...entry(token, logprob),
    top_logprobs: (top ?? []).map((at) => entry(at.token, at.logprob)),
  }))
}

/** `choices[].logprobs` of completions; null stands for the first token of a prompt, which has nothing before it. */
export function textLogprobs(
  choices: readonly { readonly token: number; readonly choice: Choice | null }[],
  tokenizer: Tokenizer,
  offset: number,
  shown: (token: number, index: number) => boolean,
) {
  const pieces = choices.map(({ token }) => tokenizer.piece(token))
  let at = offset
  const offsets = pieces.map((piece, i) => {
    const begin = at
    if (shown(choices[i].token, i)) at += piece.length
    return begin
  })
  return {
    tokens: pieces,
    token_logprobs: choices.map(({ choice }) => choice && finite(choice.logprob)),
    top_logprobs: choices.map(({ choice }) => choice && topOf(choice, tokenizer)),
    text_offset: offsets,
  }
}

/** Text -> how likely; of tokens with one text (pieces of characters) the likeliest. */
function topOf({ token, logprob, top }: Choice, tokenizer: Tokenizer): Readonly<Record<string, number>> {
  const found = new Map<string, number>()
  for (const at of [...(top ?? []), { token, logprob }]) {
    const piece = tokenizer.piece(at.token)
    if (!found.has(piece)) found.set(piece, finite(at.logprob))
  }
  return Object.fromEntries(found)
}
