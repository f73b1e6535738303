// Everything that can be wrong with a checkpoint, as a table: what lies in the folder, and what the one error says.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { openCheckpoint } from './checkpoint.ts'

const root = mkdtempSync(join(tmpdir(), 'latent-malformed-'))
after(() => rmSync(root, { recursive: true, force: true }))

/** A file from its header's text and the length of its data, whatever either claims. */
function raw(header: string | Uint8Array, data = 0, claimed?: bigint): Buffer {
  const text = Buffer.from(header)
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(claimed ?? BigInt(text.length))
  return Buffer.concat([head, text, Buffer.alloc(data)])
}

const f32 = (shape: readonly unknown[], data_offsets: readonly unknown[], dtype = 'F32'): object => ({
  dtype,
  shape,
  data_offsets,
})
const file = (entries: Record<string, unknown>, data = 0): Buffer => raw(JSON.stringify(entries), data)
const one = (name: string): Buffer => file({ [name]: f32([2], [0, 8]) }, 8)
const index = (weight_map: unknown): string => JSON.stringify({ metadata: {}, weight_map })

const folder = Symbol('folder')
type Content = string | Buffer | typeof folder | { readonly link: string }
interface Case {
  readonly what: string
  readonly files: Readonly<Record<string, Content>>
  /** Each is found in the message. */
  readonly says: readonly RegExp[]
  /** How many problems are listed; one when not given. */
  readonly problems?: number
}

const single = (what: string, content: Content, ...says: readonly RegExp[]): Case => ({
  what,
  files: { 'model.safetensors': content },
  says: [/model\.safetensors: /, ...says],
})
const fp8 = (shape: readonly number[], scales: Record<string, unknown> = {}, more = 0): Buffer => {
  const bytes = shape.reduce((a, b) => a * b, 1)
  return file({ 'x.weight': f32(shape, [0, bytes], 'F8_E4M3'), ...scales }, bytes + more)
}

const shard1 = 'model-00001-of-000002.safetensors'
const shard2 = 'model-00002-of-000002.safetensors'
const indexName = 'model.safetensors.index.json'

