// A GGUF file small enough to write in a test: two layers of a model with four heads and four experts.
// Knows the keys and shapes of such a file, in the layout of before and after attention was split for MLA.
import { byteLength, type DType } from '../tensor/dtype.ts'
import { size } from '../tensor/tensor.ts'
import { type GgufMetadata, type GgufTensor, type GgufValue, writeGguf } from './ggufwrite.ts'

const u32 = (value: number): GgufValue => ['u32', value]
const f32 = (value: number): GgufValue => ['f32', value]

/** What V2-Lite's files say, with a tiny model's numbers. */
export const legacyKeys: GgufMetadata = {
  'general.architecture': ['string', 'deepseek2'],
  'general.name': ['string', 'tiny'],
  'general.file_type': u32(1),
  'deepseek2.block_count': u32(2),
  'deepseek2.context_length': u32(163840),
  'deepseek2.embedding_length': u32(64),
  'deepseek2.feed_forward_length': u32(96),
  'deepseek2.attention.head_count': u32(4),
  'deepseek2.attention.head_count_kv': u32(4),
  'deepseek2.rope.freq_base': f32(10000),
  'deepseek2.attention.layer_norm_rms_epsilon': f32(1e-6),
  'deepseek2.expert_used_count': u32(2),
  'deepseek2.leading_dense_block_count': u32(1),
  'deepseek2.vocab_size': u32(50),
  'deepseek2.attention.kv_lora_rank': u32(32),
  'deepseek2.attention.key_length': u32(24),
  'deepseek2.attention.value_length': u32(16),
  'deepseek2.expert_feed_forward_length': u32(32),
  'deepseek2.expert_count': u32(4),
  'deepseek2.expert_shared_count': u32(2),
  'deepseek2.expert_weights_scale': f32(1),
  'deepseek2.rope.dimension_count': u32(8),
  'deepseek2.rope.scaling.type': ['string', 'yarn'],
  'deepseek2.rope.scaling.factor': f32(40),
  'deepseek2.rope.scaling.original_context_length': u32(4096),
  'deepseek2.rope.scaling.yarn_log_multiplier': f32(0.0707),
  'tokenizer.ggml.bos_token_id': u32(0),
  'tokenizer.ggml.eos_token_id': u32(1),
}

/** What files say whose attention is split for MLA. */
export const splitKeys: GgufMetadata = {
  ...legacyKeys,
  'deepseek2.attention.head_count_kv': u32(1),
  'deepseek2.attention.key_length': u32(40),
  'deepseek2.attention.value_length': u32(32),
  'deepseek2.attention.key_length_mla': u32(24),
  'deepseek2.attention.value_length_mla': u32(16),
}

/** A tensor whose bytes count up from `seed`. */
export function countingTensor(
  name: string,
  shape: readonly number[],
  dtype: DType = 'f32',
  seed = 0,
): GgufTensor {
  const bytes = Uint8Array.from({ length: byteLength(dtype, size(shape)) }, (_, i) => (seed + i) & 63)
  return { name, dtype, shape, data: () => [bytes] }
}

export function someTensors(): GgufTensor[] {
  return [
    countingTensor('token_embd.weight', [50, 64]),
    countingTensor('output.weight', [50, 64], 'q8_0', 1),
    countingTensor('output_norm.weight', [64]),
    countingTensor('blk.1.ffn_gate_exps.weight', [4, 32, 64], 'q4_0', 2),
  ]
}

export async function writeTiny(
  path: string,
  keys: Readonly<Record<string, GgufValue | undefined>> = {},
  tensors: Iterable<GgufTensor> = someTensors(),
): Promise<void> {
  const all = Object.entries({ ...legacyKeys, ...keys }).filter((entry) => entry[1] !== undefined)
  await writeGguf(path, Object.fromEntries(all) as GgufMetadata, tensors)
}
