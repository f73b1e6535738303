import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { isMoeLayer, parseConfig, routingRule } from './config.ts'
import { chat0628Config, liteConfig } from './examples.ts'
import type { Json } from './fields.ts'

const where = 'somewhere/config.json'
const parse = (changes: Json, base: Json = chat0628Config) => parseConfig({ ...base, ...changes }, where)
const without = (...names: readonly string[]): Json =>
  Object.fromEntries(Object.entries(chat0628Config).filter(([name]) => !names.includes(name)))
const yarn = chat0628Config.rope_scaling as Json

test('the large shape is read as published', () => {
  const config = parse({})
  assert.equal(config.hiddenSize, 5120)
  assert.equal(config.qLoraRank, 1536)
  assert.equal(config.torchDtype, 'bf16')
  assert.deepEqual(config.eosTokenIds, [100001])
  assert.equal(config.bosTokenId, 100000)
  assert.equal(config.fp8Block, null)
  const rule = { top: 6, groups: 8, topGroups: 3, normalize: false, scale: 16 }
  assert.deepEqual(routingRule(config), rule)
  assert.deepEqual(
    [0, 1, 59].map((i) => isMoeLayer(config, i)),
    [false, true, true],
  )
})

test('the small shape is read as published', () => {
  const config = parse({}, liteConfig)
  assert.equal(config.qLoraRank, null)
  assert.equal(config.topkMethod, 'greedy')
  assert.deepEqual(routingRule(config), { top: 6, groups: 1, topGroups: 1, normalize: false, scale: 1 })
})

test('layers between experts can be dense', () => {
  const config = parse({ moe_layer_freq: 3, first_k_dense_replace: 2 })
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 6].filter((i) => isMoeLayer(config, i)),
    [3, 6],
  )
  assert.equal(isMoeLayer(parse({ n_routed_experts: null }), 5), false)
})

test('every spelling of the family comes to the same configuration', () => {
  const wanted = parse({})
  const { type: _, ...bare } = yarn
  const spellings: readonly Json[] = [
    { ...chat0628Config, architectures: ['DeepseekForCausalLM'], model_type: 'deepseek' },
    without('model_type'),
    without('architectures'),
    { ...chat0628Config, rope_scaling: { ...bare, rope_type: 'yarn' } },
    {
      ...without('rope_scaling', 'rope_theta'),
      rope_parameters: { ...bare, rope_type: 'yarn', rope_theta: 10000 },
    },
    { ...without('torch_dtype'), dtype: 'bfloat16' },
    { ...chat0628Config, torch_dtype: 'torch.bfloat16' },
    { ...chat0628Config, eos_token_id: [100001] },
    without(
      'num_key_value_heads',
      'rms_norm_eps',
      'rope_theta',
      'moe_layer_freq',
      'norm_topk_prob',
      'scoring_func',
    ),
    without(
      'bos_token_id',
      'eos_token_id',
      'q_lora_rank',
      'hidden_act',
      'attention_bias',
      'tie_word_embeddings',
    ),
    { ...chat0628Config, something_new: 5, num_key_value_heads: null },
  ]
  for (const json of spellings) assert.deepEqual(parseConfig(json, where), wanted)
})

