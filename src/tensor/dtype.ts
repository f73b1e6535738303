// One row per number format: how many bytes a block of elements takes and how to turn it into floats and back.
// Knows bits, not tensors, files or models.

import { iq4_nl, q4_0, q4_1, q5_0, q5_1, q8_0 } from './quant.ts'
import { type Format, floatToF16, halfTable } from './quantblock.ts'
import { iq4_xs, q2_k, q3_k, q4_k, q5_k, q6_k } from './quantk.ts'

export { type Format, floatToF16 } from './quantblock.ts'

/** Plain numbers, and the block formats of GGUF files. */
export type DType = 'f32' | 'f16' | 'bf16' | 'f8_e4m3' | 'i32' | Quantized
export type Quantized =
  | ('q8_0' | 'q4_0' | 'q4_1' | 'q5_0' | 'q5_1' | 'iq4_nl')
  | ('q2_k' | 'q3_k' | 'q4_k' | 'q5_k' | 'q6_k' | 'iq4_xs')

const word = new Float32Array(1)
const bits = new Uint32Array(word.buffer)
const F8 = table(256, f8ToFloat)

export const formats: Readonly<Record<DType, Format>> = {
  f32: {
    block: 1,
    bytes: 4,
    decode: (source, start, out, count) => out.set(view(Float32Array, source, start, count)),
    encode: (values, target, start) => view(Float32Array, target, start, values.length).set(values),
  },
  // IEEE 754 binary16
  f16: {
    block: 1,
    bytes: 2,
    decode: (source, start, out, count) => {
      const halves = halfTable()
      const from = view(Uint16Array, source, start, count)
      for (let i = 0; i < count; i++) out[i] = halves[from[i]]
    },
    encode: (values, target, start) => {
      const to = view(Uint16Array, target, start, values.length)
      for (let i = 0; i < values.length; i++) to[i] = floatToF16(values[i])
    },
  },
  // the upper half of binary32
  bf16: {
    block: 1,
    bytes: 2,
    decode: (source, start, out, count) => {
      const from = view(Uint16Array, source, start, count)
      const to = new Uint32Array(out.buffer, out.byteOffset, count)
      for (let i = 0; i < count; i++) to[i] = from[i] << 16
    },
    encode: (values, target, start) => {
      const to = view(Uint16Array, target, start, values.length)
      for (let i = 0; i < values.length; i++) to[i] = floatToBf16(values[i])
    },
  },
  // OCP 8-bit E4M3: bias 7, no infinities, 0x7f and 0xff are NaN
  f8_e4m3: {
    block: 1,
    bytes: 1,
    decode: (source, start, out, count) => {
      for (let i = 0; i < count; i++) out[i] = F8[source[start + i]]
    },
  },
  i32: {
    block: 1,
    bytes: 4,
    decode: (source, start, out, count) => out.set(view(Int32Array, source, start, count)),
  },
  ...{ q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl },
  ...{ q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs },
}

/** Bytes that `count` elements of `dtype` take; `count` is a whole number of blocks. */
export function byteLength(dtype: DType, count: number): number {
  const { block, bytes } = formats[dtype]
  return (count / block) * bytes
}

/** Rounds to bfloat16 (nearest even) and returns its 16 bits. NaN stays NaN. */
export function floatToBf16(value: number): number {
  word[0] = value
  const b = bits[0]
  if ((b & 0x7fffffff) > 0x7f800000) return (b >>> 16) | 0x40
  return (b + 0x7fff + ((b >>> 16) & 1)) >>> 16
}

function f8ToFloat(byte: number): number {
  const sign = byte & 0x80 ? -1 : 1
  const exponent = (byte >>> 3) & 15
  const fraction = byte & 7
  if (exponent === 15 && fraction === 7) return Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10))
}

function table(size: number, decode: (bits: number) => number): Float32Array {
  return Float32Array.from({ length: size }, (_, i) => decode(i))
}

interface View<A> {
  new (buffer: ArrayBufferLike, offset: number, length: number): A
  readonly BYTES_PER_ELEMENT: number
}

function view<A>(Kind: View<A>, bytes: Uint8Array, start: number, count: number): A {
  return new Kind(bytes.buffer, bytes.byteOffset + start * Kind.BYTES_PER_ELEMENT, count)
}
