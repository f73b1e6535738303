// GGUF files that are damaged, lying or something else: each is refused with its reason and its name.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { openCheckpoint } from './checkpoint.ts'
import { countingTensor, someTensors, writeTiny } from './ggufexamples.ts'
import { type GgufMetadata, type GgufTensor, writeGguf } from './ggufwrite.ts'

const work = mkdtempSync(join(tmpdir(), 'latent-ggufbad-'))
after(() => rmSync(work, { recursive: true }))

async function good(tensors: Iterable<GgufTensor> = someTensors(), keys = {}): Promise<Buffer> {
  const path = join(work, 'good.gguf')
  await writeTiny(path, keys, tensors)
  return readFileSync(path)
}

/** The byte that follows a text in a file. */
function behind(bytes: Buffer, text: string): number {
  const at = bytes.indexOf(text)
  assert.ok(at > 0, text)
  return at + Buffer.byteLength(text)
}

const patched = async (change: (bytes: Buffer) => void): Promise<Buffer> => {
  const bytes = await good()
  change(bytes)
  return bytes
}
/** Of a tensor's description: rank u32, sides u64 each, type u32, offset u64. */
const inTensor = (name: string, skip: number, change: (bytes: Buffer, at: number) => void) =>
  patched((bytes) => change(bytes, behind(bytes, name) + skip))
const inValue = (key: string, skip: number, change: (bytes: Buffer, at: number) => void) =>
  patched((bytes) => change(bytes, behind(bytes, key) + skip))

const cases: readonly (readonly [what: string, bytes: () => Promise<Buffer> | Buffer, wanted: RegExp])[] = [
  ['an empty file', () => Buffer.alloc(0), /is empty/],
  ['eight bytes', () => Buffer.from('GGUF\x03\0\0\0'), /too few for a GGUF file/],
  ['text', () => Buffer.from('hello, this is no model at all'), /it begins with "hell", not "GGUF"/],
  ['a web page', () => Buffer.from('<!DOCTYPE html><html></html>'), /is a web page/],
  ['a Git LFS pointer', () => Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /Git LFS pointer/],
  ['a zip', () => Buffer.from('PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaa'), /zip archive/],
  ['a safetensors file', () => Buffer.from('\x20\0\0\0\0\0\0\0{"a":{}}            '), /safetensors file/],
  ['a file of before GGUF', () => Buffer.from('lmgg\x01\0\0\0aaaaaaaaaaaaaaaaaaaa'), /before GGUF/],
  ['big-endian magic', () => Buffer.from('FUGG\0\0\0\x03aaaaaaaaaaaaaaaaaaaa'), /big-endian/],
  ['a big-endian version', () => patched((b) => b.writeUInt32BE(3, 4)), /big-endian/],
  ['version 1', () => patched((b) => b.writeUInt32LE(1, 4)), /GGUF version 1 .*convert it again/],
  ['version 4', () => patched((b) => b.writeUInt32LE(4, 4)), /GGUF version 4; versions 2 and 3 are read/],
  [
    'a count beyond reason',
    () => patched((b) => b.writeBigUInt64LE(2n ** 63n, 8)),
    /claims 9223372036854775808/,
  ],
  ['too many tensors', () => patched((b) => b.writeBigUInt64LE(9999n, 8)), /claims 9999 tensors/],
  ['too many values', () => patched((b) => b.writeBigUInt64LE(9999n, 16)), /9999 metadata values/],
  ['a cut header', async () => (await good()).subarray(0, 1200), /is truncated: its header wants/],
  ['a long key', () => patched((b) => b.writeBigUInt64LE(70000n, 24)), /70000 bytes for a metadata key/],
  [
    'an unknown value type',
    () => inValue('general.architecture', 0, (b, at) => b.writeUInt32LE(13, at)),
    /'general.architecture' the value type 13/,
  ],
  [
    'a string beyond the file',
    () => inValue('general.architecture', 4, (b, at) => b.writeBigUInt64LE(99999n, at)),
    /wants 'general.architecture' at byte/,
  ],
  [
    'an array beyond the file',
    async () => {
      const bytes = await good(someTensors(), { list: ['array', 'u32', [1, 2, 3]] })
      bytes.writeBigUInt64LE(10n ** 9n, behind(bytes, 'list') + 8)
      return bytes
    },
    /'list' claims 1000000000 values/,
  ],
  [
    'arrays nested without end',
    () => {
      let value = ['array', 'u8', [1]] as unknown
      for (let i = 0; i < 12; i++) value = ['array', 'array', [value]]
      return good(someTensors(), { deep: value })
    },
    /nests the arrays of 'deep' more than 8 deep/,
  ],
  ['an odd alignment', oddAlignment, /general.alignment/],
  [
    'five dimensions',
    () => inTensor('output_norm.weight', 0, (b, at) => b.writeUInt32LE(5, at)),
    /5 dimensions, at most 4/,
  ],
  [
    'an unread format',
    () => inTensor('output_norm.weight', 12, (b, at) => b.writeUInt32LE(16, at)),
    /format IQ2_XXS; latent reads f32/,
  ],
  [
    'an unknown format',
    () => inTensor('output_norm.weight', 12, (b, at) => b.writeUInt32LE(99, at)),
    /format number 99/,
  ],
  [
    'an empty side',
    () => inTensor('output_norm.weight', 4, (b, at) => b.writeBigUInt64LE(0n, at)),
    /'output_norm.weight' f32 \[0\]: no elements/,
  ],
  [
    'an overflowing shape',
    () => inTensor('token_embd.weight', 4, (b, at) => b.writeBigUInt64LE(2n ** 52n, at)),
    /no file is that large/,
  ],
  [
    'half a block',
    () => inTensor('output.weight', 4, (b, at) => b.writeBigUInt64LE(48n, at)),
    /not a whole number of blocks of 32/,
  ],
  [
    'a misaligned tensor',
    () => inTensor('output_norm.weight', 16, (b, at) => b.writeBigUInt64LE(16n, at)),
    /at offset 16, not a multiple of its alignment 32/,
  ],
  [
    'overlapping tensors',
    () => inTensor('output_norm.weight', 16, (b, at) => b.writeBigUInt64LE(0n, at)),
    /'output_norm.weight' overlap|overlap 'output_norm.weight'/,
  ],
  [
    'a tensor outside',
    () => inTensor('output_norm.weight', 16, (b, at) => b.writeBigUInt64LE(3_200_000n, at)),
    /'output_norm.weight' out of range/,
  ],
  [
    'cut data',
    async () => (await good()).subarray(0, -2000),
    /is truncated: its tensors end at byte \d+, the file at \d+/,
  ],
  ['a tensor twice', twice, /has the tensor 'output_norm.weight' twice/],
  ['a key twice', keyTwice, /metadata key 'deepseek2.expert_used_count' twice/],
  [
    'another architecture',
    () => good([], { 'general.architecture': ['string', 'llama'] }),
    /architecture is 'llama'/,
  ],
  [
    'no architecture',
    () => good([], { 'general.architecture': ['u32', 1] }),
    /names no general.architecture/,
  ],
  [
    'a part alone',
    () => good([], { 'split.count': ['u16', 3], 'split.no': ['u16', 1] }),
    /says it is part 2 of 3; open it under its name/,
  ],
]

