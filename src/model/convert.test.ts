// GGUF files made from real checkpoints are the same model: in full precision to the bit, quantized nearly.
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openBackend } from '../backend/open.ts'
import { openCheckpoint, readConfigFile } from '../checkpoint/checkpoint.ts'
import { readGgufHeader } from '../checkpoint/ggufheader.ts'
import { toGgufName } from '../checkpoint/ggufnames.ts'
import { type GgufMetadata, type GgufTensor, type GgufValue, writeGguf } from '../checkpoint/ggufwrite.ts'
import { writeSafetensors } from '../checkpoint/safetensors.ts'
import { byteLength, formats } from '../tensor/dtype.ts'
import { CheckpointError } from '../tensor/error.ts'
import { floats, fromFloats, host, type Tensor, toF32 } from '../tensor/tensor.ts'
import { parseConfig } from './config.ts'
import { convertToGguf, type GgufType } from './convert.ts'
import { modelKeys, tokenizerKeys } from './convertkeys.ts'
import { formatOf } from './convertmix.ts'
import { openRows } from './convertrows.ts'
import { createModel } from './deepseek2.ts'
import { chat0628Config, liteConfig } from './examples.ts'
import { layoutProblems } from './layout.ts'
import { loadWeights } from './load.ts'
import { headMatrices, rowsOf } from './split.ts'
import { rotation, softmaxScale } from './yarn.ts'

const root = new URL('../../../', import.meta.url)
const folder = (name: string): string => fileURLToPath(new URL(name, root))
const models = {
  v2: folder('test/data/golden/v2-tiny'),
  lite: folder('test/data/golden/lite-tiny'),
  demo: folder('models/demo'),
}
const work = mkdtempSync(join(tmpdir(), 'latent-convert-'))
after(() => rmSync(work, { recursive: true }))

async function converted(model: keyof typeof models, type: GgufType): Promise<string> {
  const path = join(work, `${model}-${type}.gguf`)
  if (!existsSync(path)) await convertToGguf(models[model], path, type)
  return path
}

async function logits(path: string): Promise<Float32Array> {
  const config = parseConfig(readConfigFile(path, 'config.json') ?? {}, path)
  const checkpoint = openCheckpoint(path, (tensors) => layoutProblems(config, tensors))
  const backend = await openBackend('reference')
  const weights = await loadWeights(checkpoint, config, backend)
  checkpoint.close()
  const constants = {
    heads: config.numAttentionHeads,
    eps: config.rmsNormEps,
    rotation: rotation(config),
    scale: softmaxScale(config),
  }
  const pages = backend.pages({
    layers: config.numHiddenLayers,
    pages: 1,
    pageSize: 8,
    latent: config.kvLoraRank,
    key: config.qkRopeHeadDim,
    dtype: 'f32',
  })
  const positions = Int32Array.of(0, 1, 2, 3)
  const batch = {
    tokens: Int32Array.of(5, 17, 300, 44),
    positions,
    slots: positions,
    starts: Int32Array.of(0, 4),
    tables: Int32Array.of(0),
    tableWidth: 1,
    wanted: Int32Array.of(1, 3),
  }
  return backend.read(createModel(weights, constants, backend).forward(batch, pages))
}

/** The distance between two answers, as a part of their length. */
function apart(a: Float32Array, b: Float32Array): number {
  const square = (x: Float32Array): number => x.reduce((sum, value) => sum + value * value, 0)
  return Math.sqrt(square(a.map((value, i) => value - b[i])) / square(a))
}

