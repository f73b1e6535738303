// Grammars for the engine: compiled before an answer begins, followed token by token in threads of their own. Knows which
// thread holds what and what to do when one dies; what a grammar is, maskthread.ts knows.
//
// Up to three threads. A grammar is compiled where no answer is being followed, if there is such a thread, so that a
// compile delays nobody's masks. A thread that dies takes only the request with it that killed it: the others' grammars are
// compiled again elsewhere and their tokens replayed.
import { Worker } from 'node:worker_threads'
import { KernelError, RequestError } from '../tensor/error.ts'
import type { FromMasking, GrammarCounts, GrammarRequest, MaskingData, Move, ToMasking } from './masking.ts'
import { createMatcher, type Matcher, type OpenMatcher } from './matcher.ts'
import { fromPlain } from './plain.ts'

export interface Grammars {
  /** Compiles, or finds compiled; throws what is wrong with the grammar. */
  prepare(request: GrammarRequest, signal?: AbortSignal): Promise<Prepared>
  /** Sends what matchers were told since the last time. */
  flush(): void
  readonly counts: GrammarCounts
  close(): Promise<void>
}

export interface Prepared {
  open(): Matcher
}

export interface GrammarParts {
  readonly vocabSize: number
  readonly eosTokenIds: readonly number[]
  /** Longest a compile may take, milliseconds. */
  readonly patience?: number
}

interface Host {
  readonly worker: Worker
  /** Compiles in the order in which they were asked for. */
  readonly compiling: string[]
  readonly live: Map<number, OpenMatcher>
  readonly moves: Move[]
  timer: NodeJS.Timeout | null
  /** What it said before it went. */
  last: Extract<FromMasking, { kind: 'dead' }> | null
}

interface Entry {
  readonly key: string
  readonly request: GrammarRequest
  host: Host | null
  /** Those that wait for the compile. */
  waiting: { resolve(): void; reject(error: unknown): void }[]
  done: boolean
}

const mostThreads = 3
const mostCached = 64
const mostCachedText = 8 << 20
const usualPatience = 20_000

