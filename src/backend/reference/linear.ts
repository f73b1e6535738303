// y = x w^T, for weights of any format: each row of w is decoded once and meets every row of x.
import { decodeRow, dims, floats, fromFloats, type Tensor } from '../../tensor/tensor.ts'
import { dot } from './dot.ts'

/** [T D], [N D] -> [T N] */
export function linear(x: Tensor, w: Tensor): Tensor {
  const { T, N, D } = dims('T D | N D', x, w)
  const y = new Float32Array(T * N)
  const from = floats(x)
  const readRow = rowReader(w)
  for (let n = 0; n < N; n++) {
    const row = readRow(n)
    for (let t = 0; t < T; t++) y[t * N + n] = dot(from, t * D, row.values, row.start, D)
  }
  return fromFloats([T, N], y)
}

/** [T H A], [H B A] -> [T H B]: each head has its own matrix. */
export function headLinear(x: Tensor, w: Tensor): Tensor {
  const { T, H, A, B } = dims('T H A | H B A', x, w)
  const y = new Float32Array(T * H * B)
  const from = floats(x)
  const readRow = rowReader(w)
  for (let h = 0; h < H; h++) {
    for (let b = 0; b < B; b++) {
      const row = readRow(h * B + b)
      for (let t = 0; t < T; t++) {
        y[(t * H + h) * B + b] = dot(from, (t * H + h) * A, row.values, row.start, A)
      }
    }
  }
  return fromFloats([T, H, B], y)
}

export interface Row {
  values: Float32Array
  start: number
}

/** Reads rows of the last dimension as floats; the same Row object is handed out each time. */
export function rowReader(w: Tensor): (row: number) => Row {
  const D = w.shape[w.shape.length - 1]
  if (w.dtype === 'f32' && !w.scales) {
    const direct: Row = { values: floats(w), start: 0 }
    return (row) => {
      direct.start = row * D
      return direct
    }
  }
  const decoded: Row = { values: new Float32Array(D), start: 0 }
  return (row) => {
    decodeRow(w, row, decoded.values)
    return decoded
  }
}
