// A checkpoint -> one GGUF file that llama.cpp loads too. Renames, stacks the experts, splits kv_b, and writes each
// matrix in the format of its mixture. Memory: a few pieces of some megabytes for each thread, and the largest of what
// is read whole (a layer's kv_b, an fp8 expert): hundreds of MB at most, for any model.
// Knows the tensors of the model; formats are convertmix.ts, metadata convertkeys.ts, the file itself checkpoint/.
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { type Checkpoint, openCheckpoint, readConfigFile } from '../checkpoint/checkpoint.ts'
import { toGgufName } from '../checkpoint/ggufnames.ts'
import { type GgufMetadata, type GgufTensor, writeGguf } from '../checkpoint/ggufwrite.ts'
import { byteLength, type DType } from '../tensor/dtype.ts'
import { CheckpointError, RequestError } from '../tensor/error.ts'
import { host, size, type Tensor } from '../tensor/tensor.ts'
import { type Config, parseConfig } from './config.ts'
import { type Encoder, openEncoder } from './convertencode.ts'
import { modelKeys, tokenizerKeys } from './convertkeys.ts'
import { formatOf, type GgufType, mixtures } from './convertmix.ts'
import { cut, folderOf, openRows, type Rows } from './convertrows.ts'
import { layout, layoutProblems, type Shape } from './layout.ts'
import { headMatrices } from './split.ts'

export type { GgufType } from './convertmix.ts'

export interface ConvertProgress {
  /** The tensor being written, as GGUF calls it. */
  readonly tensor: string
  readonly dtype: DType
  /** Bytes of tensors written so far, and of all of them. */
  readonly written: number
  readonly total: number
}

export interface ConvertSummary {
  readonly tensors: number
  /** Of all tensors; the file holds a header besides. */
  readonly bytes: number
  readonly formats: Readonly<Partial<Record<DType, { readonly tensors: number; readonly bytes: number }>>>
}

export interface ConvertOptions {
  /** What will be written, before anything is: throwing here stops it. */
  readonly before?: (summary: ConvertSummary) => void
  readonly progress?: (at: ConvertProgress) => void
  readonly signal?: AbortSignal
  /** Threads that encode; default: one for each core, at most 16, and no more than a small model deserves. */
  readonly threads?: number
}

/** Writes the model in `source` (a folder, or another GGUF file) to `out`, whole or not at all. */
export async function convertToGguf(
  source: string,
  out: string,
  type: GgufType,
  options: ConvertOptions = {},
): Promise<ConvertSummary> {
  const json = readConfigFile(source, 'config.json')
  if (json === null) throw new CheckpointError(`${source} has no config.json`)
  const config = parseConfig(json, `${source}: config.json`)
  const checkpoint = openCheckpoint(source, (tensors, unread) => layoutProblems(config, tensors, unread))
  try {
    checkApart(checkpoint, out)
    const metadata = describe(source, config, type, json)
    return await write(checkpoint, out, metadata, config, type, options)
  } finally {
    checkpoint.close()
  }
}

/** Replacing a file that is still being read would be the end of the model. */
function checkApart(checkpoint: Checkpoint, out: string): void {
  const real = (path: string): string => (existsSync(path) ? realpathSync(path) : resolve(path))
  const files = new Set([...checkpoint.tensors.values()].map(({ file }) => join(folderOf(checkpoint), file)))
  if (![...files].some((file) => real(file) === real(out))) return
  throw new RequestError(`${out} is the model that is being read; write to another file`, 'out')
}

async function write(
  checkpoint: Checkpoint,
  out: string,
  metadata: GgufMetadata,
  config: Config,
  type: GgufType,
  { before, progress, signal, threads }: ConvertOptions,
): Promise<ConvertSummary> {
  const rows = openRows(checkpoint)
  const plans = [...planTensors(checkpoint, config, type, rows)]
  const summary = summarize(plans)
  const encoder = openEncoder(threads ?? threadsFor(plans))
  try {
    before?.(summary)
    const pieces = inOrder(encodeAll(plans, encoder), encoder.ahead)
    let written = 0
    const tensors = plans.map(({ name, dtype, shape }): GgufTensor => {
      async function* data(): AsyncGenerator<Uint8Array> {
        for (let left = byteLength(dtype, size(shape)); left > 0; ) {
          progress?.({ tensor: name, dtype, written, total: summary.bytes })
          await new Promise(setImmediate) // lets an abort, and the caller's own work, come in between
          signal?.throwIfAborted()
          const { value, done } = await pieces.next()
          if (done) return
          yield value
          written += value.length
          left -= value.length
        }
      }
      return { name, dtype, shape, data }
    })
    await writeGguf(out, metadata, tensors)
    return summary
  } finally {
    encoder.close()
    rows.close()
  }
}

