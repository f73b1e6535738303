// The engine in this thread: plan, compute, sample, commit, until nobody waits. One step at a time; cancellations and
// new requests enter between steps, so a step's pages never move under it.
import { setMaxListeners } from 'node:events'
import type { Backend, Pages } from '../backend/backend.ts'
import { type Compiled, createMasker, type Masker } from '../grammar/masker.ts'
import type { Model } from '../model/deepseek2.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import { assemble, type WantedRow } from './batch.ts'
import type { Engine, EngineLimits, EngineRequest, EngineStats, FinishReason, TokenEvent } from './engine.ts'
import type { Choice } from './logprobs.ts'
import { PagePool } from './pages.ts'
import { createQueue, type Queue } from './queue.ts'
import { createCounts, createSampler, tokenLogprobs } from './sampler.ts'
import { Scheduler, type Share } from './scheduler.ts'
import { Sequence } from './sequence.ts'

export interface EngineParts {
  readonly model: Model
  readonly backend: Backend
  readonly pages: Pages
  readonly limits: EngineLimits
  readonly eosTokenIds: readonly number[]
  /** Rows of the embedding, and how many of them are tokens (the rest is padding and never sampled). */
  readonly vocabSize: number
  readonly tokens: number
  readonly prefixCaching?: boolean
  readonly warnings?: readonly string[]
  readonly close?: () => void
}

/** What the engine keeps of a sequence for its listener. */
interface Listener {
  readonly index: number
  readonly queue: Queue<TokenEvent>
  readonly scored: (Choice | null)[]
  reported: boolean
}

