// Reads a GGUF header piece by piece, never further than its file goes. Knows the encoding of values (little endian),
// not what they mean. Problems are thrown as CheckpointErrors without a file's name: the caller knows it.
import { CheckpointError } from '../tensor/error.ts'
import { readFully } from './files.ts'
import { type Scalar, type ValueType, valueBytes, valueTypes } from './gguftypes.ts'

/** An array of a header, left where it is until somebody asks: a vocabulary takes longer to read than all the rest. */
export interface List {
  readonly of: ValueType
  readonly count: number
  /** Byte of its first element in the file. */
  readonly at: number
}

export type Value = Scalar | List
export type Cursor = ReturnType<typeof openCursor>

const window = 1 << 20
const longestString = 1 << 26
const deepest = 8

export function isList(value: unknown): value is List {
  return typeof value === 'object' && value !== null
}

/** Reads `fd`, `size` bytes long, from byte `start` on. */
export function openCursor(fd: number, size: number, start = 0) {
  let bytes = Buffer.alloc(0)
  let base = start // the byte of the file at bytes[0]
  let at = start

  /** Makes the next `count` bytes available and steps over them; returns where they begin in `bytes`. */
  function take(count: number, what: string): number {
    if (at + count > size) {
      throw new CheckpointError(
        `is truncated: its header wants ${what} at byte ${at}, the file ends at ${size}`,
      )
    }
    if (at < base || at + count > base + bytes.length) {
      bytes = Buffer.allocUnsafe(Math.min(Math.max(window, count), size - at))
      base = at
      const got = readFully(fd, bytes, base)
      if (got < count) throw new CheckpointError(`could not be read at byte ${base}`)
    }
    const found = at - base
    at += count
    return found
  }

  const u32 = (what: string): number => {
    const from = take(4, what) // first: it may replace `bytes`
    return bytes.readUInt32LE(from)
  }
  const u64 = (what: string): number => {
    const from = take(8, what)
    const value = bytes.readUInt32LE(from) + bytes.readUInt32LE(from + 4) * 2 ** 32
    if (Number.isSafeInteger(value)) return value
    throw new CheckpointError(`claims ${bytes.readBigUInt64LE(from)} as ${what}; the header is damaged`)
  }
  // `length of` is made once for an array: a vocabulary has a hundred thousand strings
  const string = (what: string, longest = longestString, lengthOf = `the length of ${what}`): string => {
    const length = u64(lengthOf)
    if (length > longest) throw new CheckpointError(`has ${length} bytes for ${what}, at most ${longest}`)
    const from = take(length, what)
    return bytes.toString('utf8', from, from + length)
  }
  const type = (what: string): ValueType => {
    const number = u32(`the type of ${what}`)
    const known = valueTypes[number]
    if (known !== undefined) return known
    throw new CheckpointError(`gives ${what} the value type ${number}, the known ones are 0 to 12`)
  }

  function scalar(kind: ValueType, what: string): Scalar {
    if (kind === 'string') return string(what)
    const from = take(valueBytes[kind], what)
    const read = scalars[kind]
    if (read === undefined) throw new CheckpointError(`has an array where ${what} should be one value`)
    return read(bytes, from)
  }

  /** Steps over an array, whose length must be possible in the bytes that are left. */
  function list(what: string, depth = 0): List {
    if (depth > deepest) throw new CheckpointError(`nests the arrays of ${what} more than ${deepest} deep`)
    const of = type(what)
    const count = u64(`the length of ${what}`)
    const found = { of, count, at }
    if (count > (size - at) / valueBytes[of]) {
      throw new CheckpointError(`is truncated: ${what} claims ${count} values, ${size - at} bytes are left`)
    }
    if (of === 'string') {
      const lengthOf = `the length of ${what}`
      for (let i = 0; i < count; i++) skip(u64(lengthOf), what)
    } else if (of === 'array') {
      for (let i = 0; i < count; i++) list(what, depth + 1)
    } else skip(count * valueBytes[of], what)
    return found
  }

  /** Bytes beyond the window are not read at all. */
  function skip(count: number, what: string): void {
    if (at + count > size) take(count, what)
    at += count
  }

  const value = (kind: ValueType, what: string): Value => (kind === 'array' ? list(what) : scalar(kind, what))
  return { u32, u64, string, type, value, position: () => at }
}

/** The elements of an array that was stepped over; an array of arrays gives Lists again. */
export function readList(fd: number, size: number, list: List): readonly Value[] {
  const cursor = openCursor(fd, size, list.at)
  const [what, lengthOf] = ['an array', 'the length of an array']
  const next =
    list.of === 'string'
      ? () => cursor.string(what, longestString, lengthOf)
      : () => cursor.value(list.of, what)
  return Array.from({ length: list.count }, next)
}

const narrow = (value: bigint): number | bigint =>
  Number.isSafeInteger(Number(value)) ? Number(value) : value

const scalars: Partial<Record<ValueType, (bytes: Buffer, at: number) => Scalar>> = {
  u8: (bytes, at) => bytes.readUInt8(at),
  i8: (bytes, at) => bytes.readInt8(at),
  u16: (bytes, at) => bytes.readUInt16LE(at),
  i16: (bytes, at) => bytes.readInt16LE(at),
  u32: (bytes, at) => bytes.readUInt32LE(at),
  i32: (bytes, at) => bytes.readInt32LE(at),
  u64: (bytes, at) => narrow(bytes.readBigUInt64LE(at)),
  i64: (bytes, at) => narrow(bytes.readBigInt64LE(at)),
  f32: (bytes, at) => shortest(bytes.readFloatLE(at)),
  f64: (bytes, at) => bytes.readDoubleLE(at),
  bool: (bytes, at) => bytes[at] !== 0,
}

/** The shortest decimal that is this float32: 0.0707, not 0.07069999724626541, is what the converter was given. */
function shortest(value: number): number {
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}
