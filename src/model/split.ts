// Cuts a checkpoint's fused matrices along rows, without touching their numbers where the format allows it.
import { byteLength, formats } from '../tensor/dtype.ts'
import { host, type Tensor, toF32, zeros } from '../tensor/tensor.ts'

/** Of [groups * width, D]: rows first .. first + count of every group, [groups * count, D]. */
export function rowsOf(w: Tensor, groups: number, width: number, first: number, count: number): Tensor {
  const plain = w.scales ? toF32(w) : w // a cut need not fall on the border of a scale block
  const D = plain.shape[1]
  const row = byteLength(plain.dtype, D)
  const part = zeros([groups * count, D], plain.dtype)
  for (let g = 0; g < groups; g++) {
    const from = (g * width + first) * row
    host(part).set(host(plain).subarray(from, from + count * row), g * count * row)
  }
  return part
}

/** kv_b [H*(A+B) C] -> W^UK transposed a head at a time [H C A], and W^UV [H B C]. */
export function headMatrices(
  w: Tensor,
  H: number,
  A: number,
  B: number,
): { readonly key: Tensor; readonly value: Tensor } {
  const C = w.shape[1]
  const up = rowsOf(w, H, A + B, 0, A)
  const value = rowsOf(w, H, A + B, A, B)
  return { key: transposeHeads(up, H, A, C), value: { ...value, shape: [H, B, C] } }
}

/** A block of a quantized matrix lies along a row: such a matrix becomes f32 before its rows become columns. */
function transposeHeads(w: Tensor, H: number, A: number, C: number): Tensor {
  const plain = formats[w.dtype].block > 1 ? toF32(w) : w
  const key = zeros([H, C, A], plain.dtype)
  const from = units(plain)
  const to = units(key)
  for (let h = 0; h < H; h++) {
    for (let a = 0; a < A; a++) {
      for (let c = 0; c < C; c++) to[(h * C + c) * A + a] = from[(h * A + a) * C + c]
    }
  }
  return key
}

/** The numbers of a tensor as bit patterns. */
function units(w: Tensor): Uint32Array | Uint16Array | Uint8Array {
  const { buffer, byteOffset, length } = host(w)
  const bytes = byteLength(w.dtype, 1)
  if (bytes === 4) return new Uint32Array(buffer, byteOffset, length / 4)
  if (bytes === 2) return new Uint16Array(buffer, byteOffset, length / 2)
  return host(w)
}
