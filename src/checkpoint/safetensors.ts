// Safetensors files: eight bytes of header length, a JSON header, data. Reads headers, writes whole files.
// Knows one file at a time; which files make a checkpoint is shards.ts.
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { byteLength, type DType } from '../tensor/dtype.ts'
import { CheckpointError, ShapeError } from '../tensor/error.ts'
import { host, size, type Tensor } from '../tensor/tensor.ts'
import { disguise, openFile, readFully } from './files.ts'
import { type Header, parseHeader, safetensorsNames } from './header.ts'
import { scaleName } from './scales.ts'

const headerLimit = 100_000_000

/** The header of a file with byte ranges counted from the start of the file, or why there is none. */
export function readHeader(path: string): Header | string {
  const opened = openFile(path)
  if (typeof opened === 'string') return opened
  try {
    return headerOf(opened.fd, opened.size)
  } catch (error) {
    return `cannot be read (${(error as Error).message})`
  } finally {
    closeSync(opened.fd)
  }
}

function headerOf(fd: number, fileSize: number): Header | string {
  const head = new Uint8Array(Math.min(fileSize, 64))
  readFully(fd, head, 0)
  const other = disguise(head)
  if (other !== null) return other
  if (fileSize < 8) return `is truncated: ${fileSize} bytes are too few for a safetensors file`
  const length = new DataView(head.buffer).getBigUint64(0, true)
  if (length > BigInt(headerLimit)) {
    return `claims a header of ${length} bytes (at most ${headerLimit}); this is not a safetensors file`
  }
  const data = 8 + Number(length)
  if (data > fileSize) return `is truncated: its header ends at byte ${data}, the file at byte ${fileSize}`
  const bytes = new Uint8Array(Number(length))
  readFully(fd, bytes, 8)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return 'header is not UTF-8 text; this is not a safetensors file'
  }
  const header = parseHeader(text, fileSize - data)
  if (typeof header === 'string') return header
  const entries = header.entries.map((entry) => ({
    ...entry,
    start: entry.start + data,
    end: entry.end + data,
  }))
  return { ...header, entries }
}

export interface NamedTensor {
  readonly name: string
  readonly tensor: Tensor
}

/**
 * Writes a file byte for byte as the reference implementation would: wide formats first, then by name. The file appears
 * whole or not at all. Block scales of an fp8 tensor are written beside it.
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<NamedTensor>,
  metadata?: Readonly<Record<string, string>>,
): void {
  const sorted = withScales(tensors).sort(inFileOrder)
  const header = Buffer.from(renderHeader(sorted, metadata))
  const head = Buffer.alloc(8 + Math.ceil(header.length / 8) * 8, ' ')
  head.writeBigUInt64LE(BigInt(head.length - 8))
  header.copy(head, 8)
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const fd = openSync(temporary, 'w')
    try {
      writeFully(fd, head)
      for (const { tensor } of sorted) writeFully(fd, host(tensor))
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw new CheckpointError(`cannot write ${path}: ${(error as Error).message}`)
  }
}

function withScales(tensors: Iterable<NamedTensor>): NamedTensor[] {
  const all: NamedTensor[] = []
  for (const { name, tensor } of tensors) {
    all.push({ name, tensor })
    if (tensor.scales !== undefined) all.push({ name: scaleName(name), tensor: tensor.scales })
  }
  return all
}

const widths = Object.keys(safetensorsNames)

function inFileOrder(a: NamedTensor, b: NamedTensor): number {
  const width = widths.indexOf(b.tensor.dtype) - widths.indexOf(a.tensor.dtype)
  return width !== 0 ? width : a.name < b.name ? -1 : 1
}

function renderHeader(sorted: readonly NamedTensor[], metadata?: Readonly<Record<string, string>>): string {
  const fields: string[] = []
  if (metadata !== undefined) fields.push(`"__metadata__":${JSON.stringify(metadata)}`)
  const names = new Set(['__metadata__'])
  let at = 0
  for (const { name, tensor } of sorted) {
    if (names.has(name)) throw new CheckpointError(`cannot write two tensors named '${name}'`)
    names.add(name)
    const end = at + checkedLength(name, tensor)
    const dtype = fileName(tensor.dtype, name)
    const entry = { dtype, shape: tensor.shape, data_offsets: [at, end] }
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`)
    at = end
  }
  return `{${fields.join(',')}}`
}

function fileName(dtype: DType, name: string): string {
  const known = (safetensorsNames as Partial<Record<DType, string>>)[dtype]
  if (known === undefined)
    throw new CheckpointError(`'${name}' is ${dtype}, which safetensors has no name for`)
  return known
}

function checkedLength(name: string, tensor: Tensor): number {
  const given = host(tensor).length
  const wanted = byteLength(tensor.dtype, size(tensor.shape))
  if (given === wanted) return given
  throw new ShapeError(
    `'${name}' ${tensor.dtype} [${tensor.shape.join(' ')}] wants ${wanted} bytes, ${given} given`,
  )
}

function writeFully(fd: number, bytes: Uint8Array): void {
  const piece = 256 * 1024 * 1024
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, Math.min(piece, bytes.length - done))
  }
}
