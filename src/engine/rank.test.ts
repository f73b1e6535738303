import assert from 'node:assert/strict'
import { test } from 'node:test'
import { uniform } from './random.ts'
import { createRanking } from './rank.ts'

/** Sort, then take until it is enough. */
function plainKeep(
  ids: number[],
  keys: Float64Array,
  weights: Float64Array | null,
  target: number,
): number[] {
  const kept: number[] = []
  let sum = 0
  for (const id of [...ids].sort((a, b) => keys[b] - keys[a] || a - b)) {
    if (kept.length > 0 && sum >= target) break
    kept.push(id)
    sum += weights === null ? 1 : weights[id]
  }
  return kept.sort((a, b) => a - b)
}

const spreads: Record<string, (u: number) => number> = {
  even: (u) => -u * 700,
  peaked: (u) => -((1 - u) ** 8) * 700,
  narrow: (u) => -u * 1e-12,
  denormal: (u) => -Math.round(u * 50) * 5e-324,
  steps: (u) => -Math.round(u * 6),
  equal: () => -3,
  outlier: (u) => (u < 0.01 ? -745 : -u * 1e-6),
}

test('keep agrees with sorting, for every spread of keys, size and target', () => {
  let draws = 0
  for (const [name, spread] of Object.entries(spreads)) {
    for (const size of [1, 2, 47, 49, 300, 5000]) {
      const ranking = createRanking(size)
      const keys = Float64Array.from({ length: size }, () => spread(uniform(5, draws++)))
      const weights = keys.map((key) => Math.exp(key))
      const ids = Array.from({ length: size }, (_, id) => id).filter((id) => size < 3 || id % 7 !== 3)
      const total = ids.reduce((sum, id) => sum + weights[id], 0)
      const check = (by: Float64Array | null, target: number) => {
        const out = Int32Array.from(ids)
        const kept = ranking.keep(out, ids.length, keys, by, target)
        const wanted = plainKeep(ids, keys, by, target)
        assert.deepEqual([...out.subarray(0, kept)], wanted, `${name} ${size} ${target}`)
      }
      for (const k of [0, 1, 2, 10, 48, ids.length - 1, ids.length, ids.length + 1]) check(null, k)
      for (const p of [0, 1e-9, 0.0317, 0.4931, 0.9017, 0.9993, 2]) check(weights, p * total)
    }
  }
})

test('one ranking serves lists of different lengths one after another', () => {
  const ranking = createRanking(200)
  const keys = Float64Array.from({ length: 200 }, (_, id) => -uniform(9, id))
  for (const count of [200, 60, 3, 199]) {
    const ids = Int32Array.from({ length: count }, (_, i) => i)
    const kept = ranking.keep(ids, count, keys, null, 3)
    assert.deepEqual(
      [...ids.subarray(0, kept)],
      plainKeep(
        Array.from({ length: count }, (_, i) => i),
        keys,
        null,
        3,
      ),
    )
  }
})
