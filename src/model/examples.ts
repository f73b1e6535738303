// The two shapes the family was published in, as their config.json files: for tests, the command line and the docs.
// Known from published pages and copies of the files, not from the files themselves.
import type { Json } from './fields.ts'

// biome-ignore lint/suspicious/noApproximativeNumericConstant: the files say 0.707, not the root of a half
const mscale = 0.707

const common = {
  architectures: ['DeepseekV2ForCausalLM'],
  model_type: 'deepseek_v2',
  vocab_size: 102400,
  hidden_act: 'silu',
  attention_bias: false,
  attention_dropout: 0.0,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  max_position_embeddings: 163840,
  norm_topk_prob: false,
  scoring_func: 'softmax',
  aux_loss_alpha: 0.001,
  seq_aux: true,
  initializer_range: 0.02,
  pretraining_tp: 1,
  tie_word_embeddings: false,
  bos_token_id: 100000,
  eos_token_id: 100001,
  torch_dtype: 'bfloat16',
  transformers_version: '4.39.3',
  use_cache: true,
  kv_lora_rank: 512,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
  n_shared_experts: 2,
  num_experts_per_tok: 6,
  first_k_dense_replace: 1,
  moe_layer_freq: 1,
  rope_scaling: {
    type: 'yarn',
    factor: 40,
    beta_fast: 32,
    beta_slow: 1,
    original_max_position_embeddings: 4096,
    mscale,
    mscale_all_dim: mscale,
  },
}

/** DeepSeek-V2-Lite and Coder-V2-Lite, base and chat: 15.7 B parameters. */
export const liteConfig: Json = {
  ...common,
  hidden_size: 2048,
  num_hidden_layers: 27,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  q_lora_rank: null,
  intermediate_size: 10944,
  moe_intermediate_size: 1408,
  n_routed_experts: 64,
  n_group: 1,
  topk_group: 1,
  topk_method: 'greedy',
  routed_scaling_factor: 1.0,
}

/**
 * DeepSeek-V2-Chat-0628: 235.7 B parameters. Its mscale is unverified: V2-Chat has 0.707 and V2.5 has 1.0, and this
 * file was not seen. No size depends on it; a loaded checkpoint's own config.json decides.
 */
export const chat0628Config: Json = {
  ...common,
  ep_size: 1,
  hidden_size: 5120,
  num_hidden_layers: 60,
  num_attention_heads: 128,
  num_key_value_heads: 128,
  q_lora_rank: 1536,
  intermediate_size: 12288,
  moe_intermediate_size: 1536,
  n_routed_experts: 160,
  n_group: 8,
  topk_group: 3,
  topk_method: 'group_limited_greedy',
  routed_scaling_factor: 16.0,
}
