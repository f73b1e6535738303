// Reads what files and people write: typed fields out of parsed JSON, sizes ('75GB'), lengths ('128k'), device lists.
// Knows types, ranges and units, not what any of them mean to a model.
import { RequestError } from '../tensor/error.ts'

export type Json = Readonly<Record<string, unknown>>

/** Bounds of a number, and what stands in when the field is absent or null. Without a fallback it is required. */
export interface Bounds {
  readonly min?: number
  readonly max?: number
  /** The minimum itself is refused. */
  readonly above?: boolean
  readonly fallback?: number
}

/**
 * The fields of one JSON object. Nothing throws: each problem is noted and a stand-in returned, so that one reading
 * lists them all. The stand-in of a number is NaN, of which every comparison is false: checks between fields stay
 * silent about a field that was already reported.
 */
export class Fields {
  readonly json: Json
  readonly problems: string[]
  readonly #prefix: string

  constructor(json: Json, problems: string[] = [], prefix = '') {
    this.json = json
    this.problems = problems
    this.#prefix = prefix
  }

  has(name: string): boolean {
    return this.json[name] !== undefined && this.json[name] !== null
  }

  /** Notes a problem with a field: what it is now, and what was wanted. */
  refuse(name: string, wanted: string): void {
    const given = this.json[name] === undefined ? 'missing' : show(this.json[name])
    this.problems.push(`${this.#prefix}${name} is ${given}; wanted ${wanted}`)
  }

  integer(name: string, { min = 1, max = 2 ** 31 - 1, fallback }: Bounds = {}): number {
    const value = this.json[name] ?? fallback
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
    this.refuse(name, `an integer from ${min} to ${max}`)
    return Number.NaN
  }

  number(name: string, { min = 0, max = 1e9, above = false, fallback }: Bounds = {}): number {
    const value = this.json[name] ?? fallback
    if (typeof value === 'number' && (above ? value > min : value >= min) && value <= max) return value
    this.refuse(name, `a number ${above ? 'above' : 'from'} ${min}${above ? ', at most' : ' to'} ${max}`)
    return Number.NaN
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.json[name] ?? fallback
    if (typeof value === 'boolean') return value
    this.refuse(name, 'true or false')
    return fallback
  }

  /** Null and an absent field are both null here: there is no such thing in this model. */
  optional(name: string, bounds: Bounds = {}): number | null {
    return this.has(name) ? this.integer(name, bounds) : null
  }

  /** One token id or a list of them, each of them a row of the embedding. */
  tokens(name: string, vocabSize: number): readonly number[] {
    const given = this.json[name] ?? []
    const ids: readonly unknown[] = Array.isArray(given) ? given : [given]
    const fine = (id: unknown) =>
      typeof id === 'number' && Number.isInteger(id) && id >= 0 && !(id >= vocabSize)
    if (ids.every(fine)) return ids as readonly number[]
    const range = Number.isNaN(vocabSize) ? '' : ` below vocab_size ${vocabSize}`
    this.refuse(name, `a token id${range}, or a list of them`)
    return []
  }

  /** An object inside this one that shares the list of problems; null when absent, null or something else. */
  child(name: string): Fields | null {
    const value = this.json[name]
    if (value === undefined || value === null) return null
    if (isObject(value)) return new Fields(value, this.problems, `${this.#prefix}${name}.`)
    this.refuse(name, 'an object or null')
    return null
  }
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value as a message shows it: JSON, cut where long; NaN and Infinity by name. */
export function show(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value))
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/** A device that can hold layers, and the bytes it has. */
export interface Device {
  readonly name: string
  readonly bytes: number
}

/** What each device may be filled with: by number, plus host memory. A device that is not listed is not used. */
export interface MaxMemory {
  readonly devices: ReadonlyMap<number, number>
  readonly cpu: number | null
}

const prefixes = ['', 'k', 'm', 'g', 't']

