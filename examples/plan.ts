// Will DeepSeek-V2-Chat-0628 (236 B parameters) fit? Nothing is downloaded or loaded. Run it: node dist/examples/plan.js
import { describePlan, parseConfig, plan } from 'latent'

// its config.json, as far as sizes and routing go
const config = parseConfig(
  {
    architectures: ['DeepseekV2ForCausalLM'],
    model_type: 'deepseek_v2',
    torch_dtype: 'bfloat16',
    vocab_size: 102400,
    hidden_size: 5120,
    num_hidden_layers: 60,
    num_attention_heads: 128,
    num_key_value_heads: 128,
    q_lora_rank: 1536,
    kv_lora_rank: 512,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    v_head_dim: 128,
    intermediate_size: 12288,
    moe_intermediate_size: 1536,
    n_routed_experts: 160,
    n_shared_experts: 2,
    num_experts_per_tok: 6,
    first_k_dense_replace: 1,
    topk_method: 'group_limited_greedy',
    n_group: 8,
    topk_group: 3,
    routed_scaling_factor: 16,
    max_position_embeddings: 163840,
  },
  'DeepSeek-V2-Chat-0628',
)

const devices = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ name: `device ${i}`, bytes: 80e9 }))

console.log('Eight devices of 80 GB, one sequence of 32,768 tokens:\n')
console.log(describePlan(plan(config, { devices: devices(8), context: 32768 })))

console.log('\nThe same on four:\n')
console.log(describePlan(plan(config, { devices: devices(4), context: 32768 })))