const cases: readonly Case[] = [
  // the folder
  { what: 'empty folder', files: {}, says: [/no safetensors checkpoint \(it is empty\)/], problems: 0 },
  {
    what: 'only a pickle',
    files: { 'pytorch_model.bin': 'x', 'config.json': '{}' },
    says: [/found config\.json, pytorch_model\.bin/, /\*\.bin.*convert/],
    problems: 0,
  },
  {
    what: 'only a GGUF',
    files: { 'm.gguf': 'x' },
    says: [/found m\.gguf/, /GGUF is not opened/],
    problems: 0,
  },
  {
    what: 'shards without an index',
    files: { [shard1]: one('a'), [shard2]: one('b') },
    says: [/2 safetensors files/, /no model\.safetensors\.index\.json/],
    problems: 0,
  },
  // the file as a whole
  single('zero bytes', Buffer.alloc(0), /is empty \(0 bytes\)/),
  single('five bytes', Buffer.alloc(5), /truncated: 5 bytes/),
  single('a directory', folder, /is a directory/),
  single('a link to nothing', { link: '../blobs/gone' }, /link to a file that is missing/),
  single(
    'Git LFS pointer',
    'version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5',
    /Git LFS pointer/,
  ),
  single('a GGUF', `GGUF${'\0'.repeat(20)}`, /GGUF file under another name/),
  single('a pickle', `PK\u0003\u0004${'\0'.repeat(60)}`, /zip archive/),
  single('a web page', '<!DOCTYPE html><p>404', /web page/),
  single(
    'header beyond the file',
    raw('{}', 0, 1000n),
    /truncated: its header ends at byte 1008, the file at byte 10/,
  ),
  single('header of 2^63 bytes', raw('{}', 0, 2n ** 63n), /claims a header of 9223372036854775808 bytes/),
  single('header over 100 MB', raw('{}', 0, 100_000_001n), /claims a header of 100000001 bytes/),
  // the header
  single('not JSON', raw('{"a":'), /header is not valid JSON/),
  single('not an object', raw('[]'), /header is not a JSON object/),
  single('not UTF-8', raw(Uint8Array.of(0x7b, 0xff, 0x7d)), /header is not UTF-8/),
  single('metadata of numbers', file({ __metadata__: { n: 1 }, a: f32([2], [0, 8]) }, 8), /__metadata__/),
  single(
    'a name twice',
    raw(
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
      8,
    ),
    /header has 'a' twice/,
  ),
  single(
    'a field twice',
    raw('{"a":{"dtype":"F16","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
    /header has 'a > dtype' twice/,
  ),
  // a tensor
  single('entry is no object', file({ a: 7 }), /'a' is described by 7/),
  single(
    'shape and bytes disagree',
    file({ a: f32([3], [0, 8]) }, 8),
    /'a' lies: F32 \[3\] takes 12 bytes.*span 8/,
  ),
  single('negative offset', file({ a: f32([2], [-8, 0]) }, 8), /'a' has data_offsets \[-8,0\]/),
  single('reversed offsets', file({ a: f32([2], [8, 0]) }, 8), /'a' has data_offsets \[8,0\]: reversed/),
  single('fractional offset', file({ a: f32([2], [0.5, 8.5]) }, 8), /'a' has data_offsets \[0\.5,8\.5\]/),
  single('three offsets', file({ a: f32([2], [0, 4, 8]) }, 8), /'a' has data_offsets \[0,4,8\]/),
  single(
    'offsets beyond 2^53',
    raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9007199254740993]}}', 8),
    /'a' has data_offsets/,
  ),
  single('no offsets', file({ a: { dtype: 'F32', shape: [] } }), /'a' has data_offsets undefined/),
  single('negative shape', file({ a: f32([-2], [0, 8]) }, 8), /'a' has shape \[-2\]/),
  single(
    'shape is no list',
    file({ a: { dtype: 'F32', shape: '2', data_offsets: [0, 8] } }, 8),
    /'a' has shape "2"/,
  ),
  single('overflowing shape', file({ a: f32([2 ** 31, 2 ** 31], [0, 8]) }, 8), /'a' has shape .* overflows/),
  single(
    'wrapping shape',
    file({ a: f32([2 ** 32, 2 ** 32, 2 ** 32], [0, 0]) }),
    /'a' has shape .* overflows/,
  ),
  single(
    'a foreign format',
    file({ a: f32([1], [0, 8], 'I64') }, 8),
    /'a' is of dtype "I64"; latent reads .*BF16/,
  ),
  single('an unknown format', file({ a: f32([1], [0, 8], 'Q9') }, 8), /'a' is of dtype "Q9"/),
  // the layout
  single(
    'data cut',
    file({ a: f32([2], [0, 8]), b: f32([2], [8, 16]) }, 10),
    /truncated: .* wants 16 bytes of data, there are 10; 'b'/,
  ),
  {
    what: 'out of range',
    files: { 'model.safetensors': file({ a: f32([2], [800, 808]) }, 8) },
    says: [/hole of 800 bytes before 'a'/, /truncated: .*'a' out of range/],
    problems: 2,
  },
  single('overlap', file({ a: f32([2], [0, 8]), b: f32([2], [4, 12]) }, 12), /'b' overlaps 'a' by 4 bytes/),
  single(
    'same bytes twice',
    file({ a: f32([2], [0, 8]), b: f32([2], [0, 8]) }, 8),
    /'b' overlaps 'a' by 8 bytes/,
  ),
  single('hole', file({ a: f32([2], [0, 8]), b: f32([2], [12, 20]) }, 20), /hole of 4 bytes before 'b'/),
  single('hole at the start', file({ a: f32([2], [4, 12]) }, 12), /hole of 4 bytes before 'a'/),
  single('trailing bytes', file({ a: f32([2], [0, 8]) }, 11), /3 trailing bytes/),
  // fp8
  single(
    'fp8 without scales',
    fp8([4, 4]),
    /'x\.weight' is F8_E4M3 but its scales 'x\.weight_scale_inv' are missing/,
  ),
  single(
    'fp8 with one scale for all',
    fp8([4, 4], { 'x.weight_scale': f32([1], [16, 20]) }, 4),
    /'x\.weight_scale_inv' are missing \(one scale for a whole tensor is not supported/,
  ),
  single(
    'fp8 with misshapen scales',
    fp8([4, 4], { 'x.weight_scale_inv': f32([1, 2], [16, 24]) }, 8),
    /'x\.weight_scale_inv' is f32 \[1 2\], wanted f32 \[1 1\] for \[4 4\]/,
  ),
  single(
    'fp8 scales of another format',
    fp8([4, 4], { 'x.weight_scale_inv': f32([1, 1], [16, 18], 'BF16') }, 2),
    /'x\.weight_scale_inv' is bf16 \[1 1\], wanted f32/,
  ),
  single(
    'fp8 vector',
    fp8([4], { 'x.weight_scale_inv': f32([1], [4, 8]) }, 4),
    /F8_E4M3 \[4\], wanted a matrix/,
  ),
  single(
    'scales of nothing',
    one('y.weight_scale_inv'),
    /'y\.weight_scale_inv' scales 'y\.weight', which is missing/,
  ),
  // the index
  { what: 'index not JSON', files: { [indexName]: '{' }, says: [/index\.json: is not valid JSON/] },
  { what: 'index is a list', files: { [indexName]: '[]' }, says: [/index\.json: is JSON but not an object/] },
  {
    what: 'index without a map',
    files: { [indexName]: '{"metadata":{}}' },
    says: [/index\.json: has no weight_map/],
  },
  { what: 'index with an empty map', files: { [indexName]: index({}) }, says: [/has no weight_map/] },
  { what: 'index is empty', files: { [indexName]: '' }, says: [/index\.json: is empty/] },
  {
    what: 'index is a pointer',
    files: { [indexName]: 'version https://git-lfs' },
    says: [/Git LFS pointer/],
  },
  { what: 'index is a directory', files: { [indexName]: folder }, says: [/index\.json: is a directory/] },
  {
    what: 'index leaves the folder',
    files: { [indexName]: index({ a: '../x.safetensors' }) },
    says: [/places 'a' in "\.\.\/x\.safetensors", wanted a file inside/],
  },
  {
    what: 'index names the root',
    files: { [indexName]: index({ a: '/etc/passwd' }) },
    says: [/"\/etc\/passwd"/],
  },
  { what: 'index places in a number', files: { [indexName]: index({ a: 7 }) }, says: [/places 'a' in 7/] },
  {
    what: 'index lists a tensor twice',
    files: { [indexName]: `{"weight_map":{"a":"${shard1}","a":"${shard1}"}}`, [shard1]: one('a') },
    says: [/index\.json: has 'weight_map > a' twice/],
  },
  {
    what: 'a shard is missing',
    files: { [indexName]: index({ a: shard1, b: shard2 }), [shard1]: one('a') },
    says: [/model-00002-of-000002\.safetensors: is missing/],
  },
  {
    what: 'a shard lacks a tensor',
    files: { [indexName]: index({ a: shard1, b: shard1 }), [shard1]: one('a') },
    says: [/00001.*: lacks 'b', which model\.safetensors\.index\.json places there/],
  },
  {
    what: 'a tensor stands in the other shard',
    files: {
      [indexName]: index({ a: shard1, b: shard2, c: shard2 }),
      [shard1]: two('a', 'c'),
      [shard2]: one('b'),
    },
    says: [/00002.*: lacks 'c', which .* places there; it stands in model-00001/],
  },
  {
    what: 'a tensor stands in two shards',
    files: { [indexName]: index({ a: shard1, b: shard2 }), [shard1]: one('a'), [shard2]: two('b', 'a') },
    says: [/00002.*: holds 'a', which model-00001-of-000002\.safetensors holds too/],
  },
  {
    what: 'a tensor that no index lists',
    files: { [indexName]: index({ a: shard1 }), [shard1]: two('a', 'stray') },
    says: [/00001.*: holds 'stray', which .* does not list/],
  },
  // all at once
  {
    what: 'five things in three files',
    files: {
      [indexName]: index({ a: shard1, b: shard1, c: shard2, d: '../d', e: 'gone.safetensors' }),
      [shard1]: file({ a: f32([3], [0, 8]), b: f32([2], [4, 12], 'I64') }, 12),
      [shard2]: raw('{'),
    },
    says: [
      /cannot open the checkpoint in .*: 7 problems/,
      /- model\.safetensors\.index\.json: places 'd'/,
      /- gone\.safetensors: is missing/,
      /- model-00001.*: 'a' lies/,
      /- model-00001.*: 'b' is of dtype "I64"/,
      /- model-00001.*: 'b' lies/,
      /- model-00001.*: 'b' overlaps 'a'/,
      /- model-00002.*: header is not valid JSON/,
    ],
    problems: 7,
  },
]

function two(first: string, second: string): Buffer {
  return file({ [first]: f32([2], [0, 8]), [second]: f32([2], [8, 16]) }, 16)
}

function put(path: string, content: Content): void {
  if (content === folder) mkdirSync(path)
  else if (typeof content === 'string' || Buffer.isBuffer(content)) writeFileSync(path, content)
  else symlinkSync(content.link, path)
}

for (const { what, files, says, problems } of cases) {
  test(what, () => {
    const directory = mkdtempSync(join(root, 'case-'))
    for (const [name, content] of Object.entries(files)) put(join(directory, name), content)
    assert.throws(
      () => openCheckpoint(directory),
      (error) => {
        assert.ok(error instanceof CheckpointError, String(error))
        for (const pattern of says) assert.match(error.message, pattern)
        assert.equal(error.problems.length, problems ?? 1, error.message)
        return true
      },
    )
  })
}

test('a folder that is not there, or is a file', () => {
  assert.throws(() => openCheckpoint(join(root, 'nowhere')), /nowhere does not exist/)
  writeFileSync(join(root, 'plain'), 'x')
  assert.throws(() => openCheckpoint(join(root, 'plain')), /plain is not a directory/)
})
