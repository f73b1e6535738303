// The header of a GGUF file: metadata, and the tensors with their formats, shapes and byte ranges, and everything that
// can be wrong with them. Knows one file at a time and no model; which files belong together is ggufparts.ts.
import { closeSync } from 'node:fs'
import { formats } from '../tensor/dtype.ts'
import { CheckpointError } from '../tensor/error.ts'
import { disguise, openFile, readFully } from './files.ts'
import { type Cursor, isList, openCursor, readList, type Value } from './ggufcursor.ts'
import { tensorTypeName, tensorTypes } from './gguftypes.ts'
import type { Entry } from './header.ts'

export interface GgufHeader {
  readonly version: number
  readonly metadata: ReadonlyMap<string, Value>
  /** Under their own names, in row-major shapes; bytes count from the start of the file. */
  readonly entries: readonly Entry[]
  /** How many tensors the file says it has. */
  readonly count: number
  readonly problems: readonly string[]
}

/** Reads a header, or says why there is none. */
export function readGgufHeader(path: string): GgufHeader | string {
  const opened = openFile(path)
  if (typeof opened === 'string') return opened
  try {
    return headerOf(opened.fd, opened.size)
  } catch (error) {
    return error instanceof CheckpointError ? error.message : `cannot be read (${(error as Error).message})`
  } finally {
    closeSync(opened.fd)
  }
}

/** The elements of one of the header's arrays; null where the key holds none. */
export function readGgufList(path: string, header: GgufHeader, key: string): readonly Value[] | null {
  const list = header.metadata.get(key)
  if (!isList(list)) return null
  const opened = openFile(path)
  if (typeof opened === 'string') throw new CheckpointError(`${path} ${opened}`)
  try {
    return readList(opened.fd, opened.size, list)
  } finally {
    closeSync(opened.fd)
  }
}

function headerOf(fd: number, size: number): GgufHeader | string {
  const wrong = notGguf(fd, size)
  if (wrong !== null) return wrong
  const cursor = openCursor(fd, size, 4)
  const version = cursor.u32('the version')
  if (version === 1) return 'is GGUF version 1 (August 2023); convert it again, versions 2 and 3 are read'
  if (version > 0xffff) return 'is a big-endian GGUF file; convert it again on a little-endian machine'
  if (version < 2 || version > 3) return `is GGUF version ${version}; versions 2 and 3 are read`
  const count = cursor.u64('the number of tensors')
  const keys = cursor.u64('the number of metadata values')
  // a tensor takes 24 bytes at least, a value 13: larger counts are damage, and would only be read in vain
  if (count * 24 + keys * 13 > size) {
    return `claims ${count} tensors and ${keys} metadata values, which do not fit its ${size} bytes`
  }
  const problems: string[] = []
  const metadata = readMetadata(cursor, keys, problems)
  const described = Array.from({ length: count }, () => describeTensor(cursor))
  const alignment = alignmentOf(metadata, problems)
  const data = Math.ceil(cursor.position() / alignment) * alignment
  const entries = place(described, data, alignment, problems)
  problems.push(...rangeProblems(entries, size))
  return { version, metadata, entries, count, problems }
}

function notGguf(fd: number, size: number): string | null {
  const head = new Uint8Array(Math.min(size, 64))
  readFully(fd, head, 0)
  const text = Buffer.from(head).toString('latin1')
  if (text.startsWith('GGUF'))
    return size < 24 ? `is truncated: ${size} bytes are too few for a GGUF file` : null
  if (text.startsWith('FUGG')) return 'is a big-endian GGUF file; convert it again on a little-endian machine'
  if (/^(ggml|lmgg|fmgg|tjgg|ggjt|ggmf)/.test(text)) return 'is a GGML file of before GGUF; convert it again'
  if (text[8] === '{' && size > 16) return 'is a safetensors file under another name; open its folder instead'
  return (
    disguise(head) ?? `is not a GGUF file: it begins with ${JSON.stringify(text.slice(0, 4))}, not "GGUF"`
  )
}

