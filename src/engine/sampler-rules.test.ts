// Every rule against a plain restatement of it: lists of rows, sorted and filtered, with nothing clever.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestError } from '../tensor/error.ts'
import { uniform } from './random.ts'
import { createCounts, createSampler, penalises, type SamplerState, tokenLogprobs } from './sampler.ts'
import { type SamplingFields, type SamplingParams, samplingParams } from './sampling.ts'

function stateOf(size: number, given: Partial<SamplerState> = {}): SamplerState {
  return { promptTokens: [], outputTokens: [], position: 0, seed: 1, eosTokenIds: [], limit: size, ...given }
}

function randomLogits(size: number, seed: number): Float32Array {
  return Float32Array.from(
    { length: size },
    (_, id) => (uniform(seed, id) + uniform(seed, id, 1) + uniform(seed, id, 2) - 1.5) * 8,
  )
}

function pick(logits: Float32Array, fields: SamplingFields, state: Partial<SamplerState> = {}): number {
  const size = logits.length
  return createSampler(size)(logits, samplingParams(fields, { size }), stateOf(size, state)).token
}

interface Row {
  readonly id: number
  readonly score: number
}
interface Weighed {
  readonly id: number
  readonly p: number
}

/** Masks and penalties by their formulas. */
function adjusted(logits: Float32Array, params: SamplingParams, state: SamplerState): Row[] {
  const { outputTokens, promptTokens } = state
  const banned = new Set<number>()
  for (const word of params.bad_token_ids) {
    const before = word.slice(0, -1)
    const tail = outputTokens.slice(outputTokens.length - before.length)
    if (outputTokens.length >= before.length && before.join() === tail.join()) banned.add(word.at(-1)!)
  }
  if (outputTokens.length < params.min_tokens) {
    for (const id of [...state.eosTokenIds, ...params.stop_token_ids]) banned.add(id)
  }
  const seen = [...promptTokens, ...outputTokens]
  return [...logits].slice(0, state.limit).flatMap((logit, id) => {
    if (banned.has(id) || (params.allowed_token_ids !== null && !params.allowed_token_ids.includes(id)))
      return []
    let score = logit + (params.logit_bias[id] ?? 0)
    if (seen.includes(id))
      score = score > 0 ? score / params.repetition_penalty : score * params.repetition_penalty
    const times = outputTokens.filter((token) => token === id).length
    if (times > 0) score -= params.presence_penalty
    return [{ id, score: score - times * params.frequency_penalty }]
  })
}

const softmax = (rows: readonly Row[]): Weighed[] => {
  const peak = Math.max(...rows.map(({ score }) => score))
  return normal(rows.map(({ id, score }) => ({ id, p: Math.exp(score - peak) })))
}
const normal = (rows: readonly Weighed[]): Weighed[] => {
  const sum = rows.reduce((total, { p }) => total + p, 0)
  return rows.map(({ id, p }) => ({ id, p: p / sum }))
}
/** The smallest head of the ranking with mass `p` or more. */
const head = (ranked: readonly Weighed[], p: number): Weighed[] => {
  let before = 0
  return ranked.filter((row) => {
    const kept = before < p || row === ranked[0]
    before += row.p
    return kept
  })
}
const byMass = (a: Weighed, b: Weighed) => b.p - a.p || a.id - b.id

function restated(logits: Float32Array, params: SamplingParams, state: SamplerState): Weighed[] {
  const scores = adjusted(logits, params, state)
  let rows = softmax(scores.map(({ id, score }) => ({ id, score: score / params.temperature })))
  const best = Math.max(...rows.map(({ p }) => p))
  rows = normal(rows.filter(({ p }) => p >= params.min_p * best))
  if (params.top_k > 0) rows = normal(rows.sort(byMass).slice(0, params.top_k))
  if (params.typical_p < 1) {
    const entropy = rows.reduce((sum, { p }) => sum - (p === 0 ? 0 : p * Math.log(p)), 0)
    const oddity = ({ p }: Weighed) => Math.abs(-Math.log(p) - entropy)
    rows = normal(
      head(
        rows.sort((a, b) => oddity(a) - oddity(b) || a.id - b.id),
        params.typical_p,
      ),
    )
  }
  if (params.top_p < 1) rows = normal(head(rows.sort(byMass), params.top_p))
  return rows.sort((a, b) => a.id - b.id)
}

function restatedToken(logits: Float32Array, params: SamplingParams, state: SamplerState): number {
  if (params.temperature === 0) {
    const rows = adjusted(logits, params, state)
    return rows.reduce((best, row) => (row.score > best.score ? row : best)).id
  }
  const rows = restated(logits, params, state)
  const u = uniform(state.seed, state.position)
  let sum = 0
  return (rows.find(({ p }) => (sum += p) > u) ?? rows.at(-1)!).id
}

