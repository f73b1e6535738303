// What crosses between an engine and the thread that computes masks, and the memory they share.
import type { AnswerGrammar } from './structured.ts'
import type { Vocabulary } from './vocabulary.ts'

export interface MaskerData {
  readonly vocabulary: Vocabulary
  /** Rows of logits; tokens beyond the vocabulary are padding. */
  readonly size: number
  /** Ends an answer. */
  readonly stop: readonly number[]
}

export type ToMasker =
  | { readonly kind: 'compile'; readonly id: number; readonly grammar: AnswerGrammar }
  | {
      readonly kind: 'open'
      readonly matcher: number
      readonly grammar: number
      readonly shared: SharedArrayBuffer
    }
  | { readonly kind: 'accept'; readonly matcher: number; readonly token: number }
  | { readonly kind: 'close'; readonly matcher: number }
  | { readonly kind: 'drop'; readonly id: number }

export type FromMasker = { readonly kind: 'compiled'; readonly id: number; readonly error: string | null }

/** Shared by one matcher: [state, mask of ceil(size / 32) words]. */
export const state = { pending: 0, ready: 1, failed: 2 } as const
export const maskWords = (size: number): number => Math.ceil(size / 32)
