// What crosses between the engine and the thread that computes masks.
import type { PlainError } from './plain.ts'

/** What a request demands of its answer, ready to cross threads. */
export interface GrammarRequest {
  /** `structured_outputs` as JSON. */
  readonly outputs: string
  /** What the model may write before its answer. */
  readonly lead: string
  /** The tokens: a `Vocabulary` as JSON in UTF-8. Shared, so that it is copied once for each thread and not each request. */
  readonly vocabulary: SharedArrayBuffer
}

export interface GrammarVocabulary {
  /** The letter of each byte, in which the tokens are spelled. */
  readonly letters: readonly string[]
  readonly tokens: readonly string[]
  /** Ids that no answer contains unless its grammar spells them out, and what they spell. */
  readonly controls: readonly { readonly id: number; readonly content: string }[]
}

export interface GrammarCounts {
  readonly threads: number
  readonly compiled: number
  /** Requests whose grammar was compiled already. */
  readonly cached: number
  /** Threads that died. */
  readonly restarts: number
}

export interface MaskingData {
  readonly vocabulary: SharedArrayBuffer
  readonly vocabSize: number
  readonly eosTokenIds: readonly number[]
}

export type ToMasking =
  | { readonly kind: 'compile'; readonly key: string; readonly outputs: string; readonly lead: string }
  | { readonly kind: 'drop'; readonly key: string }
  | {
      readonly kind: 'open'
      readonly matcher: number
      readonly key: string
      readonly slot: SharedArrayBuffer
      /** Tokens that are written already: a matcher that moves from a thread that died. */
      readonly tokens: readonly number[]
    }
  | { readonly kind: 'advance'; readonly moves: readonly Move[] }
  | { readonly kind: 'close'; readonly matcher: number }

export interface Move {
  readonly matcher: number
  readonly token: number
}

export type FromMasking =
  | { readonly kind: 'compiled'; readonly key: string }
  | { readonly kind: 'refused'; readonly key: string; readonly error: PlainError }
  /** The library is gone, and this thread with it: what it was doing, and what it said. */
  | {
      readonly kind: 'dead'
      readonly key: string | null
      readonly matcher: number | null
      readonly why: string
    }
  | { readonly kind: 'ready'; readonly matcher: number }
  | { readonly kind: 'lost'; readonly matcher: number; readonly error: PlainError }
