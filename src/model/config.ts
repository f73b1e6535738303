// config.json as this engine understands it: every spelling the family has been published with, one shape out.
// Refuses, with all its reasons at once, what the engine would compute wrongly. Knows no files and no tensors.
import type { RoutingRule } from '../backend/backend.ts'
import type { DType } from '../tensor/dtype.ts'
import { CheckpointError } from '../tensor/error.ts'
import { Fields, type Json, show } from './fields.ts'

/** YaRN, as far as it was published. */
export interface RopeScaling {
  readonly factor: number
  readonly originalMaxPositionEmbeddings: number
  readonly betaFast: number
  readonly betaSlow: number
  readonly mscale: number
  readonly mscaleAllDim: number
}

export interface Config {
  readonly hiddenSize: number
  readonly numHiddenLayers: number
  readonly numAttentionHeads: number
  /** Null: queries come from one plain projection. */
  readonly qLoraRank: number | null
  readonly kvLoraRank: number
  readonly qkNopeHeadDim: number
  readonly qkRopeHeadDim: number
  readonly vHeadDim: number
  readonly intermediateSize: number
  /** 0 where there are no experts. */
  readonly moeIntermediateSize: number
  /** Null: every layer is dense. */
  readonly nRoutedExperts: number | null
  readonly nSharedExperts: number | null
  /** 0 where there are no experts. */
  readonly numExpertsPerTok: number
  readonly topkMethod: 'greedy' | 'group_limited_greedy'
  readonly nGroup: number
  readonly topkGroup: number
  readonly routedScalingFactor: number
  readonly normTopkProb: boolean
  readonly firstKDenseReplace: number
  readonly moeLayerFreq: number
  readonly rmsNormEps: number
  readonly ropeTheta: number
  readonly ropeScaling: RopeScaling | null
  readonly maxPositionEmbeddings: number
  readonly vocabSize: number
  readonly bosTokenId: number | null
  readonly eosTokenIds: readonly number[]
  readonly tieWordEmbeddings: boolean
  readonly torchDtype: DType
  /** Rows and columns that share a scale, where the matrices are fp8. */
  readonly fp8Block: readonly [128, 128] | null
}

const supported =
  'supported are DeepSeek-V2, V2-Chat, V2-Lite, Coder-V2 and V2.5 (architectures DeepseekV2ForCausalLM, model_type deepseek_v2)'

/** Reads config.json. Throws one CheckpointError, naming `where`, that lists everything wrong with it. */
export function parseConfig(json: Json, where: string): Config {
  checkFamily(json, where)
  const fields = new Fields(json)
  const config: Config = {
    ...readSizes(fields),
    ...readExperts(fields),
    ...readRope(fields),
    ...readTokens(fields),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    torchDtype: readDtype(fields),
    fp8Block: readQuantization(fields),
  }
  refuseVariants(fields)
  checkRouting(fields, config)
  if (fields.problems.length > 0) {
    const count = fields.problems.length === 1 ? 'a problem' : `${fields.problems.length} problems`
    throw new CheckpointError(`${where}: not a configuration this engine can run, ${count}:`, fields.problems)
  }
  return config
}

/** Layer `i` has experts; the others are dense. */
export function isMoeLayer(config: Config, i: number): boolean {
  return config.nRoutedExperts !== null && i >= config.firstKDenseReplace && i % config.moeLayerFreq === 0
}

/** The rule of paper section 2.2.2. Plain greedy routing ignores whatever groups the file names. */
export function routingRule(config: Config): RoutingRule {
  const limited = config.topkMethod === 'group_limited_greedy'
  return {
    top: config.numExpertsPerTok,
    groups: limited ? config.nGroup : 1,
    topGroups: limited ? config.topkGroup : 1,
    // the published code leaves the weight of a single expert alone
    normalize: config.normTopkProb && config.numExpertsPerTok > 1,
    scale: config.routedScalingFactor,
  }
}

/** Another family is refused by name and alone: its other differences would only bury that. */
function checkFamily(json: Json, where: string): void {
  const { architectures, model_type: type } = json
  const names: readonly unknown[] = Array.isArray(architectures) ? architectures : [architectures]
  const known = names.some((name) => name === 'DeepseekV2ForCausalLM' || name === 'DeepseekForCausalLM')
  const absent = architectures === undefined || architectures === null || names.length === 0
  if (!absent && !known) {
    const newer = names.some((name) => String(name).startsWith('DeepseekV3'))
    const hint = newer ? ': DeepSeek-V3 and R1 are a later family with another router and tokenizer' : ''
    throw new CheckpointError(`${where}: the architecture is ${show(names[0])}${hint}; ${supported}`)
  }
  const typed = type !== undefined && type !== null
  if (typed ? type !== 'deepseek_v2' && type !== 'deepseek' : absent) {
    const given = typed ? `model_type is ${show(type)}` : 'neither architectures nor model_type is given'
    throw new CheckpointError(`${where}: ${given}; ${supported}`)
  }
}