describe('a converted model', () => {
  for (const model of ['v2', 'lite', 'demo'] as const) {
    for (const type of ['f32', 'bf16'] as const) {
      it(`${model} in ${type} gives the very same logits`, async () => {
        assert.deepEqual(await logits(await converted(model, type)), await logits(models[model]))
      })
    }

    it(`${model} in q8_0 gives nearly the same, and exactly what its blocks stand for`, async () => {
      const path = await converted(model, 'q8_0')
      const [wanted, given] = [await logits(models[model]), await logits(path)]
      // the tiny models' weights are random: every layer hands its errors on in full
      const near = model === 'demo' ? 0.02 : 0.04
      assert.ok(apart(wanted, given) > 0 && apart(wanted, given) < near, `${apart(wanted, given)}`)
      const spelled = join(work, `${model}-spelled.gguf`)
      await convertToGguf(path, spelled, 'f32')
      assert.deepEqual(given, await logits(spelled))
    })
  }

  it('loses more with fewer bits, and still answers', async () => {
    const types = ['q8_0', 'q6_k', 'q5_k_m', 'q4_k_m', 'q4_0'] as const
    const name = 'model.layers.3.mlp.shared_experts.up_proj.weight'
    const values = (path: string): Float32Array => {
      const checkpoint = openCheckpoint(path)
      const read = floats(toF32(checkpoint.read(name)))
      checkpoint.close()
      return read
    }
    const distances: number[] = []
    for (const type of types) {
      const path = await converted('demo', type)
      distances.push(apart(values(models.demo), values(path)))
      assert.ok(apart(await logits(models.demo), await logits(path)) < 0.4, type)
    }
    assert.deepEqual(
      distances,
      distances.toSorted((a, b) => a - b),
    )
    assert.ok(distances[0] < 0.006 && distances[1] < 0.02 && distances[4] < 0.12, distances.join(' '))
  })

  it('keeps configuration, tokenizer and template', async () => {
    const path = await converted('demo', 'q8_0')
    const config = (from: string) => parseConfig(readConfigFile(from, 'config.json') ?? {}, from)
    assert.deepEqual(config(path), config(models.demo))
    const read = (from: string, name: string) => readConfigFile(from, name) as Record<string, unknown>
    const [ours, theirs] = [path, models.demo].map((from) => read(from, 'tokenizer.json'))
    const merges = (json: typeof ours) =>
      (json.model as { merges: (string | string[])[] }).merges.map((merge) => [merge].flat().join(' '))
    assert.deepEqual(merges(ours), merges(theirs))
    const contents = (json: typeof ours) =>
      (json.added_tokens as { id: number; content: string; special: boolean }[])
        .map(({ id, content, special }) => [id, content, special])
        .toSorted()
    assert.deepEqual(contents(ours), contents(theirs))
    const template = (from: string) => read(from, 'tokenizer_config.json').chat_template
    assert.deepEqual(template(path), template(models.demo))
  })

  it('can be converted again, from a GGUF file as from a folder', async () => {
    const again = join(work, 'again.gguf')
    await convertToGguf(await converted('v2', 'bf16'), again, 'q8_0')
    assert.deepEqual(await logits(again), await logits(await converted('v2', 'q8_0')))
    await assert.rejects(() => convertToGguf(again, again, 'q8_0'), /is the model that is being read/)
  })

  it('has the same bytes for any number of threads', async () => {
    const alone = readFileSync(await converted('lite', 'q8_0'))
    const out = join(work, 'threads.gguf')
    const summary = await convertToGguf(models.lite, out, 'q8_0', { threads: 3 })
    assert.ok(alone.equals(readFileSync(out)))
    assert.deepEqual(Object.keys(summary.formats).toSorted(), ['f16', 'f32', 'q8_0'])
    const sums = Object.values(summary.formats)
    assert.equal(
      sums.reduce((sum, { bytes }) => sum + bytes, 0),
      summary.bytes,
    )
    assert.ok(summary.bytes < alone.length && summary.bytes > 0.5 * alone.length)
  })

  it('reads large matrices in pieces, and those with scales as floats', () => {
    const source = mkdtempSync(join(work, 'rows-'))
    const values = Float32Array.from({ length: 5 * 700_000 }, (_, i) => i)
    const w = fromFloats([5, 700_000], values)
    const scales = fromFloats([1, 2], Float32Array.of(2, 4))
    const small: Tensor = { dtype: 'f8_e4m3', shape: [2, 256], data: new Uint8Array(512).fill(0x38), scales }
    writeSafetensors(join(source, 'model.safetensors'), [
      { name: 'w.weight', tensor: w },
      { name: 's.weight', tensor: small },
    ])
    const checkpoint = openCheckpoint(source)
    const rows = openRows(checkpoint)
    const pieces = [...rows.read('w.weight')]
    assert.deepEqual(
      pieces.map(({ shape }) => shape),
      Array.from({ length: 5 }, () => [1, 700_000]),
    )
    for (const [i, piece] of pieces.entries()) {
      assert.deepEqual(floats(piece), values.subarray(i * 700_000, (i + 1) * 700_000))
    }
    const [scaled] = rows.read('s.weight')
    assert.deepEqual([scaled.dtype, scaled.shape], ['f32', [2, 256]])
    assert.deepEqual([...new Set(floats(scaled))], [2, 4])
    rows.close()
    checkpoint.close()
  })

  it('says what it will write before it does, and can be stopped there', async () => {
    const folder = mkdtempSync(join(work, 'before-'))
    const before = ({ bytes }: { bytes: number }): never => {
      throw new Error(`no room for ${bytes}`)
    }
    await assert.rejects(
      () => convertToGguf(models.lite, join(folder, 'x.gguf'), 'f32', { before }),
      /no room for \d+/,
    )
    assert.deepEqual(readdirSync(folder), [])
  })

  it('tells how far it is, and leaves nothing when it is stopped', async () => {
    const seen: number[] = []
    const stop = new AbortController()
    const out = join(mkdtempSync(join(work, 'stopped-')), 'x.gguf')
    const progress = ({ written, total }: { written: number; total: number }): void => {
      seen.push(written / total)
      if (seen.length === 20) stop.abort(new Error('enough'))
    }
    await assert.rejects(
      () => convertToGguf(models.lite, out, 'q8_0', { progress, signal: stop.signal }),
      /enough/,
    )
    assert.equal(seen.length, 20)
    assert.ok(seen[0] === 0 && seen[19] > 0.1 && seen[19] < 1)
    assert.deepEqual(readdirSync(join(out, '..')), [])
  })

  it('is refused where a GGUF file cannot say what the config says', () => {
    const odd = parseConfig({ ...liteConfig, moe_layer_freq: 2 }, 'odd')
    const scaling = { ...(liteConfig.rope_scaling as object), mscale: 0.5 }
    const both = parseConfig({ ...liteConfig, moe_layer_freq: 2, rope_scaling: scaling }, 'both')
    assert.throws(() => modelKeys(odd, 'odd'), /moe_layer_freq is 2/)
    assert.throws(
      () => modelKeys(both, 'both'),
      (error) => error instanceof CheckpointError && error.problems.length === 2,
    )
  })
})

