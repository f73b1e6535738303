// Answers as they come, in the shapes of transformers: a streamer is given ids by `generate` and turns them into text.
// Knows one answer at a time; nothing of models or sampling.
import { createQueue } from '../engine/queue.ts'
import { createDecoder, type Decoder } from '../tokenizer/stream.ts'
import type { PreTrainedTokenizer } from './pretrained.ts'

/** What `generate` asks of a streamer: the prompt's ids first, then each new id, then the end. */
export interface Streamer {
  put(ids: readonly number[]): void
  /** With an error where there will be no more because something failed. */
  end(error?: unknown): void
  /** True once nobody listens: the answer ends there. */
  readonly closed?: boolean
}

export interface StreamerOptions {
  /** Leave the prompt out; default false. */
  readonly skip_prompt?: boolean
  /** Default true, as in transformers.js. */
  readonly skip_special_tokens?: boolean
  /** Gets each piece of text; default: it is written to standard output. */
  readonly callback_function?: (text: string) => void
  /** Gets the ids as they come. */
  readonly token_callback_function?: (ids: readonly number[]) => void
}

/** Calls back with text as soon as it can be shown: whole letters only. All pieces joined are what `decode` gives. */
export class TextStreamer implements Streamer {
  readonly #decoder: Decoder
  readonly #options: StreamerOptions
  #prompt = true

  constructor(tokenizer: PreTrainedTokenizer, options: StreamerOptions = {}) {
    const skipSpecialTokens = options.skip_special_tokens ?? true
    this.#decoder = createDecoder(tokenizer.inner, { skipSpecialTokens })
    this.#options = options
  }

  put(ids: readonly number[]): void {
    const skipped = this.#prompt && this.#options.skip_prompt === true
    this.#prompt = false
    if (skipped) return
    this.#options.token_callback_function?.(ids)
    const text = ids.map((id) => this.#decoder.push(id)).join('')
    if (text !== '') this.on_finalized_text(text, false)
  }

  end(error?: unknown): void {
    const rest = this.#decoder.flush() // also makes the decoder new, for the next answer
    this.#prompt = true
    if (error === undefined) this.on_finalized_text(rest, true)
  }

  /** The one thing to override; `end` is true for the last, maybe empty, piece. */
  on_finalized_text(text: string, end: boolean): void {
    const { callback_function } = this.#options
    if (callback_function === undefined) process.stdout.write(end ? `${text}\n` : text)
    else if (text !== '') callback_function(text)
  }
}

/**
 * The same as something to iterate: `for await (const text of streamer)`. Leaving the loop ends the answer. One streamer
 * is one answer.
 */
export class TextIteratorStreamer extends TextStreamer implements AsyncIterable<string> {
  readonly #queue = createQueue<string>()
  closed = false

  override on_finalized_text(text: string, end: boolean): void {
    if (text !== '') this.#queue.push(text)
    if (end) this.#queue.end()
  }

  override end(error?: unknown): void {
    super.end(error)
    if (error !== undefined) this.#queue.end(error)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    try {
      for (;;) {
        const { done, value } = await this.#queue.next()
        if (done) return
        yield value
      }
    } finally {
      this.closed = true
    }
  }
}

/** Decides after each token whether an answer ends there; sees the rows of ids, as in transformers.js. */
export interface StoppingCriterion {
  _call(input_ids: readonly (readonly number[])[]): readonly boolean[]
}

export type StoppingRule =
  | StoppingCriterion
  | ((input_ids: readonly (readonly number[])[]) => boolean | readonly boolean[])

/** Ends answers from outside: `interrupt()`, and what was generated so far is returned. */
export class InterruptableStoppingCriteria implements StoppingCriterion {
  interrupted = false

  interrupt(): void {
    this.interrupted = true
  }

  reset(): void {
    this.interrupted = false
  }

  _call(input_ids: readonly (readonly number[])[]): readonly boolean[] {
    return input_ids.map(() => this.interrupted)
  }
}

/** Whether one of the rules ends this row. */
export function ruledOver(rules: readonly StoppingRule[], row: readonly number[]): boolean {
  return rules.some((rule) => {
    const verdict = typeof rule === 'function' ? rule([row]) : rule._call([row])
    return verdict === true || (Array.isArray(verdict) && verdict[0] === true)
  })
}
