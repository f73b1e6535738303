// The mask of an answer, after the library: bytes that are no UTF-8 and barred letters fall away (letters.ts), strings keep
// to their lengths (lengths.ts). One for all grammars of a vocabulary; a place for each answer.

import { markLetters } from '../grammar/json.ts'
import type { AnswerGrammar } from '../grammar/structured.ts'
import { advanceScan, createLengths, type Lengths, scanStart } from './lengths.ts'
import { createFilter, type Filter, unfinished } from './letters.ts'

export interface Masker {
  /** Whether every mark has a token of its own; else strings are to be bounded by rules. */
  readonly canMark: boolean
  /** The beginning of an answer. */
  begin(grammar: Pick<AnswerGrammar, 'barred' | 'marks'>): Place
}

export interface Place {
  /** The answer has grown by a token. */
  step(token: number): void
  /** Clears of the library's mask what else is not allowed here. */
  apply(words: Int32Array): void
}

/** `tokens`: the bytes of each, a character a byte. */
export function createMasker(tokens: readonly string[], size: number): Masker {
  const markTokens = new Map(markLetters.map((letter) => [letter, tokens.indexOf(letter)]))
  const filters = new Map<string, Filter>()
  let lengths: Lengths | null = null

  function filterFor(barred: readonly string[]): Filter {
    const key = barred.join('')
    const known = filters.get(key) ?? createFilter(tokens, barred, size)
    filters.set(key, known)
    return known
  }

  return {
    canMark: [...markTokens.values()].every((id) => id >= 0),
    begin({ barred, marks }) {
      const filter = filterFor([...barred, ...marks.map(({ letter }) => letter)])
      if (marks.length > 0) lengths ??= createLengths(tokens, size)
      const open = marks.map(({ letter, most }) => ({ id: markTokens.get(letter) ?? 0, most }))
      let tail = ''
      let scan = scanStart
      return {
        step(token) {
          tail = unfinished(tail + tokens[token])
          if (marks.length > 0) scan = advanceScan(scan, tokens[token])
        },
        apply(words) {
          let most: number | null = null
          for (const mark of open) {
            const isOpen = ((words[mark.id >> 5] >>> (mark.id & 31)) & 1) === 1
            if (isOpen && (most === null || mark.most < most)) most = mark.most
          }
          filter.apply(words, tail)
          if (marks.length > 0) lengths?.apply(words, scan, most === null ? null : most - scan.count)
        },
      }
    },
  }
}
