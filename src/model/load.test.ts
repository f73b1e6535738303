// Loading: fused matrices are split without a change of meaning, and an fp8 checkpoint is the model its scales say.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openBackend } from '../backend/open.ts'
import { openCheckpoint, readConfigFile } from '../checkpoint/checkpoint.ts'
import { writeSafetensors } from '../checkpoint/safetensors.ts'
import { formats } from '../tensor/dtype.ts'
import { floats, fromFloats, host, piecesOf, type Tensor, toF32 } from '../tensor/tensor.ts'
import { type Config, parseConfig } from './config.ts'
import { createModel } from './deepseek2.ts'
import { loadWeights } from './load.ts'
import { headMatrices, rowsOf } from './split.ts'
import { rotation, softmaxScale } from './yarn.ts'

const golden = fileURLToPath(new URL('../../../test/data/golden/v2-tiny/', import.meta.url))
const work = mkdtempSync(join(tmpdir(), 'latent-load-'))
after(() => rmSync(work, { recursive: true }))

describe('splitting', () => {
  it('rowsOf cuts each group of rows', () => {
    const w = fromFloats([6, 1], Float32Array.of(0, 1, 2, 10, 11, 12))
    assert.deepEqual([...floats(rowsOf(w, 2, 3, 1, 2))], [1, 2, 11, 12])
  })

  it('of a mapped file: the same rows, as pieces of it', () => {
    const checkpoint = openCheckpoint(golden)
    const name = 'model.layers.0.self_attn.q_b_proj.weight'
    const mapped = checkpoint.map(name)
    checkpoint.close()
    if (!mapped) return // no mmap here
    const read = { ...mapped, data: host(mapped).slice() }
    const [N, D] = read.shape
    const part = rowsOf(mapped, 4, N / 4, 3, 2)
    assert.equal(piecesOf(part)?.length, 4)
    assert.deepEqual([part.shape, toF32(part)], [[8, D], toF32(rowsOf(read, 4, N / 4, 3, 2))])
  })

  it('headMatrices transposes the keys of each head and leaves the values', () => {
    // two heads of A = 1 key row and B = 1 value row over C = 2 latents
    const w = fromFloats([4, 2], Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8))
    const { key, value } = headMatrices(w, 2, 1, 1)
    assert.deepEqual(
      [key.shape, [...floats(key)]],
      [
        [2, 2, 1],
        [1, 2, 5, 6],
      ],
    )
    assert.deepEqual(
      [value.shape, [...floats(value)]],
      [
        [2, 1, 2],
        [3, 4, 7, 8],
      ],
    )
  })
})

describe('fp8 checkpoints', () => {
  it('give the logits of the matrices that their bytes and scales stand for', async () => {
    const config = parseConfig(readConfigFile(golden, 'config.json') ?? {}, 'config.json')
    const source = openCheckpoint(golden)
    const names = [...source.tensors.keys()]
    const quantized = names.map((name) => ({
      name,
      tensor: isMatrix(name) ? toFp8(source.read(name)) : source.read(name),
    }))
    const plain = quantized.map(({ name, tensor }) => ({ name, tensor: toF32(tensor) }))
    for (const [folder, tensors] of Object.entries({ fp8: quantized, f32: plain })) {
      cpSync(join(golden, 'config.json'), join(work, folder, 'config.json'), { recursive: true })
      writeSafetensors(join(work, folder, 'model.safetensors'), tensors)
    }
    const [a, b] = [await logits(join(work, 'fp8'), config), await logits(join(work, 'f32'), config)]
    assert.equal(a.length, 512)
    for (let i = 0; i < a.length; i++) assert.ok(Math.abs(a[i] - b[i]) < 1e-5, `${i}: ${a[i]} ${b[i]}`)
  })
})

/** What the published fp8 checkpoints quantize: every projection but the router. */
function isMatrix(name: string): boolean {
  return name.includes('_proj') && name.endsWith('.weight')
}

/** One scale a 128 x 128 block: these matrices are up to 2 blocks wide. */
function toFp8(tensor: Tensor): Tensor {
  const [N, D] = tensor.shape
  const scales = fromFloats(
    [Math.ceil(N / 128), Math.ceil(D / 128)],
    new Float32Array(Math.ceil(N / 128) * Math.ceil(D / 128)),
  )
  floats(scales).forEach((_, i, all) => (all[i] = 0.001 + 0.0001 * i))
  const table = new Float32Array(256)
  formats.f8_e4m3.decode(
    Uint8Array.from({ length: 256 }, (_, i) => i),
    0,
    table,
    256,
  )
  const values = floats(toF32(tensor))
  const data = Uint8Array.from(values, (value, i) => {
    const block = Math.floor(Math.floor(i / D) / 128) * scales.shape[1] + Math.floor((i % D) / 128)
    return nearest(table, value / floats(scales)[block])
  })
  return { dtype: 'f8_e4m3', shape: tensor.shape, data, scales }
}

function nearest(table: Float32Array, value: number): number {
  let best = 0
  for (let i = 0; i < 256; i++) if (Math.abs(table[i] - value) < Math.abs(table[best] - value)) best = i
  return best
}

async function logits(folder: string, config: Config): Promise<Float32Array> {
  const backend = await openBackend('reference')
  const weights = await loadWeights(openCheckpoint(folder), config, backend)
  const constants = {
    heads: config.numAttentionHeads,
    eps: config.rmsNormEps,
    rotation: rotation(config),
    scale: softmaxScale(config),
  }
  const model = createModel(weights, constants, backend)
  const pages = backend.pages({
    layers: config.numHiddenLayers,
    pages: 1,
    pageSize: 8,
    latent: config.kvLoraRank,
    key: config.qkRopeHeadDim,
    dtype: 'f32',
  })
  const tokens = Int32Array.of(5, 17, 300)
  const positions = Int32Array.of(0, 1, 2)
  const batch = {
    tokens,
    positions,
    slots: positions,
    starts: Int32Array.of(0, 3),
    tables: Int32Array.of(0),
    tableWidth: 1,
    wanted: Int32Array.of(2),
  }
  return backend.read(model.forward(batch, pages))
}
