// The demo model behind a real socket, and stand-ins for what an engine would say. Tests only.
import type { Chunk, Completion, Result } from '../llm/completion.ts'
import { type LLM, load } from '../llm/load.ts'
import type { Delta, Reader, Reading } from './answer.ts'
import { type Listening, listen } from './listen.ts'
import { createServer, type Server, type ServerOptions } from './server.ts'

export interface Fixture {
  readonly url: string
  readonly llm: LLM
  readonly server: Server
  close(): Promise<void>
}

export async function serveDemo(options: ServerOptions = {}): Promise<Fixture> {
  const llm = await load('demo', { threads: 1, max_model_len: 4096 })
  const server = createServer(llm, options)
  const listening: Listening = await listen(server.app, { host: '127.0.0.1', port: 0 })
  async function close(): Promise<void> {
    listening.closeNow()
    await listening.close()
    await llm.close()
  }
  return { url: listening.url, llm, server, close }
}

/** Waits for what an abort brings about; ten seconds at most. */
export async function until(holds: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 1000 && !holds(); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return holds()
}

/** Nothing runs any more, in the server and in the engine. */
export async function idle({ server, llm }: Fixture): Promise<void> {
  const isIdle = async (): Promise<boolean> =>
    server.jobs.sequences === 0 && (await llm.stats()).running === 0
  for (let tries = 0; tries < 1000 && !(await isIdle()); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  if (!(await isIdle())) throw new Error('sequences are still at work')
}

/** A tool whose arguments are easily judged. */
export const weather = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'The weather of a city',
    parameters: {
      type: 'object',
      properties: { city: { enum: ['Paris', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 3 } },
      required: ['city', 'days'],
      additionalProperties: false,
    },
  },
}

/** A reading whose reader makes of each token what `script` says, and ends with `finish`. */
export function scripted(
  script: readonly (readonly Delta[])[],
  finish: ReturnType<Reader['end']>['finish'],
): Reading {
  const last = script.length - 1
  const chunks = script.map(
    (_, i): Chunk => ({
      index: 0,
      text: String(i),
      token_ids: [i],
      logprobs: null,
      finish_reason: i < last ? null : finish === 'length' ? 'length' : 'stop',
      stop_reason: null,
    }),
  )
  const reader: Reader = {
    push: (text) => script[Number(text)],
    end: () => ({ deltas: [], finish }),
  }
  return { completion: completionOf(chunks), job: idleJob, n: 1, reader: () => reader }
}

function completionOf(chunks: readonly Chunk[]): Completion {
  async function* run(): AsyncGenerator<Chunk, void, undefined> {
    yield* chunks
  }
  const coming = run()
  const usage = { prompt_tokens: 20, completion_tokens: chunks.length, total_tokens: 20 + chunks.length }
  const timings = {
    queued_ms: 0,
    prompt_ms: 1,
    prompt_per_second: 1,
    predicted_ms: 1,
    predicted_per_second: 1,
  }
  const answer = { ...chunks[0], finish_reason: chunks[chunks.length - 1].finish_reason }
  const result: Result = {
    ...answer,
    answers: [answer],
    prompt_token_ids: [],
    prompt_logprobs: null,
    usage: { ...usage, prompt_tokens_details: { cached_tokens: 8 } },
    timings,
  }
  return { [Symbol.asyncIterator]: () => coming, prompt: () => [], result: async () => result }
}

const idleJob: Reading['job'] = {
  facts: { id: '', endpoint: '', key: null, n: 1, maxTokens: null, stream: true },
  signal: new AbortController().signal,
  abort: () => undefined,
  token: () => undefined,
  end: () => undefined,
}

/** Text, then two calls, as a reader of tools would tell them. */
export const twoCalls: readonly (readonly Delta[])[] = [
  [{ content: 'Let me ' }],
  [{ content: 'see.' }],
  [{ tool_calls: [{ index: 0, id: 'call_a', type: 'function', function: { name: 'add', arguments: '' } }] }],
  [{ tool_calls: [{ index: 0, function: { arguments: '{"a": 1,' } }] }],
  [{ tool_calls: [{ index: 0, function: { arguments: ' "b": 2}' } }] }],
  [
    {
      tool_calls: [{ index: 1, id: 'call_b', type: 'function', function: { name: 'now', arguments: '{}' } }],
    },
  ],
  [],
]
