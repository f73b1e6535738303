// The JSON files that a GGUF file stands for, as its metadata says them in each generation of converters.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { openCheckpoint, readConfigFile } from './checkpoint.ts'
import { someTensors, splitKeys, writeTiny } from './ggufexamples.ts'
import { preTokenizerName, preTokenizerNames, preTokenizerOf } from './ggufpre.ts'
import type { GgufTensor, GgufValue } from './ggufwrite.ts'

const work = mkdtempSync(join(tmpdir(), 'latent-ggufconfig-'))
after(() => rmSync(work, { recursive: true }))
let files = 0
const fresh = (): string => join(work, `${files++}.gguf`)
const mscale = 707 / 1000

async function configOf(
  keys: Readonly<Record<string, GgufValue | undefined>>,
  tensors?: Iterable<GgufTensor>,
): Promise<Record<string, unknown>> {
  const path = fresh()
  await writeTiny(path, keys, tensors)
  return readConfigFile(path, 'config.json') ?? {}
}

function problemsOf(act: () => unknown): readonly string[] {
  try {
    act()
  } catch (error) {
    assert.ok(error instanceof CheckpointError)
    return error.problems
  }
  return []
}

describe('config.json', () => {
  it('of a file of V2-Lite as it was made in 2024', async () => {
    assert.deepEqual(await configOf({}), {
      architectures: ['DeepseekV2ForCausalLM'],
      model_type: 'deepseek_v2',
      _name_or_path: 'tiny',
      ...{ vocab_size: 50, hidden_size: 64, num_hidden_layers: 2 },
      ...{ num_attention_heads: 4, num_key_value_heads: 4, intermediate_size: 96 },
      ...{ max_position_embeddings: 163840, rms_norm_eps: 1e-6, hidden_act: 'silu' },
      ...{ attention_bias: false, tie_word_embeddings: false, torch_dtype: 'float16' },
      ...{ q_lora_rank: null, kv_lora_rank: 32 },
      ...{ qk_rope_head_dim: 8, qk_nope_head_dim: 16, v_head_dim: 16 },
      ...{ n_routed_experts: 4, n_shared_experts: 2, num_experts_per_tok: 2, moe_intermediate_size: 32 },
      ...{ first_k_dense_replace: 1, moe_layer_freq: 1, routed_scaling_factor: 1, norm_topk_prob: false },
      ...{ scoring_func: 'softmax', topk_method: 'greedy', n_group: 1, topk_group: 1, rope_theta: 10000 },
      rope_scaling: {
        ...{ type: 'yarn', factor: 40, original_max_position_embeddings: 4096 },
        ...{ beta_fast: 32, beta_slow: 1, mscale, mscale_all_dim: mscale },
      },
      ...{ bos_token_id: 0, eos_token_id: 1 },
    })
  })

  it('is the same for split attention', async () => {
    assert.deepEqual(await configOf(splitKeys), await configOf({}))
  })

  it('reads what large and later models add', async () => {
    const large = await configOf({
      'deepseek2.attention.q_lora_rank': ['u32', 1536],
      'deepseek2.expert_group_count': ['u32', 8],
      'deepseek2.expert_group_used_count': ['u32', 3],
      'deepseek2.expert_weights_norm': ['bool', true],
      'deepseek2.expert_gating_func': ['u32', 2],
      'deepseek2.rope.scaling.yarn_log_multiplier': ['f32', 0.1],
      'deepseek2.rope.scaling.yarn_beta_fast': ['f32', 16],
    })
    const wanted = {
      ...{ q_lora_rank: 1536, topk_method: 'group_limited_greedy', n_group: 8, topk_group: 3 },
      ...{ norm_topk_prob: true, scoring_func: 'sigmoid' },
    }
    for (const [key, value] of Object.entries(wanted)) assert.equal(large[key], value, key)
    const yarn = large.rope_scaling as Record<string, number>
    assert.deepEqual([yarn.mscale, yarn.mscale_all_dim, yarn.beta_fast], [1, 1, 16])
  })

  it('puts back the groups that old files of the 236B models lack, and invents none for others', async () => {
    const old = await configOf({ 'deepseek2.expert_count': ['u32', 160] })
    assert.deepEqual([old.topk_method, old.n_group, old.topk_group], ['group_limited_greedy', 8, 3])
    const told = await configOf({
      'deepseek2.expert_count': ['u32', 160],
      'deepseek2.expert_group_count': ['u32', 1],
      'deepseek2.expert_group_used_count': ['u32', 1],
    })
    assert.deepEqual([told.topk_method, told.n_group, told.topk_group], ['greedy', 1, 1])
  })

  it('knows models without YaRN, without experts, and with a tied head', async () => {
    const plain = await configOf(
      { 'deepseek2.rope.scaling.type': undefined, 'deepseek2.expert_count': undefined },
      someTensors().slice(0, 1),
    )
    assert.deepEqual(
      [plain.rope_scaling, plain.n_routed_experts, plain.tie_word_embeddings],
      [null, null, true],
    )
  })

  it('lists every key that is missing, and names another architecture', async () => {
    const path = fresh()
    await writeTiny(path, {
      'deepseek2.embedding_length': undefined,
      'deepseek2.expert_used_count': undefined,
      'deepseek2.block_count': ['string', 'two'],
      'deepseek2.rope.scaling.yarn_log_multiplier': undefined,
    })
    assert.deepEqual(
      problemsOf(() => readConfigFile(path, 'config.json')),
      [
        'the key deepseek2.embedding_length is missing',
        'deepseek2.block_count is "two", wanted a number',
        'the key deepseek2.expert_used_count is missing',
        'the key deepseek2.rope.scaling.yarn_log_multiplier is missing',
      ],
    )
    await writeTiny(path, { 'general.architecture': ['string', 'qwen3moe'] })
    assert.match(
      problemsOf(() => openCheckpoint(path))[0],
      /architecture is 'qwen3moe'; supported is 'deepseek2'/,
    )
    assert.match(problemsOf(() => readConfigFile(path, 'config.json'))[0], /qwen3moe/)
  })

  it('generation_config.json has the ends, and sampling where the file states it', async () => {
    const path = fresh()
    await writeTiny(path, { 'general.sampling.temp': ['f32', 0.3], 'general.sampling.top_p': ['f32', 0.95] })
    assert.deepEqual(readConfigFile(path, 'generation_config.json'), {
      ...{ bos_token_id: 0, eos_token_id: 1, temperature: 0.3, top_p: 0.95 },
    })
    assert.equal(readConfigFile(path, 'adapter_config.json'), null)
    assert.equal(readConfigFile(path, 'tokenizer.json'), null)
    assert.equal(readConfigFile(path, 'tokenizer_config.json'), null)
  })
})