function summarize(plans: readonly Plan[]): ConvertSummary {
  const counts: Partial<Record<DType, { tensors: number; bytes: number }>> = {}
  let bytes = 0
  for (const { dtype, shape } of plans) {
    const own = byteLength(dtype, size(shape))
    counts[dtype] ??= { tensors: 0, bytes: 0 }
    counts[dtype].tensors++
    counts[dtype].bytes += own
    bytes += own
  }
  return { tensors: plans.length, bytes, formats: counts }
}

/** A thread takes as long to start as to encode some million elements. */
function threadsFor(plans: readonly Plan[]): number {
  const elements = plans.reduce((sum, { shape }) => sum + size(shape), 0)
  return Math.min(availableParallelism(), 16, Math.ceil(elements / 2 ** 25))
}

/** Every piece of every tensor in the order of the file; each is begun when it is asked for. */
function* encodeAll(plans: readonly Plan[], encoder: Encoder): Generator<Promise<Uint8Array>> {
  for (const { dtype, matrices } of plans) {
    for (const matrix of matrices()) {
      yield matrix.dtype === dtype ? Promise.resolve(host(matrix)) : encoder.encode(matrix, dtype)
    }
  }
}

/** The results in order, while up to `ahead` more are under way. */
async function* inOrder<T>(jobs: Iterable<Promise<T>>, ahead: number): AsyncGenerator<T, void> {
  const running: Promise<T>[] = []
  for (const job of jobs) {
    job.catch(() => undefined) // told when its turn comes
    running.push(job)
    if (running.length > ahead) yield await (running.shift() as Promise<T>)
  }
  for (const job of running) yield await job
}

function describe(
  source: string,
  config: Config,
  type: GgufType,
  json: Readonly<Record<string, unknown>>,
): GgufMetadata {
  const name = typeof json._name_or_path === 'string' ? json._name_or_path : source
  const tokenizer = readConfigFile(source, 'tokenizer.json')
  const settings = readConfigFile(source, 'tokenizer_config.json')
  // newer checkpoints keep their template in a file of its own
  const template = join(source, 'chat_template.jinja')
  const own = existsSync(template) ? { chat_template: readFileSync(template, 'utf8') } : {}
  return {
    'general.architecture': ['string', 'deepseek2'],
    'general.type': ['string', 'model'],
    'general.name': ['string', basename(resolve(name), '.gguf')],
    'general.file_type': ['u32', mixtures[type].fileType],
    'general.quantization_version': ['u32', 2],
    ...modelKeys(config, source),
    ...tokenizerKeys(config, tokenizer, { ...settings, ...own }, source),
  }
}

export interface Plan {
  readonly name: string
  readonly dtype: DType
  readonly shape: Shape
  /** The tensor as rows, in pieces; each is read when its turn has come. */
  readonly matrices: () => Iterable<Tensor>
}

/** Without `rows` the plans can be looked at, and read by whole matrices. */
export function* planTensors(
  checkpoint: Checkpoint,
  config: Config,
  type: GgufType,
  rows: Pick<Rows, 'read'> = { read: (name) => cut(checkpoint.read(name)) },
): Generator<Plan> {
  const { nRoutedExperts, numAttentionHeads: H, kvLoraRank: C, qkNopeHeadDim: A, vHeadDim: B } = config
  const E = nRoutedExperts ?? 0
  const plan = (name: string, shape: Shape, matrices: () => Iterable<Tensor>): Plan => {
    const known = toGgufName(name)
    if (known === null) throw new CheckpointError(`GGUF has no name for ${name}`)
    const dtype = formatOf(type, known, shape, config.numHiddenLayers, config.tieWordEmbeddings)
    return { name: known, dtype, shape, matrices }
  }
  const has = (name: string): boolean => checkpoint.tensors.has(name)
  for (const [name, shape] of layout(config)) {
    const expert = /\.experts\.(\d+)\./.exec(name)
    if (expert !== null) {
      if (expert[1] !== '0') continue // expert 0 stands for its bank
      const whole = name.replace('.experts.0.', '.experts.')
      yield plan(whole, [E, ...shape], () => (has(whole) ? rows.read(whole) : bank(rows, name, E)))
    } else if (name.endsWith('.kv_b_proj.weight')) {
      const [key, value] = ['.k_b_proj.', '.v_b_proj.'].map((half) => name.replace('.kv_b_proj.', half))
      const split = (): ReturnType<typeof headMatrices> => headMatrices(checkpoint.read(name), H, A, B)
      yield plan(key, [H, C, A], () => (has(key) ? rows.read(key) : cut(split().key)))
      yield plan(value, [H, B, C], () => (has(value) ? rows.read(value) : cut(split().value)))
    } else yield plan(name, shape, () => rows.read(name))
  }
}

function* bank(rows: Pick<Rows, 'read'>, first: string, E: number): Generator<Tensor> {
  for (let e = 0; e < E; e++) yield* rows.read(first.replace('.experts.0.', `.experts.${e}.`))
}
