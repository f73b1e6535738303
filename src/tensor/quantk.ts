// The block formats of 256 elements that GGUF files hold: q2_k .. q6_k and iq4_xs, read, and the three of them that
// are worth writing. A block is 8 or 16 sub-blocks, whose scales (and minimums) are codes of their own.
// Layouts are ggml's (ggml-common.h); quantfit.ts chooses the scales. Knows no files.
import { iq4Levels } from './quant.ts'
import { blocked, readHalf, writeHalf } from './quantblock.ts'
import { fitRange, fitSigned, nearbyRange, roundHalf } from './quantfit.ts'

/** d * (scale * q) - dmin * min: 16 bytes of scale | min << 4, 64 bytes of four codes, d, dmin. */
export const q2_k = blocked(256, 84, (source, at, out, to) => {
  const d = readHalf(source, at + 80)
  const least = readHalf(source, at + 82)
  for (let i = 0; i < 256; i++) {
    const pair = source[at + (i >> 4)]
    // 32 bytes hold 128 elements, 32 of them at each pair of bits
    const q = (source[at + 16 + ((i >> 7) << 5) + (i & 31)] >> (((i >> 5) & 3) << 1)) & 3
    out[to + i] = d * (pair & 15) * q - least * (pair >> 4)
  }
})

/** d * (scale - 32) * (q - 4): 32 bytes of high bits, 64 bytes of two low bits, 12 bytes of scales, d. */
export const q3_k = blocked(256, 110, (source, at, out, to) => {
  const d = readHalf(source, at + 108)
  for (let i = 0; i < 256; i++) {
    const j = i >> 4
    const low = source[at + 96 + (j & 7)] >> (j < 8 ? 0 : 4)
    const high = source[at + 104 + (j & 3)] >> ((j >> 2) << 1)
    const scale = (low & 15) | ((high & 3) << 4)
    const bits = (source[at + 32 + ((i >> 7) << 5) + (i & 31)] >> (((i >> 5) & 3) << 1)) & 3
    const top = (source[at + (i & 31)] >> (i >> 5)) & 1
    out[to + i] = d * (scale - 32) * ((bits | (top << 2)) - 4)
  }
})

/** d * scale * q - dmin * min: d, dmin, 12 bytes of 6-bit scales and minimums, 128 bytes of two codes. */
export const q4_k = blocked(
  256,
  144,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    const least = readHalf(source, at + 2)
    for (let j = 0; j < 8; j++) {
      const scale = d * scaleAt(source, at + 4, j)
      const min = least * minAt(source, at + 4, j)
      const codes = at + 16 + ((j >> 1) << 5)
      const shift = (j & 1) << 2
      for (let i = 0; i < 32; i++) {
        out[to + 32 * j + i] = scale * ((source[codes + i] >> shift) & 15) - min
      }
    }
  },
  (values, from, target, at) => {
    encodeRanges(values, from, 15, target, at)
    target.fill(0, at + 16, at + 144)
    for (let i = 0; i < 256; i++) {
      target[at + 16 + ((i >> 6) << 5) + (i & 31)] |= codes[i] << (((i >> 5) & 1) << 2)
    }
  },
)

/** As q4_k, with 32 bytes of fifth bits before the codes: bit j of byte i is element 32 j + i. */
export const q5_k = blocked(
  256,
  176,
  (source, at, out, to) => {
    const d = readHalf(source, at)
    const least = readHalf(source, at + 2)
    for (let j = 0; j < 8; j++) {
      const scale = d * scaleAt(source, at + 4, j)
      const min = least * minAt(source, at + 4, j)
      const codes = at + 48 + ((j >> 1) << 5)
      const shift = (j & 1) << 2
      for (let i = 0; i < 32; i++) {
        const top = (source[at + 16 + i] >> j) & 1
        out[to + 32 * j + i] = scale * (((source[codes + i] >> shift) & 15) | (top << 4)) - min
      }
    }
  },
  (values, from, target, at) => {
    encodeRanges(values, from, 31, target, at)
    target.fill(0, at + 16, at + 176)
    for (let i = 0; i < 256; i++) {
      target[at + 16 + (i & 31)] |= (codes[i] >> 4) << (i >> 5)
      target[at + 48 + ((i >> 6) << 5) + (i & 31)] |= (codes[i] & 15) << (((i >> 5) & 1) << 2)
    }
  },
)

/** d * scale * (q - 32): 128 bytes of low halves, 64 of two high bits, 16 signed scales, d. */
export const q6_k = blocked(
  256,
  210,
  (source, at, out, to) => {
    const d = readHalf(source, at + 208)
    for (let i = 0; i < 256; i++) {
      const { low, lowShift, high, highShift } = sixBits[i]
      const q = ((source[at + low] >> lowShift) & 15) | (((source[at + high] >> highShift) & 3) << 4)
      const scale = (source[at + 192 + (i >> 4)] << 24) >> 24
      out[to + i] = d * scale * (q - 32)
    }
  },
  (values, from, target, at) => {
    encodeSigned(values, from, target, at)
    target.fill(0, at, at + 192)
    for (let i = 0; i < 256; i++) {
      const { low, lowShift, high, highShift } = sixBits[i]
      target[at + low] |= (codes[i] & 15) << lowShift
      target[at + high] |= (codes[i] >> 4) << highShift
    }
  },
)

