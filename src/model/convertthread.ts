// A thread that encodes what it is sent. Its other half is convertencode.ts.
import { parentPort } from 'node:worker_threads'
import { type Done, encodePiece, type Job } from './convertencode.ts'

const port = parentPort
if (!port) throw new Error('convertthread.ts runs as a worker thread only')
port.on('message', ({ id, tensor, dtype }: Job) => {
  const done: Done = { id, bytes: encodePiece(tensor, dtype) }
  port.postMessage(done, [done.bytes.buffer])
})
