// Pieces of matrices into another format, on threads where there is enough to do. Rows know nothing of each other, so the
// bytes are the same for any number of threads. Knows formats, no files.
import { Worker } from 'node:worker_threads'
import { byteLength, type DType, formats } from '../tensor/dtype.ts'
import { CheckpointError } from '../tensor/error.ts'
import { decodeRow, host, size, type Tensor } from '../tensor/tensor.ts'

export interface Job {
  readonly id: number
  readonly tensor: Tensor
  readonly dtype: DType
}

export interface Done {
  readonly id: number
  readonly bytes: Uint8Array<ArrayBuffer>
}

export interface Encoder {
  /** How many pieces should be asked for before the first is waited for. */
  readonly ahead: number
  /** May take the bytes of the tensor away. */
  encode(tensor: Tensor, dtype: DType): Promise<Uint8Array>
  close(): void
}

/** The rows of a piece in another format. */
export function encodePiece(tensor: Tensor, dtype: DType): Uint8Array<ArrayBuffer> {
  const { encode } = formats[dtype]
  if (encode === undefined) throw new CheckpointError(`${dtype} can be read but not written`)
  const D = tensor.shape[tensor.shape.length - 1]
  const values = floatsFor(size(tensor.shape))
  for (let r = 0; r * D < values.length; r++) decodeRow(tensor, r, values.subarray(r * D, (r + 1) * D))
  const bytes = new Uint8Array(new ArrayBuffer(byteLength(dtype, values.length)))
  encode(values, bytes, 0)
  return bytes
}

let scratch = new Float32Array(0)

/** The same memory each time: collecting garbage of megabytes lags behind by hundreds of them. */
function floatsFor(count: number): Float32Array {
  if (scratch.length < count) scratch = new Float32Array(count)
  return scratch.subarray(0, count)
}

/** One thread is the caller's own. */
export function openEncoder(threads: number): Encoder {
  if (threads <= 1) {
    return { ahead: 0, encode: async (tensor, dtype) => encodePiece(tensor, dtype), close: () => undefined }
  }
  const waiting = new Map<number, { resolve(bytes: Uint8Array): void; reject(error: unknown): void }>()
  const workers = Array.from({ length: threads }, () => {
    const worker = new Worker(new URL('./convertthread.js', import.meta.url))
    worker.on('message', ({ id, bytes }: Done) => {
      waiting.get(id)?.resolve(bytes)
      waiting.delete(id)
    })
    worker.on('error', (error) => {
      for (const { reject } of waiting.values()) reject(error)
      waiting.clear()
    })
    return worker
  })
  let ids = 0

  function encode(tensor: Tensor, dtype: DType): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const id = ids++
      waiting.set(id, { resolve, reject })
      const given = host(tensor)
      // a view would take its whole buffer along
      const data = given.byteLength === given.buffer.byteLength ? given : given.slice()
      const job: Job = { id, tensor: { ...tensor, data }, dtype }
      workers[id % threads].postMessage(job, [data.buffer as ArrayBuffer]) // pieces are alike: in turn is fair
    })
  }

  return {
    ahead: threads + 2,
    encode,
    close: () => {
      for (const worker of workers) void worker.terminate()
    },
  }
}
