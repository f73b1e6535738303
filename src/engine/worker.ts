// The same Engine across a thread: the program's event loop stays free while the model computes.
import { setMaxListeners } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { LoadProgress } from '../model/load.ts'
import { KernelError, RequestError } from '../tensor/error.ts'
import type { Engine, EngineLimits, EngineRequest, EngineStats, TokenEvent } from './engine.ts'
import type { FromThread, ThreadData, ToThread } from './message.ts'
import type { EngineOptions } from './open.ts'
import { fromPlain } from './plain.ts'
import { createQueue, type Queue } from './queue.ts'

/** Opens an engine in a worker thread. An open engine with nothing to do does not keep the process alive. */
export function openWorkerEngine(
  directory: string,
  options: EngineOptions = {},
  progress?: (at: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Engine> {
  signal?.throwIfAborted()
  const workerData: ThreadData = { directory, options }
  const worker = new Worker(new URL('./thread.js', import.meta.url), { workerData })
  return new Promise((resolve, reject) => {
    const stop = (error: unknown): void => {
      signal?.removeEventListener('abort', abort)
      void worker.terminate()
      reject(error)
    }
    const abort = (): void => stop(signal?.reason)
    const opening = (message: FromThread): void => {
      if (message.kind === 'progress') progress?.(message.at)
      if (message.kind === 'failed') stop(fromPlain(message.error))
      if (message.kind !== 'ready') return
      signal?.removeEventListener('abort', abort)
      worker.off('message', opening)
      worker.off('error', stop)
      resolve(createRemote(worker, message.limits, message.warnings))
    }
    signal?.addEventListener('abort', abort, { once: true })
    worker.on('message', opening)
    worker.on('error', stop)
  })
}

function createRemote(worker: Worker, limits: EngineLimits, warnings: readonly string[]): Engine {
  const queues = new Map<number, Queue<TokenEvent>>()
  const asked = new Map<number, Queue<EngineStats>>()
  const post = (message: ToThread): void => worker.postMessage(message)
  let ids = 0
  let gone: Error | null = null
  let closing: Promise<void> | null = null
  worker.unref()

  worker.on('message', (message: FromThread) => {
    if (message.kind === 'stats') asked.get(message.id)?.push(message.stats)
    if (message.kind !== 'deliveries') return
    for (const { id, event, error } of message.deliveries) {
      if (event) queues.get(id)?.push(event)
      else queues.get(id)?.end(error && fromPlain(error))
    }
  })
  worker.on('error', (error) =>
    lose(new KernelError(`the engine's thread failed: ${error.message}`, { cause: error })),
  )
  worker.on('exit', () => lose(new RequestError('the engine is closed; load the model again')))

  function lose(error: Error): void {
    gone ??= error
    for (const queue of queues.values()) queue.end(gone)
    for (const queue of asked.values()) queue.end(gone)
  }

  /** Keeps the process alive only while somebody waits for the thread. */
  function hold<Result>(waiting: Promise<Result>): Promise<Result> {
    worker.ref()
    return waiting.finally(() => {
      if (queues.size === 0) worker.unref()
    })
  }

  async function* generate(request: EngineRequest, signal?: AbortSignal): AsyncGenerator<TokenEvent, void> {
    if (gone) throw gone
    signal?.throwIfAborted()
    const id = ids++
    const queue = createQueue<TokenEvent>()
    let ended = false
    const leave = (): void => {
      if (!ended && !gone) post({ kind: 'cancel', id })
      ended = true
    }
    const abort = (): void => {
      queue.end(signal?.reason)
      leave() // also while nobody pulls
    }
    if (signal) setMaxListeners(0, signal) // one signal may stop any number of answers
    signal?.addEventListener('abort', abort, { once: true })
    queues.set(id, queue)
    try {
      post({ kind: 'generate', id, request })
      while (true) {
        const { done, value } = await hold(queue.next())
        if (done) break
        yield value
      }
      ended = true
    } finally {
      signal?.removeEventListener('abort', abort)
      queues.delete(id)
      leave()
      if (queues.size === 0) worker.unref()
    }
  }

  async function stats(): Promise<EngineStats> {
    if (gone) throw gone
    const id = ids++
    const answer = createQueue<EngineStats>()
    asked.set(id, answer)
    post({ kind: 'stats', id })
    try {
      const { value } = await hold(answer.next())
      if (value === undefined) throw gone ?? new KernelError('the engine did not answer')
      return value
    } finally {
      asked.delete(id)
    }
  }

  function close(): Promise<void> {
    closing ??= new Promise((resolve) => {
      if (gone) return resolve()
      worker.ref()
      worker.once('exit', () => resolve())
      post({ kind: 'close' })
    })
    return closing
  }

  return { limits, warnings, generate, stats, close }
}
