// Operations that touch each row by itself: look up, normalize, rotate, gate, add, pick.
import { ShapeError } from '../../tensor/error.ts'
import { decodeRow, dims, floats, fromFloats, type Tensor } from '../../tensor/tensor.ts'
import type { Rotation } from '../backend.ts'

/** [V D], [T] -> [T D] */
export function embed(table: Tensor, tokens: Int32Array): Tensor {
  const { V, D } = dims('V D', table)
  const y = new Float32Array(tokens.length * D)
  for (let t = 0; t < tokens.length; t++) {
    if (tokens[t] < 0 || tokens[t] >= V) {
      throw new ShapeError(`token ${tokens[t]} is outside the embedding of ${V} rows`)
    }
    decodeRow(table, tokens[t], y.subarray(t * D, (t + 1) * D))
  }
  return fromFloats([tokens.length, D], y)
}

/** [T D], [D] -> [T D]: x / sqrt(mean(x^2) + eps) * gain */
export function rmsNorm(x: Tensor, gain: Tensor, eps: number): Tensor {
  const { T, D } = dims('T D | D', x, gain)
  const from = floats(x)
  const g = new Float32Array(D)
  decodeRow(gain, 0, g)
  const y = new Float32Array(T * D)
  for (let t = 0; t < T; t++) {
    let sum = 0
    for (let d = 0; d < D; d++) sum += from[t * D + d] ** 2
    const scale = 1 / Math.sqrt(sum / D + eps)
    for (let d = 0; d < D; d++) y[t * D + d] = from[t * D + d] * scale * g[d]
  }
  return fromFloats([T, D], y)
}

/** [T H R], [T] -> [T H R]: turns the interleaved pair (2i, 2i + 1) by position * frequency i. */
export function rope(x: Tensor, positions: Int32Array, rotation: Rotation): Tensor {
  const { T, H, R } = dims('T H R', x)
  if (T !== positions.length || R !== 2 * rotation.frequencies.length) {
    throw new ShapeError(
      `[${x.shape.join(' ')}] wants ${T} positions and ${R / 2} frequencies, given ${positions.length} and ${rotation.frequencies.length}`,
    )
  }
  const from = floats(x)
  const y = new Float32Array(T * H * R)
  for (let t = 0; t < T; t++) {
    for (let i = 0; i < R / 2; i++) {
      const angle = positions[t] * rotation.frequencies[i]
      const cos = Math.cos(angle) * rotation.factor
      const sin = Math.sin(angle) * rotation.factor
      for (let h = 0; h < H; h++) {
        const at = (t * H + h) * R + 2 * i
        y[at] = from[at] * cos - from[at + 1] * sin
        y[at + 1] = from[at] * sin + from[at + 1] * cos
      }
    }
  }
  return fromFloats([T, H, R], y)
}

/** [T D], [T D]: x += y */
export function add(x: Tensor, y: Tensor): void {
  dims('T D | T D', x, y)
  const to = floats(x)
  const from = floats(y)
  for (let i = 0; i < to.length; i++) to[i] += from[i]
}

/** [T F], [T F] -> [T F]: silu(gate) * up */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  dims('T F | T F', gate, up)
  const g = floats(gate)
  const u = floats(up)
  return fromFloats(
    gate.shape,
    g.map((value, i) => silu(value) * u[i]),
  )
}

export function silu(x: number): number {
  return x / (1 + Math.exp(-x))
}

/** [T D], [R] -> [R D] */
export function pick(x: Tensor, rows: Int32Array): Tensor {
  const { T, D } = dims('T D', x)
  const from = floats(x)
  const y = new Float32Array(rows.length * D)
  for (let r = 0; r < rows.length; r++) {
    if (rows[r] < 0 || rows[r] >= T) throw new ShapeError(`row ${rows[r]} of ${T}`)
    y.set(from.subarray(rows[r] * D, (rows[r] + 1) * D), r * D)
  }
  return fromFloats([rows.length, D], y)
}
