// What a GGUF file says of a model beside its tensors: config.json, tokenizer.json and tokenizer_config.json as the keys
// that llama.cpp reads. The other direction is checkpoint/ggufconfig.ts and ggufvocab.ts.
// Source: llama.cpp's conversion scripts (the layout for MLA that they write since April 2025).
import { preTokenizerName, preTokenizerNames } from '../checkpoint/ggufpre.ts'
import { tokenKinds } from '../checkpoint/ggufvocab.ts'
import type { GgufMetadata, GgufValue } from '../checkpoint/ggufwrite.ts'
import { CheckpointError } from '../tensor/error.ts'
import type { Config } from './config.ts'
import { isObject, type Json, show } from './fields.ts'

/** What the family's own numbers become; throws where GGUF has no key for one of them. */
export function modelKeys(config: Config, where: string): GgufMetadata {
  const problems: string[] = []
  const { ropeScaling } = config
  if (config.nRoutedExperts !== null && config.moeLayerFreq !== 1) {
    problems.push(`moe_layer_freq is ${config.moeLayerFreq}; a GGUF file can only say 1`)
  }
  if (ropeScaling !== null && ropeScaling.mscale !== ropeScaling.mscaleAllDim) {
    const { mscale, mscaleAllDim } = ropeScaling
    problems.push(`mscale ${mscale} and mscale_all_dim ${mscaleAllDim} differ; a GGUF file keeps one of them`)
  }
  if (problems.length > 0) throw new CheckpointError(`${where}: cannot be written as GGUF:`, problems)
  const plain = { ...sizeKeys(config), ...expertKeys(config), ...ropeKeys(config) }
  return Object.fromEntries(Object.entries(plain).map(([key, value]) => [`deepseek2.${key}`, value]))
}

const u32 = (value: number): GgufValue => ['u32', value]
const f32 = (value: number): GgufValue => ['f32', value]

function sizeKeys(config: Config): GgufMetadata {
  const { kvLoraRank: C, qkNopeHeadDim: A, qkRopeHeadDim: R, vHeadDim: B } = config
  return {
    block_count: u32(config.numHiddenLayers),
    context_length: u32(config.maxPositionEmbeddings),
    embedding_length: u32(config.hiddenSize),
    feed_forward_length: u32(config.intermediateSize),
    vocab_size: u32(config.vocabSize),
    'attention.head_count': u32(config.numAttentionHeads),
    // to llama.cpp, absorbed attention is many queries over one key and value: the latent and the rotated key
    'attention.head_count_kv': u32(1),
    'attention.layer_norm_rms_epsilon': f32(config.rmsNormEps),
    ...(config.qLoraRank !== null && { 'attention.q_lora_rank': u32(config.qLoraRank) }),
    'attention.kv_lora_rank': u32(C),
    'attention.key_length': u32(C + R),
    'attention.value_length': u32(C),
    'attention.key_length_mla': u32(A + R),
    'attention.value_length_mla': u32(B),
  }
}

function expertKeys(config: Config): GgufMetadata {
  if (config.nRoutedExperts === null) return { leading_dense_block_count: u32(config.numHiddenLayers) }
  const limited = config.topkMethod === 'group_limited_greedy'
  return {
    leading_dense_block_count: u32(config.firstKDenseReplace),
    expert_count: u32(config.nRoutedExperts),
    expert_used_count: u32(config.numExpertsPerTok),
    expert_shared_count: u32(config.nSharedExperts ?? 0),
    expert_feed_forward_length: u32(config.moeIntermediateSize),
    expert_weights_scale: f32(config.routedScalingFactor),
    expert_weights_norm: ['bool', config.normTopkProb],
    expert_gating_func: u32(1), // softmax
    expert_group_count: u32(limited ? config.nGroup : 1),
    expert_group_used_count: u32(limited ? config.topkGroup : 1),
  }
}

