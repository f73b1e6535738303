// Fill in the middle, as DeepSeek-Coder-V2 was trained for it (its README: begin, prefix, hole, suffix, end).
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { Failure } from './failure.ts'

const marks = { begin: '<｜fim▁begin｜>', hole: '<｜fim▁hole｜>', end: '<｜fim▁end｜>' } as const

export function canFillMiddle(tokenizer: Tokenizer): boolean {
  return Object.values(marks).every((mark) => tokenizer.id(mark) !== null)
}

/** The ids of a prompt whose answer goes between `prefix` and `suffix`; control tokens in them stay text. */
export function fimPrompt(prefix: string, suffix: string, tokenizer: Tokenizer): readonly number[] {
  const [begin, hole, end] = [marks.begin, marks.hole, marks.end].map((mark) => tokenizer.id(mark))
  if (begin === null || hole === null || end === null) {
    throw new Failure(
      400,
      `suffix cannot be used: this model's tokenizer lacks the tokens of filling in (${Object.values(marks).join(' ')}); leave suffix out`,
      { param: 'suffix' },
    )
  }
  const opening = tokenizer.encode('', { addSpecialTokens: true })
  return [...opening, begin, ...tokenizer.encode(prefix), hole, ...tokenizer.encode(suffix), end]
}
