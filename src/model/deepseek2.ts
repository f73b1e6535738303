// DeepSeek-V2 as the paper writes it (arXiv 2405.04434): multi-head latent attention, equations (37)-(47), and
// DeepSeekMoE, equations (20)-(22). Knows nothing of pages, batches or devices.
// Letters: T rows of the step, D hidden, H heads, A width of a head without rope, R of its rope part, C latent,
// Q compressed query, B width of a value head, E routed experts, F width of an expert, V vocabulary.
import type { Backend, Bank, Pages, Rotation, RoutingRule, UpProjections } from '../backend/backend.ts'
import type { Batch } from '../backend/batch.ts'
import { dims, reshape, type Tensor } from '../tensor/tensor.ts'

export interface Attention {
  /** W^DQ [Q D] and the norm of c^Q [Q]; null where queries are not compressed (V2-Lite), Q = D then. */
  readonly queryDown: { readonly w: Tensor; readonly norm: Tensor } | null
  readonly queryUp: Tensor // W^UQ [H*A Q]
  readonly queryRope: Tensor // W^QR [H*R Q]
  readonly latentDown: Tensor // W^DKV [C D]
  readonly latentNorm: Tensor // [C]
  readonly keyRope: Tensor // W^KR [R D]
  readonly up: UpProjections // W^UK, transposed a head at a time, [H C A], and W^UV [H B C]
  readonly output: Tensor // W^O [D H*B]
}

export interface Mlp {
  readonly kind: 'mlp'
  readonly gate: Tensor // [F D]
  readonly up: Tensor // [F D]
  readonly down: Tensor // [D F]
}

export interface Moe {
  readonly kind: 'moe'
  readonly router: Tensor // e_i of equation (22), [E D], f32
  readonly rule: RoutingRule
  readonly bank: Bank
  /** The shared experts, stored as one of their summed width. */
  readonly shared: Mlp | null
}

export interface Layer {
  readonly attentionNorm: Tensor // [D]
  readonly attention: Attention
  readonly feedForwardNorm: Tensor // [D]
  readonly feedForward: Mlp | Moe
}

export interface Weights {
  readonly embedding: Tensor // [V D]
  readonly layers: readonly Layer[]
  readonly norm: Tensor // [D]
  readonly head: Tensor // [V D]
}

/** The numbers of a forward pass that are not matrices. */
export interface Constants {
  readonly heads: number
  readonly eps: number
  readonly rotation: Rotation
  /** 1 / sqrt(A + R), times YaRN's mscale squared. */
  readonly scale: number
}

/** Called with the residual stream [T D] after each layer; must not keep the tensor. */
export type Watch = (layer: number, x: Tensor) => void

export interface Model {
  /** One step: [T] rows -> logits [R V] of the wanted rows. Stores the rows' latents in `pages`. */
  forward(batch: Batch, pages: Pages, watch?: Watch): Tensor
}

/** The norms of the two compressed vectors keep the published class's default, whatever rms_norm_eps says. */
const latentEps = 1e-6

export function createModel(weights: Weights, constants: Constants, on: Backend): Model {
  const { heads: H, eps, rotation, scale } = constants

  function attention(h: Tensor, m: Attention, batch: Batch, pages: Pages, layer: number): Tensor {
    const split = (x: Tensor): Tensor => reshape(x, [x.shape[0], H, x.shape[1] / H])
    const joined = (x: Tensor): Tensor => reshape(x, [x.shape[0], x.shape[1] * x.shape[2]])

    const cQ = m.queryDown ? on.rmsNorm(on.linear(h, m.queryDown.w), m.queryDown.norm, latentEps) : h // (37) [T Q]
    const qC = split(on.linear(cQ, m.queryUp)) //                                      (38) [T H A]
    const qR = on.rope(split(on.linear(cQ, m.queryRope)), batch.positions, rotation) // (39) [T H R], (40) is never joined
    const cKV = on.rmsNorm(on.linear(h, m.latentDown), m.latentNorm, latentEps) //            (41) [T C]
    const kR = rotateKey(on.linear(h, m.keyRope), batch) //                             (43) [T R]
    on.store(pages, layer, batch.slots, cKV, kR)

    // Keys (42), (44) and values (45) of the past are never joined or kept: q . (W^UK c) = (W^UK^T q) . c, so the
    // latents can be keys and values themselves. A backend may also expand them, where that is cheaper.
    const o = on.attend(qC, qR, m.up, pages, layer, batch, scale) //                    (46) [T H B]
    return on.linear(joined(o), m.output) //                                            (47) [T D]
  }

  function rotateKey(k: Tensor, batch: Batch): Tensor {
    const { T, R } = dims('T R', k)
    return reshape(on.rope(reshape(k, [T, 1, R]), batch.positions, rotation), [T, R])
  }

  function feedForward(u: Tensor, m: Mlp | Moe): Tensor {
    if (m.kind === 'mlp') return on.linear(on.swiglu(on.linear(u, m.gate), on.linear(u, m.up)), m.down)
    const routing = on.route(on.linear(u, m.router), m.rule) //                         (21), (22)
    const y = on.experts(u, routing, m.bank) //                                         (20), routed part
    if (m.shared) on.add(y, feedForward(u, m.shared)) //                                (20), shared part
    return y
  }

  function forward(batch: Batch, pages: Pages, watch?: Watch): Tensor {
    const x = on.embed(weights.embedding, batch.tokens)
    for (const [l, layer] of weights.layers.entries()) {
      on.scope(() => {
        on.add(x, attention(on.rmsNorm(x, layer.attentionNorm, eps), layer.attention, batch, pages, l))
        on.add(x, feedForward(on.rmsNorm(x, layer.feedForwardNorm, eps), layer.feedForward))
      })
      watch?.(l, x)
    }
    return on.linear(on.rmsNorm(on.pick(x, batch.wanted), weights.norm, eps), weights.head)
  }

  return { forward }
}
