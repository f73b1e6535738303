// From a completion to what chat endpoints say: each answer's text goes through a reader, which may find tool calls in
// it; streamed or whole, the same readers see the same pieces. Knows no envelope.
import type { FinishReason, PromptProgress } from '../engine/engine.ts'
import type { Choice } from '../engine/logprobs.ts'
import type { Chunk, Completion, Result } from '../llm/completion.ts'
import type { Job } from './job.ts'
import { outcomeOf } from './job.ts'

export interface ToolCallDelta {
  readonly index: number
  readonly id?: string
  readonly type?: 'function'
  readonly function: { readonly name?: string; readonly arguments?: string }
}

export interface Delta {
  readonly content?: string
  readonly tool_calls?: readonly ToolCallDelta[]
}

export type ChatFinish = FinishReason | 'tool_calls'

/** Reads one answer as it comes. */
export interface Reader {
  push(text: string): readonly Delta[]
  /** What was held back, and how the answer ended. */
  end(finish: FinishReason): { readonly deltas: readonly Delta[]; readonly finish: ChatFinish }
}

/** Text is text. */
export const plainReader: () => Reader = () => ({
  push: (text) => (text === '' ? [] : [{ content: text }]),
  end: (finish) => ({ deltas: [], finish }),
})

/** A step of one answer: what is new in it, with the log-probabilities of its tokens, and its end. */
export interface Step {
  readonly index: number
  readonly deltas: readonly Delta[]
  readonly tokens: readonly number[]
  readonly logprobs: readonly Choice[] | null
  readonly finish: ChatFinish | null
  readonly stopReason: string | number | null
  /** Of the prompt, before the first token, where it was asked for. */
  readonly progress?: PromptProgress | undefined
}

export interface Reading {
  readonly completion: Completion
  readonly job: Job
  readonly n: number
  readonly reader: () => Reader
}

/** The steps of all answers as they come; the job ends with them, however they end. */
export async function* steps({
  completion,
  job,
  n,
  reader,
}: Reading): AsyncGenerator<Step, Result, undefined> {
  const readers = Array.from({ length: n }, reader)
  let outcome: ChatFinish = 'stop'
  try {
    for await (const chunk of completion) {
      if (chunk.token_ids.length > 0) job.token()
      const step = stepOf(chunk, readers[chunk.index])
      if (step.finish !== null && chunk.index === 0) outcome = step.finish
      yield step
    }
    const result = await completion.result()
    job.end(result, outcome)
    return result
  } catch (error) {
    job.end(null, outcomeOf(error), error)
    throw error
  } finally {
    job.abort() // the reader of these steps may have left before their end
    job.end(null, 'abort')
  }
}

function stepOf(chunk: Chunk, reader: Reader): Step {
  const { index, text, token_ids, logprobs, finish_reason, stop_reason, progress } = chunk
  const deltas = [...reader.push(text)]
  const end = finish_reason === null ? null : reader.end(finish_reason)
  if (end) deltas.push(...end.deltas)
  return {
    index,
    deltas,
    tokens: token_ids,
    logprobs,
    finish: end?.finish ?? null,
    stopReason: stop_reason,
    progress,
  }
}

export interface ToolCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

/** One answer, whole. */
export interface Whole {
  readonly index: number
  readonly content: string | null
  readonly toolCalls: readonly ToolCall[]
  readonly tokens: readonly number[]
  readonly logprobs: readonly Choice[]
  readonly finish: ChatFinish
  readonly stopReason: string | number | null
}

/** All steps together. */
export async function whole(
  reading: Reading,
): Promise<{ readonly answers: readonly Whole[]; readonly result: Result }> {
  const parts: Step[][] = Array.from({ length: reading.n }, () => [])
  const coming = steps(reading)
  for (;;) {
    const { done, value } = await coming.next()
    if (done) return { answers: parts.map((list, index) => join(list, index)), result: value }
    parts[value.index].push(value)
  }
}

function join(list: readonly Step[], index: number): Whole {
  const deltas = list.flatMap((step) => step.deltas)
  const text = deltas.map(({ content }) => content ?? '').join('')
  const calls = new Map<number, { id: string; name: string; arguments: string }>()
  for (const delta of deltas.flatMap(({ tool_calls }) => tool_calls ?? [])) {
    const call = calls.get(delta.index) ?? { id: '', name: '', arguments: '' }
    call.id += delta.id ?? ''
    call.name += delta.function.name ?? ''
    call.arguments += delta.function.arguments ?? ''
    calls.set(delta.index, call)
  }
  const toolCalls = [...calls.values()].map(({ id, ...made }) => ({
    id,
    type: 'function' as const,
    function: made,
  }))
  return {
    index,
    content: text === '' && toolCalls.length > 0 ? null : text,
    toolCalls,
    tokens: list.flatMap((step) => step.tokens),
    logprobs: list.flatMap((step) => step.logprobs ?? []),
    finish: list.at(-1)?.finish ?? 'stop',
    stopReason: list.at(-1)?.stopReason ?? null,
  }
}
