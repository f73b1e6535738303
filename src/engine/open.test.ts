// Opening a model directory that is wrong in many ways at once: one error says all of them, with file and name.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CheckpointError } from '../tensor/error.ts'
import { openModel, readConfig } from './open.ts'

const golden = fileURLToPath(new URL('../../../test/data/golden/lite-tiny', import.meta.url))
const work = mkdtempSync(join(tmpdir(), 'latent-open-'))
after(() => rmSync(work, { recursive: true }))

interface Entry {
  dtype: string
  shape: number[]
  readonly data_offsets: number[]
}

/** The bytes of a safetensors file with another header, and fewer bytes at its end. */
function rewritten(change: (header: Record<string, Entry>) => Record<string, Entry>, cut = 0): Buffer {
  const bytes = readFileSync(join(golden, 'model.safetensors'))
  const data = 8 + Number(bytes.readBigUInt64LE(0))
  const header = Buffer.from(JSON.stringify(change(JSON.parse(bytes.toString('utf8', 8, data)))))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, bytes.subarray(data, bytes.length - cut)])
}

async function problemsOf(name: string, files: Readonly<Record<string, string | Buffer>>) {
  const folder = join(work, name)
  mkdirSync(folder)
  cpSync(join(golden, 'config.json'), join(folder, 'config.json'))
  for (const [file, content] of Object.entries(files)) writeFileSync(join(folder, file), content)
  const error = await openModel(folder, { backend: 'reference' }).catch((reason: unknown) => reason)
  assert.ok(error instanceof CheckpointError, String(error))
  assert.match(error.message, new RegExp(`^cannot open the checkpoint in .*${name}: `))
  return error.problems
}

test('a missing, a misshapen and a stray tensor, a format that is not read and a cut file: one error', async () => {
  const bytes = rewritten((header) => {
    const { 'model.norm.weight': norm, ...rest } = header
    const { 'model.layers.0.self_attn.o_proj.weight': output, 'lm_head.weight': head } = rest
    output.shape = [output.shape[0] * 2, output.shape[1] / 2]
    head.dtype = 'I64'
    head.shape = [head.shape[0] / 4, head.shape[1]]
    return { ...rest, 'model.norm.bias': norm }
  }, 5)
  const problems = await problemsOf('wrong', { 'model.safetensors': bytes })
  const wanted = [
    /^model\.safetensors: 'lm_head\.weight' is of dtype "I64"; latent reads /,
    /^model\.safetensors: is truncated: the header wants \d+ bytes of data, there are \d+; /,
    /^model\.norm\.weight is missing; wanted \[64\]$/,
    /^model\.layers\.0\.self_attn\.o_proj\.weight in model\.safetensors is \[128 \d+\]; wanted \[64 \d+\]$/,
    /^model\.norm\.bias in model\.safetensors is not part of this model$/,
  ]
  for (const line of wanted)
    assert.ok(
      problems.some((problem) => line.test(problem)),
      `${line}: ${problems}`,
    )
  assert.equal(problems.length, wanted.length, problems.join('\n'))
})

test('a tensor in a shard that is missing is not missing twice, one in no shard is missing', async () => {
  const bytes = rewritten((header) => header)
  const names = Object.keys(JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))))
  const first = 'model-00001-of-000002.safetensors'
  const second = 'model-00002-of-000002.safetensors'
  const tensors = names.filter((name) => name !== '__metadata__' && name !== 'model.norm.weight')
  const places = tensors.map((name) => [name, name === 'lm_head.weight' ? second : first])
  const index = JSON.stringify({ weight_map: Object.fromEntries(places) })
  const shard = rewritten((header) => {
    const { 'lm_head.weight': _, 'model.norm.weight': __, ...rest } = header
    return rest
  })
  const problems = await problemsOf('shards', { 'model.safetensors.index.json': index, [first]: shard })
  assert.ok(problems.includes(`${second}: is missing`), problems.join('\n'))
  assert.ok(problems.includes('model.norm.weight is missing; wanted [64]'), problems.join('\n'))
  assert.ok(!problems.some((problem) => problem.startsWith('lm_head')), problems.join('\n'))
  const lost = await problemsOf('index', { 'model.safetensors.index.json': '{' })
  assert.equal(lost.length, 1, lost.join('\n')) // nobody knows what the index places where
})

test('a folder that holds only a GGUF is told to name the file', () => {
  const folder = join(work, 'gguf')
  mkdirSync(folder)
  assert.throws(
    () => readConfig(folder),
    /has no config\.json; give a Hugging Face model directory, or a name/,
  )
  writeFileSync(join(folder, 'm.gguf'), 'GGUF')
  assert.throws(() => readConfig(folder), {
    name: 'CheckpointError',
    message: `${folder} has no config.json; a GGUF is not opened by its folder, name the file itself: ${folder}/m.gguf`,
  })
})
