// The formats in which a token's latent and rope key are kept. What a row takes, and what it gives back, is the same on
// every backend; where it lies is a backend's own business.
import { floatToBf16, formats } from '../tensor/dtype.ts'

/** q8: latents as 8-bit integers with a bf16 step for 64 of them, rope keys as bf16. */
export type LatentFormat = 'f32' | 'bf16' | 'q8'

export const latentFormats: readonly LatentFormat[] = ['f32', 'bf16', 'q8']

/** Latents of a token that share a step of q8. */
export const scaled = 64

/** Bytes of one token in one layer, [latent C | key R]. */
export function latentBytes(format: LatentFormat, C: number, R: number): number {
  if (format !== 'q8') return (C + R) * formats[format].bytes
  return Math.ceil((2 * (R + Math.ceil(C / scaled)) + C) / 2) * 2
}

/** Writes one row: f32 and bf16 as [latent | key], q8 as [key bf16 | steps bf16 | codes]. `at` is a byte. */
export function encodeLatent(
  format: LatentFormat,
  latent: Float32Array,
  key: Float32Array,
  to: Uint8Array,
  at: number,
): void {
  if (format !== 'q8') {
    const { encode, bytes } = formats[format]
    encode?.(latent, to, at / bytes)
    encode?.(key, to, at / bytes + latent.length)
    return
  }
  const blocks = Math.ceil(latent.length / scaled)
  formats.bf16.encode?.(key, to, at / 2)
  const steps = new Float32Array(blocks)
  const codes = new Int8Array(to.buffer, to.byteOffset + at + 2 * (key.length + blocks), latent.length)
  for (let b = 0; b < blocks; b++) {
    const block = latent.subarray(b * scaled, (b + 1) * scaled)
    steps[b] = encodeBlock(block, codes.subarray(b * scaled))
  }
  formats.bf16.encode?.(steps, to, at / 2 + key.length)
}

/**
 * Codes of one block, and their step: the largest size / 127, rounded to bf16. Codes count in the rounded step, so
 * rounding it costs nothing, and bf16 has the range of f32. A block too small for its step to have an inverse is zero.
 */
function encodeBlock(values: Float32Array, codes: Int8Array): number {
  let most = 0
  for (const value of values) most = Math.max(most, Math.abs(value))
  const step = toBf16(Math.fround(most / 127))
  const inverse = step < 2 ** -126 ? 0 : Math.fround(1 / step)
  for (let i = 0; i < values.length; i++) codes[i] = nearest(Math.fround(values[i] * inverse))
  return step
}

const word = new Uint32Array(1)
const wordAsFloat = new Float32Array(word.buffer)

function toBf16(value: number): number {
  word[0] = floatToBf16(value) << 16
  return wordAsFloat[0]
}

/** The nearest integer, ties to even. */
function nearest(value: number): number {
  const rounded = Math.round(value)
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}

/** Reads neighbouring rows back as floats, [C | R] each, as many as `out` has room for. */
export function decodeLatents(
  format: LatentFormat,
  from: Uint8Array,
  at: number,
  C: number,
  R: number,
  out: Float32Array,
): void {
  if (format !== 'q8') {
    const { decode, bytes } = formats[format]
    decode(from, at / bytes, out, out.length)
    return
  }
  const blocks = Math.ceil(C / scaled)
  const steps = new Float32Array(blocks)
  for (let row = 0; row < out.length; row += C + R, at += latentBytes(format, C, R)) {
    formats.bf16.decode(from, at / 2, out.subarray(row + C), R)
    formats.bf16.decode(from, at / 2 + R, steps, blocks)
    const codes = new Int8Array(from.buffer, from.byteOffset + at + 2 * (R + blocks), C)
    for (let c = 0; c < C; c++) out[row + c] = codes[c] * steps[Math.floor(c / scaled)]
  }
}
