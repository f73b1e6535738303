// The engine in this thread: plan, compute, sample, commit, until nobody waits. One step at a time; cancellations and
// new requests enter between steps, so a step's pages never move under it.
import { setMaxListeners } from 'node:events'
import type { Backend, Pages } from '../backend/backend.ts'
import type { Model } from '../model/deepseek2.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import { assemble, type WantedRow } from './batch.ts'
import type { Engine, EngineLimits, EngineRequest, EngineStats, FinishReason, TokenEvent } from './engine.ts'
import { createGrammars, type Prepared } from './grammar.ts'
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
  /** Longest that a grammar may take to compile, milliseconds. */
  readonly grammarPatience?: number
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
  const grammars = createGrammars({
    vocabSize: parts.vocabSize,
    eosTokenIds: parts.eosTokenIds,
    ...(parts.grammarPatience !== undefined && { patience: parts.grammarPatience }),
  })
  const counters = { steps: 0, promptTokens: 0, outputTokens: 0 }
  let arrivals = 0
  let looping: Promise<void> | null = null
  let closed = false

  async function* generate(request: EngineRequest, signal?: AbortSignal): AsyncGenerator<TokenEvent, void> {
    if (closed) throw new RequestError('the engine is closed; load the model again')
    signal?.throwIfAborted()
    checkPrompt(request.prompt_token_ids, request.n ?? 1)
    const grammar = request.grammar ? await grammars.prepare(request.grammar, signal) : null
    if (closed) throw new RequestError('the engine is closed; load the model again')
    const queue = createQueue<TokenEvent>()
    const sequences = admit(request, grammar, queue)
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
    }
  }

  function admit(
    request: EngineRequest,
    grammar: Prepared | null,
    queue: Queue<TokenEvent>,
  ): readonly Sequence[] {
    const { prompt_token_ids: prompt, params, n = 1 } = request
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
          matcher: grammar?.open() ?? null,
          now: performance.now(),
        }),
    )
    for (const [index, sequence] of sequences.entries()) {
      if (index > 0 && !sequence.promptLogits) sequence.leader = sequences[0]
      sequence.progress = request.progress === true && index === 0
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
        endComplete()
        const shares = scheduler.plan()
        if (shares.length === 0 && scheduler.held) {
          await new Promise((resolve) => setTimeout(resolve, 1)) // until a compile is done; requests may come meanwhile
          continue
        }
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
    const full: (() => Promise<void>)[] = []
    for (const [row, want] of wanted.entries()) {
      const V = parts.vocabSize
      const { sequence } = want.share
      try {
        if (sequence.matcher && samples(want)) await sequence.matcher.settled()
        const later = settle(want, logits.subarray(row * V, (row + 1) * V))
        if (later) full.push(later)
      } catch (error) {
        fail(sequence, error)
      }
    }
    grammars.flush() // the next masks are computed while the next step is
    for (const later of full) await later()
  }

  function samples({ share: { sequence }, position }: WantedRow): boolean {
    return position >= sequence.promptLength - 1 && sequence.tokens.length < sequence.maxLength
  }

  /** Answers whose grammar allows nothing more are not computed any further. */
  function endComplete(): void {
    for (const sequence of [...scheduler.running]) {
      const { matcher } = sequence
      const listener = listeners.get(sequence)
      if (listener && sequence.outputLength > 0 && matcher?.ready() && matcher.ended()) {
        emit(sequence, listener, null, 'stop', null)
      }
    }
  }

  /**
   * Turns one row of logits into a prompt's log-probability or a new token. What it returns is left to do once all
   * rows have their token.
   */
  function settle(
    { share: { sequence }, position }: WantedRow,
    logits: Float32Array,
  ): (() => Promise<void>) | null {
    const listener = listeners.get(sequence)
    if (!listener) return null
    const { matcher } = sequence
    if (position < sequence.promptLength - 1) {
      const top = sequence.params.prompt_logprobs ?? 0
      listener.scored.push(tokenLogprobs(logits, sequence.tokens[position + 1], top))
      sequence.promptScored = position + 1
      return null
    }
    if (sequence.tokens.length >= sequence.maxLength) {
      emit(sequence, listener, null, 'length', null) // max_tokens 0: only the prompt was wanted
      return null
    }
    if (matcher?.ended()) {
      emit(sequence, listener, null, 'stop', null)
      return null
    }
    if (matcher?.stuck()) throw stuckAt(sequence.outputLength)
    const state = {
      promptTokens: sequence.prompt,
      outputTokens: sequence.tokens.slice(sequence.promptLength),
      position: sequence.outputLength,
      seed: sequence.seed,
      eosTokenIds: parts.eosTokenIds,
      limit: parts.tokens,
      allowed: matcher?.words ?? null,
    }
    const choice = sample(logits, sequence.params, state, sequence.counts)
    sequence.tokens.push(choice.token)
    sequence.counts.push(choice.token)
    counters.outputTokens++
    const { finish, stopToken } = ending(sequence, choice.token)
    if (matcher && finish !== 'stop') matcher.advance(choice.token)
    if (matcher && finish === 'length') return () => endFull(sequence, listener, choice)
    emit(sequence, listener, choice, finish, stopToken)
    return null
  }

  /** The last token that there was room for may have been the last of the grammar too: then nothing was cut off. */
  async function endFull(sequence: Sequence, listener: Listener, choice: Choice): Promise<void> {
    try {
      await sequence.matcher?.settled()
      emit(sequence, listener, choice, sequence.matcher?.ended() ? 'stop' : 'length', null)
    } catch (error) {
      fail(sequence, error)
    }
  }

  function ending(
    sequence: Sequence,
    token: number,
  ): { finish: FinishReason | null; stopToken: number | null } {
    const { params } = sequence
    if (!params.ignore_eos && parts.eosTokenIds.includes(token)) return { finish: 'stop', stopToken: null }
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
      grammars: grammars.counts,
    }
  }

  async function close(): Promise<void> {
    if (closed) return
    closed = true
    await looping
    for (const sequence of [...listeners.keys()]) {
      fail(sequence, new RequestError('the engine was closed before the answer ended'))
    }
    await grammars.close()
    backend.close()
    parts.close?.()
  }

  return { limits, warnings: parts.warnings ?? [], generate, stats, close }
}

function stuckAt(position: number): RequestError {
  return new RequestError(
    `no token of the vocabulary can go on at output position ${position} of the grammar; loosen the grammar`,
    'structured_outputs',
  )
}

/** Answers to one prompt differ by their seeds, which stay safe integers. */
function siblingSeed(seed: number, index: number): number {
  return seed + index <= Number.MAX_SAFE_INTEGER ? seed + index : seed - 2 ** 53 + index
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
