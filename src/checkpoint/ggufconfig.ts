// config.json and generation_config.json of a GGUF file: llama.cpp's metadata keys of the architecture deepseek2 under
// the names that Hugging Face gives them. Knows the keys and their history; what can be computed is the model's business.
// Source: llama.cpp's conversion scripts and src/models/deepseek2.cpp.
import { isList, type Value } from './ggufcursor.ts'
import { type GgufParts, refusal } from './ggufparts.ts'

type Json = Record<string, unknown>

export const architecture = 'deepseek2'

/** Throws unless the file is of the one architecture that can be run here. */
export function checkArchitecture(parts: GgufParts): void {
  const given = parts.metadata.get('general.architecture')
  if (given === architecture) return
  const said =
    typeof given === 'string' ? `its architecture is '${given}'` : 'it names no general.architecture'
  throw refusal(parts.path, [
    `${said}; supported is '${architecture}' (DeepSeek-V2, V2-Lite, Coder-V2, V2.5)`,
  ])
}

/** The keys of one architecture; what is missing or of the wrong kind is noted, for one message about all of it. */
function reader(metadata: ReadonlyMap<string, Value>) {
  const problems: string[] = []
  const optional = (key: string): number | null => {
    const value = metadata.get(`${architecture}.${key}`)
    if (value === undefined) return null
    if (typeof value === 'number') return value
    problems.push(
      `${architecture}.${key} is ${isList(value) ? 'a list' : JSON.stringify(String(value))}, wanted a number`,
    )
    return null
  }
  const number = (key: string): number => {
    const known = problems.length
    const value = optional(key)
    if (value === null && problems.length === known)
      problems.push(`the key ${architecture}.${key} is missing`)
    return value ?? Number.NaN
  }
  return { metadata, problems, optional, number }
}

type Reader = ReturnType<typeof reader>

/** config.json; throws one CheckpointError that lists every key that is missing. */
export function ggufConfig(parts: GgufParts): Json {
  checkArchitecture(parts)
  const keys = reader(parts.metadata)
  const shapes = new Map(parts.entries.map(({ name, shape }) => [name, shape]))
  const heads = keys.number('attention.head_count')
  const vocabulary = parts.metadata.get('tokenizer.ggml.tokens')
  const config: Json = {
    architectures: ['DeepseekV2ForCausalLM'],
    model_type: 'deepseek_v2',
    ...(typeof parts.metadata.get('general.name') === 'string' && {
      _name_or_path: parts.metadata.get('general.name'),
    }),
    vocab_size:
      shapes.get('token_embd.weight')?.[0] ??
      keys.optional('vocab_size') ??
      (isList(vocabulary) ? vocabulary.count : keys.number('vocab_size')),
    hidden_size: keys.number('embedding_length'),
    num_hidden_layers: keys.number('block_count'),
    num_attention_heads: heads,
    // head_count_kv is 1 in files whose attention is split for MLA: nothing about the checkpoint it came from
    num_key_value_heads: heads,
    intermediate_size: keys.number('feed_forward_length'),
    max_position_embeddings: keys.number('context_length'),
    rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
    hidden_act: 'silu',
    attention_bias: false,
    tie_word_embeddings: shapes.size > 0 && !shapes.has('output.weight'),
    torch_dtype: fileTypes.get(parts.metadata.get('general.file_type')) ?? 'bfloat16',
    ...latents(keys),
    ...experts(keys),
    ...rope(keys),
    ...endTokens(parts.metadata),
  }
  if (keys.problems.length > 0) throw refusal(parts.path, keys.problems)
  return config
}

const fileTypes: ReadonlyMap<unknown, string> = new Map([
  [0, 'float32'],
  [1, 'float16'],
])

/** Files of before April 2025 give a head's widths; split ones give those of the latent, and a head's under *_mla. */
function latents(keys: Reader): Json {
  const split = keys.optional('attention.key_length_mla') !== null
  const rotated = keys.number('rope.dimension_count')
  return {
    q_lora_rank: keys.optional('attention.q_lora_rank') || null,
    kv_lora_rank: keys.number('attention.kv_lora_rank'),
    qk_rope_head_dim: rotated,
    qk_nope_head_dim: keys.number(split ? 'attention.key_length_mla' : 'attention.key_length') - rotated,
    v_head_dim: keys.number(split ? 'attention.value_length_mla' : 'attention.value_length'),
  }
}

