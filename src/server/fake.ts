// For tests: the demo model's tokenizer, template and limits with an engine that computes nothing, so that thousands of
// requests take seconds. Everything above the engine is the real thing.

import type { Engine, EngineLimits, EngineRequest, EngineStats, TokenEvent } from '../engine/engine.ts'
import { readConfig } from '../engine/open.ts'
import { createCompletion } from '../llm/completion.ts'
import { type LLM, locate, readGeneration } from '../llm/load.ts'
import { encodeChat, encodePrompt } from '../llm/prompt.ts'
import { type ChatOptions, type CompleteOptions, readOptions } from '../llm/request.ts'
import { RequestError } from '../tensor/error.ts'
import { openTemplate } from '../tokenizer/template.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import type { ErrorObject } from './failure.ts'

export interface FakeOptions {
  /** Tokens of an answer that says no max_tokens; default 4. */
  readonly length?: number
  /** Milliseconds before each token; default none, and no turn of the event loop but one a request. */
  readonly tokenMs?: number
  /** Thrown instead of the second token. */
  readonly error?: Error
}

const limits: EngineLimits = {
  max_model_len: 2048,
  max_num_seqs: 16,
  max_num_batched_tokens: 512,
  cache_bytes: 2 ** 20,
  cache_tokens: 64 * 64,
}
const pages = { total: 64, free: 64, cached: 0, held: 0 }

export async function fakeLLM(options: FakeOptions = {}): Promise<LLM> {
  const directory = await locate('demo')
  const config = readConfig(directory)
  const generation = readGeneration(directory, config)
  const tokenizer = openTokenizer(directory)
  const template = openTemplate(directory, tokenizer)
  const engine = fakeEngine(tokenizer.encode(' hello world, this is an answer'), options)
  const run = (prompt: () => readonly number[], asked: ChatOptions & CompleteOptions) =>
    createCompletion({
      engine,
      tokenizer,
      prompt,
      options: readOptions(asked, tokenizer, config.vocabSize, {}),
      signal: asked.signal,
      lead: '',
      vocabulary: () => new SharedArrayBuffer(0),
    })
  const { close } = engine
  return {
    ...{ name: 'demo', directory, config, generation, tokenizer, template, limits, warnings: [] },
    chat: (messages, asked = {}) => run(() => encodeChat(messages, asked, template), asked),
    complete: (prompt, asked = {}) => run(() => encodePrompt(prompt, asked, tokenizer), asked),
    stats: () => engine.stats(),
    close,
    [Symbol.asyncDispose]: close,
  }
}

function fakeEngine(words: readonly number[], { length = 4, tokenMs = 0, error }: FakeOptions): Engine {
  const counts = { running: 0, steps: 0, promptTokens: 0, outputTokens: 0 }

  async function* generate(request: EngineRequest, signal?: AbortSignal): AsyncGenerator<TokenEvent> {
    const { params, n = 1, prompt_token_ids } = request
    if (prompt_token_ids.some((id) => id < 0 || id > 1e6)) {
      throw new RequestError('a token id is out of range', 'prompt_token_ids')
    }
    counts.running += n
    counts.promptTokens += prompt_token_ids.length
    let left = false
    // as the real one: an abort frees at once, also where nobody reads on
    const leave = (): void => {
      if (!left) counts.running -= n
      left = true
    }
    signal?.addEventListener('abort', leave, { once: true })
    try {
      await new Promise(setImmediate)
      const last = Math.max(1, Math.min(params.max_tokens ?? length, 16, 2048 - prompt_token_ids.length))
      for (let at = 0; at < last; at++) {
        if (tokenMs > 0) await new Promise((resolve) => setTimeout(resolve, tokenMs))
        if (signal?.aborted) throw signal.reason
        if (error && at > 0) throw error
        counts.steps++
        for (let index = 0; index < Math.min(n, 16); index++) yield event(index, at, last, request)
      }
    } finally {
      leave()
      signal?.removeEventListener('abort', leave)
    }
  }

  function event(index: number, at: number, last: number, { params }: EngineRequest): TokenEvent {
    counts.outputTokens++
    const token = words[at % words.length]
    return {
      index,
      choice: { token, logprob: -1, top: [{ token, logprob: -1 }].slice(0, params.logprobs ?? 0) },
      finish: at + 1 < last ? null : params.max_tokens === last ? 'length' : 'stop',
      stopToken: null,
      prompt: at > 0 ? null : { cachedTokens: 0, queuedMs: 1, prefillMs: 2, logprobs: null },
    }
  }

  const stats = async (): Promise<EngineStats> => ({
    ...{ backend: 'fake', limits, waiting: 0, pages, preemptions: 0, prefixQueries: 10, prefixHits: 5 },
    grammars: { threads: 0, compiled: 0, cached: 0, restarts: 0 },
    ...counts,
  })
  return { limits, warnings: [], generate, stats, close: async () => undefined }
}

/** A request of JSON, as clients send it. */
export function post(path: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Request {
  return new Request(`http://localhost${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

export const get = (path: string, headers: Readonly<Record<string, string>> = {}): Request =>
  new Request(`http://localhost${path}`, { headers })

/** An error's answer, as OpenAI's clients read it. */
export async function errorOf(response: Response) {
  const { error } = (await response.json()) as { readonly error: ErrorObject }
  return error
}
