// The header of a safetensors file: names, formats, shapes and byte ranges, and everything that can be wrong with them.
// Knows the rules of the format; opens no files.
import type { DType } from '../tensor/dtype.ts'
import { duplicateKeys, isObject, parseObject } from './json.ts'

/** A tensor as its file describes it; bytes count from the start of the data, after the header. */
export interface Entry {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly start: number
  readonly end: number
}

export interface Header {
  /** What can be read. */
  readonly entries: readonly Entry[]
  /** Every name that stands in the header, readable or not. */
  readonly names: ReadonlySet<string>
  readonly problems: readonly string[]
}

/**
 * Our formats under their safetensors names, smallest first as the reference implementation sorts them. It has none for
 * the block formats of GGUF.
 */
export const safetensorsNames: Readonly<Partial<Record<DType, string>>> = {
  f8_e4m3: 'F8_E4M3',
  f16: 'F16',
  bf16: 'BF16',
  i32: 'I32',
  f32: 'F32',
}

const ours = new Map(Object.entries(safetensorsNames).map(([dtype, name]) => [name, dtype as DType]))

const itemBytes: Readonly<Record<string, number>> = {
  ...{ BOOL: 1, U8: 1, I8: 1, F8_E5M2: 1, F8_E4M3: 1, F8_E8M0: 1 },
  ...{ I16: 2, U16: 2, F16: 2, BF16: 2 },
  ...{ I32: 4, U32: 4, F32: 4, I64: 8, U64: 8, F64: 8, C64: 8 },
}

/** Old checkpoints carry these buffers, in whatever format; RoPE is computed from the config. */
export function isIgnorable(name: string): boolean {
  return name.endsWith('rotary_emb.inv_freq')
}

/** Reads a header whose data is `length` bytes long. */
export function parseHeader(text: string, length: number): Header | string {
  if (!text.startsWith('{')) return 'header is not a JSON object; this is not a safetensors file'
  const parsed = parseObject(text)
  if (typeof parsed === 'string') return `header ${parsed}`
  const problems = duplicateKeys(text).map((path) => `header has '${path}' twice`)
  const names = new Set<string>()
  const entries: Entry[] = []
  const ranges: Range[] = []
  let unplaced = false
  for (const [name, value] of Object.entries(parsed)) {
    if (name === '__metadata__') {
      problems.push(...metadataProblems(value))
      continue
    }
    names.add(name)
    const range = readRange(name, value, problems)
    if (range === null) unplaced = true
    else ranges.push(range)
    const entry = isIgnorable(name) ? null : readEntry(name, value, range, problems)
    if (entry !== null) entries.push(entry)
  }
  problems.push(...layoutProblems(ranges, length, unplaced))
  return { entries, names, problems }
}

interface Range {
  readonly name: string
  readonly start: number
  readonly end: number
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}

function readRange(name: string, value: unknown, problems: string[]): Range | null {
  if (!isObject(value)) {
    problems.push(`'${name}' is described by ${JSON.stringify(value).slice(0, 40)}, not by an object`)
    return null
  }
  const offsets = value.data_offsets
  const said = `'${name}' has data_offsets ${JSON.stringify(offsets)}`
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    problems.push(`${said}, wanted two whole numbers from 0 on`)
    return null
  }
  const [start, end] = offsets
  if (start <= end) return { name, start, end }
  problems.push(`${said}: reversed`)
  return null
}

function readEntry(name: string, value: unknown, range: Range | null, problems: string[]): Entry | null {
  if (!isObject(value)) return null
  const { dtype, shape } = value
  const known = ours.get(String(dtype))
  if (known === undefined) {
    const readable = [...ours.keys()].join(', ')
    problems.push(`'${name}' is of dtype ${JSON.stringify(dtype)}; latent reads ${readable}`)
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    problems.push(`'${name}' has shape ${JSON.stringify(shape)}, wanted whole numbers from 0 on`)
    return null
  }
  const item = itemBytes[String(dtype)]
  if (range === null || item === undefined) return null
  const wanted = shape.reduce((product, d) => product * BigInt(d), BigInt(item))
  if (wanted > BigInt(Number.MAX_SAFE_INTEGER)) {
    problems.push(`'${name}' has shape [${shape.join(' ')}], which overflows: no file is that large`)
    return null
  }
  if (wanted !== BigInt(range.end - range.start)) {
    const said = `${dtype} [${shape.join(' ')}] takes ${wanted} bytes`
    problems.push(`'${name}' lies: ${said}, its data_offsets span ${range.end - range.start}`)
    return null
  }
  return known === undefined ? null : { name, dtype: known, shape, start: range.start, end: range.end }
}

/** The format wants data without holes or overlaps up to the last byte; `unplaced` tensors may explain a hole. */
function layoutProblems(ranges: Range[], length: number, unplaced: boolean): string[] {
  const problems: string[] = []
  ranges.sort((a, b) => a.start - b.start || a.end - b.end)
  let end = 0
  let last = ''
  for (const range of ranges) {
    if (range.start < end) problems.push(`'${range.name}' overlaps '${last}' by ${end - range.start} bytes`)
    else if (range.start > end && !unplaced) {
      problems.push(`there is a hole of ${range.start - end} bytes before '${range.name}'`)
    }
    if (range.end >= end) {
      end = range.end
      last = range.name
    }
  }
  const cut = ranges.filter((range) => range.end > length)
  if (cut.length > 0) {
    const which = `'${cut[0].name}'${cut.length > 1 ? ` and ${cut.length - 1} more` : ''}`
    problems.push(
      `is truncated: the header wants ${end} bytes of data, there are ${length}; ${which} out of range`,
    )
  } else if (end < length && !unplaced) {
    problems.push(`has ${length - end} trailing bytes that belong to no tensor`)
  }
  return problems
}

function metadataProblems(value: unknown): string[] {
  const good = isObject(value) && Object.values(value).every((text) => typeof text === 'string')
  return good ? [] : ['header has a __metadata__ that is not an object of strings']
}
