// Reading and writing what is whole: every format, shards, fp8 scales, the golden checkpoints.
import assert from 'node:assert/strict'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { byteLength, type DType } from '../tensor/dtype.ts'
import { CheckpointError, ShapeError } from '../tensor/error.ts'
import { decodeRow, floats, fromFloats, host, piecesOf, size, type Tensor } from '../tensor/tensor.ts'
import { openCheckpoint, readConfigFile } from './checkpoint.ts'
import { type NamedTensor, writeSafetensors } from './safetensors.ts'

const golden = fileURLToPath(new URL('../../../test/data/golden/', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'latent-checkpoint-'))
after(() => rmSync(root, { recursive: true, force: true }))
const fresh = (): string => mkdtempSync(join(root, 'case-'))

function make(dtype: DType, shape: readonly number[], seed = 0): Tensor {
  const data = Uint8Array.from({ length: byteLength(dtype, size(shape)) }, (_, i) => (i * 7 + seed) & 255)
  return { dtype, shape, data }
}

test('every format, scalars and empty tensors round trip', () => {
  const path = fresh()
  const tensors: NamedTensor[] = [
    {
      name: 'bytes are odd',
      tensor: { ...make('f8_e4m3', [129, 3]), scales: fromFloats([2, 1], Float32Array.of(2, 3)) },
    },
    { name: 'half', tensor: make('f16', [3, 5], 1) },
    { name: 'brain "quoted" ü', tensor: make('bf16', [7], 2) },
    { name: 'integers', tensor: make('i32', [2, 2, 2], 3) },
    { name: 'floats', tensor: make('f32', [5, 1], 4) },
    { name: 'scalar', tensor: make('f32', [], 5) },
    { name: 'empty', tensor: make('f32', [0, 4], 6) },
    { name: '__proto__', tensor: make('f32', [1], 7) },
  ]
  writeSafetensors(join(path, 'model.safetensors'), tensors, { format: 'pt' })
  assert.deepEqual(readdirSync(path), ['model.safetensors'])
  const checkpoint = openCheckpoint(path)
  assert.deepEqual([...checkpoint.tensors.keys()].sort(), tensors.map(({ name }) => name).sort())
  for (const { name, tensor } of tensors) {
    assert.deepEqual(checkpoint.read(name), tensor)
    const wide = new Uint8Array(host(tensor).length + 3)
    checkpoint.readInto(name, wide.subarray(3))
    assert.deepEqual(wide.subarray(3), host(tensor))
  }
  checkpoint.close()
})

test('mapped tensors are what is read, whatever happens to the checkpoint and the name of its file', () => {
  const path = fresh()
  const file = join(path, 'model.safetensors')
  const tensors: NamedTensor[] = [
    { name: 'a', tensor: make('f32', [300, 5]) },
    { name: 'b', tensor: make('f16', [6, 64], 1) },
    {
      name: 'scaled',
      tensor: { ...make('f8_e4m3', [4, 4]), scales: fromFloats([1, 1], Float32Array.of(2)) },
    },
    { name: 'six bytes', tensor: make('bf16', [3, 1], 2) },
    { name: 'empty', tensor: make('f32', [0, 4]) },
  ]
  writeSafetensors(file, tensors)
  const checkpoint = openCheckpoint(path)
  const mapped = tensors.map(({ name, tensor }) => ({ name, tensor, got: checkpoint.map(name) }))
  assert.throws(() => checkpoint.map('c'), /no tensor 'c'/)
  checkpoint.close()
  assert.throws(() => checkpoint.map('a'), /closed/)
  rmSync(file)
  for (const { name, tensor, got } of mapped) {
    if (got === null) continue // no mmap here, an odd place, or nothing to map
    assert.deepEqual({ ...got, data: Buffer.from(host(got)) }, { ...tensor, data: Buffer.from(host(tensor)) })
    const [piece] = piecesOf(got) ?? []
    const again = new Uint8Array(piece.bytes.length)
    assert.equal(readSync(piece.fd, again, 0, again.length, piece.offset), again.length, name)
    assert.deepEqual(Buffer.from(again), Buffer.from(piece.bytes))
  }
  if (process.platform === 'linux') assert.ok(mapped[0].got !== null)
  assert.equal(mapped[4].got, null)
})

test('fp8: scales come with their matrix, from another shard, too', () => {
  const path = fresh()
  const weight = make('f8_e4m3', [130, 260], 9)
  const scales = fromFloats([2, 3], Float32Array.of(1, 2, 3, 4, 5, 6))
  writeSafetensors(join(path, 'a.safetensors'), [{ name: 'x.weight', tensor: weight }])
  writeSafetensors(join(path, 'b.safetensors'), [{ name: 'x.weight_scale_inv', tensor: scales }])
  const weight_map = { 'x.weight': 'a.safetensors', 'x.weight_scale_inv': 'b.safetensors' }
  writeFileSync(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map }))
  const checkpoint = openCheckpoint(path)
  assert.deepEqual([...checkpoint.tensors.keys()], ['x.weight'])
  assert.deepEqual(checkpoint.read('x.weight'), { ...weight, scales })
  decodeRow(checkpoint.read('x.weight'), 129, new Float32Array(260))
  const info = checkpoint.tensors.get('x.weight')
  assert.equal(info?.scales?.file, 'b.safetensors')
  const bytes = new Uint8Array(24)
  checkpoint.readInto('x.weight_scale_inv', bytes)
  assert.deepEqual(bytes, host(scales))
  checkpoint.close()
})