function readSizes(fields: Fields) {
  if (fields.json.model_type === 'deepseek' && !fields.has('kv_lora_rank')) {
    fields.problems.push('without kv_lora_rank this is DeepSeekMoE (V1), whose attention keeps no latent')
  }
  const queryRank = fields.json.q_lora_rank
  return {
    hiddenSize: fields.integer('hidden_size', { max: 65536 }),
    numHiddenLayers: fields.integer('num_hidden_layers', { max: 512 }),
    numAttentionHeads: fields.integer('num_attention_heads', { max: 1024 }),
    // absent is the class's default, null is the plain projection
    qLoraRank: queryRank === null ? null : fields.integer('q_lora_rank', { max: 65536, fallback: 1536 }),
    kvLoraRank: fields.integer('kv_lora_rank', { max: 65536 }),
    qkNopeHeadDim: fields.integer('qk_nope_head_dim', { max: 4096 }),
    qkRopeHeadDim: fields.integer('qk_rope_head_dim', { max: 4096 }),
    vHeadDim: fields.integer('v_head_dim', { max: 4096 }),
    intermediateSize: fields.integer('intermediate_size', { max: 2 ** 20 }),
    vocabSize: fields.integer('vocab_size', { max: 2 ** 22 }),
    maxPositionEmbeddings: fields.integer('max_position_embeddings', { fallback: 2048 }),
    rmsNormEps: fields.number('rms_norm_eps', { above: true, max: 1, fallback: 1e-6 }),
  }
}

function readExperts(fields: Fields) {
  const routed =
    fields.json.n_routed_experts === 0 ? null : fields.optional('n_routed_experts', { max: 1024 })
  const shared = fields.optional('n_shared_experts', { min: 0, max: 64 })
  return {
    nRoutedExperts: routed,
    nSharedExperts: routed === null || shared === 0 ? null : shared,
    moeIntermediateSize: routed === null ? 0 : fields.integer('moe_intermediate_size', { max: 2 ** 20 }),
    numExpertsPerTok: routed === null ? 0 : fields.integer('num_experts_per_tok', { max: 1024 }),
    topkMethod: readMethod(fields),
    nGroup: fields.integer('n_group', { max: 1024, fallback: 1 }),
    topkGroup: fields.integer('topk_group', { max: 1024, fallback: 1 }),
    routedScalingFactor: fields.number('routed_scaling_factor', { above: true, max: 1e6, fallback: 1 }),
    normTopkProb: fields.boolean('norm_topk_prob', false),
    firstKDenseReplace: fields.integer('first_k_dense_replace', { min: 0, fallback: 0 }),
    moeLayerFreq: fields.integer('moe_layer_freq', { fallback: 1 }),
  }
}

function readMethod(fields: Fields): Config['topkMethod'] {
  const method = fields.json.topk_method ?? 'greedy'
  if (method === 'group_limited_greedy') return method
  // 'gready' is how the published configuration class spells its default
  if (method === 'greedy' || method === 'gready') return 'greedy'
  const hint = method === 'noaux_tc' ? ' (noaux_tc is the router of DeepSeek-V3)' : ''
  fields.refuse('topk_method', `"greedy" or "group_limited_greedy"${hint}`)
  return 'greedy'
}

/** Three generations of files: `rope_scaling` with `type`, with `rope_type`, and `rope_parameters` holding the base too. */
function readRope(fields: Fields): Pick<Config, 'ropeTheta' | 'ropeScaling'> {
  const rope = fields.child('rope_parameters') ?? fields.child('rope_scaling')
  const base = { min: 1, above: true, max: 1e12, fallback: 10000 }
  const ropeTheta = (rope?.has('rope_theta') ? rope : fields).number('rope_theta', base)
  if (rope === null) return { ropeTheta, ropeScaling: null }
  const key = rope.has('rope_type') ? 'rope_type' : 'type'
  const type = rope.json[key]
  if (type === 'default') return { ropeTheta, ropeScaling: null }
  if (type !== 'yarn') {
    rope.refuse(key, '"yarn" or "default"')
    return { ropeTheta, ropeScaling: null }
  }
  return { ropeTheta, ropeScaling: readYarn(rope) }
}

function readYarn(rope: Fields): RopeScaling {
  const scaling = {
    factor: rope.number('factor', { min: 1 }),
    originalMaxPositionEmbeddings: rope.integer('original_max_position_embeddings', { fallback: 4096 }),
    betaFast: rope.number('beta_fast', { above: true, fallback: 32 }),
    betaSlow: rope.number('beta_slow', { above: true, fallback: 1 }),
    mscale: rope.number('mscale', { max: 100, fallback: 1 }),
    mscaleAllDim: rope.number('mscale_all_dim', { max: 100, fallback: 0 }),
  }
  if (scaling.betaFast < scaling.betaSlow) rope.refuse('beta_fast', `at least beta_slow ${scaling.betaSlow}`)
  // later libraries can override what follows from mscale; no published model of the family does
  if (rope.has('attention_factor')) rope.refuse('attention_factor', 'none: it follows from mscale here')
  if (rope.json.truncate === false) rope.refuse('truncate', 'true: the published model rounds the ramp')
  return scaling
}