describe('older layouts', () => {
  /** A file as converters wrote it before April 2025: kv_b whole, head widths of the checkpoint, no groups, no MLA. */
  async function writeLegacy(path: string, change: (name: string, tensor: Tensor) => Tensor): Promise<void> {
    const source = await converted('lite', 'f32')
    const config = parseConfig(readConfigFile(models.lite, 'config.json') ?? {}, 'lite')
    const kept = Object.entries(modelKeys(config, 'lite')).filter(
      ([key]) => !/_mla$|_group_|gating/.test(key),
    )
    const keys: Record<string, GgufValue> = Object.fromEntries(kept)
    keys['general.architecture'] = ['string', 'deepseek2']
    keys['deepseek2.attention.head_count_kv'] = ['u32', config.numAttentionHeads]
    keys['deepseek2.attention.key_length'] = ['u32', config.qkNopeHeadDim + config.qkRopeHeadDim]
    keys['deepseek2.attention.value_length'] = ['u32', config.vHeadDim]
    keys['tokenizer.ggml.bos_token_id'] = ['u32', 0]
    keys['tokenizer.ggml.eos_token_id'] = ['u32', 1]
    const [stacked, whole] = [openCheckpoint(source), openCheckpoint(models.lite)]
    const tensors: GgufTensor[] = []
    const add = (name: string, tensor: Tensor): void => {
      const { dtype, shape, data } = change(name, tensor)
      tensors.push({ name: toGgufName(name)!, dtype, shape, data: () => [data as Uint8Array] })
    }
    for (const name of stacked.tensors.keys()) {
      const fused = name.replace('.k_b_proj.', '.kv_b_proj.')
      if (fused !== name) add(fused, toF32(whole.read(fused)))
      else if (!name.includes('.v_b_proj.')) add(name, stacked.read(name))
    }
    await writeGguf(path, keys as GgufMetadata, tensors)
  }

  it('with kv_b whole gives the very same logits', async () => {
    const path = join(work, 'legacy.gguf')
    await writeLegacy(path, (_, tensor) => tensor)
    assert.equal(openCheckpoint(path).tensors.has('model.layers.0.self_attn.kv_b_proj.weight'), true)
    assert.deepEqual(await logits(path), await logits(models.lite))
  })

  it('with kv_b quantized, which is made floats again before it is split', async () => {
    const path = join(work, 'legacy-q8.gguf')
    await writeLegacy(path, (name, tensor) => (name.includes('kv_b') ? quantize(tensor) : tensor))
    const distance = apart(await logits(models.lite), await logits(path))
    assert.ok(distance > 0 && distance < 0.01, `${distance}`)
  })

  it('splitting a quantized matrix: keys become floats, values stay as they are', () => {
    const w = quantize(
      fromFloats(
        [12, 64],
        Float32Array.from({ length: 768 }, (_, i) => Math.sin(i)),
      ),
    )
    const { key, value } = headMatrices(w, 2, 4, 2)
    const { key: wantedKey, value: wantedValue } = headMatrices(toF32(w), 2, 4, 2)
    assert.deepEqual([key.dtype, value.dtype, value.shape], ['f32', 'q8_0', [2, 2, 64]])
    assert.deepEqual(key, wantedKey)
    assert.deepEqual(floats(toF32(value)), floats(wantedValue))
    assert.deepEqual(host(rowsOf(w, 2, 6, 4, 2)), host(value))
  })
})

function quantize(tensor: Tensor): Tensor {
  const data = new Uint8Array(byteLength('q8_0', floats(tensor).length))
  formats.q8_0.encode!(floats(tensor), data, 0)
  return { dtype: 'q8_0', shape: tensor.shape, data }
}

