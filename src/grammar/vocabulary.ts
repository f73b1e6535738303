// The tokens as grammars see them: bytes, in memory that threads share, and which of them are no text.

export interface Vocabulary {
  /** All tokens' bytes one after another; token i is [offsets[i], offsets[i + 1]). */
  readonly bytes: Uint8Array<SharedArrayBuffer>
  readonly offsets: Int32Array<SharedArrayBuffer>
  /** Control tokens: never part of a constrained answer, unless a grammar spells them. */
  readonly control: readonly number[]
}

export function createVocabulary(tokens: readonly Uint8Array[], control: Iterable<number>): Vocabulary {
  const total = tokens.reduce((sum, token) => sum + token.length, 0)
  const bytes = new Uint8Array(new SharedArrayBuffer(total))
  const offsets = new Int32Array(new SharedArrayBuffer((tokens.length + 1) * 4))
  let at = 0
  for (const [i, token] of tokens.entries()) {
    bytes.set(token, at)
    at += token.length
    offsets[i + 1] = at
  }
  return { bytes, offsets, control: [...control] }
}

export const tokenAt = ({ bytes, offsets }: Vocabulary, id: number): Uint8Array =>
  bytes.subarray(offsets[id], offsets[id + 1])

export const sizeOf = ({ offsets }: Vocabulary): number => offsets.length - 1