function readMetadata(cursor: Cursor, count: number, problems: string[]): Map<string, Value> {
  const metadata = new Map<string, Value>()
  for (let i = 0; i < count; i++) {
    const key = cursor.string('a metadata key', 65535)
    if (metadata.has(key)) problems.push(`has the metadata key '${key}' twice`)
    metadata.set(key, cursor.value(cursor.type(`'${key}'`), `'${key}'`))
  }
  return metadata
}

interface Described {
  readonly name: string
  readonly shape: readonly number[]
  readonly type: number
  readonly offset: number
}

function describeTensor(cursor: Cursor): Described {
  const name = cursor.string('the name of a tensor', 1024)
  const rank = cursor.u32(`the rank of '${name}'`)
  if (rank > 4)
    throw new CheckpointError(`gives '${name}' ${rank} dimensions, at most 4; the header is damaged`)
  const sides = Array.from({ length: rank }, () => cursor.u64(`the shape of '${name}'`))
  // ggml counts from the fastest dimension, we from the slowest
  const shape = sides.reverse()
  return {
    name,
    shape,
    type: cursor.u32(`the type of '${name}'`),
    offset: cursor.u64(`the place of '${name}'`),
  }
}

function alignmentOf(metadata: ReadonlyMap<string, Value>, problems: string[]): number {
  const given = metadata.get('general.alignment') ?? 32
  if (typeof given === 'number' && given >= 8 && given <= 2 ** 20 && given % 8 === 0) return given
  problems.push(`has general.alignment ${isList(given) ? 'a list' : given}, wanted a multiple of 8`)
  return 32
}

function place(
  described: readonly Described[],
  data: number,
  alignment: number,
  problems: string[],
): Entry[] {
  const entries: Entry[] = []
  const names = new Set<string>()
  for (const { name, shape, type, offset } of described) {
    if (names.has(name)) problems.push(`has the tensor '${name}' twice`)
    names.add(name)
    if (offset % alignment !== 0) {
      problems.push(`places '${name}' at offset ${offset}, not a multiple of its alignment ${alignment}`)
    }
    const dtype = tensorTypes.get(type)
    if (dtype === undefined) {
      const readable = [...tensorTypes.values()].join(', ')
      problems.push(`has '${name}' in the format ${tensorTypeName(type)}; latent reads ${readable}`)
      continue
    }
    const { block, bytes } = formats[dtype]
    const said = `'${name}' ${dtype} [${shape.join(' ')}]`
    const elements = shape.reduce((product, side) => product * BigInt(side), 1n)
    if (elements === 0n || elements * BigInt(bytes) > BigInt(Number.MAX_SAFE_INTEGER)) {
      problems.push(`has ${said}: ${elements === 0n ? 'no elements' : 'no file is that large'}`)
    } else if ((shape.at(-1) ?? 1) % block !== 0) {
      problems.push(`has ${said}: a row is not a whole number of blocks of ${block}`)
    } else {
      const start = data + offset
      entries.push({ name, dtype, shape, start, end: start + (Number(elements) / block) * bytes })
    }
  }
  return entries
}

function rangeProblems(entries: readonly Entry[], size: number): string[] {
  const problems: string[] = []
  const sorted = entries.toSorted((a, b) => a.start - b.start || a.end - b.end)
  for (let i = 1; i < sorted.length; i++) {
    const shared = sorted[i - 1].end - sorted[i].start
    if (shared > 0)
      problems.push(`has '${sorted[i].name}' overlap '${sorted[i - 1].name}' by ${shared} bytes`)
  }
  const cut = sorted.filter((entry) => entry.end > size)
  if (cut.length > 0) {
    const which = `'${cut[0].name}'${cut.length > 1 ? ` and ${cut.length - 1} more` : ''}`
    const end = cut.reduce((last, entry) => Math.max(last, entry.end), 0)
    problems.push(`is truncated: its tensors end at byte ${end}, the file at ${size}; ${which} out of range`)
  }
  return problems
}
