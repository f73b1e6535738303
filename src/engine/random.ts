// Random numbers as a function: the same (seed, position, stream) is the same number, whoever asks and
// whenever. Keeps no state, so batching, preemption and restarts cannot change what a sequence draws. Knows
// nothing of tokens.

type Words2 = readonly [number, number]
type Words4 = readonly [number, number, number, number]

/**
 * A float64 in [0, 1) with 53 random bits. `seed` and `position` are any safe integers, negative ones too;
 * `stream` (32 bits) gives one position further independent numbers.
 */
export function uniform(seed: number, position: number, stream = 0): number {
  const [a, b] = philox([...words(position), stream >>> 0, 0], words(seed))
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53
}

/**
 * Philox-4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11, section
 * 3.3; the multipliers and key increments are those of the authors' Random123.
 */
export function philox(counter: Words4, key: Words2): Words4 {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0)
    const low0 = Math.imul(0xd2511f53, c0) >>> 0
    const high1 = multiplyHigh(0xcd9e8d57, c2)
    const low1 = Math.imul(0xcd9e8d57, c2) >>> 0
    c0 = (high1 ^ c1 ^ k0) >>> 0
    c1 = low1
    c2 = (high0 ^ c3 ^ k1) >>> 0
    c3 = low0
    k0 = (k0 + 0x9e3779b9) >>> 0
    k1 = (k1 + 0xbb67ae85) >>> 0
  }
  return [c0, c1, c2, c3]
}

/**
 * The upper 32 bits of a 32 x 32 product, by halves: the whole product has more bits than a float64 holds.
 */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000)
  const carry = aLow * bHigh + (middle % 0x10000)
  return aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)
}

/** A safe integer as its two's-complement words, low first: different integers have different words. */
function words(value: number): Words2 {
  return [value >>> 0, Math.floor(value / 2 ** 32) >>> 0]
}
