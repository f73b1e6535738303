// Text as it may be shown while ids still arrive: whole letters only, and nothing that may yet become a stop
// string. Knows bytes and stop strings; not where ids come from, nor what a stop means to a request.

import { RequestError } from '../tensor/error.ts'
import { checkId, type DecodeOptions, type Tokenizer } from './tokenizer.ts'

export interface Decoder {
  /** The text that this id completes; '' while a letter is still missing bytes. */
  push(id: number): string
  /** What is left: bytes that never became a letter, as U+FFFD. */
  flush(): string
}

type Tokens = Pick<Tokenizer, 'size' | 'special' | 'bytes'>

/** All that push and flush return, joined, is exactly what `decode` gives for the same ids. */
export function createDecoder(tokenizer: Tokens, options: DecodeOptions = {}): Decoder {
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  return {
    push(id) {
      checkId(id, tokenizer.size)
      if (options.skipSpecialTokens === true && tokenizer.special.has(id)) return ''
      return utf8.decode(tokenizer.bytes(id), { stream: true })
    },
    flush: () => utf8.decode(),
  }
}

export interface StopWatch {
  /** Text that is safe to show, and the stop string once one is complete; after that everything is ''. */
  push(text: string): { readonly text: string; readonly stopped: string | null }
  /** What was held back and became no stop string after all. */
  flush(): string
}

/**
 * Watches for the stop string that is complete first; of those complete at the same letter, the one that
 * begins first. So the answer cannot depend on how the text was cut into pushes, and no letter is waited for
 * in vain.
 */
export function createStopWatch(
  stops: readonly string[],
  options: { readonly include?: boolean } = {},
): StopWatch {
  for (const stop of stops) {
    if (typeof stop !== 'string' || stop === '') {
      throw new RequestError(`a stop string is ${JSON.stringify(stop)}, wanted at least one letter`, 'stop')
    }
  }
  // Invariant: `held` is the longest end of the text so far that is the beginning of a stop string.
  let held = ''
  let stopped: string | null = null
  return {
    push(text) {
      if (stopped !== null) return { text: '', stopped }
      const whole = held + text
      const match = firstComplete(whole, stops)
      if (match !== null) {
        stopped = match.stop
        held = ''
        const end = options.include === true ? match.start + match.stop.length : match.start
        return { text: whole.slice(0, end), stopped }
      }
      const safe = whole.length - longestBeginning(whole, stops)
      held = whole.slice(safe)
      return { text: whole.slice(0, safe), stopped }
    },
    flush() {
      const rest = held
      held = ''
      return rest
    },
  }
}

function firstComplete(text: string, stops: readonly string[]): { start: number; stop: string } | null {
  let first: { start: number; stop: string } | null = null
  for (const stop of stops) {
    const start = text.indexOf(stop)
    if (start === -1) continue
    const sooner = first === null ? -1 : start + stop.length - (first.start + first.stop.length)
    if (sooner < 0 || (sooner === 0 && first !== null && start < first.start)) first = { start, stop }
  }
  return first
}

/** How many letters at the end of `text` begin a stop string. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    const most = Math.min(stop.length - 1, text.length)
    for (let length = most; length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length
    }
  }
  return longest
}
