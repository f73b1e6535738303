// What all block formats share: half-precision scales, and walking a row block by block.
// Knows neither a layout nor how a scale is chosen: each format brings its own two functions for one block.

/** Decodes `count` elements starting at element `start` of `source` into `out[0 .. count)`. `start` is a block boundary. */
export type Decode = (source: Uint8Array, start: number, out: Float32Array, count: number) => void
/** Encodes `values` into `target` from element `start` on, rounding to nearest. */
export type Encode = (values: Float32Array, target: Uint8Array, start: number) => void

export interface Format {
  /** Elements in one block; 1 for plain numbers. */
  readonly block: number
  /** Bytes of one block. */
  readonly bytes: number
  readonly decode: Decode
  readonly encode?: Encode
}

/** One block from byte `at` of `source` into `out` from `to` on. */
export type DecodeBlock = (source: Uint8Array, at: number, out: Float32Array, to: number) => void
/** One block of `values` from `from` on into `target` at byte `at`. */
export type EncodeBlock = (values: Float32Array, from: number, target: Uint8Array, at: number) => void

/** A format of `block` elements in `bytes` bytes. Bytes are read one at a time: a block begins at any address. */
export function blocked(block: number, bytes: number, decode: DecodeBlock, encode?: EncodeBlock): Format {
  const format: Format = {
    block,
    bytes,
    decode: (source, start, out, count) => {
      for (let i = 0, at = (start / block) * bytes; i < count; i += block, at += bytes) {
        decode(source, at, out, i)
      }
    },
  }
  if (encode === undefined) return format
  return {
    ...format,
    encode: (values, target, start) => {
      for (let i = 0, at = (start / block) * bytes; i < values.length; i += block, at += bytes) {
        encode(values, i, target, at)
      }
    },
  }
}

let halves: Float32Array | null = null

/** The value of each of the 65,536 patterns of binary16, made on first use. */
export function halfTable(): Float32Array {
  halves ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToFloat(bits))
  return halves
}

/** The little-endian binary16 at byte `at`. */
export function readHalf(source: Uint8Array, at: number): number {
  return halfTable()[source[at] | (source[at + 1] << 8)]
}

/** Writes a value as binary16 and returns what was written, which is what a reader will multiply with. */
export function writeHalf(target: Uint8Array, at: number, value: number): number {
  const bits = floatToF16(value)
  target[at] = bits & 255
  target[at + 1] = bits >> 8
  return halfTable()[bits]
}

const word = new Float32Array(1)
const wordBits = new Uint32Array(word.buffer)

/** Rounds to binary16 (nearest even) and returns its 16 bits. */
export function floatToF16(value: number): number {
  word[0] = value
  const sign = (wordBits[0] >>> 16) & 0x8000
  const magnitude = Math.abs(word[0])
  if (Number.isNaN(magnitude)) return sign | 0x7e00
  if (magnitude >= 65520) return sign | 0x7c00
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24)
  const exponent = Math.floor(Math.log2(magnitude))
  const scaled = roundEven((magnitude / 2 ** exponent) * 1024) // 1024 .. 2048; a carry raises the exponent by itself
  return sign | (((exponent + 14) << 10) + scaled)
}

/** The nearest whole number, of two equally near ones the even. */
export function roundEven(value: number): number {
  const low = Math.floor(value)
  const rest = value - low
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >>> 10) & 31
  const fraction = half & 1023
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}
