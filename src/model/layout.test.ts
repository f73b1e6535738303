import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { size } from '../tensor/tensor.ts'
import { type Config, parseConfig } from './config.ts'
import { chat0628Config, liteConfig } from './examples.ts'
import { countParameters, type Listed, layout, layoutProblems, parts } from './layout.ts'

const lite = parseConfig(liteConfig, 'lite')
const large = parseConfig(chat0628Config, 'large')
const golden = new URL('../../../test/data/golden/', import.meta.url)

function tiny(name: string, changes: Record<string, unknown> = {}): Config {
  const json = JSON.parse(readFileSync(new URL(`${name}/config.json`, golden), 'utf8'))
  return parseConfig({ ...json, ...changes }, name)
}

function listed(config: Config): Map<string, Listed> {
  const entries = [...layout(config)].map(([name, shape]) => [name, { shape, file: 'a' }] as const)
  return new Map<string, Listed>(entries)
}

const problems = layoutProblems

test('the published sizes', () => {
  const small = countParameters(lite)
  assert.equal(small.total, 15_706_484_224)
  assert.equal(2 * small.total, 31_412_968_448)
  assert.equal(layout(lite).size, 5_291)
  assert.equal((small.active / 1e9).toFixed(3), '2.451')
  const big = countParameters(large)
  assert.equal(big.total, 235_741_434_880)
  assert.equal(2 * big.total, 471_482_869_760)
  assert.equal(layout(large).size, 29_102)
  assert.equal((big.active / 1e9).toFixed(2), '20.85')
})

test('the published parts', () => {
  const small = countParameters(lite).byPart
  const big = countParameters(large).byPart
  assert.deepEqual([small.routed / 26 / 64, big.routed / 59 / 160], [8_650_752, 23_592_960])
  assert.deepEqual([small.shared / 26, big.shared / 59], [17_301_504, 47_185_920])
  assert.deepEqual([small.router / 26, big.router / 59], [131_072, 819_200])
  assert.deepEqual([small.attention / 27, big.attention / 60], [13_763_072, 149_227_520])
  assert.deepEqual([small.dense, big.dense], [67_239_936, 188_743_680])
  assert.deepEqual([small.embedding, small.head], [209_715_200, 209_715_200])
  assert.deepEqual([big.embedding, big.head], [524_288_000, 524_288_000])
})

test('names and shapes as the files have them', () => {
  const shapes = layout(large)
  assert.deepEqual(shapes.get('model.layers.3.self_attn.q_b_proj.weight'), [24576, 1536])
  assert.deepEqual(shapes.get('model.layers.3.self_attn.kv_a_proj_with_mqa.weight'), [576, 5120])
  assert.deepEqual(shapes.get('model.layers.3.self_attn.kv_b_proj.weight'), [32768, 512])
  assert.deepEqual(shapes.get('model.layers.3.self_attn.o_proj.weight'), [5120, 16384])
  assert.deepEqual(shapes.get('model.layers.1.mlp.experts.159.down_proj.weight'), [5120, 1536])
  assert.deepEqual(shapes.get('model.layers.1.mlp.shared_experts.gate_proj.weight'), [3072, 5120])
  assert.deepEqual(layout(lite).get('model.layers.0.self_attn.q_proj.weight'), [3072, 2048])
  assert.deepEqual(layout(lite).get('model.layers.0.mlp.down_proj.weight'), [2048, 10944])
})

test('the golden files have exactly this layout', () => {
  for (const name of ['lite-tiny', 'plain-f32']) {
    const bytes = readFileSync(new URL(`${name}/model.safetensors`, golden))
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0))))
    delete header.__metadata__
    const tensors = new Map<string, Listed>()
    for (const [tensor, { shape }] of Object.entries<{ shape: number[] }>(header)) {
      tensors.set(tensor, { shape, file: name })
    }
    assert.deepEqual(problems(tiny(name), tensors), [])
  }
})

