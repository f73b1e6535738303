// A checkpoint's matrices some rows at a time: a bank of experts need not fit in memory to be converted.
// Knows where the bytes of a tensor are; not what they become.
import { closeSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Checkpoint, TensorInfo } from '../checkpoint/checkpoint.ts'
import { readFully } from '../checkpoint/files.ts'
import { isGguf } from '../checkpoint/gguf.ts'
import { byteLength } from '../tensor/dtype.ts'
import { CheckpointError } from '../tensor/error.ts'
import { decodeRow, fromFloats, host, size, type Tensor } from '../tensor/tensor.ts'

/** Elements of one piece. What is in flight at a time is a few of these for each thread, whatever the model. */
const piece = 1 << 18

export interface Rows {
  /** A tensor as [rows D] pieces, one after the other; block scales are applied, else the format is the file's. */
  read(name: string): Iterable<Tensor>
  close(): void
}

export function openRows(checkpoint: Checkpoint): Rows {
  const folder = folderOf(checkpoint)
  const open = new Map<string, number>()

  function descriptor(file: string): number {
    const known = open.get(file)
    if (known !== undefined) return known
    const fd = openSync(join(folder, file), 'r')
    open.set(file, fd)
    return fd
  }

  function* ranges(info: TensorInfo): Generator<Tensor> {
    const { dtype, shape, file, start, name } = info
    const D = shape[shape.length - 1]
    const row = byteLength(dtype, D)
    for (const { first, count } of steps(shape)) {
      const data = new Uint8Array(new ArrayBuffer(count * row))
      if (readFully(descriptor(file), data, start + first * row) < data.length) {
        throw new CheckpointError(`cannot read '${name}' from ${file}: it was cut short since it was opened`)
      }
      yield { dtype, shape: [count, D], data }
    }
  }

  function read(name: string): Iterable<Tensor> {
    const info = checkpoint.tensors.get(name)
    // scales belong to blocks of rows; such matrices are an expert's at most, and read whole
    if (info === undefined || info.scales !== undefined) return cut(checkpoint.read(name))
    return ranges(info)
  }

  function close(): void {
    for (const fd of open.values()) closeSync(fd)
    open.clear()
  }

  return { read, close }
}

/** Where the files are that the tensors name. */
export function folderOf({ path }: Checkpoint): string {
  return isGguf(path) ? dirname(path) : path
}

/** A tensor that is in memory, in the same pieces. */
export function* cut(tensor: Tensor): Generator<Tensor> {
  const D = tensor.shape[tensor.shape.length - 1]
  const row = byteLength(tensor.dtype, D)
  for (const { first, count } of steps(tensor.shape)) {
    if (tensor.scales === undefined) {
      const data = host(tensor).subarray(first * row, (first + count) * row)
      yield { dtype: tensor.dtype, shape: [count, D], data }
      continue
    }
    const values = new Float32Array(count * D)
    for (let r = 0; r < count; r++) decodeRow(tensor, first + r, values.subarray(r * D, (r + 1) * D))
    yield fromFloats([count, D], values)
  }
}

function* steps(shape: readonly number[]): Generator<{ readonly first: number; readonly count: number }> {
  const D = shape[shape.length - 1]
  const rows = size(shape) / D
  const step = Math.max(1, Math.floor(piece / D))
  for (let first = 0; first < rows; first += step) yield { first, count: Math.min(step, rows - first) }
}
