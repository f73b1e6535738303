// GGUF files: values of every type, tensors under the names of Hugging Face, models in parts, and writing.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { host } from '../tensor/tensor.ts'
import { openCheckpoint, readConfigFile } from './checkpoint.ts'
import { countingTensor, someTensors, splitKeys, writeTiny } from './ggufexamples.ts'
import { readGgufHeader, readGgufList } from './ggufheader.ts'
import { writeGguf } from './ggufwrite.ts'

const work = mkdtempSync(join(tmpdir(), 'latent-gguf-'))
after(() => rmSync(work, { recursive: true }))
let files = 0
const fresh = (): string => join(work, `${files++}.gguf`)

function headerOf(path: string) {
  const header = readGgufHeader(path)
  if (typeof header === 'string') throw new Error(header)
  return header
}

describe('values', () => {
  it('of every type, arrays and arrays of arrays included, come back as they were written', async () => {
    const path = fresh()
    await writeGguf(
      path,
      {
        'a.u8': ['u8', 255],
        'a.i8': ['i8', -128],
        'a.u16': ['u16', 65535],
        'a.i16': ['i16', -32768],
        'a.u32': ['u32', 4294967295],
        'a.i32': ['i32', -2147483648],
        'a.u64': ['u64', 2n ** 64n - 1n],
        'a.i64': ['i64', -5],
        'a.f32': ['f32', 0.0707],
        'a.f64': ['f64', Math.PI],
        'a.bool': ['bool', true],
        'a.string': ['string', '<｜begin▁of▁sentence｜>\0é'],
        'a.list': ['array', 'string', ['', 'x', '中']],
        'a.numbers': ['array', 'i32', [1, -2, 3]],
        'a.nested': [
          'array',
          'array',
          [['array', 'u8', [1, 2]] as const, ['array', 'string', ['z']] as const],
        ],
        'a.last': ['u8', 7],
      },
      [],
    )
    const header = headerOf(path)
    assert.deepEqual(header.problems, [])
    const scalars = [...header.metadata].filter(([, value]) => typeof value !== 'object')
    assert.deepEqual(Object.fromEntries(scalars), {
      ...{ 'a.u8': 255, 'a.i8': -128, 'a.u16': 65535, 'a.i16': -32768, 'a.u32': 4294967295 },
      ...{ 'a.i32': -2147483648, 'a.u64': 2n ** 64n - 1n, 'a.i64': -5, 'a.f32': 0.0707, 'a.f64': Math.PI },
      ...{ 'a.bool': true, 'a.string': '<｜begin▁of▁sentence｜>\0é', 'a.last': 7 },
    })
    assert.deepEqual(readGgufList(path, header, 'a.list'), ['', 'x', '中'])
    assert.deepEqual(readGgufList(path, header, 'a.numbers'), [1, -2, 3])
    assert.equal(readGgufList(path, header, 'a.u8'), null)
    const nested = readGgufList(path, header, 'a.nested') ?? []
    assert.deepEqual(
      nested.map((list) => (list as { count: number }).count),
      [2, 1],
    )
  })

  it('longer than the window they are read through', async () => {
    const path = fresh()
    const long = 'x'.repeat(3_000_000)
    await writeGguf(
      path,
      { long: ['string', long], many: ['array', 'string', [long, 'y']], end: ['u8', 1] },
      [],
    )
    const header = headerOf(path)
    assert.equal(header.metadata.get('long'), long)
    assert.equal(header.metadata.get('end'), 1)
    assert.deepEqual(readGgufList(path, header, 'many'), [long, 'y'])
  })

  it('versions 2 and 3, and any alignment', async () => {
    const path = fresh()
    await writeTiny(path, { 'general.alignment': ['u32', 4096] })
    const bytes = readFileSync(path)
    bytes.writeUInt32LE(2, 4)
    writeFileSync(path, bytes)
    const checkpoint = openCheckpoint(path)
    assert.ok([...checkpoint.tensors.values()].every(({ start }) => start % 4096 === 0))
    assert.equal(host(checkpoint.read('model.norm.weight'))[63], 63)
    checkpoint.close()
  })
})

