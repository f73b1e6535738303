// The block formats against a second reading of their description, bit by bit; and against bytes that ggml made.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { byteLength, type DType, formats, type Quantized } from './dtype.ts'
import { decodeRow, floats, toF32 } from './tensor.ts'

/** A block as the numbered bits of the format's description: field(8, 4) is bits 8 .. 11. */
type Field = (bit: number, width: number) => number

function fieldOf(block: Uint8Array): Field {
  return (bit, width) => {
    let value = 0
    for (let i = 0; i < width; i++) {
      value += ((block[Math.floor((bit + i) / 8)] >> ((bit + i) % 8)) & 1) * 2 ** i
    }
    return value
  }
}

function half(field: Field, byte: number): number {
  const [fraction, exponent, sign] = [field(8 * byte, 10), field(8 * byte + 10, 5), field(8 * byte + 15, 1)]
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return sign === 1 ? -magnitude : magnitude
}

const signed = (byte: number): number => (byte > 127 ? byte - 256 : byte)
/** Bytes of pairs of 4-bit codes: the low halves are the first `width` elements, the high halves the next. */
const nibble = (field: Field, byte: number, i: number, width: number): number =>
  field(8 * (byte + (i % width)) + (i % (2 * width) < width ? 0 : 4), 4)
const curve = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

/** The 6-bit scale and minimum of sub-block j, packed into 12 bytes: 0-3 whole, 4-7 in pieces. */
function packed(field: Field, byte: number, j: number): { scale: number; min: number } {
  const at = (i: number): number => 8 * (byte + i)
  if (j < 4) return { scale: field(at(j), 6), min: field(at(j + 4), 6) }
  return {
    scale: field(at(j + 4), 4) + 16 * field(at(j - 4) + 6, 2),
    min: field(at(j + 4) + 4, 4) + 16 * field(at(j) + 6, 2),
  }
}

/** Element i of a block, as the format's description says it. */
const described: Readonly<Record<Quantized, (field: Field, i: number) => number>> = {
  q8_0: (f, i) => half(f, 0) * signed(f(16 + 8 * i, 8)),
  q4_0: (f, i) => half(f, 0) * (nibble(f, 2, i, 16) - 8),
  q4_1: (f, i) => half(f, 0) * nibble(f, 4, i, 16) + half(f, 2),
  q5_0: (f, i) => half(f, 0) * (nibble(f, 6, i, 16) + 16 * f(16 + i, 1) - 16),
  q5_1: (f, i) => half(f, 0) * (nibble(f, 8, i, 16) + 16 * f(32 + i, 1)) + half(f, 2),
  iq4_nl: (f, i) => half(f, 0) * curve[nibble(f, 2, i, 16)],
  q2_k: (f, i) => {
    const j = Math.floor(i / 16)
    const q = f(8 * (16 + 32 * Math.floor(i / 128) + (i % 32)) + 2 * (Math.floor(i / 32) % 4), 2)
    return half(f, 80) * f(8 * j, 4) * q - half(f, 82) * f(8 * j + 4, 4)
  },
  q3_k: (f, i) => {
    const j = Math.floor(i / 16)
    const scale =
      f(8 * (96 + (j % 8)) + (j < 8 ? 0 : 4), 4) + 16 * f(8 * (104 + (j % 4)) + 2 * Math.floor(j / 4), 2)
    const low = f(8 * (32 + 32 * Math.floor(i / 128) + (i % 32)) + 2 * (Math.floor(i / 32) % 4), 2)
    const high = f(8 * (i % 32) + Math.floor(i / 32), 1)
    return half(f, 108) * (scale - 32) * (low + 4 * high - 4)
  },
  q4_k: (f, i) => {
    const { scale, min } = packed(f, 4, Math.floor(i / 32))
    return half(f, 0) * scale * nibble(f, 16 + 32 * Math.floor(i / 64), i, 32) - half(f, 2) * min
  },
  q5_k: (f, i) => {
    const { scale, min } = packed(f, 4, Math.floor(i / 32))
    const high = f(8 * (16 + (i % 32)) + Math.floor(i / 32), 1)
    const q = nibble(f, 48 + 32 * Math.floor(i / 64), i, 32) + 16 * high
    return half(f, 0) * scale * q - half(f, 2) * min
  },
  q6_k: (f, i) => {
    const [part, group, l] = [Math.floor(i / 128), Math.floor(i / 32) % 4, i % 32]
    const low = f(8 * (64 * part + 32 * (group % 2) + l) + (group < 2 ? 0 : 4), 4)
    const high = f(8 * (128 + 32 * part + l) + 2 * group, 2)
    return half(f, 208) * signed(f(8 * (192 + Math.floor(i / 16)), 8)) * (low + 16 * high - 32)
  },
  iq4_xs: (f, i) => {
    const j = Math.floor(i / 32)
    const scale = f(32 + 4 * j, 4) + 16 * f(16 + 2 * j, 2) - 32
    return half(f, 0) * scale * curve[nibble(f, 8 + 16 * j, i % 32, 16)]
  },
}

