import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type DType, formats } from './dtype.ts'
import { ShapeError } from './error.ts'
import { decodeRow, dims, floats, fromFloats, reshape, toF32, zeros } from './tensor.ts'

function through(dtype: DType, values: readonly number[]): number[] {
  const bytes = new Uint8Array(values.length * formats[dtype].bytes)
  formats[dtype].encode?.(Float32Array.from(values), bytes, 0)
  const out = new Float32Array(values.length)
  formats[dtype].decode(bytes, 0, out, values.length)
  return [...out]
}

describe('formats', () => {
  it('bf16 rounds to nearest even and keeps what is exact, infinities and NaN', () => {
    assert.deepEqual(through('bf16', [1, -2.5, 0, 1 + 2 ** -8, 1 + 3 * 2 ** -8]), [
      1,
      -2.5,
      0,
      1,
      1 + 2 ** -6,
    ])
    assert.deepEqual(through('bf16', [Infinity, -Infinity, Number.NaN]), [Infinity, -Infinity, Number.NaN])
    assert.deepEqual(through('bf16', [3.4e38]), [Infinity])
  })

  it('f16: every one of the 65,536 patterns survives decode and encode', () => {
    const bytes = new Uint8Array(new Uint16Array(65536).map((_, i) => i).buffer)
    const values = new Float32Array(65536)
    formats.f16.decode(bytes, 0, values, 65536)
    const back = new Uint8Array(bytes.length)
    formats.f16.encode?.(values, back, 0)
    const patterns = new Uint16Array(back.buffer)
    for (let i = 0; i < 65536; i++) {
      if (!Number.isNaN(values[i])) assert.equal(patterns[i], i, `pattern ${i} is ${values[i]}`)
    }
  })

  it('f16 rounds: ties to even, overflow to infinity, small to subnormal', () => {
    assert.deepEqual(through('f16', [2049, 2051, 65519, 65520, 2 ** -25, 1.5 * 2 ** -24]), [
      2048,
      2052,
      65504,
      Infinity,
      0,
      2 ** -23,
    ])
  })

  it('f8_e4m3 as OCP defines it', () => {
    const out = new Float32Array(6)
    formats.f8_e4m3.decode(Uint8Array.of(0x38, 0xb8, 0x7e, 0x01, 0x08, 0x7f), 0, out, 6)
    assert.deepEqual([...out], [1, -1, 448, 2 ** -9, 2 ** -6, Number.NaN])
  })
})

describe('tensors', () => {
  it('dims binds names, checks equals and literal sizes', () => {
    const x = zeros([3, 4])
    const w = zeros([5, 4])
    assert.deepEqual(dims('T D | N D', x, w), { T: 3, D: 4, N: 5 })
    assert.throws(() => dims('T D | D N', x, w), /wanted T D \| D N, given \[3 4\] \| \[5 4\]/)
    assert.throws(() => dims('T 5', x), ShapeError)
    assert.throws(() => dims('T H A', x), ShapeError)
  })

  it('reshape keeps the count, views keep the memory', () => {
    const values = Float32Array.of(1, 2, 3, 4, 5, 6)
    const tensor = fromFloats([2, 3], values)
    floats(reshape(tensor, [3, 2]))[0] = 9
    assert.equal(values[0], 9)
    assert.throws(() => reshape(tensor, [4, 2]), /cannot see \[2 3\] as \[4 2\]/)
    assert.throws(() => fromFloats([2, 2], values), /wants 4 numbers, 6 given/)
    assert.throws(() => floats(zeros([2], 'bf16')), /the tensor holds bf16/)
  })

  it('block scales: element (n, d) is multiplied by scale (n / 128, d / 128), matrix by matrix', () => {
    const N = 130
    const D = 260
    const ones = new Uint8Array(2 * N * D).fill(0x38)
    const scales = fromFloats(
      [2, 2, 3],
      Float32Array.from({ length: 12 }, (_, i) => i + 1),
    )
    const bank = { dtype: 'f8_e4m3' as const, shape: [2, N, D], data: ones, scales }
    const row = new Float32Array(D)
    decodeRow(bank, N + 129, row) // second matrix, second block of rows: scales 10, 11, 12
    assert.deepEqual([row[0], row[127], row[128], row[256], row[259]], [10, 10, 11, 12, 12])
    assert.equal(floats(toF32(bank))[(N + 129) * D + 128], 11)
  })
})