export function createEngine(parts: EngineParts): Engine {
  const { model, backend, pages, limits } = parts
  const pool = new PagePool(pages.pages, pages.pageSize, parts.prefixCaching ?? true)
  const scheduler = new Scheduler(pool, limits)
  const sample = createSampler(parts.vocabSize)
  const listeners = new Map<Sequence, Listener>()
  const cancelled = new Set<Sequence>()
  const counters = { steps: 0, promptTokens: 0, outputTokens: 0 }
  let arrivals = 0
  let masker: Masker | null = null
  let looping: Promise<void> | null = null
  let closed = false

  async function* generate(request: EngineRequest, signal?: AbortSignal): AsyncGenerator<TokenEvent, void> {
    if (closed) throw new RequestError('the engine is closed; load the model again')
    signal?.throwIfAborted()
    const queue = createQueue<TokenEvent>()
    const grammar = await compile(request, signal)
    if (closed) throw new RequestError('the engine was closed before the answer began')
    const sequences = admit(request, queue, grammar)
    const leave = (): void => {
      for (const sequence of sequences) if (listeners.has(sequence)) cancelled.add(sequence)
      looping ??= loop()
    }
    const abort = (): void => {
      queue.end(signal?.reason)
      leave() // also while nobody pulls: a stalled reader must not keep the engine busy
    }
    if (signal) setMaxListeners(0, signal) // one signal may stop any number of answers
    signal?.addEventListener('abort', abort, { once: true })
    looping ??= loop()
    try {
      for (let unfinished = sequences.length; unfinished > 0; ) {
        const { done, value } = await queue.next()
        if (done) return
        yield value
        if (value.finish !== null) unfinished--
      }
    } finally {
      signal?.removeEventListener('abort', abort)
      leave()
      grammar?.release()
    }
  }

  /** Before the request waits in line: others go on meanwhile. */
  async function compile(request: EngineRequest, signal?: AbortSignal): Promise<Compiled | null> {
    if (!request.grammar) return null
    const { answer, vocabulary } = request.grammar
    checkPrompt(request.prompt_token_ids, request.n ?? 1)
    masker ??= createMasker({ vocabulary, size: parts.vocabSize, stop: parts.eosTokenIds })
    const compiled = await masker.compile(answer, signal)
    if (signal?.aborted) compiled.release()
    signal?.throwIfAborted()
    return compiled
  }

  function admit(
    request: EngineRequest,
    queue: Queue<TokenEvent>,
    grammar: Compiled | null,
  ): readonly Sequence[] {
    const { prompt_token_ids: prompt, params, n = 1 } = request
    checkPrompt(prompt, n)
    const room = limits.max_model_len - prompt.length
    const maxLength = prompt.length + Math.min(params.max_tokens ?? room, room)
    const seed = params.seed ?? Math.floor(Math.random() * 2 ** 48)
    const sequences = Array.from(
      { length: n },
      (_, index) =>
        new Sequence({
          order: arrivals++,
          priority: request.priority ?? 0,
          params,
          seed: siblingSeed(seed, index),
          prompt,
          maxLength,
          salt: request.cache_salt ?? '',
          counts: createCounts(prompt),
          now: performance.now(),
          matcher: grammar?.open() ?? null,
          progress: request.progress === true && index === 0,
        }),
    )
    for (const [index, sequence] of sequences.entries()) {
      if (index > 0 && !sequence.promptLogits) sequence.leader = sequences[0]
      listeners.set(sequence, { index, queue, scored: [null], reported: false })
      scheduler.add(sequence)
    }
    return sequences
  }

  function checkPrompt(prompt: readonly number[], n: number): void {
    if (prompt.length === 0) {
      throw new RequestError('the prompt has no tokens; give at least one', 'prompt_token_ids')
    }
    if (!Number.isSafeInteger(n) || n < 1) {
      throw new RequestError(`n must be a whole number from 1, ${n} given`, 'n')
    }
    const odd = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= parts.vocabSize)
    if (odd !== undefined) {
      throw new RequestError(`token id ${odd} is outside 0 .. ${parts.vocabSize - 1}`, 'prompt_token_ids')
    }
    if (prompt.length > limits.max_model_len) {
      throw new CapacityError(
        `the prompt has ${prompt.length} tokens, max_model_len is ${limits.max_model_len}; shorten the prompt, or raise max_model_len (and cache_bytes with it)`,
      )
    }
  }

  async function loop(): Promise<void> {
    await nextTurn() // requests made in the same turn share the first step
    try {
      while (!closed) {
        for (const sequence of cancelled) letGo(sequence)
        cancelled.clear()
        const shares = scheduler.plan()
        if (shares.length === 0) break
        try {
          await step(shares)
        } catch (error) {
          for (const { sequence } of shares) fail(sequence, error)
        }
        await nextTurn() // aborts and new requests come in here
      }
    } catch (error) {
      for (const sequence of [...listeners.keys()]) fail(sequence, error) // a broken plan must not leave anyone waiting
    } finally {
      looping = null
    }
  }

  async function step(shares: readonly Share[]): Promise<void> {
    const now = performance.now()
    for (const { sequence } of shares) sequence.started ??= now
    const { batch, wanted } = assemble(shares, pages.pageSize)
    const logits = await backend.scope(() => backend.read(model.forward(batch, pages)))
    counters.steps++
    for (const share of shares) scheduler.commit(share)
    for (const { sequence } of shares) if (sequence.progress) tellProgress(sequence)
    for (const [row, want] of wanted.entries()) {
      const V = parts.vocabSize
      try {
        await settle(want, logits.subarray(row * V, (row + 1) * V))
      } catch (error) {
        fail(want.share.sequence, error)
      }
    }
  }

  /** Turns one row of logits into a prompt's log-probability or a new token. */
  async function settle({ share: { sequence }, position }: WantedRow, logits: Float32Array): Promise<void> {
    const listener = listeners.get(sequence)
    if (!listener) return
    if (position < sequence.promptLength - 1) {
      const top = sequence.params.prompt_logprobs ?? 0
      listener.scored.push(tokenLogprobs(logits, sequence.tokens[position + 1], top))
      sequence.promptScored = position + 1
      return
    }
    if (sequence.tokens.length >= sequence.maxLength) {
      emit(sequence, listener, null, 'length', null) // max_tokens 0: only the prompt was wanted
      return
    }
    const state = {
      promptTokens: sequence.prompt,
      outputTokens: sequence.tokens.slice(sequence.promptLength),
      position: sequence.outputLength,
      seed: sequence.seed,
      eosTokenIds: parts.eosTokenIds,
      limit: parts.tokens,
      allowed: sequence.matcher && (await sequence.matcher.mask()),
    }
    if (!listeners.has(sequence)) return // closed while the mask was awaited
    const choice = sample(logits, sequence.params, state, sequence.counts)
    sequence.tokens.push(choice.token)
    sequence.counts.push(choice.token)
    counters.outputTokens++
    const { finish, stopToken } = ending(sequence, choice.token)
    if (finish === null) sequence.matcher?.accept(choice.token)
    emit(sequence, listener, choice, finish, stopToken)
  }

  function ending(
    sequence: Sequence,
    token: number,
  ): { finish: FinishReason | null; stopToken: number | null } {
    const { params } = sequence
    const ends = !params.ignore_eos || sequence.matcher !== null // a grammar that is over has nothing to go on with
    if (ends && parts.eosTokenIds.includes(token)) return { finish: 'stop', stopToken: null }
    if (params.stop_token_ids.includes(token)) return { finish: 'stop', stopToken: token }
    return { finish: sequence.tokens.length >= sequence.maxLength ? 'length' : null, stopToken: null }
  }

  function emit(
    sequence: Sequence,
    listener: Listener,
    choice: Choice | null,
    finish: FinishReason | null,
    stopToken: number | null,
  ): void {
    const prompt = listener.reported ? null : report(sequence, listener)
    listener.reported = true
    listener.queue.push({ index: listener.index, choice, finish, stopToken, prompt })
    if (finish !== null) letGo(sequence)
  }

  function report(sequence: Sequence, listener: Listener): TokenEvent['prompt'] {
    const started = sequence.started ?? sequence.arrived
    counters.promptTokens += sequence.promptLength
    return {
      cachedTokens: sequence.cachedTokens ?? 0,
      queuedMs: started - sequence.arrived,
      prefillMs: performance.now() - started,
      logprobs: sequence.promptLogits ? listener.scored : null,
    }
  }

  function tellProgress(sequence: Sequence): void {
    const listener = listeners.get(sequence)
    if (!listener || sequence.computed >= sequence.promptLength) return
    const progress = {
      total: sequence.promptLength,
      cached: sequence.cachedTokens ?? 0,
      processed: sequence.computed,
      ms: performance.now() - (sequence.started ?? sequence.arrived),
    }
    const nothing = { choice: null, finish: null, stopToken: null, prompt: null }
    listener.queue.push({ index: listener.index, ...nothing, progress })
  }

  function letGo(sequence: Sequence): void {
    scheduler.remove(sequence)
    if (listeners.delete(sequence)) sequence.matcher?.close()
  }

  function fail(sequence: Sequence, error: unknown): void {
    listeners.get(sequence)?.queue.end(error)
    letGo(sequence)
  }

  async function stats(): Promise<EngineStats> {
    return {
      backend: backend.name,
      limits,
      running: scheduler.running.length,
      waiting: scheduler.waiting.length,
      pages: pool.counts,
      ...counters,
      preemptions: scheduler.preemptions,
      prefixQueries: scheduler.prefixQueries,
      prefixHits: scheduler.prefixHits,
    }
  }

  async function close(): Promise<void> {
    if (closed) return
    closed = true
    await looping
    for (const sequence of [...listeners.keys()]) {
      fail(sequence, new RequestError('the engine was closed before the answer ended'))
    }
    await masker?.close()
    backend.close()
    parts.close?.()
  }

  return { limits, warnings: parts.warnings ?? [], generate, stats, close }
}

/** Answers to one prompt differ by their seeds, which stay safe integers. */
function siblingSeed(seed: number, index: number): number {
  return seed + index <= Number.MAX_SAFE_INTEGER ? seed + index : seed - 2 ** 53 + index
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