function experts(keys: Reader): Json {
  const routed = keys.optional('expert_count') || null
  if (routed === null) return { n_routed_experts: null, first_k_dense_replace: keys.number('block_count') }
  return {
    n_routed_experts: routed,
    n_shared_experts: keys.optional('expert_shared_count') || null,
    num_experts_per_tok: keys.number('expert_used_count'),
    moe_intermediate_size: keys.number('expert_feed_forward_length'),
    first_k_dense_replace: keys.number('leading_dense_block_count'),
    moe_layer_freq: 1,
    routed_scaling_factor: keys.optional('expert_weights_scale') ?? 1,
    norm_topk_prob: keys.metadata.get(`${architecture}.expert_weights_norm`) === true,
    scoring_func: gating(keys.optional('expert_gating_func')),
    ...groups(keys, routed),
  }
}

/** Absent in files of before DeepSeek-V3. */
function gating(given: number | null): string {
  if (given === null || given === 0 || given === 1) return 'softmax'
  return given === 2 ? 'sigmoid' : `gating function ${given}`
}

/**
 * Files of before late 2025 do not say that the 236B models visit 3 of 8 groups of experts, and llama.cpp then routes
 * over all of them. Every published model with 160 experts has these groups, so they are put back.
 */
function groups(keys: Reader, routed: number): Json {
  const count = keys.optional('expert_group_count') ?? (routed === 160 ? 8 : 1)
  const used = keys.optional('expert_group_used_count') ?? (routed === 160 && count === 8 ? 3 : count)
  const topk_method = count > 1 ? 'group_limited_greedy' : 'greedy'
  return { topk_method, n_group: count, topk_group: used }
}

function rope(keys: Reader): Json {
  const rope_theta = keys.optional('rope.freq_base') ?? 10000
  const type = keys.metadata.get(`${architecture}.rope.scaling.type`) ?? 'none'
  if (type === 'none') return { rope_theta, rope_scaling: null }
  if (type !== 'yarn') return { rope_theta, rope_scaling: { type: isList(type) ? 'a list' : type } }
  // llama.cpp's converter writes a tenth of mscale_all_dim, and its loader multiplies again. It keeps no mscale: the
  // two are equal in every published model of the family
  const multiplier = keys.number('rope.scaling.yarn_log_multiplier')
  const mscale = Number((multiplier * 10).toPrecision(7))
  return {
    rope_theta,
    rope_scaling: {
      type,
      factor: keys.number('rope.scaling.factor'),
      original_max_position_embeddings: keys.number('rope.scaling.original_context_length'),
      beta_fast: keys.optional('rope.scaling.yarn_beta_fast') ?? 32,
      beta_slow: keys.optional('rope.scaling.yarn_beta_slow') ?? 1,
      mscale,
      mscale_all_dim: mscale,
    },
  }
}

function endTokens(metadata: ReadonlyMap<string, Value>): Json {
  const [bos, eos] = ['bos', 'eos'].map((role) => metadata.get(`tokenizer.ggml.${role}_token_id`))
  return { ...(bos !== undefined && { bos_token_id: bos }), ...(eos !== undefined && { eos_token_id: eos }) }
}

/** Sampling settings as new converters keep them. */
const sampling: readonly (readonly [key: string, field: string])[] = [
  ['temp', 'temperature'],
  ['top_p', 'top_p'],
  ['top_k', 'top_k'],
  ['min_p', 'min_p'],
  ['penalty_repeat', 'repetition_penalty'],
]

/** generation_config.json */
export function ggufGeneration(parts: GgufParts): Json {
  const stated = sampling
    .map(([key, field]) => [field, parts.metadata.get(`general.sampling.${key}`)] as const)
    .filter(([, value]) => typeof value === 'number')
  return { ...endTokens(parts.metadata), ...Object.fromEntries(stated) }
}