/** d * (scale - 32) * level(q): d, 16 bits of high scale bits, 4 bytes of low ones, 128 bytes of two codes. */
export const iq4_xs = blocked(256, 136, (source, at, out, to) => {
  const d = readHalf(source, at)
  const high = source[at + 2] | (source[at + 3] << 8)
  for (let j = 0; j < 8; j++) {
    const low = (source[at + 4 + (j >> 1)] >> ((j & 1) << 2)) & 15
    const scale = d * ((low | (((high >> (2 * j)) & 3) << 4)) - 32)
    for (let i = 0; i < 16; i++) {
      const pair = source[at + 8 + 16 * j + i]
      out[to + 32 * j + i] = scale * iq4Levels[pair & 15]
      out[to + 32 * j + 16 + i] = scale * iq4Levels[pair >> 4]
    }
  }
})

/** Where q6_k keeps element i: of each 128, the four groups of 32 share 64 low bytes and 32 high ones. */
const sixBits = Array.from({ length: 256 }, (_, i) => {
  const half = i >> 7
  const group = (i >> 5) & 3
  return {
    low: 64 * half + 32 * (group & 1) + (i & 31),
    lowShift: (group >> 1) << 2,
    high: 128 + 32 * half + (i & 31),
    highShift: group << 1,
  }
})

/** The j-th 6-bit scale: the first four whole, of the last four the upper bits above those of the first. */
function scaleAt(source: Uint8Array, at: number, j: number): number {
  if (j < 4) return source[at + j] & 63
  return (source[at + j + 4] & 15) | ((source[at + j - 4] >> 6) << 4)
}

function minAt(source: Uint8Array, at: number, j: number): number {
  if (j < 4) return source[at + j + 4] & 63
  return (source[at + j + 4] >> 4) | ((source[at + j] >> 6) << 4)
}

function writeScale(target: Uint8Array, at: number, j: number, scale: number, min: number): void {
  if (j < 4) {
    target[at + j] = scale
    target[at + j + 4] = min
    return
  }
  target[at + j + 4] = (scale & 15) | ((min & 15) << 4)
  target[at + j - 4] |= (scale >> 4) << 6
  target[at + j] |= (min >> 4) << 6
}

const codes = new Uint8Array(256)
const scales = new Float64Array(16)
const mins = new Float64Array(8)

/** Scales and minimums of 8 sub-blocks into `target`, and the 256 codes that go with them as written. */
function encodeRanges(values: Float32Array, from: number, top: number, target: Uint8Array, at: number): void {
  let largest = 0
  let deepest = 0
  for (let j = 0; j < 8; j++) {
    const fit = fitRange(values, from + 32 * j, top)
    scales[j] = fit.scale
    mins[j] = fit.min
    largest = Math.max(largest, fit.scale)
    deepest = Math.max(deepest, fit.min)
  }
  const d = writeHalf(target, at, largest / 63)
  const least = writeHalf(target, at + 2, deepest / 63)
  target.fill(0, at + 4, at + 16)
  for (let j = 0; j < 8; j++) {
    const scale = largest === 0 ? 0 : Math.min(63, roundHalf((63 / largest) * scales[j]))
    const min = deepest === 0 ? 0 : Math.min(63, roundHalf((63 / deepest) * mins[j]))
    const stored = nearbyRange(values, from + 32 * j, top, { scale, min }, { d, least })
    writeScale(target, at + 4, j, stored.scale, stored.min)
    const step = d * stored.scale
    for (let i = 32 * j; i < 32 * j + 32; i++) {
      const q = step === 0 ? 0 : roundHalf((values[from + i] + least * stored.min) / step)
      codes[i] = Math.max(0, Math.min(top, q))
    }
  }
}

/** Scales of 16 sub-blocks into `target`, and the 256 codes that go with them as written. */
function encodeSigned(values: Float32Array, from: number, target: Uint8Array, at: number): void {
  let farthest = 0
  for (let j = 0; j < 16; j++) {
    scales[j] = fitSigned(values, from + 16 * j)
    if (Math.abs(scales[j]) > Math.abs(farthest)) farthest = scales[j]
  }
  const tiny = Math.abs(farthest) < 1e-15
  const d = writeHalf(target, at + 208, tiny ? 0 : farthest / -128)
  for (let j = 0; j < 16; j++) {
    const scale = tiny ? 0 : Math.min(127, roundHalf((-128 / farthest) * scales[j]))
    target[at + 192 + j] = scale
    for (let i = 16 * j; i < 16 * j + 16; i++) {
      const step = d * scale
      const q = step === 0 ? 0 : roundHalf(values[from + i] / step)
      codes[i] = Math.max(-32, Math.min(31, q)) + 32
    }
  }
}
