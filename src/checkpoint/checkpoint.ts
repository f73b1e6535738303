// A checkpoint: names to bytes, whatever the files. The contract, and opening one from a folder or a GGUF file.
// Knows no model: which tensors there should be, and of which shapes, is the loader's business.
import { closeSync, existsSync, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { DType } from '../tensor/dtype.ts'
import { CheckpointError } from '../tensor/error.ts'
import type { Piece, Tensor } from '../tensor/tensor.ts'
import { readFully, readText } from './files.ts'
import { isGguf, listGguf, readGgufJson } from './gguf.ts'
import type { Header } from './header.ts'
import { parseObject } from './json.ts'
import { type Mapping, mapFile } from './mmap.ts'
import { readHeader } from './safetensors.ts'
import { pairScales } from './scales.ts'
import { findShards, indexProblems, mayHold } from './shards.ts'

export interface TensorInfo {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  /** The file, relative to the checkpoint's directory. */
  readonly file: string
  /** Byte range in the file. */
  readonly start: number
  readonly end: number
  /** Where the block scales of an fp8 matrix are. */
  readonly scales?: TensorInfo
}

export interface Checkpoint {
  readonly path: string
  /** Scales of fp8 matrices are not listed: they come with their matrix. */
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** A fresh host tensor with its scales, read by range. */
  read(name: string): Tensor
  /**
   * The same without reading it: pages of the file, good for as long as the tensor is held, `close` or not. Null where
   * files cannot be mapped. A file that is cut short while its tensors are in use ends the process.
   */
  map(name: string): Tensor | null
  /**
   * The same bytes into a piece of a larger buffer; `target` is exactly as long as the tensor. Scales are read apart,
   * by `tensors.get(name).scales.name`.
   */
  readInto(name: string, target: Uint8Array): void
  close(): void
}

/**
 * What whoever knows the model finds wrong with the tensors. A name that is `unread` may be in a file but could not be
 * read from it, which is reported already: it is not missing.
 */
export type TensorCheck = (
  tensors: Checkpoint['tensors'],
  unread: (name: string) => boolean,
) => readonly string[]

/**
 * Opens model.safetensors, model.safetensors.index.json and its shards, or the only *.safetensors of a folder; or a GGUF
 * file, of a model in several parts any one of them. Everything that is wrong, also by `check`, is one CheckpointError.
 */
export function openCheckpoint(directory: string, check: TensorCheck = () => []): Checkpoint {
  if (isGguf(directory)) {
    const { folder, tensors } = listGguf(directory)
    refuseIfAny(
      directory,
      check(tensors, () => false),
    )
    return reader(directory, tensors, folder)
  }
  const shards = findShards(directory)
  const problems = [...shards.problems]
  const headers = new Map<string, Header>()
  for (const file of shards.files) {
    const header = readHeader(join(directory, file))
    if (typeof header === 'string') problems.push(`${file}: ${header}`)
    else {
      headers.set(file, header)
      problems.push(...header.problems.map((problem) => `${file}: ${problem}`))
    }
  }
  problems.push(...indexProblems(shards, headers))
  const declared = (name: string): boolean => mayHold(shards, headers, name)
  const tensors = pairScales(merge(headers), declared, problems)
  refuseIfAny(directory, [...problems, ...check(tensors, declared)])
  return reader(directory, tensors)
}

function refuseIfAny(path: string, problems: readonly string[]): void {
  if (problems.length === 0) return
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`
  throw new CheckpointError(`cannot open the checkpoint in ${path}: ${count}`, problems)
}

function merge(headers: ReadonlyMap<string, Header>): Map<string, TensorInfo> {
  const all = new Map<string, TensorInfo>()
  for (const [file, header] of headers) {
    for (const entry of header.entries) all.set(entry.name, { ...entry, file })
  }
  return all
}

function reader(path: string, tensors: ReadonlyMap<string, TensorInfo>, folder = path): Checkpoint {
  const files = openFiles(folder)
  const byName = new Map<string, TensorInfo>()
  for (const info of tensors.values()) {
    byName.set(info.name, info)
    if (info.scales !== undefined) byName.set(info.scales.name, info.scales)
  }

  function find(name: string): TensorInfo {
    const info = byName.get(name)
    if (info === undefined) throw new CheckpointError(`the checkpoint in ${path} has no tensor '${name}'`)
    return info
  }

  function read(info: TensorInfo): Tensor {
    // a buffer of its own, so that typed views of the data are aligned
    const data = new Uint8Array(new ArrayBuffer(info.end - info.start))
    files.fill(info, data)
    const { dtype, shape, scales } = info
    return scales === undefined ? { dtype, shape, data } : { dtype, shape, data, scales: read(scales) }
  }

  function map(info: TensorInfo): Tensor | null {
    const piece = files.view(info)
    if (piece === null) return null
    const { dtype, shape, scales } = info
    const tensor = { dtype, shape, data: { pieces: [piece] } }
    return scales === undefined ? tensor : { ...tensor, scales: read(scales) }
  }

  function readInto(name: string, target: Uint8Array): void {
    const info = find(name)
    const length = info.end - info.start
    if (target.length !== length) {
      const given = `the target ${target.length}`
      throw new CheckpointError(`'${name}' in ${info.file} is ${length} bytes long, ${given}`)
    }
    files.fill(info, target)
  }

  return {
    path,
    tensors,
    read: (name) => read(find(name)),
    map: (name) => map(find(name)),
    readInto,
    close: files.close,
  }
}

interface OpenFile {
  readonly fd: number
  /** Null where it cannot be mapped; undefined until somebody asks. */
  mapping?: Mapping | null
}

/** The files that were read from so far, kept open until the checkpoint is closed. */
function openFiles(path: string) {
  const open = new Map<string, OpenFile>()
  let closed = false

  function find(file: string): OpenFile {
    const known = open.get(file)
    if (known !== undefined) return known
    const found = { fd: openSync(join(path, file), 'r') }
    open.set(file, found)
    return found
  }

  /** What `look` makes of the tensor's file; errors say which tensor and file. */
  function during<Result>(info: TensorInfo, look: (file: OpenFile) => Result): Result {
    if (closed) throw new CheckpointError(`${failed(info)}: the checkpoint is closed`)
    try {
      return look(find(info.file))
    } catch (error) {
      throw new CheckpointError(`${failed(info)}: ${(error as Error).message}`)
    }
  }

  function fill(info: TensorInfo, target: Uint8Array): void {
    const got = during(info, ({ fd }) => readFully(fd, target, info.start))
    if (got < target.length) throw cutShort(info, got)
  }

  function view(info: TensorInfo): Piece | null {
    // the size now: to look beyond the end would end the process
    const { file, size } = during(info, (file) => ({ file, size: fstatSync(file.fd).size }))
    if (size < info.end) throw cutShort(info, Math.max(0, size - info.start))
    if (file.mapping === undefined) file.mapping = mapFile(file.fd, size)
    return file.mapping?.view(info.start, info.end) ?? null
  }

  function close(): void {
    closed = true
    for (const { fd, mapping } of open.values()) {
      if (!mapping) closeSync(fd) // a mapping's goes with the last of its tensors
    }
    open.clear()
  }

  return { fill, view, close }
}

const failed = (info: TensorInfo): string => `cannot read '${info.name}' from ${info.file}`

function cutShort(info: TensorInfo, got: number): CheckpointError {
  return new CheckpointError(
    `${failed(info)}: the file was cut short since it was opened (${got} of ${info.end - info.start} bytes)`,
  )
}

/**
 * The object in a JSON file beside the weights (config.json, ...), or null when there is no such file. The metadata of a
 * GGUF file answers for the files that it was made from.
 */
export function readConfigFile(directory: string, name: string): Record<string, unknown> | null {
  if (isGguf(directory)) return readGgufJson(directory, name)
  const path = join(directory, name)
  if (!existsSync(path)) return null
  const file = readText(path)
  if (typeof file === 'string') throw new CheckpointError(`${path} ${file}`)
  const value = parseObject(file.text)
  if (typeof value === 'string') throw new CheckpointError(`${path} ${value}`)
  return value
}