describe('mixtures', () => {
  const width = (name: string, columns: number, layers = 27) =>
    formatOf('q4_k_m', name, [8, columns], layers, false)

  it('q4_k_m of V2-Lite is what its users have on disk', () => {
    assert.equal(width('token_embd.weight', 2048), 'q4_k')
    assert.equal(width('output.weight', 2048), 'q6_k')
    assert.equal(width('blk.0.attn_q.weight', 2048), 'q4_k')
    assert.equal(width('blk.0.attn_k_b.weight', 128), 'q5_0')
    assert.equal(width('blk.0.attn_v_b.weight', 512), 'q6_k')
    assert.equal(width('blk.4.attn_v_b.weight', 512), 'q4_k')
    assert.equal(width('blk.0.ffn_down.weight', 10944), 'q8_0')
    assert.equal(width('blk.3.ffn_down_exps.weight', 1408), 'q5_0')
    assert.equal(width('blk.5.ffn_down_exps.weight', 1408), 'q8_0')
    assert.equal(width('blk.5.ffn_down_shexp.weight', 2816), 'q6_k')
    assert.equal(width('blk.5.ffn_gate_exps.weight', 2048), 'q4_k')
    assert.equal(width('blk.5.ffn_gate_inp.weight', 2048), 'f32')
    assert.equal(formatOf('q4_k_m', 'blk.5.attn_norm.weight', [2048], 27, false), 'f32')
    assert.equal(width('blk.5.attn_output.weight', 48), 'f16')
    const more = Array.from({ length: 27 }, (_, l) => l).filter(
      (l) => width(`blk.${l}.ffn_down.weight`, 256) === 'q6_k',
    )
    assert.deepEqual(more, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26])
  })

  it('the others', () => {
    const of = (type: GgufType, name: string, columns: number) =>
      formatOf(type, name, [8, columns], 60, false)
    assert.equal(of('q5_k_m', 'blk.20.attn_q_a.weight', 5120), 'q5_k')
    assert.equal(of('q5_k_m', 'blk.0.ffn_down.weight', 5120), 'q6_k')
    assert.equal(of('q5_k_m', 'blk.0.attn_k_b.weight', 128), 'q5_1')
    assert.equal(of('q6_k', 'blk.0.attn_k_b.weight', 128), 'q8_0')
    assert.equal(of('q4_0', 'blk.0.ffn_down.weight', 5120), 'q4_0')
    assert.equal(of('q4_0', 'output.weight', 5120), 'q6_k')
    assert.equal(of('q4_0', 'output.weight', 96), 'q8_0')
    assert.equal(of('q8_0', 'output.weight', 5120), 'q8_0')
    assert.equal(of('q8_0', 'blk.0.attn_k_b.weight', 48), 'f16')
    assert.equal(of('bf16', 'blk.0.attn_k_b.weight', 48), 'bf16')
    assert.equal(formatOf('q4_k_m', 'token_embd.weight', [8, 256], 60, true), 'q6_k')
  })

  it('say in the file which one they are', async () => {
    const header = readGgufHeader(await converted('demo', 'q4_k_m'))
    assert.ok(typeof header !== 'string')
    assert.equal(header.metadata.get('general.file_type'), 15)
    assert.equal(header.metadata.get('tokenizer.ggml.pre'), 'deepseek-coder')
  })

  it('the published configs survive the way to a file and back', async () => {
    const plain = { ...liteConfig, rope_scaling: null, max_position_embeddings: 4096 }
    for (const json of [liteConfig, chat0628Config, plain]) {
      const config = parseConfig(json, 'given')
      const keys = modelKeys(config, 'given')
      assert.deepEqual(keys['deepseek2.attention.key_length'], ['u32', 576])
      const path = join(work, 'config.gguf')
      const named: GgufMetadata = { 'general.architecture': ['string', 'deepseek2'] }
      await writeGguf(path, { ...named, ...keys, ...tokenizerKeys(config, null, null, 'given') }, [])
      assert.deepEqual(parseConfig(readConfigFile(path, 'config.json') ?? {}, path), config)
    }
  })

  it('takes the template that stands in a file of its own', async () => {
    const source = join(work, 'own-template')
    cpSync(models.lite, source, { recursive: true })
    for (const name of ['tokenizer.json', 'tokenizer_config.json'])
      cpSync(join(models.demo, name), join(source, name))
    writeFileSync(join(source, 'chat_template.jinja'), '{{ own }}')
    const path = join(work, 'own-template.gguf')
    await assert.rejects(() => convertToGguf(source, path, 'q8_0'), /has id \d+, the embedding has 512 rows/)
    cpSync(models.demo, source, { recursive: true })
    await convertToGguf(source, path, 'q8_0')
    assert.equal(readConfigFile(path, 'tokenizer_config.json')?.chat_template, '{{ own }}')
  })
})
