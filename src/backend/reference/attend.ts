// Absorbed multi-head latent attention over the paged cache: one latent and one rope key a token serve every head.
// A cache row is one of latents.ts, at data[layer][slot].
import { ShapeError } from '../../tensor/error.ts'
import { dims, floats, fromFloats, host, type Tensor } from '../../tensor/tensor.ts'
import type { Pages, UpProjections } from '../backend.ts'
import type { Batch } from '../batch.ts'
import { decodeLatents, encodeLatent, latentBytes } from '../latents.ts'
import { dot } from './dot.ts'
import { headLinear } from './linear.ts'

/** [T] slots, [T C] latents, [T R] rotated keys: writes each row's latent where it belongs. */
export function store(pages: Pages, layer: number, slots: Int32Array, latent: Tensor, key: Tensor): void {
  const { T, C, R } = dims('T C | T R', latent, key)
  if (T !== slots.length || C !== pages.latent || R !== pages.key) {
    throw new ShapeError(`a cache of ${pages.latent} + ${pages.key} was given [${T} ${C}] and [${T} ${R}]`)
  }
  const odd = slots.find((slot) => slot < 0 || slot >= pages.pages * pages.pageSize)
  if (odd !== undefined) throw new ShapeError(`slot ${odd} is outside the cache`)
  for (let t = 0; t < T; t++) {
    const [c, k] = [floats(latent).subarray(t * C, (t + 1) * C), floats(key).subarray(t * R, (t + 1) * R)]
    encodeLatent(pages.dtype, c, k, host(pages.data), rowStart(pages, layer, slots[t]))
  }
}

/** [T H A], [T H R] -> [T H B]: softmax over each row's own past, itself included, in the latent space. */
export function attend(
  q: Tensor,
  qRope: Tensor,
  up: UpProjections,
  pages: Pages,
  layer: number,
  batch: Batch,
  scale: number,
): Tensor {
  dims('T H A | T H R | H C A | H B C', q, qRope, up.key, up.value)
  const mixed = overLatents(headLinear(q, up.key), qRope, pages, layer, batch, scale)
  return headLinear(mixed, up.value)
}

/** [T H C], [T H R] -> [T H C]: the latents are keys and values of all heads. */
function overLatents(
  q: Tensor,
  qRope: Tensor,
  pages: Pages,
  layer: number,
  batch: Batch,
  scale: number,
): Tensor {
  const { T, H, C, R } = dims('T H C | T H R', q, qRope)
  if (T !== batch.tokens.length || C !== pages.latent || R !== pages.key) {
    throw new ShapeError(
      `${batch.tokens.length} rows of ${pages.latent} + ${pages.key} were given [${q.shape.join(' ')}]`,
    )
  }
  const y = new Float32Array(T * H * C)
  for (let run = 0; run + 1 < batch.starts.length; run++) {
    const past = gather(pages, layer, batch, run)
    for (let t = batch.starts[run]; t < batch.starts[run + 1]; t++) {
      for (let h = 0; h < H; h++) {
        const at = t * H + h
        const chances = scoresOf(
          floats(q),
          at * C,
          C,
          floats(qRope),
          at * R,
          R,
          past,
          batch.positions[t] + 1,
          scale,
        )
        weightedSum(chances, past, C + R, y.subarray(at * C, (at + 1) * C))
      }
    }
  }
  return fromFloats([T, H, C], y)
}

/** The cache rows of a run from position 0 to its last row [n, C + R], in order, as floats. */
function gather(pages: Pages, layer: number, batch: Batch, run: number): Float32Array {
  const { dtype, latent, key, pageSize } = pages
  const width = latent + key
  const length = batch.positions[batch.starts[run + 1] - 1] + 1
  const past = new Float32Array(length * width)
  for (let first = 0; first < length; first += pageSize) {
    const page = batch.tables[run * batch.tableWidth + first / pageSize]
    const at = rowStart(pages, layer, page * pageSize)
    const out = past.subarray(first * width, Math.min(first + pageSize, length) * width)
    decodeLatents(dtype, host(pages.data), at, latent, key, out)
  }
  return past
}

function scoresOf(
  q: Float32Array,
  qStart: number,
  C: number,
  qRope: Float32Array,
  ropeStart: number,
  R: number,
  past: Float32Array,
  length: number,
  scale: number,
): Float64Array {
  const scores = new Float64Array(length)
  let max = -Infinity
  for (let i = 0; i < length; i++) {
    const at = i * (C + R)
    scores[i] = (dot(q, qStart, past, at, C) + dot(qRope, ropeStart, past, at + C, R)) * scale
    if (scores[i] > max) max = scores[i]
  }
  let sum = 0
  for (let i = 0; i < length; i++) sum += scores[i] = Math.exp(scores[i] - max)
  for (let i = 0; i < length; i++) scores[i] /= sum
  return scores
}

function weightedSum(weights: Float64Array, past: Float32Array, width: number, out: Float32Array): void {
  const sum = new Float64Array(out.length)
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i]
    const at = i * width
    for (let c = 0; c < out.length; c++) sum[c] += weight * past[at + c]
  }
  out.set(sum)
}

/** First byte of a slot's row. */
function rowStart(pages: Pages, layer: number, slot: number): number {
  return (layer * pages.pages * pages.pageSize + slot) * latentBytes(pages.dtype, pages.latent, pages.key)
}

/** Bytes of a whole latent cache. */
export function pagesByteLength(shape: Omit<Pages, 'data'>): number {
  const { layers, pages, pageSize, latent, key, dtype } = shape
  return layers * pages * pageSize * latentBytes(dtype, latent, key)
}
