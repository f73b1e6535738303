import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KernelError } from '../tensor/error.ts'
import { tokenLogprobs } from './logprobs.ts'
import { uniform } from './random.ts'

/** Random logits; steps of a half make many equals. */
function randomLogits(size: number, seed: number, step = 0): Float32Array {
  return Float32Array.from({ length: size }, (_, id) => {
    const logit = (uniform(seed, id) - 0.5) * 20
    return step === 0 ? logit : Math.round(logit / step) * step
  })
}

function logSoftmax(logits: Float32Array): number[] {
  const peak = Math.max(...logits)
  const total = [...logits].reduce((sum, logit) => sum + Math.exp(logit - peak), 0)
  return [...logits].map((logit) => logit - peak - Math.log(total))
}

test('log-probabilities are the log-softmax in float64, the likeliest first, of equals the lowest id', () => {
  for (const step of [0, 0.5]) {
    for (const size of [1, 2, 3, 17, 256, 1000]) {
      const logits = randomLogits(size, size, step)
      const wanted = logSoftmax(logits)
      const ranked = wanted.map((_, id) => id).sort((a, b) => wanted[b] - wanted[a] || a - b)
      for (const top of [0, 1, 2, 5, 20, size, size + 1]) {
        const choice = tokenLogprobs(logits, size >> 1, top)
        assert.equal(choice.token, size >> 1)
        assert.ok(Math.abs(choice.logprob! - wanted[size >> 1]) < 1e-12)
        const ids = choice.top!.map(({ token }) => token)
        assert.deepEqual(ids, ranked.slice(0, top))
        for (const { token, logprob } of choice.top!) assert.ok(Math.abs(logprob - wanted[token]) < 1e-12)
      }
    }
  }
})

test('infinite logits take all the mass or none', () => {
  const certain = tokenLogprobs(Float32Array.of(1, Infinity, -Infinity, Infinity), 0, 2)
  assert.equal(certain.logprob, -Infinity)
  assert.deepEqual(certain.top, [
    { token: 1, logprob: -Math.log(2) },
    { token: 3, logprob: -Math.log(2) },
  ])
  const half = tokenLogprobs(Float32Array.of(0, -Infinity, 0), 1, 1)
  assert.equal(half.logprob, -Infinity)
  assert.deepEqual(half.top, [{ token: 0, logprob: -Math.log(2) }])
})

test('NaN is the fault of the model', () => {
  assert.throws(
    () => tokenLogprobs(Float32Array.of(0, 1, Number.NaN), 0, 1),
    (error: unknown) => error instanceof KernelError && /produced NaN.*token 2/.test(error.message),
  )
})
