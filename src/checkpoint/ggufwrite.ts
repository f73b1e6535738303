// Writes a GGUF file (version 3): metadata, then tensors one at a time, each as long as it lasts in memory. The file
// appears whole or not at all. Knows the encoding, not what keys or names mean.
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { byteLength, type DType } from '../tensor/dtype.ts'
import { CheckpointError, ShapeError } from '../tensor/error.ts'
import { size } from '../tensor/tensor.ts'
import { type Scalar, type ScalarType, tensorTypeOf, valueBytes, valueTypes } from './gguftypes.ts'

/** A value with its type: ['u32', 27], ['string', 'yarn'], ['array', 'string', ['a', 'b']]. */
export type GgufValue =
  | readonly [type: ScalarType, value: Scalar]
  | readonly [type: 'array', of: ScalarType, values: readonly Scalar[]]
  | readonly [type: 'array', of: 'array', values: readonly GgufValue[]]

export type GgufMetadata = Readonly<Record<string, GgufValue>>

export interface GgufTensor {
  readonly name: string
  readonly dtype: DType
  /** Row-major, as everywhere here; the file holds it the other way round. */
  readonly shape: readonly number[]
  /** The bytes, in pieces of any size; called once, when the tensor's turn has come. */
  data(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>
}

export async function writeGguf(
  path: string,
  metadata: GgufMetadata,
  tensors: Iterable<GgufTensor>,
): Promise<void> {
  const list = [...tensors]
  const alignment = alignmentOf(metadata)
  const head = header(metadata, list, alignment)
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const fd = openSync(temporary, 'w')
    try {
      let at = writeAll(fd, head)
      for (const tensor of list) {
        at += pad(fd, at, alignment)
        at += await writeTensor(fd, tensor)
      }
      pad(fd, at, alignment)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    const { code, message } = error as NodeJS.ErrnoException
    if (code?.startsWith('E')) throw new CheckpointError(`cannot write ${path}: ${message}`)
    throw error
  }
}

function alignmentOf(metadata: GgufMetadata): number {
  const given = metadata['general.alignment']?.[1] ?? 32
  if (typeof given === 'number' && given >= 8 && given % 8 === 0) return given
  throw new CheckpointError(`general.alignment is ${String(given)}, wanted a multiple of 8`)
}

function pad(fd: number, at: number, alignment: number): number {
  return writeAll(fd, Buffer.alloc((alignment - (at % alignment)) % alignment))
}

async function writeTensor(fd: number, tensor: GgufTensor): Promise<number> {
  const wanted = byteLength(tensor.dtype, size(tensor.shape))
  let given = 0
  for await (const piece of tensor.data()) given += writeAll(fd, piece)
  if (given === wanted) return given
  const said = `'${tensor.name}' ${tensor.dtype} [${tensor.shape.join(' ')}]`
  throw new ShapeError(`${said} wants ${wanted} bytes, ${given} given`)
}

function writeAll(fd: number, bytes: Uint8Array): number {
  const piece = 256 * 1024 * 1024
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, Math.min(piece, bytes.length - done))
  }
  return bytes.length
}

function header(metadata: GgufMetadata, tensors: readonly GgufTensor[], alignment: number): Buffer {
  const keys = Object.entries(metadata)
  const parts = [
    Buffer.from('GGUF'),
    number('u32', 3),
    number('u64', tensors.length),
    number('u64', keys.length),
  ]
  for (const [key, value] of keys) parts.push(text(key), typed(value))
  const names = new Set<string>()
  let offset = 0
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw new CheckpointError(`cannot write two tensors named '${name}'`)
    names.add(name)
    const type = tensorTypeOf(dtype)
    if (type === null) throw new CheckpointError(`'${name}' is ${dtype}, which GGUF has no number for`)
    parts.push(text(name), number('u32', shape.length))
    parts.push(...shape.toReversed().map((side) => number('u64', side)))
    parts.push(number('u32', type), number('u64', offset))
    offset = Math.ceil((offset + byteLength(dtype, size(shape))) / alignment) * alignment
  }
  const head = Buffer.concat(parts)
  return Buffer.concat([head, Buffer.alloc((alignment - (head.length % alignment)) % alignment)])
}

/** Type and value. */
function typed(value: GgufValue): Buffer {
  return Buffer.concat([number('u32', valueTypes.indexOf(value[0])), payload(value)])
}

/** The value alone: an array's elements do not repeat their type. */
function payload(value: GgufValue): Buffer {
  if (value[0] !== 'array') return scalar(value[0], value[1])
  const [, of, values] = value
  const items = of === 'array' ? values.map(payload) : values.map((item) => scalar(of, item))
  return Buffer.concat([number('u32', valueTypes.indexOf(of)), number('u64', items.length), ...items])
}

function scalar(type: ScalarType, value: Scalar): Buffer {
  return type === 'string' ? text(String(value)) : number(type, value)
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8')
  return Buffer.concat([number('u64', bytes.length), bytes])
}

function number(type: Exclude<ScalarType, 'string'>, value: Scalar): Buffer {
  const bytes = Buffer.alloc(valueBytes[type])
  const n = Number(value)
  if (type === 'f32') bytes.writeFloatLE(n)
  else if (type === 'f64') bytes.writeDoubleLE(n)
  else if (type === 'bool') bytes[0] = value === true ? 1 : 0
  else if (type === 'u64') bytes.writeBigUInt64LE(BigInt(value))
  else if (type === 'i64') bytes.writeBigInt64LE(BigInt(value))
  else if (type.startsWith('i')) bytes.writeIntLE(n, 0, bytes.length)
  else bytes.writeUIntLE(n, 0, bytes.length)
  return bytes
}