/** The sampler and the restatement agree on every draw of many. */
function agree(
  fields: (round: number) => SamplingFields,
  given: (round: number) => Partial<SamplerState> = () => ({}),
) {
  for (let round = 0; round < 400; round++) {
    const size = [1, 2, 9, 60, 333][round % 5]
    const logits = randomLogits(size, round)
    const params = samplingParams(fields(round), { size: 1000 })
    const state = stateOf(size, { seed: round, position: round % 7, ...given(round) })
    const wanted = restatedToken(logits, params, state)
    assert.equal(createSampler(size)(logits, params, state).token, wanted, JSON.stringify({ round, params }))
  }
}

const part = (round: number, stream: number) => uniform(99, round, stream)
const someIds = (round: number, stream: number, count: number, below = 60): number[] =>
  Array.from({ length: count }, (_, i) => Math.floor(uniform(round, i, stream) * below))

// ---- one rule at a time ----

test('plain sampling is the inverse of the cumulative distribution in id order', () => {
  agree(() => ({}))
})

test('temperature divides', () => {
  agree((round) => ({ temperature: 0.05 + 3 * part(round, 1) }))
})

test('top_p keeps the smallest set whose mass reaches p', () => {
  agree((round) => ({ top_p: part(round, 2) + 1e-9 }))
  const logits = Float32Array.from([0.5, 0.3, 0.2], Math.log)
  const kept = (top_p: number) => {
    const tokens = Array.from({ length: 200 }, (_, position) => pick(logits, { top_p }, { position }))
    return [...new Set(tokens)].sort()
  }
  assert.deepEqual(kept(0.01), [0])
  assert.deepEqual(kept(0.49), [0])
  assert.deepEqual(kept(0.51), [0, 1])
  assert.deepEqual(kept(0.79), [0, 1])
  assert.deepEqual(kept(0.81), [0, 1, 2])
})

test('top_k keeps the k likeliest, of equals the lowest ids', () => {
  agree((round) => ({ top_k: 1 + Math.floor(part(round, 3) * 70) }))
  const equal = new Float32Array(100)
  for (let position = 0; position < 50; position++) assert.ok(pick(equal, { top_k: 3 }, { position }) < 3)
})

test('min_p keeps what is at least that share of the likeliest', () => {
  agree((round) => ({ min_p: part(round, 4) ** 3 }))
})

test('typical_p keeps what is nearest to the expected surprise', () => {
  agree((round) => ({ typical_p: part(round, 5) + 1e-9 }))
  // Entropy 1.22 nats; the likeliest token, 0.69 nats, is further from it than the middle ones, 1.61.
  const logits = Float32Array.from([0.5, 0.2, 0.2, 0.1], Math.log)
  const tokens = Array.from({ length: 100 }, (_, position) => pick(logits, { typical_p: 0.3 }, { position }))
  assert.deepEqual([...new Set(tokens)].sort(), [1, 2])
})

test('penalties follow their formulas, with counts and without', () => {
  const fields = (round: number): SamplingFields => ({
    temperature: round % 2,
    repetition_penalty: round % 3 === 0 ? 1 : 0.5 + part(round, 6) * 2,
    presence_penalty: round % 4 === 0 ? 0 : part(round, 7) * 4 - 2,
    frequency_penalty: round % 5 === 0 ? 0 : part(round, 8) * 4 - 2,
  })
  const given = (round: number) => ({
    promptTokens: someIds(round, 1, 30),
    outputTokens: someIds(round, 2, 30),
  })
  agree(fields, given)
  for (let round = 0; round < 50; round++) {
    const logits = randomLogits(60, round)
    const params = samplingParams(fields(round), { size: 60 })
    const state = stateOf(60, given(round))
    const counts = createCounts(state.promptTokens)
    for (const token of state.outputTokens) counts.push(token)
    const sample = createSampler(60)
    assert.deepEqual(sample(logits, params, state, counts), sample(logits, params, state))
  }
  const by = (given: SamplingFields) => penalises(samplingParams(given, { size: 60 }))
  assert.equal(by({ min_tokens: 3 }), false)
  assert.ok(by({ repetition_penalty: 2 }) && by({ presence_penalty: 1 }) && by({ frequency_penalty: 1 }))
})

test('allowed_token_ids are the only ones', () => {
  agree((round) => ({ allowed_token_ids: [0, ...someIds(round, 3, 5)] }))
})

test('logit_bias of 100 forces, of -100 forbids', () => {
  agree((round) => ({ logit_bias: { [round % 9]: part(round, 9) * 8 - 4 } }))
  const logits = randomLogits(50, 3)
  const best = pick(logits, { temperature: 0 })
  for (let position = 0; position < 200; position++) {
    assert.equal(pick(logits, { logit_bias: { 7: 100 } }, { position }), 7)
    assert.notEqual(pick(logits, { logit_bias: { [best]: -100 } }, { position }), best)
  }
})