function readTokens(fields: Fields): Pick<Config, 'bosTokenId' | 'eosTokenIds'> {
  const vocabSize = typeof fields.json.vocab_size === 'number' ? fields.json.vocab_size : Number.NaN
  const bos = fields.tokens('bos_token_id', vocabSize)
  if (bos.length > 1) fields.refuse('bos_token_id', 'one token id')
  const eos = fields.tokens('eos_token_id', vocabSize)
  // the class's defaults, where the vocabulary has such rows
  const standIn = (name: string, id: number) =>
    fields.json[name] === undefined && id < vocabSize ? [id] : []
  const first = [...bos, ...standIn('bos_token_id', 100000)][0]
  return { bosTokenId: first ?? null, eosTokenIds: [...eos, ...standIn('eos_token_id', 100001)] }
}

const dtypes: ReadonlyMap<unknown, DType> = new Map([
  ['bfloat16', 'bf16'],
  ['float16', 'f16'],
  ['half', 'f16'],
  ['float32', 'f32'],
  ['float', 'f32'],
])

function readDtype(fields: Fields): DType {
  const name = fields.has('dtype') && !fields.has('torch_dtype') ? 'dtype' : 'torch_dtype'
  const given = fields.json[name] ?? 'bfloat16'
  const dtype = dtypes.get(typeof given === 'string' ? given.replace(/^torch\./, '') : given)
  if (dtype === undefined) fields.refuse(name, '"bfloat16", "float16" or "float32"')
  return dtype ?? 'bf16'
}

function readQuantization(fields: Fields): Config['fp8Block'] {
  const quantization = fields.child('quantization_config')
  if (quantization === null) return null
  const { quant_method: method, fmt, weight_block_size: block } = quantization.json
  const mend = 'use the original bf16 checkpoint, an fp8 one with 128x128 blocks, or a GGUF file'
  if (method !== 'fp8') {
    quantization.refuse('quant_method', `"fp8" with 128x128 blocks, the only one supported: ${mend}`)
    return null
  }
  if (fmt !== undefined && fmt !== 'e4m3') quantization.refuse('fmt', `"e4m3": ${mend}`)
  const square = Array.isArray(block) && block.length === 2 && block[0] === 128 && block[1] === 128
  if (!square) {
    quantization.refuse(
      'weight_block_size',
      `[128,128] (one scale for a whole matrix is not supported): ${mend}`,
    )
    return null
  }
  return [128, 128]
}

/** Options of the configuration class that no published model uses and this engine does not compute. */
function refuseVariants(fields: Fields): void {
  const { json } = fields
  const heads = typeof json.num_attention_heads === 'number' ? json.num_attention_heads : undefined
  const variants: readonly (readonly [name: string, wanted: unknown, because: string])[] = [
    ['hidden_act', 'silu', ''],
    ['scoring_func', 'softmax', json.scoring_func === 'sigmoid' ? ' (sigmoid is DeepSeek-V3)' : ''],
    ['attention_bias', false, ': the family has no biases'],
    ['mlp_bias', false, ': the family has no biases'],
    ['num_key_value_heads', heads, ', as num_attention_heads: the heads share one latent, not keys'],
  ]
  for (const [name, wanted, because] of variants) {
    if (fields.has(name) && wanted !== undefined && json[name] !== wanted)
      fields.refuse(name, `${show(wanted)}${because}`)
  }
  const rope = json.qk_rope_head_dim
  if (typeof rope === 'number' && rope % 2 === 1) {
    fields.refuse('qk_rope_head_dim', 'an even number: rotation turns pairs')
  }
}

/** How many experts a token can reach. Fields already reported are NaN here, and pass in silence. */
function checkRouting(fields: Fields, config: Config): void {
  const { nRoutedExperts: experts, nGroup: groups, topkGroup: topGroups, numExpertsPerTok: top } = config
  if (experts === null) return
  let available = experts
  let where = 'experts there are'
  if (config.topkMethod === 'group_limited_greedy') {
    for (const name of ['n_group', 'topk_group']) {
      if (!fields.has(name)) fields.refuse(name, 'a number: group_limited_greedy cannot choose without it')
    }
    if (experts % groups > 0) fields.refuse('n_routed_experts', `a multiple of n_group ${groups}`)
    if (topGroups > groups) fields.refuse('topk_group', `at most n_group ${groups}`)
    available = (experts / groups) * topGroups
    where = `experts in ${topGroups} of ${groups} groups`
  }
  if (top > available) fields.refuse('num_experts_per_tok', `at most the ${Math.floor(available)} ${where}`)
}
