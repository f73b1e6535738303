// The engine's tokens -> text as it becomes printable, with stop strings, usage and timings. One Completion is one
// request: iterate it for chunks, or ask for its result; leaving the loop cancels what is still being computed.
import type {
  Engine,
  EngineRequest,
  FinishReason,
  PromptProgress,
  PromptReport,
  TokenEvent,
} from '../engine/engine.ts'
import type { Choice } from '../engine/logprobs.ts'
import { createDecoder, createStopWatch } from '../tokenizer/stream.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { ReadOptions, TextRules } from './request.ts'

export interface Answer {
  /** Which of the n answers. */
  readonly index: number
  readonly text: string
  readonly token_ids: readonly number[]
  /** Of these tokens, when `logprobs` was asked for. */
  readonly logprobs: readonly Choice[] | null
  readonly finish_reason: FinishReason | null
  /** The stop string or stop token that ended the answer. */
  readonly stop_reason: string | number | null
}

/**
 * A piece of an answer. Its text may be empty: a token need not end a character, and stop strings are held back while
 * they may still come.
 */
export interface Chunk extends Answer {
  /** With return_progress, while the prompt is computed. */
  readonly progress?: PromptProgress
}

export interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
}

/** Milliseconds, and tokens a second, of the first answer. */
export interface Timings {
  readonly queued_ms: number
  readonly prompt_ms: number
  readonly prompt_per_second: number
  readonly predicted_ms: number
  readonly predicted_per_second: number
}

export interface Result extends Answer {
  /** All n answers; the fields beside it are those of the first. */
  readonly answers: readonly Answer[]
  readonly prompt_token_ids: readonly number[]
  readonly prompt_logprobs: readonly (Choice | null)[] | null
  readonly usage: Usage
  readonly timings: Timings
}

export interface Completion extends AsyncIterable<Chunk> {
  /** The prompt's ids, encoded now if they were not yet; throws what is wrong with it. */
  prompt(): readonly number[]
  /** Runs to the end (or carries on from where iteration is) and gives everything at once. */
  result(): Promise<Result>
}

export interface CompletionParts {
  readonly engine: Engine
  readonly tokenizer: Tokenizer
  /** Resolves to the prompt; may throw what is wrong with it. */
  readonly prompt: () => readonly number[]
  readonly options: ReadOptions
  readonly signal: AbortSignal | undefined
  /** What the chat template puts between its generation prompt and an answer: cut from the answer's beginning. */
  readonly lead: string
  /** The tokens, packed for grammars. */
  readonly vocabulary: () => SharedArrayBuffer
}

const empty = { text: '', token_ids: [], logprobs: null, finish_reason: null, stop_reason: null }

interface Writer {
  text: string
  readonly tokens: number[]
  readonly logprobs: Choice[]
  finish: FinishReason | null
  stopReason: string | number | null
  add(event: TokenEvent): Chunk
}

export function createCompletion(parts: CompletionParts): Completion {
  const { engine, options } = parts
  const writers = Array.from({ length: options.n }, (_, index) => createWriter(index, parts))
  const clock = { first: 0, last: 0 }
  let prompt: readonly number[] | null = null
  let report: PromptReport | null = null

  async function* run(): AsyncGenerator<Chunk, void, undefined> {
    const request: EngineRequest = {
      prompt_token_ids: encoded(),
      params: options.params,
      n: options.n,
      priority: options.priority,
      cache_salt: options.cacheSalt,
      ...(options.outputs !== null && {
        grammar: { outputs: options.outputs, lead: parts.lead, vocabulary: parts.vocabulary() },
      }),
      ...(options.progress && { progress: true }),
    }
    let open = options.n
    for await (const event of engine.generate(request, parts.signal)) {
      const writer = writers[event.index]
      if (writer.finish !== null) continue // ended by a stop string; the engine does not know yet
      if (event.progress) {
        yield { ...empty, index: event.index, progress: event.progress }
        continue
      }
      if (event.index === 0) tick(event)
      const chunk = writer.add(event)
      yield chunk
      if (chunk.finish_reason !== null && --open === 0) return
    }
  }

  function encoded(): readonly number[] {
    prompt ??= parts.prompt()
    return prompt
  }

  function tick(event: TokenEvent): void {
    clock.last = performance.now()
    if (!event.prompt) return
    report = event.prompt
    clock.first = clock.last
  }

  const chunks = run()

  async function result(): Promise<Result> {
    for await (const _ of chunks) {
      // writers keep what passes
    }
    const answers = writers.map(
      (writer, index): Answer => ({
        index,
        text: writer.text,
        token_ids: writer.tokens,
        logprobs: options.params.logprobs === null ? null : writer.logprobs,
        finish_reason: writer.finish,
        stop_reason: writer.stopReason,
      }),
    )
    const completionTokens = writers.reduce((sum, writer) => sum + writer.tokens.length, 0)
    return {
      ...answers[0],
      answers,
      prompt_token_ids: encoded(),
      prompt_logprobs: report?.logprobs ?? null,
      usage: {
        prompt_tokens: encoded().length,
        completion_tokens: completionTokens,
        total_tokens: encoded().length + completionTokens,
        prompt_tokens_details: { cached_tokens: report?.cachedTokens ?? 0 },
      },
      timings: timingsOf(report, encoded().length, writers[0].tokens.length, clock.last - clock.first),
    }
  }

  return { [Symbol.asyncIterator]: () => chunks, result, prompt: encoded }
}