const names = Object.keys(described) as Quantized[]
const written = names.filter((name) => formats[name].encode !== undefined)
/** Where the binary16 fields are: random bits there would be infinities. */
const halves: Readonly<Record<Quantized, readonly number[]>> = {
  ...{ q8_0: [0], q4_0: [0], q4_1: [0, 2], q5_0: [0], q5_1: [0, 2], iq4_nl: [0] },
  ...{ q2_k: [80, 82], q3_k: [108], q4_k: [0, 2], q5_k: [0, 2], q6_k: [208], iq4_xs: [0] },
}

function dice(seed: number): () => number {
  let state = seed
  return () => (state = (state * 48271) % 2147483647) / 2147483647
}

/** About a bell, as weights are. */
function bell(count: number, seed = 7, scale = 0.05): Float32Array {
  const next = dice(seed)
  return Float32Array.from({ length: count }, () => (next() + next() + next() + next() - 2) * scale)
}

function randomBlocks(name: Quantized, count: number, offset = 0): Uint8Array {
  const next = dice(name.length + count)
  const { bytes } = formats[name]
  const all = new Uint8Array(count * bytes + offset).subarray(offset)
  for (let i = 0; i < all.length; i++) all[i] = Math.floor(next() * 256)
  for (let block = 0; block < count; block++) {
    for (const at of halves[name]) all[block * bytes + at + 1] &= 0xbb // exponents up to 29
  }
  return all
}

function through(name: DType, values: Float32Array): Float32Array {
  const bytes = new Uint8Array(byteLength(name, values.length) + 1).subarray(1)
  formats[name].encode!(values, bytes, 0)
  const out = new Float32Array(values.length)
  formats[name].decode(bytes, 0, out, values.length)
  return out
}

function rms(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length)
}

describe('block formats', () => {
  for (const name of names) {
    it(`${name}: every bit of random blocks, at an odd address, from any block on`, () => {
      const { block, bytes, decode } = formats[name]
      const source = randomBlocks(name, 40, 3)
      const out = new Float32Array(37 * block)
      decode(source, 3 * block, out, out.length)
      for (let i = 0; i < out.length; i++) {
        const at = (3 + Math.floor(i / block)) * bytes
        const wanted = Math.fround(described[name](fieldOf(source.subarray(at, at + bytes)), i % block))
        assert.ok(
          Math.abs(out[i] - wanted) <= Math.abs(wanted) * 1e-6 + 1e-12,
          `${i}: ${out[i]} for ${wanted}`,
        )
      }
    })
  }

  it('one bit decides one element, or its sub-block: no bit is unused, none is used for too much', () => {
    for (const name of names) {
      const { block, bytes, decode } = formats[name]
      const source = randomBlocks(name, 1)
      const [before, after] = [new Float32Array(block), new Float32Array(block)]
      decode(source, 0, before, block)
      for (let bit = 0; bit < bytes * 8; bit++) {
        if (halves[name].some((byte) => bit >= byte * 8 && bit < byte * 8 + 16)) continue
        source[bit >> 3] ^= 1 << (bit & 7)
        decode(source, 0, after, block)
        source[bit >> 3] ^= 1 << (bit & 7)
        const changed = after.filter((value, i) => value !== before[i]).length
        assert.ok(changed <= 32, `${name} bit ${bit} changes ${changed} elements`)
      }
    }
  })

  it('decodeRow reads a row in the middle of a bank', () => {
    for (const name of names) {
      const bank = {
        dtype: name,
        shape: [2, 3, 512],
        data: randomBlocks(name, (6 * 512) / formats[name].block),
      }
      const row = new Float32Array(512)
      decodeRow(bank, 4, row)
      assert.deepEqual(row, floats(toF32(bank)).subarray(4 * 512, 5 * 512))
    }
  })
})