test('parts sum to the total, whatever the sizes', () => {
  let state = 7
  const upTo = (n: number) => (state = (state * 48271) % 2147483647) % n
  for (let round = 0; round < 100; round++) {
    const config = tiny('v2-tiny', {
      num_hidden_layers: 1 + upTo(6),
      hidden_size: 1 + upTo(300),
      q_lora_rank: upTo(2) === 0 ? null : 1 + upTo(50),
      v_head_dim: 1 + upTo(40),
      n_routed_experts: upTo(5) === 0 ? null : 4 * (2 + upTo(4)),
      n_shared_experts: upTo(3),
      moe_layer_freq: 1 + upTo(3),
      first_k_dense_replace: upTo(4),
      tie_word_embeddings: upTo(2) === 0,
    })
    const { total, active, byPart } = countParameters(config)
    const shapes = [...layout(config).values()]
    assert.equal(
      total,
      shapes.reduce((sum, shape) => sum + size(shape), 0),
    )
    assert.equal(
      total,
      parts.reduce((sum, part) => sum + byPart[part], 0),
    )
    assert.ok(active <= total && Number.isInteger(active))
  }
})

test('a complete checkpoint passes, with what old exports add', () => {
  const tensors = listed(lite)
  assert.deepEqual(problems(lite, tensors), [])
  tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', { shape: [32], file: 'a' })
  assert.deepEqual(problems(lite, tensors), [])
})

test('a tied head may be spelled out, in its own shape', () => {
  const config = tiny('lite-tiny', { tie_word_embeddings: true })
  const tensors = listed(config)
  assert.equal(tensors.has('lm_head.weight'), false)
  assert.equal(countParameters(config).active, countParameters(tiny('lite-tiny')).active)
  tensors.set('lm_head.weight', { shape: [512, 64], file: 'a' })
  assert.deepEqual(problems(config, tensors), [])
  tensors.set('lm_head.weight', { shape: [511, 64], file: 'a' })
  assert.match(problems(config, tensors)[0], /lm_head.weight in a is \[511 64\]; wanted \[512 64\]/)
})

test('experts may be stacked, matrix by matrix, and kv_b split into what it is multiplied as', () => {
  const config = tiny('v2-tiny')
  const tensors = new Map<string, Listed>()
  const put = (name: string, shape: readonly number[]) => tensors.set(name, { shape, file: 'a' })
  for (const [name, shape] of layout(config)) {
    const stacked = name.replace(/\.experts\.\d+\.(gate|down)/, '.experts.$1')
    if (stacked !== name) put(stacked, [16, ...shape])
    else if (name.includes('.kv_b_proj.')) {
      put(name.replace('kv_b', 'k_b'), [6, 32, 16])
      put(name.replace('kv_b', 'v_b'), [6, 16, 32])
    } else put(name, shape)
  }
  assert.deepEqual(problems(config, tensors), [])
  const layer = 'model.layers.2'
  put(`${layer}.mlp.experts.gate_proj.weight`, [15, 32, 96])
  put(`${layer}.self_attn.k_b_proj.weight`, [6, 16, 32])
  tensors.delete(`${layer}.self_attn.v_b_proj.weight`)
  tensors.delete(`${layer}.mlp.experts.down_proj.weight`)
  const found = problems(config, tensors)
  assert.deepEqual(found.slice(0, 3), [
    `${layer}.self_attn.k_b_proj.weight in a is [6 16 32]; wanted [6 32 16]`,
    `${layer}.self_attn.v_b_proj.weight is missing; wanted [6 16 32]`,
    `${layer}.mlp.experts.gate_proj.weight in a is [15 32 96]; wanted [16 32 96]`,
  ])
  // without its stack, every expert's own matrix is wanted
  assert.equal(found.length, 3 + 16)
})

test('every missing, strange and misshapen tensor is named', () => {
  const tensors = listed(lite)
  tensors.delete('model.norm.weight')
  tensors.set('model.layers.27.mlp.gate.weight', { shape: [1], file: 'b' })
  tensors.set('lm_head.weight', { shape: [2048, 102400], file: 'c' })
  assert.deepEqual(problems(lite, tensors), [
    'model.norm.weight is missing; wanted [2048]',
    'lm_head.weight in c is [2048 102400]; wanted [102400 2048]',
    'model.layers.27.mlp.gate.weight in b is not part of this model',
  ])
})

test('a wholly other checkpoint is told in 40 lines and a count', () => {
  const lines = problems(lite, new Map())
  assert.equal(lines.length, 41)
  assert.equal(
    lines[40],
    'and 5251 more tensors: a shard may be missing, or config.json may belong to another model',
  )
})