function timingsOf(
  report: PromptReport | null,
  promptTokens: number,
  outputTokens: number,
  decodeMs: number,
): Timings {
  const promptMs = report?.prefillMs ?? 0
  const computed = promptTokens - (report?.cachedTokens ?? 0)
  const rate = (tokens: number, ms: number): number => (ms > 0 ? (tokens / ms) * 1000 : 0)
  return {
    queued_ms: report?.queuedMs ?? 0,
    prompt_ms: promptMs,
    prompt_per_second: rate(computed, promptMs),
    predicted_ms: decodeMs,
    predicted_per_second: rate(Math.max(outputTokens - 1, 0), decodeMs), // the first comes with the prompt
  }
}

function createWriter(index: number, { tokenizer, options, lead }: CompletionParts): Writer {
  const { text: rules, params } = options
  const decoder = createDecoder(tokenizer, { skipSpecialTokens: rules.skipSpecialTokens })
  const watch = createStopWatch(rules.stop, { include: rules.includeStop })
  const trim = createTrimmer(lead)
  const writer: Writer = { text: '', tokens: [], logprobs: [], finish: null, stopReason: null, add }

  function add({ choice, finish, stopToken }: TokenEvent): Chunk {
    if (choice) writer.tokens.push(choice.token)
    if (choice && params.logprobs !== null) writer.logprobs.push(choice)
    const shown = choice && isShown(finish, stopToken, rules) ? decoder.push(choice.token) : ''
    const raw = trim(finish === null ? shown : shown + decoder.flush(), finish !== null)
    const early = writer.tokens.length <= params.min_tokens // a stop string counts only if it begins after min_tokens
    const { text, stopped } = early ? { text: raw, stopped: null } : watch.push(raw)
    const ended = stopped !== null ? 'stop' : finish
    const out = ended !== null && stopped === null ? text + watch.flush() : text
    writer.text += out
    writer.finish = ended
    writer.stopReason = stopped ?? stopToken
    return {
      index,
      text: out,
      token_ids: choice ? [choice.token] : [],
      logprobs: choice && params.logprobs !== null ? [choice] : null,
      finish_reason: ended,
      stop_reason: writer.stopReason,
    }
  }

  return writer
}

/** The token that ended an answer belongs to its ids, and to its text only on request. */
function isShown(finish: FinishReason | null, stopToken: number | null, rules: TextRules): boolean {
  if (finish !== 'stop') return true
  return stopToken === null ? !rules.skipSpecialTokens : rules.includeStop
}

/** Cuts `lead` from the very beginning of a text that comes in pieces. */
function createTrimmer(lead: string): (piece: string, last: boolean) => string {
  let held: string | null = lead === '' ? null : ''
  return (piece, last) => {
    if (held === null) return piece
    held += piece
    if (!last && held.length < lead.length && lead.startsWith(held)) return ''
    const text = held.startsWith(lead) ? held.slice(lead.length) : held
    held = null
    return text
  }
}