describe('tokenizer.json', () => {
  const vocabulary = {
    'tokenizer.ggml.model': ['string', 'gpt2'],
    'tokenizer.ggml.pre': ['string', 'deepseek-llm'],
    'tokenizer.ggml.tokens': [
      'array',
      'string',
      ['<s>', '</s>', 'a', '__proto__', 'ü', '[PAD5]', '[PAD6]', 'ab'],
    ],
    'tokenizer.ggml.token_type': ['array', 'i32', [3, 3, 1, 1, 4, 4, 5, 1]],
    'tokenizer.ggml.merges': ['array', 'string', ['a b']],
  } as const

  it('sorts tokens by their type, leaves padding out, and keeps every id', async () => {
    const path = fresh()
    await writeTiny(path, vocabulary)
    const json = readConfigFile(path, 'tokenizer.json') as {
      model: { vocab: Record<string, number>; merges: string[] }
      added_tokens: { id: number; content: string; special: boolean }[]
    }
    assert.deepEqual(Object.entries(json.model.vocab), [
      ['a', 2],
      ['__proto__', 3],
      ['ab', 7],
    ])
    assert.deepEqual(json.model.merges, ['a b'])
    assert.deepEqual(
      json.added_tokens.map(({ id, content, special }) => [id, content, special]),
      [
        [0, '<s>', true],
        [1, '</s>', true],
        [4, 'ü', false],
      ],
    )
  })

  it('tokenizer_config.json names the ends and holds the templates', async () => {
    const path = fresh()
    await writeTiny(path, { ...vocabulary, 'tokenizer.chat_template': ['string', '{{ x }}'] })
    const config = readConfigFile(path, 'tokenizer_config.json') ?? {}
    assert.deepEqual([config.bos_token, config.eos_token, config.pad_token], ['<s>', '</s>', undefined])
    assert.deepEqual([config.add_bos_token, config.chat_template], [true, '{{ x }}'])
    await writeTiny(path, {
      ...vocabulary,
      'tokenizer.ggml.add_bos_token': ['bool', false],
      'tokenizer.chat_template': ['string', 'x'],
      'tokenizer.chat_template.tool_use': ['string', 'y'],
    })
    const several = readConfigFile(path, 'tokenizer_config.json') ?? {}
    assert.equal(several.add_bos_token, false)
    assert.deepEqual(several.chat_template, [
      { name: 'default', template: 'x' },
      { name: 'tool_use', template: 'y' },
    ])
  })

  it('lists what is wrong with a vocabulary', async () => {
    const path = fresh()
    await writeTiny(path, {
      ...vocabulary,
      'tokenizer.ggml.model': ['string', 'llama'],
      'tokenizer.ggml.pre': ['string', 'qwen2'],
      'tokenizer.ggml.token_type': ['array', 'i32', [1, 1]],
      'tokenizer.ggml.merges': undefined,
      'tokenizer.ggml.tokens': ['array', 'string', ['a', 'a', 'b']],
    })
    assert.deepEqual(
      problemsOf(() => readConfigFile(path, 'tokenizer.json')),
      [
        "its tokenizer is 'llama', wanted 'gpt2' (byte-level BPE)",
        "tokenizer.ggml.pre is 'qwen2'; known are deepseek-llm, deepseek-coder, deepseek-v3",
        'it has 3 tokens, but the types of 2',
        'the key tokenizer.ggml.merges is missing',
        'the tokens 0 and 1 are both "a"',
      ],
    )
  })

  it('pre-tokenizers are known by their steps', () => {
    for (const name of preTokenizerNames) assert.equal(preTokenizerName(preTokenizerOf(name)), name)
    assert.equal(preTokenizerName({ type: 'ByteLevel' }), null)
    assert.equal(preTokenizerName(null), null)
    assert.equal(preTokenizerOf('constructor'), null)
  })
})
