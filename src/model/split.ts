// Cuts a checkpoint's fused matrices along rows, without touching their numbers where the format allows it.
import { byteLength, formats } from '../tensor/dtype.ts'
import { host, type Piece, piecesOf, type Tensor, toF32, zeros } from '../tensor/tensor.ts'

/** Of [groups * width, D]: rows first .. first + count of every group, [groups * count, D]; of a mapped file, no copy. */
export function rowsOf(w: Tensor, groups: number, width: number, first: number, count: number): Tensor {
  const plain = w.scales ? toF32(w) : w // a cut need not fall on the border of a scale block
  const D = plain.shape[1]
  const row = byteLength(plain.dtype, D)
  const shape = [groups * count, D]
  const starts = Array.from({ length: groups }, (_, g) => (g * width + first) * row)
  const whole = piecesOf(plain)
  if (whole?.length === 1) {
    const pieces = starts.map((from) => pieceOf(whole[0], from, count * row))
    return { dtype: plain.dtype, shape, data: { pieces } }
  }
  const part = zeros(shape, plain.dtype)
  for (const [g, from] of starts.entries()) {
    host(part).set(host(plain).subarray(from, from + count * row), g * count * row)
  }
  return part
}

const pieceOf = ({ bytes, fd, offset }: Piece, from: number, length: number): Piece => ({
  bytes: bytes.subarray(from, from + length),
  fd,
  offset: offset + from,
})

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
  for (let h = 0; h < H; h++) transpose(from, to, h * A * C, A, C)
  return key
}

const tile = 16 // of words: both sides of a tile stay in the first cache

/** [A C] -> [C A], both at `at`. */
function transpose(from: Units, to: Units, at: number, A: number, C: number): void {
  for (let a0 = 0; a0 < A; a0 += tile) {
    const a1 = Math.min(A, a0 + tile)
    for (let c = 0; c < C; c++) {
      for (let a = a0; a < a1; a++) to[at + c * A + a] = from[at + a * C + c]
    }
  }
}

type Units = Uint32Array | Uint16Array | Uint8Array

/** The numbers of a tensor as bit patterns. */
function units(w: Tensor): Units {
  const bytes = host(w)
  const { buffer, byteOffset, length } = bytes
  const width = byteLength(w.dtype, 1)
  if (width === 4) return new Uint32Array(buffer, byteOffset, length / 4)
  if (width === 2) return new Uint16Array(buffer, byteOffset, length / 2)
  return bytes
}
