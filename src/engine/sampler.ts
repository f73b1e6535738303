// Logits to a token: masks and penalties, then temperature, then the cuts, then one random number.
// Knows one row at a time; what a sequence is, and when it ends, is known above. The choice depends on the
// arguments and on nothing else: no state, no clock, no sort whose stability matters.
import { KernelError, RequestError, ShapeError } from '../tensor/error.ts'
import { type Choice, tokenLogprobs } from './logprobs.ts'
import { uniform } from './random.ts'
import { createRanking, type Ranking } from './rank.ts'
import type { SamplingParams } from './sampling.ts'

export { type Choice, type Logprob, tokenLogprobs } from './logprobs.ts'

/** Where in which sequence a token is wanted. */
export interface SamplerState {
  readonly promptTokens: readonly number[]
  readonly outputTokens: readonly number[]
  /** Index of the wanted token in the output. */
  readonly position: number
  /** The seed this sequence ended up with: a safe integer. */
  readonly seed: number
  readonly eosTokenIds: readonly number[]
  /** Ids from here on are padding rows of the embedding: never chosen. */
  readonly limit: number
  /** One bit a token: those that the answer's grammar allows now, the end of sequence among them. Null: all. */
  readonly allowed?: Int32Array | null
}

/**
 * The token that follows `logits` [V], which are only read. `counts` spares penalties a walk over the
 * sequence.
 */
export type Sampler = (
  logits: Float32Array,
  params: SamplingParams,
  state: SamplerState,
  counts?: Counts,
) => Choice

/** What penalties need to know of a sequence; it only grows, so preemption does not touch it. */
export interface Counts {
  /** Every id in the prompt or the output, once. */
  readonly seen: ReadonlySet<number>
  /** How often each id is in the output. */
  readonly output: ReadonlyMap<number, number>
  /** The output has grown by `token`. */
  push(token: number): void
}

interface Scratch {
  /** By id: adjusted logits, then logs of the weights. */
  readonly scores: Float64Array
  /** By id: probability relative to the likeliest token. */
  readonly weights: Float64Array
  /** By id: minus the distance from the expected surprise. */
  readonly typical: Float64Array
  /** The candidates, ascending. */
  readonly ids: Int32Array
  readonly ranking: Ranking
}

export function createCounts(promptTokens: readonly number[], outputTokens: readonly number[] = []): Counts {
  const seen = new Set(promptTokens)
  const output = new Map<number, number>()
  const push = (token: number) => {
    seen.add(token)
    output.set(token, (output.get(token) ?? 0) + 1)
  }
  for (const token of outputTokens) push(token)
  return { seen, output, push }
}

/** Whether these params look at counts at all; without penalties nobody need keep them. */
export function penalises(params: SamplingParams): boolean {
  return params.repetition_penalty !== 1 || params.presence_penalty !== 0 || params.frequency_penalty !== 0
}

/** A sampler for rows of `vocabSize` logits. It owns the scratch of one call: 28 bytes a logit. */
export function createSampler(vocabSize: number): Sampler {
  const scratch: Scratch = {
    scores: new Float64Array(vocabSize),
    weights: new Float64Array(vocabSize),
    typical: new Float64Array(vocabSize),
    ids: new Int32Array(vocabSize),
    ranking: createRanking(vocabSize),
  }
  const { scores } = scratch
  return (logits, params, state, counts) => {
    if (logits.length !== vocabSize) {
      throw new ShapeError(`a sampler for ${vocabSize} logits was given ${logits.length}`)
    }
    const limit = Math.min(state.limit, vocabSize)
    load(logits, limit, scores, state.position)
    mask(scores, logits, params, state)
    if (penalises(params)) {
      penalise(scores, params, counts ?? createCounts(state.promptTokens, state.outputTokens))
    }
    const best = argmax(scores, limit)
    if (best === null) throw nothingLeft(logits.subarray(0, limit), params, state)
    const token =
      params.temperature === 0
        ? best
        : draw(scratch, limit, best, params, uniform(state.seed, state.position))
    return params.logprobs === null
      ? { token, logprob: null, top: null }
      : tokenLogprobs(logits, token, params.logprobs)
  }
}

function load(logits: Float32Array, limit: number, scores: Float64Array, position: number): void {
  for (let id = 0; id < limit; id++) {
    const logit = logits[id]
    if (Number.isNaN(logit)) {
      throw new KernelError(
        `the model produced NaN: the logit of token ${id} at output position ${position}; ` +
          'run the same prompt on the reference backend to tell bad weights from a bad kernel',
      )
    }
    scores[id] = logit
  }
}

/** What may not be chosen falls to -Infinity, which no bias and no penalty lifts again. */
function mask(scores: Float64Array, logits: Float32Array, params: SamplingParams, state: SamplerState): void {
  if (params.allowed_token_ids !== null) {
    scores.fill(-Infinity)
    for (const id of params.allowed_token_ids) scores[id] = logits[id]
  }
  for (const id in params.logit_bias) scores[id] += params.logit_bias[id]
  const { outputTokens } = state
  if (state.allowed) maskGrammar(scores, state.allowed, params, state)
  for (const word of params.bad_token_ids) {
    if (completes(outputTokens, word)) scores[word[word.length - 1]] = -Infinity
  }
  if (outputTokens.length < params.min_tokens) {
    for (const id of state.eosTokenIds) scores[id] = -Infinity
    for (const id of params.stop_token_ids) scores[id] = -Infinity
  }
}