export function createGrammars(parts: GrammarParts): Grammars {
  const patience = parts.patience ?? usualPatience
  const hosts = new Set<Host>()
  const entries = new Map<string, Entry>()
  const counts = { compiled: 0, cached: 0, restarts: 0 }
  let ids = 0
  let closed = false

  async function prepare(request: GrammarRequest, signal?: AbortSignal): Promise<Prepared> {
    signal?.throwIfAborted()
    const key = `${request.lead}\n${request.outputs}`
    let entry = entries.get(key)
    if (entry?.done) counts.cached++
    entry ??= { key, request, host: null, waiting: [], done: false }
    entries.delete(key)
    entries.set(key, entry) // the last used comes last
    if (!entry.done) await compiledOnce(entry, signal)
    evict(entry)
    const ready = entry
    return { open: () => open(ready) }
  }

  function compiledOnce(entry: Entry, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal?.reason)
      signal?.addEventListener('abort', abort, { once: true })
      const settle = (): void => signal?.removeEventListener('abort', abort)
      entry.waiting.push({
        resolve: () => resolve(settle()),
        reject: (error) => {
          settle()
          reject(error)
        },
      })
      if (entry.host === null) compile(entry, chosen(entry.request))
    })
  }

  function compile(entry: Entry, host: Host): void {
    entry.host = host
    host.compiling.push(entry.key)
    post(host, { kind: 'compile', key: entry.key, outputs: entry.request.outputs, lead: entry.request.lead })
    host.worker.ref() // somebody waits
    watch(host)
  }

  /** The clock runs for the first compile of a thread; the next one starts when that is done. */
  function watch(host: Host): void {
    if (host.timer !== null || host.compiling.length === 0) return
    host.timer = setTimeout(() => {
      const [key] = host.compiling
      const why = `it took longer than ${patience / 1000} s to compile; give a simpler schema, pattern or grammar`
      host.last = { kind: 'dead', key, matcher: null, why }
      void host.worker.terminate()
    }, patience)
  }

  function chosen(request: GrammarRequest): Host {
    const all = [...hosts]
    const idle = all.find(({ live, compiling }) => live.size === 0 && compiling.length === 0)
    if (idle) return idle
    if (all.length < mostThreads) return start(request)
    const load = ({ live, compiling }: Host): number => live.size + compiling.length * 4
    return all.reduce((least, host) => (load(host) < load(least) ? host : least))
  }

  function start(request: GrammarRequest): Host {
    const { vocabSize, eosTokenIds } = parts
    const workerData: MaskingData = { vocabulary: request.vocabulary, vocabSize, eosTokenIds }
    const worker = new Worker(new URL('./maskthread.js', import.meta.url), { workerData })
    const host: Host = { worker, compiling: [], live: new Map(), moves: [], timer: null, last: null }
    hosts.add(host)
    worker.unref()
    worker.on('message', (message: FromMasking) => hear(host, message))
    worker.on('error', (error) => {
      host.last ??= { kind: 'dead', key: host.compiling[0] ?? null, matcher: null, why: error.message }
    })
    worker.on('exit', () => bury(host))
    return host
  }

  function hear(host: Host, message: FromMasking): void {
    if (message.kind === 'dead') host.last = message
    else if (message.kind === 'ready') host.live.get(message.matcher)?.wake()
    else if (message.kind === 'lost') host.live.get(message.matcher)?.fail(fromPlain(message.error))
    else settled(host, message)
  }

  function settled(host: Host, message: Extract<FromMasking, { kind: 'compiled' | 'refused' }>): void {
    host.compiling.splice(host.compiling.indexOf(message.key), 1)
    if (host.timer) clearTimeout(host.timer)
    host.timer = null
    watch(host)
    if (host.compiling.length === 0) host.worker.unref()
    const entry = entries.get(message.key)
    if (entry?.host !== host) return
    if (message.kind === 'refused') {
      refuse(entry, fromPlain(message.error))
      return
    }
    counts.compiled++
    entry.done = true
    for (const { resolve } of entry.waiting.splice(0)) resolve()
  }

  function refuse(entry: Entry, error: unknown): void {
    entries.delete(entry.key)
    for (const { reject } of entry.waiting.splice(0)) reject(error)
  }

  /** A thread is gone: what killed it fails, everything else moves. */
  function bury(host: Host): void {
    hosts.delete(host)
    if (host.timer) clearTimeout(host.timer)
    if (closed) return
    counts.restarts++
    const {
      key: guilty,
      matcher,
      why,
    } = host.last ?? { key: host.compiling[0] ?? null, matcher: null, why: 'it ended' }
    for (const [id, it] of host.live) {
      if (id !== matcher) continue
      it.fail(new KernelError(`the grammar's thread failed: ${why}`))
      host.live.delete(id)
    }
    for (const entry of entries.values()) {
      if (entry.host !== host) continue
      entry.host = null
      if (entry.key === guilty)
        refuse(entry, new RequestError(`structured_outputs: ${why}`, 'structured_outputs'))
      else if (!entry.done) compile(entry, chosen(entry.request))
      else if (![...host.live.values()].some((it) => it.key === entry.key)) entries.delete(entry.key)
    }
    for (const it of host.live.values()) move(it)
  }

  function move(matcher: OpenMatcher): void {
    const entry = entries.get(matcher.key)
    if (entry) settle(matcher, entry)
    else matcher.fail(new KernelError('the thread of its grammar ended, and so did the grammar'))
  }

  /** Opens a matcher where its grammar is, or is going to be. */
  function settle(matcher: OpenMatcher, entry: Entry): void {
    if (entry.host === null) compile(entry, chosen(entry.request))
    const host = entry.host!
    host.live.set(matcher.id, matcher)
    matcher.behind = host.compiling.length > 0
    const { id, key, slot, tokens } = matcher
    Atomics.store(slot.head, 0, 0)
    post(host, { kind: 'open', matcher: id, key, slot: slot.shared, tokens })
  }

  function open(entry: Entry): Matcher {
    const id = ids++
    const matcher = createMatcher(id, entry.key, parts.vocabSize, {
      advance(token) {
        const { host } = entry
        if (!host?.live.has(id)) return
        matcher.behind = host.compiling.length > 0
        host.moves.push({ matcher: id, token })
      },
      close() {
        const { host } = entry
        if (host?.live.delete(id)) post(host, { kind: 'close', matcher: id })
      },
    })
    if (!entries.has(entry.key)) entries.set(entry.key, entry) // evicted between the two calls
    settle(matcher, entry)
    return matcher
  }

  function flush(): void {
    for (const host of hosts) {
      if (host.moves.length > 0) post(host, { kind: 'advance', moves: host.moves.splice(0) })
    }
  }

  function evict(kept: Entry): void {
    let size = [...entries.keys()].reduce((sum, key) => sum + key.length, 0)
    for (const entry of [...entries.values()]) {
      if (entries.size <= mostCached && size <= mostCachedText) return
      const used = [...(entry.host?.live.values() ?? [])].some((it) => it.key === entry.key)
      if (!entry.done || used || entry === kept) continue
      entries.delete(entry.key)
      size -= entry.key.length
      if (entry.host) post(entry.host, { kind: 'drop', key: entry.key })
      entry.host = null
    }
  }

  async function close(): Promise<void> {
    closed = true
    const gone = new RequestError('the engine was closed before the grammar was compiled')
    for (const entry of [...entries.values()]) refuse(entry, gone)
    for (const { timer } of hosts) if (timer) clearTimeout(timer)
    await Promise.all([...hosts].map(({ worker }) => worker.terminate()))
  }

  return {
    prepare,
    flush,
    get counts() {
      return { ...counts, threads: hosts.size }
    },
    close,
  }
}

function post(host: Host, message: ToMasking): void {
  host.worker.postMessage(message)
}
