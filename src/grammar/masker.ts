// Masks of what an answer may hold next, computed in a thread beside the engine while the model computes. Compiled
// grammars are kept; a grammar that takes too long, or brings its runtime down, costs its thread, which is started anew.
import { Worker } from 'node:worker_threads'
import { KernelError, RequestError } from '../tensor/error.ts'
import { type FromMasker, type MaskerData, maskWords, state, type ToMasker } from './message.ts'
import type { AnswerGrammar } from './structured.ts'

/** A grammar that is ready to be followed; release it when no more answers will begin. */
export interface Compiled {
  open(): Matcher
  release(): void
}

/** Follows one answer. */
export interface Matcher {
  /** Bit i of word i / 32 says whether token i may come next; waits for it. Valid until the next token is accepted. */
  mask(): Promise<Int32Array>
  accept(token: number): void
  close(): void
}

export interface Masker {
  /** Throws a RequestError where the grammar is none, or takes longer to compile than it may. */
  compile(grammar: AnswerGrammar, signal?: AbortSignal): Promise<Compiled>
  close(): Promise<void>
}

export interface MaskerOptions {
  readonly compileMs?: number
  /** Compiled grammars that are kept for the next request. */
  readonly kept?: number
}

interface Entry {
  readonly id: number
  readonly key: string
  readonly ready: Promise<void>
  users: number
}

export function createMasker(
  data: MaskerData,
  { compileMs = 10_000, kept = 64 }: MaskerOptions = {},
): Masker {
  const words = maskWords(data.size)
  let ids = 0
  let thread: ReturnType<typeof startThread> | null = null

  /** The running thread, or a new one. */
  function current(): ReturnType<typeof startThread> {
    if (thread === null || thread.lost !== null) thread = startThread(data)
    return thread
  }

  async function compile(grammar: AnswerGrammar, signal?: AbortSignal): Promise<Compiled> {
    const own = current()
    const key = JSON.stringify(grammar)
    const known = own.cache.get(key)
    const entry = known ?? begin(own, key, grammar)
    own.cache.delete(key) // last used is last in line
    own.cache.set(key, entry)
    entry.users++
    try {
      await within(entry.ready, signal)
    } catch (error) {
      entry.users--
      throw error
    }
    trim(own)
    return {
      open: () => openMatcher(own, entry.id),
      release: () => {
        entry.users--
      },
    }
  }

  function begin(own: ReturnType<typeof startThread>, key: string, grammar: AnswerGrammar): Entry {
    const id = ids++
    const timer = setTimeout(() => {
      own.stop(
        new RequestError(
          `the grammar took longer than ${compileMs / 1000} s to compile; make it simpler`,
          'structured_outputs',
        ),
      )
    }, compileMs)
    const ready = own.compile(id, grammar).finally(() => clearTimeout(timer))
    ready.catch(() => own.cache.delete(key))
    return { id, key, ready, users: 0 }
  }

  function trim(own: ReturnType<typeof startThread>): void {
    for (const entry of [...own.cache.values()]) {
      if (own.cache.size <= kept) return
      if (entry.users > 0) continue
      own.cache.delete(entry.key)
      own.post({ kind: 'drop', id: entry.id })
    }
  }

  function openMatcher(own: ReturnType<typeof startThread>, grammar: number): Matcher {
    const matcher = ids++
    const shared = new SharedArrayBuffer((1 + words) * 4)
    const view = new Int32Array(shared)
    own.post({ kind: 'open', matcher, grammar, shared })
    return {
      async mask() {
        // nearly always there already: it was computed beside the model's step
        if (Atomics.wait(view, 0, state.pending, 2) === 'timed-out') await settled(view, own)
        if (Atomics.load(view, 0) !== state.ready) {
          throw own.lost ?? new KernelError('the grammar refuses a token that its own mask allowed')
        }
        return view.subarray(1)
      },
      accept(token) {
        Atomics.store(view, 0, state.pending)
        own.post({ kind: 'accept', matcher, token })
      },
      close: () => own.post({ kind: 'close', matcher }),
    }
  }

  return {
    compile,
    close: async () => thread?.end(),
  }
}

/** Resolves when the state is no longer pending, or throws what became of the thread. */
async function settled(view: Int32Array, own: ReturnType<typeof startThread>): Promise<void> {
  while (Atomics.load(view, 0) === state.pending) {
    if (own.lost) throw own.lost
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

function within<Result>(work: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (!signal) return work
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function startThread(data: MaskerData) {
  const worker = new Worker(new URL('./thread.js', import.meta.url), {
    workerData: data,
    stdout: true,
    stderr: true,
  })
  const waiting = new Map<number, { resolve(): void; reject(error: unknown): void }>()
  const cache = new Map<string, Entry>()
  let lost: Error | null = null
  worker.unref()
  worker.on('message', ({ id, error }: FromMasker) => {
    const asked = waiting.get(id)
    waiting.delete(id)
    if (error === null) asked?.resolve()
    else asked?.reject(new RequestError(`the grammar cannot be compiled: ${error}`, 'structured_outputs'))
  })
  worker.on('error', (error) =>
    lose(new KernelError(`the thread of grammars failed: ${error.message}`, { cause: error })),
  )
  worker.on('exit', () => lose(new KernelError('the thread of grammars has ended')))

  /** Whoever compiles is at fault; whoever follows an answer can ask again. */
  function lose(error: Error): void {
    if (lost) return
    lost = error
    for (const asked of waiting.values()) {
      asked.reject(
        error instanceof KernelError
          ? new RequestError(`the grammar brought its compiler down: ${error.message}`, 'structured_outputs')
          : error,
      )
    }
    waiting.clear()
  }

  return {
    cache,
    get lost() {
      return lost
    },
    post: (message: ToMasker) => {
      if (!lost) worker.postMessage(message)
    },
    compile(id: number, grammar: AnswerGrammar): Promise<void> {
      worker.ref() // somebody waits
      return new Promise<void>((resolve, reject) => {
        if (lost) return reject(lost)
        waiting.set(id, { resolve, reject })
        worker.postMessage({ kind: 'compile', id, grammar } satisfies ToMasker)
      }).finally(() => {
        if (waiting.size === 0) worker.unref()
      })
    },
    stop(error: Error) {
      lose(error)
      void worker.terminate()
    },
    async end() {
      lose(new KernelError('the thread of grammars was closed'))
      await worker.terminate()
    },
  }
}
