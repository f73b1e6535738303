// Tensor names of GGUF files of the architecture deepseek2, and of the Hugging Face checkpoints they were made from.
// Source: llama.cpp's tables (llama-arch.cpp, gguf/tensor_mapping.py). Knows names only.

const whole: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
}

/** Of a layer: `blk.3.attn_norm.weight` is `model.layers.3.input_layernorm.weight`. */
const layered: Readonly<Record<string, string>> = {
  'attn_norm.weight': 'input_layernorm.weight',
  'attn_q.weight': 'self_attn.q_proj.weight',
  'attn_q_a.weight': 'self_attn.q_a_proj.weight',
  'attn_q_a_norm.weight': 'self_attn.q_a_layernorm.weight',
  'attn_q_b.weight': 'self_attn.q_b_proj.weight',
  'attn_kv_a_mqa.weight': 'self_attn.kv_a_proj_with_mqa.weight',
  'attn_kv_a_norm.weight': 'self_attn.kv_a_layernorm.weight',
  'attn_kv_b.weight': 'self_attn.kv_b_proj.weight',
  'attn_k_b.weight': 'self_attn.k_b_proj.weight',
  'attn_v_b.weight': 'self_attn.v_b_proj.weight',
  'attn_output.weight': 'self_attn.o_proj.weight',
  'ffn_norm.weight': 'post_attention_layernorm.weight',
  'ffn_gate.weight': 'mlp.gate_proj.weight',
  'ffn_up.weight': 'mlp.up_proj.weight',
  'ffn_down.weight': 'mlp.down_proj.weight',
  'ffn_gate_inp.weight': 'mlp.gate.weight',
  'exp_probs_b.bias': 'mlp.gate.e_score_correction_bias',
  'ffn_gate_exps.weight': 'mlp.experts.gate_proj.weight',
  'ffn_up_exps.weight': 'mlp.experts.up_proj.weight',
  'ffn_down_exps.weight': 'mlp.experts.down_proj.weight',
  'ffn_gate_shexp.weight': 'mlp.shared_experts.gate_proj.weight',
  'ffn_up_shexp.weight': 'mlp.shared_experts.up_proj.weight',
  'ffn_down_shexp.weight': 'mlp.shared_experts.down_proj.weight',
}

const back = (table: Readonly<Record<string, string>>) =>
  new Map(Object.entries(table).map(([ours, theirs]) => [theirs, ours]))
const wholeBack = back(whole)
const layeredBack = back(layered)

/** The Hugging Face name of a GGUF tensor; a stranger keeps its own, so that whoever refuses it can name it. */
export function fromGgufName(name: string): string {
  const match = /^blk\.(\d+)\.(.+)$/.exec(name)
  if (match === null) return whole[name] ?? name
  const [, layer, rest] = match
  const known = layered[rest]
  return known === undefined ? name : `model.layers.${layer}.${known}`
}

/** The GGUF name of a Hugging Face tensor, or null where GGUF has none. */
export function toGgufName(name: string): string | null {
  const match = /^model\.layers\.(\d+)\.(.+)$/.exec(name)
  if (match === null) return wholeBack.get(name) ?? null
  const [, layer, rest] = match
  const known = layeredBack.get(rest)
  return known === undefined ? null : `blk.${layer}.${known}`
}
