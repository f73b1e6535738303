import assert from 'node:assert/strict'
import { test } from 'node:test'
import { philox, uniform } from './random.ts'

const hex = (text: string) => text.split(' ').map((word) => Number.parseInt(word, 16))

test('philox agrees with the known answers of Random123 (tests/kat_vectors, philox4x32 10)', () => {
  const cases = [
    ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
  ]
  for (const [counter, key, answer] of cases) {
    const [c0, c1, c2, c3] = hex(counter)
    const [k0, k1] = hex(key)
    assert.deepEqual([...philox([c0, c1, c2, c3], [k0, k1])], hex(answer))
  }
})

test('philox agrees with a restatement in big integers', () => {
  const low = (n: bigint) => n & 0xffffffffn
  const plain = (counter: readonly number[], key: readonly number[]) => {
    let [a, b, c, d] = counter.map(BigInt)
    let [k, l] = key.map(BigInt)
    for (let round = 0; round < 10; round++) {
      const p = 0xd2511f53n * a
      const q = 0xcd9e8d57n * c
      ;[a, b, c, d] = [(q >> 32n) ^ b ^ k, low(q), (p >> 32n) ^ d ^ l, low(p)]
      k = low(k + 0x9e3779b9n)
      l = low(l + 0xbb67ae85n)
    }
    return [a, b, c, d].map(Number)
  }
  let state: readonly [number, number, number, number] = [1, 2, 3, 4]
  for (let i = 0; i < 1000; i++) {
    const key = [state[3], i] as const
    const next = philox(state, key)
    assert.deepEqual([...next], plain(state, key))
    state = next
  }
})

test('the same arguments give the same number in any order; any argument changes it', () => {
  const forward = Array.from({ length: 100 }, (_, position) => uniform(7, position))
  for (let position = 99; position >= 0; position--) assert.equal(uniform(7, position), forward[position])
  assert.equal(new Set(forward).size, 100)
  const seeds = [0, 1, -1, 2 ** 32, -(2 ** 32), Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]
  assert.equal(new Set(seeds.map((seed) => uniform(seed, 0))).size, seeds.length)
  assert.notEqual(uniform(7, 0, 1), uniform(7, 0))
  assert.notEqual(uniform(7, 2 ** 32), uniform(7, 0))
})

test('the numbers are uniform and neighbours are independent, along positions and along seeds', () => {
  for (const at of [(i: number) => uniform(1, i), (i: number) => uniform(i, 0)]) {
    const n = 100_000
    const cells = new Float64Array(256)
    let before = at(n)
    for (let i = 0; i < n; i++) {
      const now = at(i)
      assert.ok(now >= 0 && now < 1)
      cells[Math.floor(before * 16) * 16 + Math.floor(now * 16)]++
      before = now
    }
    const chi = cells.reduce((sum, count) => sum + (count - n / 256) ** 2 / (n / 256), 0)
    // 255 degrees of freedom: mean 255, deviation 22.6.
    assert.ok(chi > 150 && chi < 370, `chi-square ${chi}`)
  }
})