test('golden: one file is read, and written again byte for byte', () => {
  for (const name of ['lite-tiny', 'plain-f32']) {
    const checkpoint = openCheckpoint(join(golden, name))
    const tensors = [...checkpoint.tensors.keys()].map((key) => ({ name: key, tensor: checkpoint.read(key) }))
    const copy = join(fresh(), 'copy.safetensors')
    writeSafetensors(copy, tensors.reverse(), { format: 'pt' })
    assert.ok(readFileSync(copy).equals(readFileSync(join(golden, name, 'model.safetensors'))))
    checkpoint.close()
  }
})

test('golden: three shards and their index', () => {
  const path = join(golden, 'v2-tiny')
  const checkpoint = openCheckpoint(path)
  const index = readConfigFile(path, 'model.safetensors.index.json')
  assert.deepEqual([...checkpoint.tensors.keys()].sort(), Object.keys(Object(index?.weight_map)).sort())
  const info = checkpoint.tensors.get('lm_head.weight')
  assert.deepEqual(
    [info?.dtype, info?.shape, info?.file],
    ['bf16', [512, 96], 'model-00003-of-000003.safetensors'],
  )
  const head = checkpoint.read('lm_head.weight')
  const row = new Float32Array(96)
  decodeRow(head, 511, row)
  assert.ok(row.some((value) => value !== 0) && row.every((value) => Math.abs(value) < 10))
  assert.equal(host(head).byteOffset, 0)
  checkpoint.close()
})

test('a single file of another name is found; ignorable buffers are passed over', () => {
  const path = fresh()
  cpSync(join(golden, 'plain-f32', 'model.safetensors'), join(path, 'some.safetensors'))
  const checkpoint = openCheckpoint(path)
  assert.equal(floats(checkpoint.read('lm_head.weight')).length, 512 * 64)
  checkpoint.close()

  const old = fresh()
  const header = JSON.stringify({
    'a.rotary_emb.inv_freq': { dtype: 'F64', shape: [2], data_offsets: [0, 16] },
    b: { dtype: 'F32', shape: [1], data_offsets: [16, 20] },
  })
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(BigInt(header.length))
  writeFileSync(join(old, 'model.safetensors'), Buffer.concat([head, Buffer.from(header), Buffer.alloc(20)]))
  assert.deepEqual([...openCheckpoint(old).tensors.keys()], ['b'])
})

test('reading says which tensor of which file', () => {
  const path = fresh()
  const file = join(path, 'model.safetensors')
  writeSafetensors(file, [{ name: 'x', tensor: make('f32', [100]) }])
  const checkpoint = openCheckpoint(path)
  assert.throws(() => checkpoint.read('y'), /no tensor 'y'/)
  assert.throws(
    () => checkpoint.readInto('x', new Uint8Array(5)),
    /'x' in model.safetensors is 400 bytes long.* 5/,
  )
  truncateSync(file, 200)
  const short = /'x' from model.safetensors: the file was cut short since it was opened \(\d+ of 400 bytes\)/
  assert.throws(() => checkpoint.read('x'), short)
  assert.throws(() => checkpoint.map('x'), short)
  rmSync(file)
  checkpoint.close()
  assert.throws(() => checkpoint.read('x'), /closed/)
  checkpoint.close()
})

test('writing refuses what it could not read back, and leaves nothing behind', () => {
  const path = fresh()
  const file = join(path, 'x.safetensors')
  const x = { name: 'x', tensor: make('f32', [1]) }
  assert.throws(() => writeSafetensors(file, [x, x]), /two tensors named 'x'/)
  assert.throws(() => writeSafetensors(file, [{ ...x, name: '__metadata__' }]), /__metadata__/)
  assert.throws(
    () => writeSafetensors(file, [{ name: 'x', tensor: { ...x.tensor, shape: [2] } }]),
    ShapeError,
  )
  assert.throws(() => writeSafetensors(join(path, 'no', 'x.safetensors'), [x]), CheckpointError)
  mkdirSync(file)
  assert.throws(() => writeSafetensors(file, [x]), /cannot write .*x\.safetensors/)
  assert.deepEqual(readdirSync(path), ['x.safetensors'])
})

test('readConfigFile: an object, null, or the reason', () => {
  const path = fresh()
  const bad = (content: string, pattern: RegExp): void => {
    writeFileSync(join(path, 'config.json'), content)
    assert.throws(
      () => readConfigFile(path, 'config.json'),
      (error) => error instanceof CheckpointError && pattern.test(error.message),
    )
  }
  assert.equal(readConfigFile(path, 'config.json'), null)
  bad('', /config.json is empty/)
  bad('{"a":', /config.json is not valid JSON/)
  bad('[1]', /is JSON but not an object \(a list\)/)
  bad('null', /not an object \(null\)/)
  bad('version https://git-lfs.github.com/spec/v1\noid sha256:0', /Git LFS pointer/)
  writeFileSync(join(path, 'config.json'), '{"a":{"b":1}}')
  assert.deepEqual(readConfigFile(path, 'config.json'), { a: { b: 1 } })
  mkdirSync(join(path, 'folder.json'))
  assert.throws(() => readConfigFile(path, 'folder.json'), /is a directory/)
})