/** Mostly whole words are allowed or not, so that few bits are looked at. */
function maskGrammar(
  scores: Float64Array,
  allowed: Int32Array,
  params: SamplingParams,
  { limit, eosTokenIds }: SamplerState,
): void {
  for (let word = 0, id = 0; id < limit; word++, id += 32) {
    const bits = allowed[word]
    const end = Math.min(id + 32, limit)
    if (bits === 0) scores.fill(-Infinity, id, end)
    else if (bits !== -1) {
      for (let at = id; at < end; at++) if (((bits >>> (at & 31)) & 1) === 0) scores[at] = -Infinity
    }
  }
  if (params.ignore_eos) for (const id of eosTokenIds) scores[id] = -Infinity // no token of the text goes on after it
}

/** Whether the output ends in all of `word` but its last token. The prompt does not count, as in vLLM. */
function completes(outputTokens: readonly number[], word: readonly number[]): boolean {
  const start = outputTokens.length - (word.length - 1)
  if (start < 0) return false
  for (let i = 0; i < word.length - 1; i++) if (outputTokens[start + i] !== word[i]) return false
  return true
}

function penalise(scores: Float64Array, params: SamplingParams, counts: Counts): void {
  const { repetition_penalty, presence_penalty, frequency_penalty } = params
  if (repetition_penalty !== 1) {
    for (const id of counts.seen) {
      const score = scores[id]
      scores[id] = score > 0 ? score / repetition_penalty : score * repetition_penalty
    }
  }
  if (presence_penalty === 0 && frequency_penalty === 0) return
  for (const [id, count] of counts.output) scores[id] -= presence_penalty + frequency_penalty * count
}

/** The id of the largest score, of equals the lowest; null where all are -Infinity. */
function argmax(scores: Float64Array, limit: number): number | null {
  let best: number | null = null
  let peak = -Infinity
  for (let id = 0; id < limit; id++) {
    if (scores[id] > peak) {
      peak = scores[id]
      best = id
    }
  }
  return best
}

/** The token at `u` of the way through what temperature and the cuts leave, in id order. */
function draw(scratch: Scratch, limit: number, best: number, params: SamplingParams, u: number): number {
  const { ids, weights } = scratch
  const count = cut(scratch, weigh(scratch, limit, best, params), params)
  const target = u * mass(ids, count, weights)
  let sum = 0
  for (let i = 0; i < count; i++) {
    sum += weights[ids[i]]
    if (sum > target) return ids[i]
  }
  return ids[count - 1]
}

/**
 * Temperature and min_p: fills the weights and the candidates, those whose weight is not 0; returns how many.
 */
function weigh(scratch: Scratch, limit: number, best: number, params: SamplingParams): number {
  const { scores, weights, ids } = scratch
  const { temperature, min_p } = params
  const peak = scores[best]
  let count = 0
  for (let id = 0; id < limit; id++) {
    // Relative to the peak, no temperature overflows; equal to it, not even an infinite one makes NaN.
    const gap = scores[id] === peak ? 0 : (scores[id] - peak) / temperature
    const weight = Math.exp(gap)
    if (weight === 0 || weight < min_p) continue
    scores[id] = gap
    weights[id] = weight
    ids[count++] = id
  }
  return count
}

/**
 * The cuts after min_p: top_k, typical_p, top_p, each over the renormalised rest of the one before and each
 * leaving at least one candidate. min_p, top_k, top_p is vLLM's order; typical_p, which vLLM has not, stands
 * between the last two as in llama.cpp. Unlike vLLM, of equals at the edge only the lowest ids stay: top_k is
 * never more than k.
 */
function cut(scratch: Scratch, count: number, params: SamplingParams): number {
  const { scores, weights, typical, ids, ranking } = scratch
  const { top_k, typical_p, top_p } = params
  if (top_k > 0 && top_k < count) count = ranking.keep(ids, count, scores, null, top_k)
  if (typical_p < 1) {
    const total = atypicality(scratch, count)
    count = ranking.keep(ids, count, typical, weights, typical_p * total)
  }
  if (top_p < 1) count = ranking.keep(ids, count, scores, weights, top_p * mass(ids, count, weights))
  return count
}

/**
 * Fills `typical` with -|surprise - entropy| (Meister et al., Locally Typical Sampling, 2022); returns the
 * mass.
 */
function atypicality({ scores, weights, typical, ids }: Scratch, count: number): number {
  const total = mass(ids, count, weights)
  const shift = Math.log(total)
  let entropy = 0
  for (let i = 0; i < count; i++) entropy += (weights[ids[i]] / total) * (shift - scores[ids[i]])
  for (let i = 0; i < count; i++) typical[ids[i]] = -Math.abs(shift - scores[ids[i]] - entropy)
  return total
}

function mass(ids: Int32Array, count: number, weights: Float64Array): number {
  let sum = 0
  for (let i = 0; i < count; i++) sum += weights[ids[i]]
  return sum
}

/** Whose fault it is that no token is left: the model's, or the request's rules. */
function nothingLeft(logits: Float32Array, params: SamplingParams, state: SamplerState): Error {
  if (logits.every((logit) => logit === -Infinity)) {
    return new KernelError(
      `the model gave every token a logit of -Infinity at output position ${state.position}`,
    )
  }
  const rules: string[] = []
  if (params.allowed_token_ids !== null) rules.push('allowed_token_ids')
  if (params.bad_token_ids.length > 0) rules.push('bad_token_ids')
  if (state.outputTokens.length < params.min_tokens) rules.push('min_tokens')
  if (state.allowed) rules.push('structured_outputs')
  return new RequestError(
    `no token is left to choose at output position ${state.position}: ${rules.join(' and ')} ` +
      `together exclude all ${logits.length}; loosen one of them`,
    rules[0] ?? null,
  )
}
