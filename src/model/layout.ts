// Which tensors a checkpoint of a configuration has, in which shapes, and what that adds up to.
// Knows names and sizes, not bytes or files' contents.
import { size } from '../tensor/tensor.ts'
import { type Config, isMoeLayer } from './config.ts'

export type Shape = readonly number[]

/** What the layout check wants to know of a tensor in a file. */
export interface Listed {
  readonly shape: Shape
  readonly file: string
}

export type Part = 'embedding' | 'attention' | 'dense' | 'routed' | 'shared' | 'router' | 'norm' | 'head'

/** The parts in the order in which a plan lists them, as people call them. */
export const partLabels: Readonly<Record<Part, string>> = {
  embedding: 'embedding',
  attention: 'attention',
  dense: 'dense layers',
  routed: 'routed experts',
  shared: 'shared experts',
  router: 'routers',
  norm: 'norms',
  head: 'head',
}
export const parts = Object.keys(partLabels) as readonly Part[]

/** Every tensor, in the order in which the published files hold them: no biases anywhere. */
export function layout(config: Config): ReadonlyMap<string, Shape> {
  const { hiddenSize: D, vocabSize: V } = config
  const shapes = new Map<string, Shape>([['model.embed_tokens.weight', [V, D]]])
  for (let i = 0; i < config.numHiddenLayers; i++) addLayer(shapes, config, i)
  shapes.set('model.norm.weight', [D])
  if (!config.tieWordEmbeddings) shapes.set('lm_head.weight', [V, D])
  return shapes
}

function addLayer(shapes: Map<string, Shape>, config: Config, i: number): void {
  const { hiddenSize: D, nRoutedExperts: E, moeIntermediateSize: F, nSharedExperts: shared } = config
  const layer = `model.layers.${i}`
  addAttention(shapes, config, `${layer}.self_attn`)
  if (E !== null && isMoeLayer(config, i)) {
    for (let j = 0; j < E; j++) addMlp(shapes, `${layer}.mlp.experts.${j}`, D, F)
    shapes.set(`${layer}.mlp.gate.weight`, [E, D])
    // the shared experts are stored as one wide one
    if (shared !== null) addMlp(shapes, `${layer}.mlp.shared_experts`, D, F * shared)
  } else {
    addMlp(shapes, `${layer}.mlp`, D, config.intermediateSize)
  }
  shapes.set(`${layer}.input_layernorm.weight`, [D])
  shapes.set(`${layer}.post_attention_layernorm.weight`, [D])
}

function addAttention(shapes: Map<string, Shape>, config: Config, name: string): void {
  const { hiddenSize: D, numAttentionHeads: H, qLoraRank, kvLoraRank: C, qkRopeHeadDim: R } = config
  const { qkNopeHeadDim: A, vHeadDim: V } = config
  if (qLoraRank === null) {
    shapes.set(`${name}.q_proj.weight`, [H * (A + R), D])
  } else {
    shapes.set(`${name}.q_a_proj.weight`, [qLoraRank, D])
    shapes.set(`${name}.q_a_layernorm.weight`, [qLoraRank])
    shapes.set(`${name}.q_b_proj.weight`, [H * (A + R), qLoraRank])
  }
  shapes.set(`${name}.kv_a_proj_with_mqa.weight`, [C + R, D])
  shapes.set(`${name}.kv_a_layernorm.weight`, [C])
  shapes.set(`${name}.kv_b_proj.weight`, [H * (A + V), C])
  shapes.set(`${name}.o_proj.weight`, [D, H * V])
}

function addMlp(shapes: Map<string, Shape>, name: string, D: number, F: number): void {
  shapes.set(`${name}.gate_proj.weight`, [F, D])
  shapes.set(`${name}.up_proj.weight`, [F, D])
  shapes.set(`${name}.down_proj.weight`, [D, F])
}

/** The part of the model a tensor of the layout belongs to. Norms inside attention count as attention. */
export function partOf(name: string): Part {
  if (name.includes('.mlp.experts.')) return 'routed'
  if (name.includes('.self_attn.')) return 'attention'
  if (name.includes('.mlp.shared_experts.')) return 'shared'
  if (name.endsWith('.mlp.gate.weight')) return 'router'
  if (name.includes('.mlp.')) return 'dense'
  if (name === 'model.embed_tokens.weight') return 'embedding'
  return name === 'lm_head.weight' ? 'head' : 'norm'
}