/** Of 4,096 values of bell(): the SHA-1 of ggml's bytes where its rounding is prescribed, and its error. */
const ggml: Readonly<Partial<Record<Quantized, { readonly sha1?: string; readonly rms: number }>>> = {
  q4_0: { sha1: '98be32b7a8a121140b4c5746061119eaa38ea280', rms: 0.0024067862422686 },
  q4_1: { sha1: 'b9be7d5ea0b9e83390945e67e5db689fdc53e57a', rms: 0.0022134562440445 },
  q5_0: { sha1: '330b80282bb89c49effb69ff70e721fead014f7e', rms: 0.0011956933513555 },
  q5_1: { sha1: 'ddda8c0593e3879b9f9bd24ec97428652b56d371', rms: 0.0010495069412503 },
  q8_0: { sha1: '310ce2e0ed6504fcc8a4d8660d1381a18cabc20c', rms: 0.0001488509793365 },
  q4_k: { rms: 0.0019849049862869 },
  q5_k: { rms: 0.0010026970515009 },
  q6_k: { rms: 0.0004933129533994 },
  iq4_nl: { rms: 0.0022329665213649 },
}

describe('encoding', () => {
  for (const name of written) {
    it(`${name}: as good as ggml, and byte for byte where rounding is all there is`, () => {
      const values = bell(4096)
      const bytes = new Uint8Array(byteLength(name, values.length))
      formats[name].encode!(values, bytes, 0)
      const { sha1, rms: wanted } = ggml[name]!
      if (sha1 !== undefined) assert.equal(createHash('sha1').update(bytes).digest('hex'), sha1)
      const error = rms(through(name, values), values)
      assert.ok(error <= wanted * 1.001, `${name}: ${error}, ggml ${wanted}`)
    })

    it(`${name}: what was decoded encodes to itself, near enough to be still the same weights`, () => {
      const once = through(name, bell(1024, 3))
      const twice = through(name, once)
      assert.ok(rms(once, twice) <= 0.25 * rms(once, bell(1024, 3)), `${rms(once, twice)}`)
    })

    it(`${name}: zeros, constants, one spike, tiny and huge values`, () => {
      const spike = new Float32Array(256)
      spike[77] = -3
      const cases = [
        new Float32Array(256),
        new Float32Array(256).fill(0.5),
        new Float32Array(256).fill(-0.5),
        spike,
        bell(256, 5, 1e-6),
        bell(256, 5, 1000),
      ]
      for (const values of cases) {
        const out = through(name, values)
        const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
        const worst = out.reduce((most, x, i) => Math.max(most, Math.abs(x - values[i])), 0)
        // half a step of the coarsest format, and what binary16 scales lose near zero
        assert.ok(worst <= largest / 7 + 6e-6, `${worst} of ${largest}`)
      }
    })
  }

  it('only the part of the target that is named is written', () => {
    for (const name of written) {
      const { block, bytes, encode } = formats[name]
      const target = new Uint8Array(3 * bytes).fill(0xaa)
      encode!(bell(block), target, block)
      const untouched = [...target.subarray(0, bytes), ...target.subarray(2 * bytes)]
      assert.ok(untouched.every((byte) => byte === 0xaa))
    }
  })
})
