// The block formats of 32 elements that GGUF files hold: q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl.
// Layouts and rounding rules are ggml's (ggml-common.h, ggml-quants.c), so that the same floats give the same bytes.
// Letters: d the scale of a block, m its minimum, q a stored code. Knows no files.
import { blocked, readHalf, writeHalf } from './quantblock.ts'

const { fround, trunc } = Math
const clamp = (q: number, low: number, high: number): number => Math.max(low, Math.min(high, q))

/** d * q: d as binary16, then 32 signed bytes. */
export const q8_0 = blocked(
  32,
  34,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    for (let i = 0; i < 32; i++) out[to + i] = d * ((source[at + 2 + i] << 24) >> 24)
  },
  (values, from, target, at) => {
    let largest = 0
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(values[from + i]))
    const d = fround(largest / 127)
    const inverse = d === 0 ? 0 : fround(1 / d)
    writeHalf(target, at, d)
    for (let i = 0; i < 32; i++) {
      const x = fround(values[from + i] * inverse)
      target[at + 2 + i] = x < 0 ? -trunc(0.5 - x) : trunc(x + 0.5) // halves away from zero
    }
  },
)

/** d * (q - 8): d, then 16 bytes of two codes; the low halves are elements 0 .. 15, the high ones 16 .. 31. */
export const q4_0 = blocked(
  32,
  18,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    for (let i = 0; i < 16; i++) {
      const pair = source[at + 2 + i]
      out[to + i] = d * ((pair & 15) - 8)
      out[to + 16 + i] = d * ((pair >> 4) - 8)
    }
  },
  (values, from, target, at) => {
    const { inverse } = symmetric(values, from, 8, target, at)
    const code = (i: number): number => clamp(trunc(fround(fround(values[from + i] * inverse) + 8.5)), 0, 15)
    for (let i = 0; i < 16; i++) target[at + 2 + i] = code(i) | (code(i + 16) << 4)
  },
)

/** d * q + m: d, m, then pairs of codes as in q4_0. */
export const q4_1 = blocked(
  32,
  20,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    const m = readHalf(source, at + 2)
    for (let i = 0; i < 16; i++) {
      const pair = source[at + 4 + i]
      out[to + i] = d * (pair & 15) + m
      out[to + 16 + i] = d * (pair >> 4) + m
    }
  },
  (values, from, target, at) => {
    const code = ranged(values, from, 15, target, at)
    for (let i = 0; i < 16; i++) target[at + 4 + i] = code(i) | (code(i + 16) << 4)
  },
)

/** d * (q - 16): d, 32 fifth bits (bit i is element i), then pairs of low halves as in q4_0. */
export const q5_0 = blocked(
  32,
  22,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    fiveBits(source, at + 2, (i, q) => {
      out[to + i] = d * (q - 16)
    })
  },
  (values, from, target, at) => {
    const { inverse } = symmetric(values, from, 16, target, at)
    const code = (i: number): number => clamp(trunc(fround(fround(values[from + i] * inverse) + 16.5)), 0, 31)
    writeFiveBits(target, at + 2, code)
  },
)

/** d * q + m: d, m, fifth bits and low halves as in q5_0. */
export const q5_1 = blocked(
  32,
  24,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    const m = readHalf(source, at + 2)
    fiveBits(source, at + 4, (i, q) => {
      out[to + i] = d * q + m
    })
  },
  (values, from, target, at) => writeFiveBits(target, at + 4, ranged(values, from, 31, target, at)),
)

/** The uneven levels of the iq4 formats, narrow where weights are many. */
export const iq4Levels: readonly number[] = [
  -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
]

/** d * level(q): d, then pairs of codes as in q4_0. */
export const iq4_nl = blocked(
  32,
  18,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    for (let i = 0; i < 16; i++) {
      const pair = source[at + 2 + i]
      out[to + i] = d * iq4Levels[pair & 15]
      out[to + 16 + i] = d * iq4Levels[pair >> 4]
    }
  },
  (values, from, target, at) => {
    const d = writeHalf(target, at, levelScale(values, from))
    const inverse = d === 0 ? 0 : 1 / d
    const code = (i: number): number => nearestLevel(values[from + i] * inverse)
    for (let i = 0; i < 16; i++) target[at + 2 + i] = code(i) | (code(i + 16) << 4)
  },
)

/** The scale that puts the value farthest from zero on code 0, its sign included: one side reaches further. */
function symmetric(values: Float32Array, from: number, half: number, target: Uint8Array, at: number) {
  let farthest = 0
  for (let i = 0; i < 32; i++) {
    if (Math.abs(values[from + i]) > Math.abs(farthest)) farthest = values[from + i]
  }
  const d = fround(farthest / -half)
  writeHalf(target, at, d)
  return { inverse: d === 0 ? 0 : fround(1 / d) }
}

/** Writes the scale and minimum that spread codes 0 .. `top` over the block, and says what the codes are. */
function ranged(values: Float32Array, from: number, top: number, target: Uint8Array, at: number) {
  let least = values[from]
  let most = values[from]
  for (let i = 1; i < 32; i++) {
    least = Math.min(least, values[from + i])
    most = Math.max(most, values[from + i])
  }
  const d = fround(fround(most - least) / top)
  const inverse = d === 0 ? 0 : fround(1 / d)
  writeHalf(target, at, d)
  writeHalf(target, at + 2, least)
  return (i: number): number =>
    clamp(trunc(fround(fround(fround(values[from + i] - least) * inverse) + 0.5)), 0, top)
}

function fiveBits(source: Uint8Array, at: number, take: (i: number, q: number) => void): void {
  const high = source[at] | (source[at + 1] << 8) | (source[at + 2] << 16) | (source[at + 3] << 24)
  for (let i = 0; i < 16; i++) {
    const pair = source[at + 4 + i]
    take(i, (pair & 15) | (((high >>> i) & 1) << 4))
    take(i + 16, (pair >> 4) | (((high >>> (i + 16)) & 1) << 4))
  }
}

function writeFiveBits(target: Uint8Array, at: number, code: (i: number) => number): void {
  let high = 0
  for (let i = 0; i < 16; i++) {
    const [low, up] = [code(i), code(i + 16)]
    target[at + 4 + i] = (low & 15) | ((up & 15) << 4)
    high |= ((low >> 4) << i) | ((up >> 4) << (i + 16))
  }
  for (let byte = 0; byte < 4; byte++) target[at + byte] = (high >>> (8 * byte)) & 255
}

function nearestLevel(x: number): number {
  let q = 0
  while (q < 15 && x > (iq4Levels[q] + iq4Levels[q + 1]) / 2) q++
  return q
}

/** Tries scales that put the farthest value near the first level, on either side; the least x^2-weighted error wins. */
function levelScale(values: Float32Array, from: number): number {
  let farthest = 0
  for (let i = 0; i < 32; i++) {
    if (Math.abs(values[from + i]) > Math.abs(farthest)) farthest = values[from + i]
  }
  if (Math.abs(farthest) < 1e-15) return 0
  let best = farthest / iq4Levels[0]
  let gain = -1
  for (let step = -7; step <= 7; step++) {
    const inverse = (iq4Levels[0] + step) / farthest
    let cross = 0
    let square = 0
    for (let i = 0; i < 32; i++) {
      const x = values[from + i]
      const level = iq4Levels[nearestLevel(inverse * x)]
      cross += x * x * x * level
      square += x * x * level * level
    }
    // with the best scale cross / square, the error is what x^4 holds beyond cross^2 / square
    if (square > 0 && cross * cross > gain * square) {
      gain = (cross * cross) / square
      best = cross / square
    }
  }
  return best
}
