// Checkpoint matrices -> the paper's matrices. Splits, transposes and stacks once, so that nothing above or below has to.
// Knows the names of a Hugging Face checkpoint, and those of matrices that a GGUF file keeps split or stacked already;
// sees files only through the Checkpoint contract.
import type { Backend, Bank } from '../backend/backend.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import { CheckpointError } from '../tensor/error.ts'
import { host, type Piece, piecesOf, type Tensor, toF32, zeros } from '../tensor/tensor.ts'
import { type Config, isMoeLayer, routingRule } from './config.ts'
import type { Attention, Layer, Mlp, Moe, Weights } from './deepseek2.ts'
import { headMatrices, rowsOf } from './split.ts'

export interface LoadProgress {
  readonly loaded: number
  readonly total: number
}

/** Reads every weight onto the backend, a layer at a time; `progress` counts layers, `signal` stops between two. */
export async function loadWeights(
  checkpoint: Checkpoint,
  config: Config,
  on: Backend,
  progress?: (at: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Weights> {
  const read = (name: string): Tensor => fetch(checkpoint, name)
  const embedding = on.upload(read('model.embed_tokens.weight'))
  const head = config.tieWordEmbeddings ? embedding : on.upload(read('lm_head.weight'))
  const layers: Layer[] = []
  for (let l = 0; l < config.numHiddenLayers; l++) {
    progress?.({ loaded: l, total: config.numHiddenLayers })
    await new Promise(setImmediate) // lets the caller's event loop breathe between layers
    signal?.throwIfAborted()
    layers.push(loadLayer(checkpoint, config, on, l))
  }
  progress?.({ loaded: config.numHiddenLayers, total: config.numHiddenLayers })
  return { embedding, layers, norm: on.upload(read('model.norm.weight')), head }
}

function loadLayer(checkpoint: Checkpoint, config: Config, on: Backend, l: number): Layer {
  const prefix = `model.layers.${l}.`
  return {
    attentionNorm: on.upload(fetch(checkpoint, `${prefix}input_layernorm.weight`)),
    attention: loadAttention(checkpoint, config, on, `${prefix}self_attn.`),
    feedForwardNorm: on.upload(fetch(checkpoint, `${prefix}post_attention_layernorm.weight`)),
    feedForward: isMoeLayer(config, l)
      ? loadMoe(checkpoint, config, on, `${prefix}mlp.`)
      : loadMlp(checkpoint, on, `${prefix}mlp.`),
  }
}

function loadAttention(checkpoint: Checkpoint, config: Config, on: Backend, prefix: string): Attention {
  const { numAttentionHeads: H, qkNopeHeadDim: A, qkRopeHeadDim: R, vHeadDim: B, kvLoraRank: C } = config
  const read = (name: string): Tensor => fetch(checkpoint, `${prefix}${name}.weight`)
  const compressed = config.qLoraRank !== null
  const query = read(compressed ? 'q_b_proj' : 'q_proj') // rows of a head: A without rope, then R with
  const down = read('kv_a_proj_with_mqa') //                rows: C of the latent, then R of the shared rope key
  const { key, value } = checkpoint.tensors.has(`${prefix}k_b_proj.weight`)
    ? { key: read('k_b_proj'), value: read('v_b_proj') } // split already, by whoever made the file
    : headMatrices(read('kv_b_proj'), H, A, B)
  const part = (first: number, count: number): Tensor => on.upload(rowsOf(query, H, A + R, first, count))
  return {
    queryDown: compressed ? { w: on.upload(read('q_a_proj')), norm: on.upload(read('q_a_layernorm')) } : null,
    queryUp: part(0, A),
    queryRope: part(A, R),
    latentDown: on.upload(rowsOf(down, 1, C + R, 0, C)),
    latentNorm: on.upload(read('kv_a_layernorm')),
    keyRope: on.upload(rowsOf(down, 1, C + R, C, R)),
    up: { key: on.upload(key), value: on.upload(value) },
    output: on.upload(read('o_proj')),
  }
}

function loadMlp(checkpoint: Checkpoint, on: Backend, prefix: string): Mlp {
  const read = (name: string): Tensor => on.upload(fetch(checkpoint, `${prefix}${name}_proj.weight`))
  return { kind: 'mlp', gate: read('gate'), up: read('up'), down: read('down') }
}

function loadMoe(checkpoint: Checkpoint, config: Config, on: Backend, prefix: string): Moe {
  const E = config.nRoutedExperts ?? 0
  const bank: Bank = {
    gate: on.upload(stack(checkpoint, prefix, 'gate', E)),
    up: on.upload(stack(checkpoint, prefix, 'up', E)),
    down: on.upload(stack(checkpoint, prefix, 'down', E)),
  }
  return {
    kind: 'moe',
    router: on.upload(toF32(fetch(checkpoint, `${prefix}gate.weight`))), // the router is computed in float32
    rule: routingRule(config),
    bank,
    shared: config.nSharedExperts ? loadMlp(checkpoint, on, `${prefix}shared_experts.`) : null,
  }
}

/** One matrix of all experts of a layer, stacked [E N D]: so in the file, or read straight into its place. */
function stack(checkpoint: Checkpoint, prefix: string, matrix: string, E: number): Tensor {
  const whole = `${prefix}experts.${matrix}_proj.weight`
  if (checkpoint.tensors.has(whole)) return fetch(checkpoint, whole)
  const name = (e: number): string => `${prefix}experts.${e}.${matrix}_proj.weight`
  const infos = Array.from({ length: E }, (_, e) => checkpoint.tensors.get(name(e)))
  const first = infos[0]
  const odd = infos.findIndex((info) => info?.dtype !== first?.dtype)
  if (!first || odd >= 0) {
    throw new CheckpointError(
      `${checkpoint.path}: ${name(Math.max(odd, 0))} is ${infos[odd]?.dtype ?? 'missing'}, expert 0 is ${first?.dtype}; the experts of a layer must share one format`,
    )
  }
  const bank = gather(
    checkpoint,
    Array.from({ length: E }, (_, e) => name(e)),
    first,
  )
  if (!first.scales) return bank
  const scales = zeros([E, ...first.scales.shape])
  fill(scales, E, (e, part) => {
    const own = infos[e]?.scales
    if (own) checkpoint.readInto(own.name, part)
  })
  return { ...bank, scales }
}

/** Equal tensors as one: their pages side by side, or their bytes in one buffer. */
function gather(
  checkpoint: Checkpoint,
  names: readonly string[],
  like: Pick<Tensor, 'dtype' | 'shape'>,
): Tensor {
  const { dtype } = like
  const shape = [names.length, ...like.shape]
  const pieces: Piece[] = []
  for (const name of names) {
    const mapped = checkpoint.map(name)
    if (!mapped) break
    pieces.push(...(piecesOf(mapped) ?? []))
  }
  if (pieces.length === names.length) return { dtype, shape, data: { pieces } }
  const bank = zeros(shape, dtype)
  fill(bank, names.length, (e, part) => checkpoint.readInto(names[e], part))
  return bank
}

/** As pages of its file, which a backend may leave there until it needs them, or else read. */
function fetch(checkpoint: Checkpoint, name: string): Tensor {
  return checkpoint.map(name) ?? checkpoint.read(name)
}

function fill(bank: Tensor, E: number, read: (e: number, part: Uint8Array) => void): void {
  const bytes = host(bank)
  const each = bytes.length / E
  for (let e = 0; e < E; e++) read(e, bytes.subarray(e * each, (e + 1) * each))
}