/** Bytes of '75GB' (10^9), '80GiB' (2^30), '512 MiB', '1.5 TB' or a plain number. */
export function parseBytes(given: unknown, field = 'size'): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]?)(I?)(B))?\s*$/i.exec(String(given))
  if ((typeof given !== 'number' && typeof given !== 'string') || match === null) {
    throw new RequestError(
      `${field} is ${show(given)}; wanted bytes such as 75GB (10^9), 80GiB (2^30), 512MiB or a plain number`,
      field,
    )
  }
  const [, digits = '', prefix = '', binary = '', unit = ''] = match
  if (unit === 'b' && prefix !== prefix.toLowerCase()) {
    throw new RequestError(`${field} is ${show(given)}: bits or bytes? For bytes write ${prefix}B`, field)
  }
  const bytes = Number(digits) * (binary ? 1024 : 1000) ** prefixes.indexOf(prefix.toLowerCase())
  if (bytes <= Number.MAX_SAFE_INTEGER) return Math.floor(bytes)
  throw new RequestError(`${field} is ${show(given)}: more bytes than can be counted`, field)
}

/** Tokens of '32k' (32,768), '128K', '1M' (1,048,576), '163840' or a plain number: k is 1024 here, as in context lengths. */
export function parseCount(given: unknown, field = 'count'): number {
  const text = typeof given === 'number' || typeof given === 'string' ? String(given) : ''
  const match = /^(\d+(?:\.\d+)?)\s*([km]?)$/i.exec(text.trim().replaceAll(/(?<=\d)[_,](?=\d{3})/g, ''))
  const power = match?.[2] === '' ? 0 : match?.[2]?.toLowerCase() === 'k' ? 1 : 2
  const count = Number(match?.[1]) * 1024 ** power
  if (Number.isInteger(count) && count >= 1 && count < 2 ** 31) return count
  throw new RequestError(
    `${field} is ${show(given)}; wanted a whole number above 0 such as 4096, 32k (= 32768) or 1M`,
    field,
  )
}

/** Devices of '8x80GiB', '2x24GiB,1x80GiB' or '141GB', named "device 0", "device 1" and so on. */
export function parseDevices(given: string, field = 'devices'): readonly Device[] {
  const sizes: number[] = []
  for (const part of given.split(',')) {
    const match = /^\s*(?:(\d+)\s*[x×*]\s*)?(\d[\d._]*\s*[a-z]+)\s*$/i.exec(part)
    const count = Number(match?.[1] ?? 1)
    const bytes = match === null ? 0 : parseBytes(match[2], field)
    if (bytes < 1 || count < 1 || sizes.length + count > 1024) {
      throw new RequestError(
        `${field} is ${show(given)}; wanted count x size with a unit, at most 1024 in all, such as 8x80GiB or 2x24GiB,1x80GiB`,
        field,
      )
    }
    for (let i = 0; i < count; i++) sizes.push(bytes)
  }
  return sizes.map((bytes, i) => ({ name: `device ${i}`, bytes }))
}

/** The max_memory of accelerate: { 0: '75GB', 1: '75GB', cpu: '200GB' }. */
export function parseMaxMemory(given: unknown, field = 'max_memory'): MaxMemory {
  if (!isObject(given) || Object.keys(given).length === 0) {
    throw new RequestError(`${field} is ${show(given)}; wanted { 0: '75GB', 1: '75GB', cpu: '200GB' }`, field)
  }
  const devices = new Map<number, number>()
  let cpu: number | null = null
  for (const [key, size] of Object.entries(given)) {
    const bytes = parseBytes(size, `${field}[${key}]`)
    if (key === 'cpu') cpu = bytes
    else if (/^\d{1,4}$/.test(key)) devices.set(Number(key), bytes)
    else {
      const hint = key === 'disk' ? '; weights on disk are mapped from the files and need no entry' : ''
      throw new RequestError(`${field} names ${show(key)}; wanted device numbers or cpu${hint}`, field)
    }
  }
  return { devices, cpu }
}

/** Bytes for people, in powers of ten: '471.48 GB'. */
export function describeBytes(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(bytes) / 3))
  return power === 0
    ? `${bytes} B`
    : `${(bytes / 1000 ** power).toFixed(2)} ${['', 'kB', 'MB', 'GB', 'TB'][power]}`
}

/** A count for people: '235.74 B', '524.29 M'. */
export function describeCount(n: number): string {
  return n >= 1e9 ? `${(n / 1e9).toFixed(2)} B` : `${(n / 1e6).toFixed(2)} M`
}

/** '163,840' */
export function group(n: number): string {
  return n.toLocaleString('en-US')
}
