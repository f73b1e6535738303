// A tokenizer's tokens as grammars want them: spelled in letters of bytes, packed once and shared by every thread.
import type { GrammarVocabulary } from '../engine/masking.ts'
import { letters } from '../tokenizer/alphabet.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

/** Packs when it is first asked: a program without structured outputs never pays for it. */
export function createVocabulary(tokenizer: Tokenizer): () => SharedArrayBuffer {
  let packed: SharedArrayBuffer | null = null
  return () => {
    packed ??= pack(tokenizer)
    return packed
  }
}

function pack(tokenizer: Tokenizer): SharedArrayBuffer {
  const spelled = (id: number): string => Array.from(tokenizer.bytes(id), (byte) => letters[byte]).join('')
  const vocabulary: GrammarVocabulary = {
    letters,
    tokens: Array.from({ length: tokenizer.size }, (_, id) => spelled(id)),
    controls: tokenizer.addedTokens
      .filter(({ id }) => tokenizer.control.has(id))
      .map(({ id, content }) => ({ id, content })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(vocabulary))
  const shared = new SharedArrayBuffer(bytes.length)
  new Uint8Array(shared).set(bytes)
  return shared
}
