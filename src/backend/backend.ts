// The contract with hardware: about a dozen operations, named as the model says them. Shapes stand at each line's end.
// [T] rows of the step, [D] hidden, [N] out, [H] heads, [A] no-rope head, [R] rope head, [B] value head, [C] latent,
// [V] vocabulary, [E] experts, [K] experts a token, [F] expert width. Activations are f32; weights are of any format.
// The reference backend is the specification: every other one is judged by it, case by case (test/ops).
import type { DType } from '../tensor/dtype.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Batch } from './batch.ts'
import type { LatentFormat } from './latents.ts'

/** RoPE as inverse frequencies, YaRN already applied (model/yarn.ts). */
export interface Rotation {
  /** Radians a position for each interleaved pair [R / 2]. */
  readonly frequencies: Float64Array
  /** cos and sin are multiplied by this; 1 for every published checkpoint of the family. */
  readonly factor: number
}

/** How scores become experts (paper equations 20-22 and section 2.2.2). */
export interface RoutingRule {
  /** Experts a token (K). */
  readonly top: number
  /** Contiguous groups of experts, and how many of them a token may visit; 1 and 1 for plain greedy routing. */
  readonly groups: number
  readonly topGroups: number
  /** Divide the chosen weights by their sum; if not, multiply them by `scale`. */
  readonly normalize: boolean
  readonly scale: number
}

export interface Routing {
  /** Expert of each choice, i32 [T K], in order of falling score. */
  readonly experts: Tensor
  /** Weight of each choice, f32 [T K]. */
  readonly weights: Tensor
}

/** The routed experts of one layer, stacked. */
export interface Bank {
  readonly gate: Tensor // [E F D]
  readonly up: Tensor // [E F D]
  readonly down: Tensor // [E D F]
}

/** What turns a latent into a head's keys and values. */
export interface UpProjections {
  /** W^UK, transposed a head at a time, [H C A]: carries queries into the latent space. */
  readonly key: Tensor
  /** W^UV [H B C]: carries mixed latents out of it. */
  readonly value: Tensor
}

export interface PageShape {
  readonly layers: number
  /** Number of pages; a page holds `pageSize` tokens of every layer. */
  readonly pages: number
  readonly pageSize: number
  /** Width of the compressed latent (C) and of the shared rope key (R). */
  readonly latent: number
  readonly key: number
  /** How latents and rope keys are kept (latents.ts). */
  readonly dtype: LatentFormat
}

/** The paged latent cache; only the backend that made it knows its layout. */
export interface Pages extends PageShape {
  readonly data: Tensor
}

export interface Backend {
  readonly name: string

  embed(table: Tensor, tokens: Int32Array): Tensor //                 [V D], [T]             -> [T D]
  linear(x: Tensor, w: Tensor): Tensor //                             [T D], [N D]           -> [T N]
  rmsNorm(x: Tensor, gain: Tensor, eps: number): Tensor //            [T D], [D]             -> [T D]
  rope(x: Tensor, positions: Int32Array, rotation: Rotation): Tensor // [T H R], [T]         -> [T H R] interleaved
  add(x: Tensor, y: Tensor): void //                                  [T D], [T D]           x += y
  swiglu(gate: Tensor, up: Tensor): Tensor //                         [T F], [T F]           -> [T F]
  pick(x: Tensor, rows: Int32Array): Tensor //                        [T D], [R]             -> [R D]
  route(scores: Tensor, rule: RoutingRule): Routing //                [T E] before softmax   -> Routing
  experts(x: Tensor, routing: Routing, bank: Bank): Tensor //         [T D]                  -> [T D]
  store(pages: Pages, layer: number, slots: Int32Array, latent: Tensor, key: Tensor): void // [T], [T C], [T R]
  /** Causal latent attention of each row over its own sequence's pages, the row itself included. */
  attend(
    q: Tensor,
    qRope: Tensor,
    up: UpProjections,
    pages: Pages,
    layer: number,
    batch: Batch,
    scale: number,
  ): Tensor // [T H A], [T H R] -> [T H B]

  /** A host tensor of any format as a weight of the operations, in whatever layout suits the backend. */
  upload(tensor: Tensor): Tensor
  /** A copy of host f32 or i32 numbers where the operations compute: an activation. */
  write(tensor: Tensor): Tensor
  /** Memory with unspecified contents. */
  empty(shape: readonly number[], dtype?: DType): Tensor
  /** Allocates a latent cache. Throws a CapacityError naming the bytes wanted when there is no room. */
  pages(shape: PageShape): Pages
  /** Copies an activation's numbers to the host: the only point that waits for the device. */
  read(tensor: Tensor): Promise<Float32Array>
  free(tensor: Tensor): void
  /** Runs `body`; tensors made inside die when it returns or, if it returns a promise, when that settles. Scopes nest. */
  scope<Result>(body: () => Result): Result
  close(): void
}