test('the optional fields', () => {
  assert.equal(parse({ rope_scaling: null }).ropeScaling, null)
  assert.equal(parse({ rope_scaling: { type: 'default' } }).ropeScaling, null)
  const plain = parse({ rope_scaling: undefined, rope_parameters: { rope_type: 'default', rope_theta: 5e5 } })
  assert.deepEqual([plain.ropeScaling, plain.ropeTheta], [null, 5e5])
  const short = parse({ rope_scaling: { type: 'yarn', factor: 4 } }).ropeScaling
  assert.deepEqual(short, {
    factor: 4,
    originalMaxPositionEmbeddings: 4096,
    betaFast: 32,
    betaSlow: 1,
    mscale: 1,
    mscaleAllDim: 0,
  })
  assert.equal(parse({ topk_method: 'gready' }).topkMethod, 'greedy')
  assert.equal(parse({ topk_method: undefined, n_group: null, topk_group: null }).topkMethod, 'greedy')
  assert.equal(parse({ n_shared_experts: 0 }).nSharedExperts, null)
  assert.deepEqual(parse({ eos_token_id: [100001, 7] }).eosTokenIds, [100001, 7])
  assert.deepEqual(parse({ eos_token_id: null, bos_token_id: null }).eosTokenIds, [])
  assert.equal(parse({ vocab_size: 512, bos_token_id: undefined, eos_token_id: 1 }).bosTokenId, null)
  const fp8 = {
    quant_method: 'fp8',
    fmt: 'e4m3',
    weight_block_size: [128, 128],
    activation_scheme: 'dynamic',
  }
  assert.deepEqual(parse({ quantization_config: fp8 }).fp8Block, [128, 128])
  const dense = parse({
    n_routed_experts: null,
    moe_intermediate_size: undefined,
    num_experts_per_tok: undefined,
  })
  assert.deepEqual([dense.nRoutedExperts, dense.nSharedExperts, dense.numExpertsPerTok], [null, null, 0])
  assert.equal(routingRule(parse({ norm_topk_prob: true })).normalize, true)
  assert.equal(routingRule(parse({ norm_topk_prob: true, num_experts_per_tok: 1 })).normalize, false)
  assert.equal(routingRule(parse({ topk_method: 'greedy' })).groups, 1)
})

test('the configurations in this repository are read', () => {
  const files = ['golden/v2-tiny', 'golden/lite-tiny', 'golden/plain-f32'].map((name) => `test/data/${name}`)
  for (const folder of [...files, 'models/demo']) {
    const url = new URL(`../../../${folder}/config.json`, import.meta.url)
    parseConfig(JSON.parse(readFileSync(url, 'utf8')), folder)
  }
})