test('bad words of one, two and three tokens are never completed', () => {
  const logits = Float32Array.of(0, 1, 2, 9)
  const greedy = (bad_token_ids: number[][], outputTokens: number[]) =>
    pick(logits, { temperature: 0, bad_token_ids }, { outputTokens, promptTokens: [0, 1] })
  assert.equal(greedy([[3]], []), 2)
  assert.equal(greedy([[1, 3]], []), 3, 'the prompt does not count')
  assert.equal(greedy([[1, 3]], [1]), 2)
  assert.equal(greedy([[1, 3]], [1, 0]), 3)
  assert.equal(greedy([[0, 1, 3]], [1]), 3)
  assert.equal(greedy([[0, 1, 3]], [0, 1]), 2)
  assert.equal(greedy([[0, 1, 3]], [2, 0, 1]), 2)
  assert.equal(greedy([[0, 1, 3], [2]], [0, 1]), 1)
  agree(
    (round) => ({
      bad_token_ids: [someIds(round, 4, 1), someIds(round, 5, 2, 9), someIds(round, 6, 3, 9)].map((word) =>
        word.map((id) => id + 1),
      ),
    }),
    (round) => ({ outputTokens: someIds(round, 7, 10, 9).map((id) => id + 1) }),
  )
})

test('min_tokens holds back the end of sequence and the stop tokens, no longer than it says', () => {
  const logits = Float32Array.of(0, 5, 9, 1)
  const greedy = (length: number) =>
    pick(
      logits,
      { temperature: 0, min_tokens: 2, stop_token_ids: [1] },
      { eosTokenIds: [2], outputTokens: Array(length).fill(0) },
    )
  assert.deepEqual([0, 1, 2, 3].map(greedy), [3, 3, 2, 2])
})

test('ids from the limit on are never chosen, but count in log-probabilities', () => {
  const logits = Float32Array.of(0, 1, 50, 60)
  const state = stateOf(4, { limit: 2 })
  for (const temperature of [0, 1]) {
    const params = samplingParams({ temperature, logprobs: 2, logit_bias: { 3: 100 } }, { size: 4 })
    const choice = createSampler(4)(logits, params, state)
    assert.ok(choice.token < 2)
    assert.deepEqual(choice, tokenLogprobs(logits, choice.token, 2))
  }
  assert.throws(() => pick(logits, { allowed_token_ids: [3] }, { limit: 2 }), RequestError)
})

// ---- all together ----

test('all rules at once agree with the restatement', () => {
  const maybe = <T>(round: number, stream: number, value: T, otherwise: T) =>
    part(round, stream) < 0.5 ? value : otherwise
  agree(
    (round) => ({
      temperature: maybe(round, 10, 0.3 + part(round, 11), 1),
      top_k: maybe(round, 12, 1 + (round % 40), 0),
      top_p: maybe(round, 13, 0.05 + part(round, 14) * 0.95, 1),
      min_p: maybe(round, 15, part(round, 16) * 0.2, 0),
      typical_p: maybe(round, 17, 0.05 + part(round, 18) * 0.95, 1),
      repetition_penalty: maybe(round, 19, 1.2, 1),
      frequency_penalty: maybe(round, 20, 0.4, 0),
      logit_bias: maybe(round, 21, { 0: 2, 5: -3 }, {}),
      bad_token_ids: maybe(round, 22, [[1], [2, 3]], []),
      allowed_token_ids: maybe(round, 23, [0, ...someIds(round, 8, 40)], null),
      min_tokens: round % 60,
    }),
    (round) => ({
      promptTokens: someIds(round, 9, 20),
      outputTokens: someIds(round, 10, round % 30),
      eosTokenIds: [4],
    }),
  )
})

test('over seeds and over positions, tokens come as often as their probabilities say', () => {
  const logits = Float32Array.of(0.5, 2, -1, 1, 0, 1.5, -3, 0.2)
  const params = samplingParams({ temperature: 0.8, top_p: 0.97 }, { size: 8 })
  const sample = createSampler(8)
  const wanted = restated(logits, params, stateOf(8))
  const n = 20_000
  for (const at of [(i: number) => ({ seed: i, position: 3 }), (i: number) => ({ seed: 3, position: i })]) {
    const seen = new Float64Array(8)
    for (let i = 0; i < n; i++) seen[sample(logits, params, stateOf(8, at(i))).token]++
    const chi = wanted.reduce((sum, { id, p }) => sum + (seen[id] - n * p) ** 2 / (n * p), 0)
    assert.equal(
      wanted.reduce((sum, { id }) => sum + seen[id], 0),
      n,
      'nothing outside the nucleus',
    )
    // At most 7 degrees of freedom: above 26 once in 2000, and these are always the same draws.
    assert.ok(chi < 26, `chi-square ${chi}`)
  }
})
