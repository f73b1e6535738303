import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KernelError, RequestError, ShapeError } from '../tensor/error.ts'
import { uniform } from './random.ts'
import { createSampler, type SamplerState, tokenLogprobs } from './sampler.ts'
import { type SamplingFields, samplingParams } from './sampling.ts'

function stateOf(size: number, given: Partial<SamplerState> = {}): SamplerState {
  return { promptTokens: [], outputTokens: [], position: 0, seed: 1, eosTokenIds: [], limit: size, ...given }
}

function randomLogits(size: number, seed: number, step = 0): Float32Array {
  return Float32Array.from({ length: size }, (_, id) => {
    const logit = (uniform(seed, id) + uniform(seed, id, 1) + uniform(seed, id, 2) - 1.5) * 8
    return step === 0 ? logit : Math.round(logit / step) * step
  })
}

function pick(logits: Float32Array, fields: SamplingFields, state: Partial<SamplerState> = {}): number {
  const size = logits.length
  return createSampler(size)(logits, samplingParams(fields, { size }), stateOf(size, state)).token
}

test('greedy takes the largest, of equals the lowest id, after masks and penalties', () => {
  assert.equal(pick(Float32Array.of(1, 3, 3, 2), { temperature: 0 }), 1)
  assert.equal(pick(new Float32Array(10), { temperature: 0 }), 0)
  assert.equal(
    pick(Float32Array.of(3, 2), { temperature: 0, frequency_penalty: 2 }, { outputTokens: [0] }),
    1,
  )
  for (let seed = 0; seed < 200; seed++) {
    const logits = randomLogits(100, seed, 2)
    const best = logits.indexOf(Math.max(...logits))
    assert.equal(pick(logits, { temperature: 0, top_p: 0.1 }, { seed }), best)
    assert.equal(pick(logits, { top_k: 1 }, { seed }), best)
  }
})

test('any temperature is safe: tiny ones are greedy, huge ones uniform', () => {
  const logits = randomLogits(40, 8)
  const best = pick(logits, { temperature: 0 })
  for (const temperature of [1e-3, 1e-30, 5e-324]) assert.equal(pick(logits, { temperature }), best)
  const tokens = Array.from({ length: 2000 }, (_, position) =>
    pick(logits, { temperature: 1e308, top_p: 0.9999 }, { position }),
  )
  assert.equal(new Set(tokens).size, 40)
})

test('the choice is a function of seed and position, whatever was sampled before', () => {
  const size = 500
  const params = samplingParams({ top_p: 0.9, top_k: 100, typical_p: 0.9 }, { size })
  const rows = [1, 2, 3].map((seed) => randomLogits(size, seed))
  const shared = createSampler(size)
  const at = (i: number) => stateOf(size, { seed: i % 5, position: i })
  const forward = Array.from({ length: 60 }, (_, i) => shared(rows[i % 3], params, at(i)).token)
  for (let i = 59; i >= 0; i--) {
    assert.equal(shared(rows[i % 3], params, at(i)).token, forward[i])
    assert.equal(createSampler(size)(rows[i % 3], params, at(i)).token, forward[i])
  }
  assert.ok(new Set(forward).size > 20, 'positions differ')
})

test('the logits are left as they were', () => {
  const logits = randomLogits(100, 4)
  const before = logits.slice()
  pick(logits, { top_p: 0.5, logit_bias: { 1: 5 }, bad_token_ids: [[2]], allowed_token_ids: [1, 2, 3] })
  assert.deepEqual(logits, before)
})

test('log-probabilities are of the raw logits, whatever the rules', () => {
  const logits = randomLogits(100, 5)
  const fields = { temperature: 0.3, top_k: 2, allowed_token_ids: [3, 4], logit_bias: { 3: 9 } }
  const sample = createSampler(100)
  for (const logprobs of [0, 1, 5, 100]) {
    const choice = sample(logits, samplingParams({ ...fields, logprobs }, { size: 100 }), stateOf(100))
    assert.deepEqual(choice, tokenLogprobs(logits, choice.token, logprobs))
  }
  const quiet = sample(logits, samplingParams(fields, { size: 100 }), stateOf(100))
  assert.deepEqual([quiet.logprob, quiet.top], [null, null])
})

// ---- what cannot be sampled ----

test('infinite logits: plus is certain, minus is never', () => {
  for (let position = 0; position < 50; position++) {
    assert.equal(pick(Float32Array.of(3, Infinity, 9), {}, { position }), 1)
    assert.equal(
      pick(Float32Array.of(-Infinity, 0, -Infinity), { top_p: 0.9, typical_p: 0.9 }, { position }),
      1,
    )
  }
  const shared = Float32Array.of(Infinity, 5, Infinity)
  const tokens = Array.from({ length: 50 }, (_, position) => pick(shared, { top_p: 0.99 }, { position }))
  assert.deepEqual([...new Set(tokens)].sort(), [0, 2])
})

test('NaN, or nothing but -Infinity, is the fault of the model and says where', () => {
  const faults: [Float32Array, RegExp][] = [
    [Float32Array.of(0, Number.NaN), /model produced NaN: the logit of token 1 at output position 12;/],
    [new Float32Array(4).fill(-Infinity), /every token a logit of -Infinity at output position 12/],
  ]
  for (const [logits, message] of faults) {
    for (const temperature of [0, 1]) {
      assert.throws(
        () => pick(logits, { temperature }, { position: 12 }),
        (error: unknown) => error instanceof KernelError && message.test(error.message),
      )
    }
  }
})

test('rules that leave no token are refused by name', () => {
  const cases: [SamplingFields, Partial<SamplerState>, string, RegExp][] = [
    [
      { allowed_token_ids: [1], bad_token_ids: [[1]] },
      {},
      'allowed_token_ids',
      /allowed_token_ids and bad_token_ids/,
    ],
    [
      { bad_token_ids: [[0], [1], [2]] },
      {},
      'bad_token_ids',
      /position 4: bad_token_ids together exclude all 3/,
    ],
    [
      { allowed_token_ids: [2], min_tokens: 3 },
      { eosTokenIds: [2] },
      'allowed_token_ids',
      /allowed_token_ids and min_tokens/,
    ],
  ]
  for (const [fields, given, field, message] of cases) {
    assert.throws(
      () => pick(new Float32Array(3), fields, { position: 4, ...given }),
      (error: unknown) => {
        assert.ok(error instanceof RequestError)
        assert.equal(error.field, field)
        assert.match(error.message, message)
        return true
      },
    )
  }
})

test('a row of another length is refused', () => {
  const params = samplingParams({}, { size: 3 })
  assert.throws(() => createSampler(4)(new Float32Array(3), params, stateOf(3)), ShapeError)
})