const refused: readonly (readonly [changes: Json, message: RegExp])[] = [
  [{ architectures: ['LlamaForCausalLM'] }, /architecture is "LlamaForCausalLM"; supported are DeepSeek-V2/],
  [
    { architectures: ['DeepseekV3ForCausalLM'] },
    /DeepseekV3ForCausalLM": DeepSeek-V3 and R1 are a later family/,
  ],
  [{ architectures: 'MixtralForCausalLM' }, /architecture is "MixtralForCausalLM"/],
  [{ model_type: 'deepseek_v3' }, /model_type is "deepseek_v3"; supported/],
  [{ architectures: undefined, model_type: undefined }, /neither architectures nor model_type is given/],
  [{ hidden_act: 'gelu' }, /hidden_act is "gelu"; wanted "silu"/],
  [{ scoring_func: 'sigmoid' }, /scoring_func is "sigmoid"; wanted "softmax" \(sigmoid is DeepSeek-V3\)/],
  [{ topk_method: 'noaux_tc' }, /topk_method is "noaux_tc"; .*router of DeepSeek-V3/],
  [{ topk_method: 'random' }, /topk_method is "random"; wanted "greedy" or "group_limited_greedy"/],
  [{ attention_bias: true }, /attention_bias is true; wanted false/],
  [{ mlp_bias: true }, /mlp_bias is true; wanted false/],
  [
    { rope_scaling: { type: 'linear', factor: 2 } },
    /rope_scaling.type is "linear"; wanted "yarn" or "default"/,
  ],
  [{ rope_scaling: { rope_type: 'llama3' } }, /rope_scaling.rope_type is "llama3"/],
  [{ rope_scaling: { type: 'yarn' } }, /rope_scaling.factor is missing; wanted a number from 1/],
  [{ rope_scaling: { ...yarn, factor: 0.5 } }, /rope_scaling.factor is 0.5/],
  [{ rope_scaling: { ...yarn, beta_fast: 0.1 } }, /beta_fast is 0.1; wanted at least beta_slow 1/],
  [{ rope_scaling: { ...yarn, attention_factor: 2 } }, /attention_factor is 2; wanted none/],
  [{ rope_scaling: 'yarn' }, /rope_scaling is "yarn"; wanted an object or null/],
  [{ rope_theta: 1 }, /rope_theta is 1; wanted a number above 1/],
  [{ num_key_value_heads: 8 }, /num_key_value_heads is 8; wanted 128, as num_attention_heads/],
  [{ qk_rope_head_dim: 63 }, /qk_rope_head_dim is 63; wanted an even number/],
  [{ n_group: 7 }, /n_routed_experts is 160; wanted a multiple of n_group 7/],
  [{ topk_group: 9 }, /topk_group is 9; wanted at most n_group 8/],
  [{ num_experts_per_tok: 61 }, /num_experts_per_tok is 61; wanted at most the 60 experts in 3 of 8 groups/],
  [{ topk_method: 'greedy', num_experts_per_tok: 161 }, /wanted at most the 160 experts there are/],
  [{ n_group: undefined }, /n_group is missing; wanted a number: group_limited_greedy/],
  [{ topk_group: null }, /topk_group is null; wanted a number: group_limited_greedy/],
  [{ hidden_size: 5120.5 }, /hidden_size is 5120.5; wanted an integer from 1 to/],
  [{ hidden_size: -1 }, /hidden_size is -1; wanted/],
  [{ hidden_size: 0 }, /hidden_size is 0; wanted/],
  [{ hidden_size: Number.NaN }, /hidden_size is NaN; wanted/],
  [{ hidden_size: '5120' }, /hidden_size is "5120"; wanted/],
  [{ hidden_size: 1e9 }, /hidden_size is 1000000000; wanted an integer from 1 to 65536/],
  [{ num_hidden_layers: 1e6 }, /num_hidden_layers is 1000000; wanted an integer from 1 to 512/],
  [{ num_hidden_layers: [60] }, /num_hidden_layers is \[60\]; wanted/],
  [{ kv_lora_rank: undefined }, /kv_lora_rank is missing; wanted an integer/],
  [{ model_type: 'deepseek', kv_lora_rank: undefined }, /this is DeepSeekMoE \(V1\)/],
  [{ v_head_dim: null }, /v_head_dim is null; wanted/],
  [{ moe_intermediate_size: undefined }, /moe_intermediate_size is missing/],
  [{ rms_norm_eps: 0 }, /rms_norm_eps is 0; wanted a number above 0/],
  [{ routed_scaling_factor: Infinity }, /routed_scaling_factor is Infinity/],
  [{ norm_topk_prob: 'no' }, /norm_topk_prob is "no"; wanted true or false/],
  [{ eos_token_id: 102400 }, /eos_token_id is 102400; wanted a token id below vocab_size 102400/],
  [{ eos_token_id: ['</s>'] }, /eos_token_id is \["<\/s>"\]; wanted a token id/],
  [{ bos_token_id: [1, 2] }, /bos_token_id is \[1,2\]; wanted one token id/],
  [{ torch_dtype: 'float64' }, /torch_dtype is "float64"; wanted "bfloat16"/],
  [{ quantization_config: { quant_method: 'awq' } }, /quant_method is "awq"; .*original bf16 checkpoint/],
  [{ quantization_config: { quant_method: 'gptq' } }, /quant_method is "gptq"; .*GGUF/],
  [{ quantization_config: { quant_method: 'compressed-tensors' } }, /quant_method is "compressed-tensors"/],
  [{ quantization_config: { quant_method: 'fp8' } }, /weight_block_size is missing; wanted \[128,128\]/],
  [
    { quantization_config: { quant_method: 'fp8', fmt: 'e5m2', weight_block_size: [128, 128] } },
    /fmt is "e5m2"; wanted "e4m3"/,
  ],
]

for (const [changes, message] of refused) {
  test(`refused: ${JSON.stringify(changes)}`, () => {
    assert.throws(
      () => parse(changes),
      (error) => {
        assert.ok(error instanceof CheckpointError)
        assert.match(error.message, message)
        assert.ok(error.message.startsWith(`${where}: `))
        assert.ok(error.problems.length <= 2, error.message)
        return true
      },
    )
  })
}

test('all problems are listed at once, and none twice or by consequence', () => {
  const changes = { num_attention_heads: 'many', n_group: -8, hidden_act: 'relu', vocab_size: undefined }
  assert.throws(
    () => parse({ ...changes, rope_theta: Number.NaN }),
    (error) => error instanceof CheckpointError && error.problems.length === 5,
  )
  assert.throws(
    () => parseConfig({ model_type: 'deepseek_v2' }, where),
    /num_hidden_layers is missing(.|\n)*vocab_size is missing/,
  )
})