function ropeKeys(config: Config): GgufMetadata {
  const { ropeScaling: yarn } = config
  const base = { 'rope.dimension_count': u32(config.qkRopeHeadDim), 'rope.freq_base': f32(config.ropeTheta) }
  if (yarn === null) return base
  return {
    ...base,
    'rope.scaling.type': ['string', 'yarn'],
    'rope.scaling.factor': f32(yarn.factor),
    'rope.scaling.original_context_length': u32(yarn.originalMaxPositionEmbeddings),
    'rope.scaling.yarn_log_multiplier': f32(0.1 * yarn.mscaleAllDim), // a tenth, for historical reasons
    'rope.scaling.yarn_beta_fast': f32(yarn.betaFast),
    'rope.scaling.yarn_beta_slow': f32(yarn.betaSlow),
  }
}

/** The vocabulary, padded to the rows of the embedding; without a tokenizer.json the ids of the ends alone. */
export function tokenizerKeys(
  config: Config,
  tokenizer: Json | null,
  settings: Json | null,
  where: string,
): GgufMetadata {
  const ends: GgufMetadata = {
    ...(config.bosTokenId !== null && { 'tokenizer.ggml.bos_token_id': u32(config.bosTokenId) }),
    ...(config.eosTokenIds.length > 0 && { 'tokenizer.ggml.eos_token_id': u32(config.eosTokenIds[0]) }),
  }
  if (tokenizer === null) return { 'tokenizer.ggml.model': ['string', 'none'], ...ends }
  const pre = preTokenizerName(tokenizer.pre_tokenizer)
  if (pre === null) {
    const known = preTokenizerNames.join(', ')
    throw new CheckpointError(
      `${where}: the pre_tokenizer of tokenizer.json is none that GGUF names (${known})`,
    )
  }
  const model = isObject(tokenizer.model) ? tokenizer.model : {}
  const { tokens, kinds } = tokenTable(model.vocab, tokenizer.added_tokens, config.vocabSize, where)
  const merges = Array.isArray(model.merges) ? model.merges : []
  const pad = tokens.indexOf(contentOf(settings?.pad_token) ?? '')
  return {
    'tokenizer.ggml.model': ['string', 'gpt2'],
    'tokenizer.ggml.pre': ['string', pre],
    'tokenizer.ggml.tokens': ['array', 'string', tokens],
    'tokenizer.ggml.token_type': ['array', 'i32', kinds],
    'tokenizer.ggml.merges': [
      'array',
      'string',
      merges.map((merge: unknown) => (Array.isArray(merge) ? merge.join(' ') : String(merge))),
    ],
    ...ends,
    ...(pad >= 0 && { 'tokenizer.ggml.padding_token_id': u32(pad) }),
    'tokenizer.ggml.add_bos_token': ['bool', settings?.add_bos_token === true],
    'tokenizer.ggml.add_eos_token': ['bool', settings?.add_eos_token === true],
    ...templates(settings?.chat_template),
  }
}

function tokenTable(vocab: unknown, added: unknown, size: number, where: string) {
  const tokens = Array.from({ length: size }, (_, id) => `[PAD${id}]`)
  const kinds = new Array<number>(size).fill(tokenKinds.unused)
  const put = (id: unknown, content: unknown, kind: number): void => {
    if (typeof id !== 'number' || !(id >= 0 && id < size) || typeof content !== 'string') {
      const said = `the token ${show(content)} has id ${show(id)}`
      throw new CheckpointError(`${where}: ${said}, the embedding has ${size} rows`)
    }
    tokens[id] = content
    kinds[id] = kind
  }
  for (const [content, id] of Object.entries(isObject(vocab) ? vocab : {}))
    put(id, content, tokenKinds.normal)
  for (const token of Array.isArray(added) ? added : []) {
    put(token?.id, token?.content, token?.special === true ? tokenKinds.control : tokenKinds.user)
  }
  return { tokens, kinds }
}

function contentOf(token: unknown): string | null {
  if (typeof token === 'string') return token
  return isObject(token) && typeof token.content === 'string' ? token.content : null
}

function templates(given: unknown): GgufMetadata {
  if (typeof given === 'string') return { 'tokenizer.chat_template': ['string', given] }
  const named = Array.isArray(given) ? given.filter(isObject) : []
  return Object.fromEntries(
    named.map(({ name, template }) => [
      name === 'default' ? 'tokenizer.chat_template' : `tokenizer.chat_template.${name}`,
      ['string', String(template)] as const,
    ]),
  )
}