async function oddAlignment(): Promise<Buffer> {
  const bytes = await good(someTensors(), { 'general.alignmenT': ['u32', 12] })
  bytes.write('general.alignment', bytes.indexOf('general.alignmenT'))
  return bytes
}

/** Two tensors whose names are equally long get the same one. */
async function twice(): Promise<Buffer> {
  const bytes = await good([...someTensors(), countingTensor('output_norm.weighT', [64])])
  bytes.write('output_norm.weight', bytes.indexOf('output_norm.weighT'))
  return bytes
}

async function keyTwice(): Promise<Buffer> {
  const bytes = await good(someTensors(), { 'deepseek2.expert_used_counT': ['u32', 1] })
  bytes.write('deepseek2.expert_used_count', bytes.indexOf('deepseek2.expert_used_counT'))
  return bytes
}

function refusalOf(path: string): CheckpointError {
  try {
    openCheckpoint(path).close()
  } catch (error) {
    assert.ok(error instanceof CheckpointError, String(error))
    return error
  }
  throw new assert.AssertionError({ message: `${path} was opened` })
}

for (const [what, make, wanted] of cases) {
  test(`refused: ${what}`, async () => {
    const path = join(work, 'bad.gguf')
    writeFileSync(path, await make())
    const error = refusalOf(path)
    assert.match(error.message, wanted)
    assert.ok(error.message.startsWith(`cannot open the GGUF model ${path}: `))
  })
}

test('every bit of a header may be wrong: a file is opened or refused, never more', async () => {
  const bytes = await good(someTensors(), { list: ['array', 'string', ['a', 'bc']] })
  const path = join(work, 'flipped.gguf')
  const end = bytes.indexOf('blk.1.ffn_gate_exps.weight') + 80
  let refused = 0
  for (let bit = 0; bit < end * 8; bit += 23) {
    bytes[bit >> 3] ^= 1 << (bit & 7)
    writeFileSync(path, bytes)
    bytes[bit >> 3] ^= 1 << (bit & 7)
    try {
      openCheckpoint(path).close()
    } catch (error) {
      assert.ok(error instanceof CheckpointError, `bit ${bit}: ${error}`)
      refused++
    }
  }
  assert.ok(refused > 20)
})

test('a missing file and a folder', () => {
  mkdirSync(join(work, 'folder.gguf'))
  assert.match(refusalOf(join(work, 'none.gguf')).message, /none.gguf: is missing/)
  assert.match(refusalOf(join(work, 'folder.gguf')).message, /folder.gguf: is a directory/)
})

test('parts that are missing, swapped, doubled or too few are told in one message', async () => {
  const folder = mkdtempSync(join(work, 'parts-'))
  const name = (i: number): string => join(folder, `m-0000${i}-of-00004.gguf`)
  const keys = (no: number, count = 4): GgufMetadata => ({
    'split.no': ['u16', no],
    'split.count': ['u16', count],
    'split.tensors.count': ['i32', 5],
  })
  await writeTiny(name(1), keys(0), someTensors())
  await writeGguf(name(2), keys(2), [countingTensor('output_norm.weight', [64])])
  await writeGguf(name(4), keys(3, 5), [])
  assert.deepEqual(refusalOf(name(2)).problems, [
    'm-00003-of-00004.gguf: is missing',
    "m-00002-of-00004.gguf: holds 'output_norm.weight', which m-00001-of-00004.gguf holds too",
    'm-00002-of-00004.gguf: says it is part 3 of 4, its name says 2 of 4',
    'm-00004-of-00004.gguf: says it is part 4 of 5, its name says 4 of 4',
  ])
  await writeGguf(name(2), keys(1), [])
  await writeGguf(name(3), keys(2), [])
  await writeGguf(name(4), keys(3), [])
  assert.deepEqual(refusalOf(name(4)).problems, [
    'm-00001-of-00004.gguf: says the model has 5 tensors, its parts hold 4',
  ])
})