describe('tensors', () => {
  it('have the names, shapes and bytes of the checkpoint they came from', async () => {
    const path = fresh()
    await writeTiny(path)
    const checkpoint = openCheckpoint(path)
    const listed = [...checkpoint.tensors].map(
      ([name, { dtype, shape }]) => `${name} ${dtype} ${shape.join('x')}`,
    )
    assert.deepEqual(listed, [
      'model.embed_tokens.weight f32 50x64',
      'lm_head.weight q8_0 50x64',
      'model.norm.weight f32 64',
      'model.layers.1.mlp.experts.gate_proj.weight q4_0 4x32x64',
    ])
    const target = new Uint8Array((50 * 64 * 34) / 32)
    checkpoint.readInto('lm_head.weight', target)
    assert.deepEqual(target, host(checkpoint.read('lm_head.weight')))
    assert.deepEqual([...target.subarray(0, 3)], [1, 2, 3])
    assert.throws(() => checkpoint.read('token_embd.weight'), /has no tensor 'token_embd.weight'/)
    checkpoint.close()
    assert.throws(() => checkpoint.read('lm_head.weight'), /is closed/)
  })

  it('of split attention stand as a matrix a head, however they were stored, and hide the fused one', async () => {
    const path = fresh()
    await writeTiny(path, splitKeys, [
      countingTensor('blk.0.attn_kv_b.weight', [128, 32]),
      countingTensor('blk.0.attn_k_b.weight', [4, 32, 16]),
      countingTensor('blk.0.attn_v_b.weight', [4, 16, 32]),
      countingTensor('blk.1.attn_kv_b.weight', [128, 32]),
      countingTensor('blk.1.attn_k_b.weight', [128, 16]),
      countingTensor('blk.1.attn_v_b.weight', [64, 32]),
      countingTensor('rope_freqs.weight', [4]),
      countingTensor('blk.1.strange.weight', [4]),
    ])
    const checkpoint = openCheckpoint(path)
    assert.deepEqual(
      [...checkpoint.tensors].map(([name, { shape }]) => [name, shape]),
      [
        ['model.layers.0.self_attn.k_b_proj.weight', [4, 32, 16]],
        ['model.layers.0.self_attn.v_b_proj.weight', [4, 16, 32]],
        ['model.layers.1.self_attn.k_b_proj.weight', [4, 32, 16]],
        ['model.layers.1.self_attn.v_b_proj.weight', [4, 16, 32]],
        ['blk.1.strange.weight', [4]],
      ],
    )
    checkpoint.close()
  })

  it('of a model in parts are found from any part', async () => {
    const folder = mkdtempSync(join(work, 'parts-'))
    const name = (i: number): string => join(folder, `m-0000${i + 1}-of-00003.gguf`)
    const tensors = someTensors()
    const parts = [[], tensors.slice(0, 3), tensors.slice(3)]
    for (const [i, part] of parts.entries()) {
      const split = {
        'split.no': ['u16', i],
        'split.count': ['u16', 3],
        'split.tensors.count': ['i32', 4],
      } as const
      if (i === 0) await writeTiny(name(i), split, part)
      else await writeGguf(name(i), split, part)
    }
    for (let i = 0; i < 3; i++) {
      const checkpoint = openCheckpoint(name(i))
      assert.equal(checkpoint.tensors.size, 4)
      assert.equal(checkpoint.tensors.get('lm_head.weight')?.file, 'm-00002-of-00003.gguf')
      assert.equal(host(checkpoint.read('model.layers.1.mlp.experts.gate_proj.weight'))[0], 2)
      assert.equal(readConfigFile(name(i), 'config.json')?.hidden_size, 64)
      checkpoint.close()
    }
  })
})

describe('writing', () => {
  it('leaves nothing behind when it fails', async () => {
    const folder = mkdtempSync(join(work, 'failed-'))
    const path = join(folder, 'x.gguf')
    const short = { ...countingTensor('a', [4]), data: () => [new Uint8Array(3)] }
    await assert.rejects(() => writeGguf(path, {}, [short]), /'a' f32 \[4\] wants 16 bytes, 3 given/)
    await assert.rejects(
      () => writeGguf(path, {}, [countingTensor('a', [4]), countingTensor('a', [4])]),
      /two tensors/,
    )
    await assert.rejects(() => writeGguf(path, {}, [countingTensor('a', [4], 'f8_e4m3')]), /no number for/)
    await assert.rejects(() => writeGguf(path, { 'general.alignment': ['u32', 12] }, []), /multiple of 8/)
    await assert.rejects(() => writeGguf(join(folder, 'no', 'x.gguf'), {}, []), CheckpointError)
    assert.deepEqual(readdirSync(folder), [])
    assert.equal(existsSync(path), false)
  })
})
