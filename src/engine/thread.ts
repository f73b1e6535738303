// The engine's own thread: opens the engine it is told to, then obeys messages. Its other half is worker.ts.
import { parentPort, workerData } from 'node:worker_threads'
import type { Engine } from './engine.ts'
import type { Delivery, FromThread, ThreadData, ToThread } from './message.ts'
import { openEngine } from './open.ts'
import { toPlain } from './plain.ts'

const port = parentPort
if (!port) throw new Error('thread.ts runs as a worker thread only')
const post = (message: FromThread): void => port.postMessage(message)
const { directory, options } = workerData as ThreadData

try {
  const engine = await openEngine(directory, options, (at) => post({ kind: 'progress', at }))
  const serve = createService(engine)
  port.on('message', (message: ToThread) => void serve(message))
  post({ kind: 'ready', limits: engine.limits, warnings: engine.warnings })
} catch (error) {
  post({ kind: 'failed', error: toPlain(error) })
}

function createService(engine: Engine): (message: ToThread) => Promise<void> {
  const aborts = new Map<number, AbortController>()
  let outbox: Delivery[] = []

  function deliver(delivery: Delivery): void {
    if (outbox.push(delivery) > 1) return
    setImmediate(() => {
      post({ kind: 'deliveries', deliveries: outbox }) // the events of one step travel together
      outbox = []
    })
  }

  async function generate(id: number, request: Parameters<Engine['generate']>[0]): Promise<void> {
    const abort = new AbortController()
    aborts.set(id, abort)
    try {
      for await (const event of engine.generate(request, abort.signal)) deliver({ id, event })
      deliver({ id, event: null })
    } catch (error) {
      deliver({ id, event: null, error: toPlain(error) })
    } finally {
      aborts.delete(id)
    }
  }

  return async (message) => {
    if (message.kind === 'generate') return generate(message.id, message.request)
    if (message.kind === 'cancel') return aborts.get(message.id)?.abort()
    if (message.kind === 'stats') {
      return post({ kind: 'stats', id: message.id, stats: await engine.stats() })
    }
    await engine.close()
    port?.close()
  }
}
