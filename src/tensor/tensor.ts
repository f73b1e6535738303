// A tensor is a shape, a number format, and bytes: here, or at an address that only a backend can read.
// Knows no operations: those are the backend's.
import { byteLength, type DType, formats } from './dtype.ts'
import { ShapeError } from './error.ts'

export interface Tensor {
  readonly dtype: DType
  /** Row-major, slowest dimension first. */
  readonly shape: readonly number[]
  /** The bytes themselves (host), or their address in the memory of the backend that made the tensor. */
  readonly data: Uint8Array | Mapped | number
  /** Block scales of an fp8 matrix [.. ceil(N/128) ceil(D/128)], f32: weight = data * scale. */
  readonly scales?: Tensor
}

/** Bytes of mapped files: they stay what and where they are for as long as somebody holds this object. */
export interface Mapped {
  /** One after another the tensor's bytes; all of one length, a whole number of rows. */
  readonly pieces: readonly Piece[]
}

export interface Piece {
  readonly bytes: Uint8Array
  /** The same bytes as the system knows them: an open file's descriptor, and where in it they begin. */
  readonly fd: number
  readonly offset: number
}

/** Rows and columns that share one scale of an fp8 matrix (`weight_block_size` of the checkpoints that have them). */
export const scaleBlock = 128

/** A host tensor of zeros. */
export function zeros(shape: readonly number[], dtype: DType = 'f32'): Tensor {
  return { dtype, shape, data: new Uint8Array(new ArrayBuffer(byteLength(dtype, size(shape)))) }
}

/** A host f32 tensor over `values` (not copied). */
export function fromFloats(shape: readonly number[], values: Float32Array): Tensor {
  if (size(shape) !== values.length) {
    throw new ShapeError(`[${shape.join(' ')}] wants ${size(shape)} numbers, ${values.length} given`)
  }
  return { dtype: 'f32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}

/** The floats of a host f32 tensor, not copied. */
export function floats(tensor: Tensor): Float32Array {
  const bytes = host(tensor)
  if (tensor.dtype !== 'f32') throw new ShapeError(`wanted f32 numbers, the tensor holds ${tensor.dtype}`)
  return new Float32Array(bytes.buffer, bytes.byteOffset, size(tensor.shape))
}

/** The integers of a host i32 tensor, not copied. */
export function integers(tensor: Tensor): Int32Array {
  const bytes = host(tensor)
  if (tensor.dtype !== 'i32') throw new ShapeError(`wanted i32 numbers, the tensor holds ${tensor.dtype}`)
  return new Int32Array(bytes.buffer, bytes.byteOffset, size(tensor.shape))
}

/** The bytes of a host tensor; a copy where they are in several pieces of a file. */
export function host(tensor: Tensor): Uint8Array {
  const { data } = tensor
  if (typeof data === 'number') throw new ShapeError('the tensor lives on a device; read() it first')
  if (data instanceof Uint8Array) return data
  return data.pieces.length === 1 ? data.pieces[0].bytes : join(data.pieces)
}

function join(pieces: readonly Piece[]): Uint8Array {
  const each = pieces[0].bytes.length
  const whole = new Uint8Array(new ArrayBuffer(pieces.length * each))
  for (const [i, { bytes }] of pieces.entries()) whole.set(bytes, i * each)
  return whole
}

/** The pieces of a tensor of a mapped file; null for any other. */
export function piecesOf(tensor: Tensor): readonly Piece[] | null {
  return typeof tensor.data === 'object' && 'pieces' in tensor.data ? tensor.data.pieces : null
}

/** The same bytes under another shape. */
export function reshape(tensor: Tensor, shape: readonly number[]): Tensor {
  if (size(shape) !== size(tensor.shape)) {
    throw new ShapeError(`cannot see [${tensor.shape.join(' ')}] as [${shape.join(' ')}]`)
  }
  return { ...tensor, shape }
}

/** Number of elements. */
export function size(shape: readonly number[]): number {
  let n = 1
  for (const d of shape) n *= d
  return n
}

/** Decodes row `row` of the last dimension of a host tensor, block scales applied, into `out` [D]. */
export function decodeRow(tensor: Tensor, row: number, out: Float32Array): void {
  const D = tensor.shape[tensor.shape.length - 1]
  formats[tensor.dtype].decode(host(tensor), row * D, out, D)
  if (tensor.scales) applyScales(tensor, tensor.scales, row, out)
}

function applyScales(tensor: Tensor, scales: Tensor, row: number, out: Float32Array): void {
  const N = tensor.shape[tensor.shape.length - 2]
  const width = scales.shape[scales.shape.length - 1]
  const height = scales.shape[scales.shape.length - 2]
  const matrix = Math.floor(row / N) // which matrix of a stacked bank
  const first = (matrix * height + Math.floor((row % N) / scaleBlock)) * width
  const factors = floats(scales)
  for (let i = 0; i < out.length; i++) out[i] *= factors[first + Math.floor(i / scaleBlock)]
}

/** A host tensor of any format as f32, block scales applied; the same object where it is that already. */
export function toF32(w: Tensor): Tensor {
  if (w.dtype === 'f32' && !w.scales) return w
  const D = w.shape[w.shape.length - 1]
  const values = new Float32Array(size(w.shape))
  const whole = { ...w, data: host(w) } // joined once
  for (let row = 0; row * D < values.length; row++) {
    decodeRow(whole, row, values.subarray(row * D, (row + 1) * D))
  }
  return fromFloats(w.shape, values)
}

type Names<S extends string> = S extends `${infer A} ${infer B}`
  ? Names<A> | Names<B>
  : S extends '' | '|' | `${number}`
    ? never
    : S

const parsed = new Map<string, readonly (readonly string[])[]>()

/**
 * Binds names to sizes and throws a ShapeError where two disagree: a shape comment that runs.
 * `dims('T D | N D', x, w)` gives `{ T, D, N }`; a literal number in the pattern must match exactly.
 */
export function dims<const S extends string>(
  pattern: S,
  ...tensors: readonly { readonly shape: readonly number[] }[]
): Record<Names<S>, number> {
  let parts = parsed.get(pattern)
  if (parts === undefined) {
    parts = pattern.split('|').map((part) => part.trim().split(/\s+/))
    parsed.set(pattern, parts)
  }
  const found: Record<string, number> = {}
  for (let i = 0; i < parts.length; i++) {
    const shape = tensors[i].shape
    const names = parts[i]
    if (shape.length !== names.length) throw mismatch(pattern, tensors)
    for (let j = 0; j < names.length; j++) {
      const known = /^\d/.test(names[j]) ? Number(names[j]) : found[names[j]]
      if (known !== undefined && known !== shape[j]) throw mismatch(pattern, tensors)
      found[names[j]] = shape[j]
    }
  }
  return found as Record<Names<S>, number>
}

function mismatch(pattern: string, tensors: readonly { readonly shape: readonly number[] }[]): ShapeError {
  const given = tensors.map((tensor) => `[${tensor.shape.join(' ')}]`).join(' | ')
  return new ShapeError(`wanted ${pattern}, given ${given}`)
}