/** The sum of `amount` over the tensors of each part. */
export function sumByPart(
  shapes: ReadonlyMap<string, Shape>,
  amount: (name: string, shape: Shape) => number,
): Readonly<Record<Part, number>> {
  const sums = Object.fromEntries(parts.map((part) => [part, 0])) as Record<Part, number>
  for (const [name, shape] of shapes) sums[partOf(name)] += amount(name, shape)
  return sums
}

export interface ParameterCount {
  readonly total: number
  /** Those that one token is multiplied with: its experts and the head, not the embedding, which is looked up. */
  readonly active: number
  readonly byPart: Readonly<Record<Part, number>>
}

export function countParameters(config: Config): ParameterCount {
  const byPart = sumByPart(layout(config), (_, shape) => size(shape))
  const total = parts.reduce((sum, part) => sum + byPart[part], 0)
  const experts = config.nRoutedExperts ?? 1
  const idle = (byPart.routed / experts) * (experts - config.numExpertsPerTok)
  // a tied embedding is the head as well
  const active = total - idle - (config.tieWordEmbeddings ? 0 : byPart.embedding)
  return { total, active, byPart }
}

/**
 * The layout in the form that a file has chosen: GGUF files hold the matrices of a layer's experts as one tensor, and
 * kv_b as what it is multiplied as, W^UK transposed [H C A] and W^UV [H B C].
 */
function layoutAs(config: Config, tensors: ReadonlyMap<string, Listed>): ReadonlyMap<string, Shape> {
  const { numAttentionHeads: H, kvLoraRank: C, qkNopeHeadDim: A, vHeadDim: B } = config
  const shapes = new Map<string, Shape>()
  for (const [name, shape] of layout(config)) {
    const stacked = name.replace(/\.experts\.\d+\./, '.experts.')
    const key = name.replace('.kv_b_proj.', '.k_b_proj.')
    const value = name.replace('.kv_b_proj.', '.v_b_proj.')
    if (stacked !== name && tensors.has(stacked)) shapes.set(stacked, [config.nRoutedExperts ?? 0, ...shape])
    else if (key !== name && (tensors.has(key) || tensors.has(value))) {
      shapes.set(key, [H, C, A])
      shapes.set(value, [H, B, C])
    } else shapes.set(name, shape)
  }
  return shapes
}

const manyProblems = 40

/**
 * Every tensor that is missing, misshapen or not of this model, a line each; for `openCheckpoint`, which adds them to
 * what is wrong with the files. A name that is `unread` may be there, in a file that is reported already.
 */
export function layoutProblems(
  config: Config,
  tensors: ReadonlyMap<string, Listed>,
  unread: (name: string) => boolean = () => false,
): string[] {
  const shapes = layoutAs(config, tensors)
  const problems: string[] = []
  for (const [name, wanted] of shapes) {
    const given = tensors.get(name)
    if (given !== undefined) problems.push(...misshapen(name, given, wanted))
    else if (!unread(name)) problems.push(`${name} is missing; wanted [${wanted.join(' ')}]`)
  }
  for (const [name, given] of tensors) {
    if (!shapes.has(name)) problems.push(...strange(name, given, config))
  }
  const more = problems.length - manyProblems
  if (more <= 0) return problems
  const mend = 'a shard may be missing, or config.json may belong to another model'
  return [...problems.slice(0, manyProblems), `and ${more} more tensors: ${mend}`]
}

function misshapen(name: string, given: Listed, wanted: Shape): string[] {
  if (equal(given.shape, wanted)) return []
  return [`${name} in ${given.file} is [${given.shape.join(' ')}]; wanted [${wanted.join(' ')}]`]
}

/** What may stand in a file beside the layout: buffers of old exports, a tied head spelled out. */
function strange(name: string, given: Listed, config: Config): string[] {
  if (name.endsWith('rotary_emb.inv_freq')) return []
  if (name === 'lm_head.weight') return misshapen(name, given, [config.vocabSize, config.hiddenSize])
  return [`${name} in ${given.file} is not part of this model`]
}

function equal(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((side, i) => side === b[i])
}
