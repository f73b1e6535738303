// A model of a true shape with random weights, as a GGUF file: what speed is measured on when no checkpoint is at hand.
// The numbers mean nothing; sizes, formats and routing are the real ones.
import { existsSync, readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts'
import { type GgufTensor, writeGguf } from '../src/checkpoint/ggufwrite.ts'
import { parseConfig } from '../src/model/config.ts'
import { type GgufType, planTensors } from '../src/model/convert.ts'
import { modelKeys, tokenizerKeys } from '../src/model/convertkeys.ts'
import { byteLength, type DType, formats } from '../src/tensor/dtype.ts'
import { size } from '../src/tensor/tensor.ts'

const tokenizerFolder = new URL('../../test/data/tokenizer/deepseek-v2/', import.meta.url)

/** Writes `path` if it is not there yet. */
export async function writeRandomModel(
  path: string,
  json: Readonly<Record<string, unknown>>,
  type: GgufType,
): Promise<void> {
  if (existsSync(path)) return
  const config = parseConfig(json, 'config.json')
  const empty: Checkpoint = {
    path: 'random',
    tensors: new Map(),
    read: () => {
      throw new Error('random weights are not read')
    },
    map: () => null,
    readInto: () => {},
    close: () => {},
  }
  const tokenizer = JSON.parse(
    gunzipSync(readFileSync(new URL('tokenizer.json.gz', tokenizerFolder))).toString(),
  )
  const settings = JSON.parse(readFileSync(new URL('tokenizer_config.json', tokenizerFolder), 'utf8'))
  const metadata = {
    'general.architecture': ['string', 'deepseek2'],
    'general.name': ['string', `random ${type}`],
    ...modelKeys(config, 'config.json'),
    ...tokenizerKeys(config, tokenizer, settings, 'tokenizer.json'),
  } as const
  const tensors = [...planTensors(empty, config, type)].map(
    ({ name, dtype, shape }): GgufTensor => ({
      name,
      dtype,
      shape,
      data: () => randomBytes(name, dtype, shape),
    }),
  )
  await writeGguf(path, metadata, tensors)
}

function* randomBytes(name: string, dtype: DType, shape: readonly number[]): Generator<Uint8Array> {
  let left = byteLength(dtype, size(shape))
  const piece = pattern(name.includes('norm') ? 'norm' : dtype)
  while (left > 0) {
    yield piece.subarray(0, Math.min(left, piece.length))
    left -= piece.length
  }
}

const patterns = new Map<string, Uint8Array>()

/** Some megabytes of weights of about 1 / 50, a whole number of blocks; norms are ones. */
function pattern(kind: DType | 'norm'): Uint8Array {
  const known = patterns.get(kind)
  if (known) return known
  const dtype = kind === 'norm' ? 'f32' : kind
  const { encode } = formats[dtype]
  if (!encode) throw new Error(`${dtype} cannot be written`)
  const values = new Float32Array(2 ** 20)
  let state = 12345
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    values[i] = kind === 'norm' ? 1 : (state / 2 ** 32 - 0.5) / 15
  }
  const bytes = new Uint8Array(byteLength(dtype, values.length))
  encode(values, bytes, 0)
  patterns.set(kind, bytes)
  return bytes
}
