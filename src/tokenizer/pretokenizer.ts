// Cuts text into the pieces that are merged on their own, as the `pre_tokenizer` of tokenizer.json says.
// Knows patterns and positions; nothing of ids. Each stage cuts every piece that the stage before it left.
//
// DeepSeek's stages are runs of letters of one set. Those never meet a regular expression: every UTF-16 unit
// is looked up once, giving one bit per set, and a stage is a loop over bits. Other patterns go through
// RegExp.

import { type Run, space } from './regex.ts'

export type Behavior = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous'

/** One `Split` (or `Digits`): what to look for and what to do with it. */
export type Split =
  | { readonly kind: 'run'; readonly run: Run }
  | {
      readonly kind: 'pattern'
      readonly pattern: RegExp
      readonly behavior: Behavior
      readonly invert: boolean
    }

export interface PreTokenizer {
  readonly splits: readonly Split[]
  /** ByteLevel's own settings; it always comes last. */
  readonly addPrefixSpace: boolean
  readonly gpt2: boolean
}

interface Line {
  readonly text: string
  /**
   * Bit b of marks[i] says that the letter at unit i is in set b; both halves of a pair have the pair's bits.
   * The two highest bits are where the stages write: a piece begins here, and this is in no piece any more.
   */
  readonly marks: Int32Array
}

type Stage = (line: Line) => void

const begins = 1 << 31
const removed = 1 << 30
/** Spaces are always the first set. */
const isSpace = 1

const gpt2Pattern = [
  `'s|'t|'re|'ve|'m|'ll|'d`,
  ` ?\\p{L}+| ?\\p{N}+| ?[^${space}\\p{L}\\p{N}]+`,
  `${space}+(?!\\P{White_Space})|${space}+`,
].join('|')

/** A function that gives every piece of a well-formed text, in order. */
export function createPreTokenizer(
  description: PreTokenizer,
): (text: string, emit: (piece: string) => void) => void {
  const sets = [space]
  const stages = description.splits.map((split): Stage => {
    if (split.kind === 'pattern') return patternStage(split.pattern, split.behavior, split.invert)
    if (!sets.includes(split.run.set)) sets.push(split.run.set)
    return runStage(split.run, 1 << sets.indexOf(split.run.set))
  })
  const mark = createMarker(sets)
  const gpt2 = patternStage(new RegExp(gpt2Pattern, 'gu'), 'Isolated', false)
  if (description.gpt2 && !description.addPrefixSpace) stages.push(gpt2)

  /** A space in front makes the piece another text, so what comes after it works on that text. */
  const spaced = (piece: string, emit: (piece: string) => void): void => {
    const text = piece.startsWith(' ') ? piece : ` ${piece}`
    const line = { text, marks: new Int32Array(text.length) }
    if (description.gpt2) gpt2(line)
    forEachPiece(line, (start, end) => emit(text.slice(start, end)))
  }
  return (text, emit) => {
    const line = { text, marks: mark(text) }
    for (const stage of stages) stage(line)
    forEachPiece(line, (start, end) => {
      const piece = text.slice(start, end)
      if (description.addPrefixSpace) spaced(piece, emit)
      else emit(piece)
    })
  }
}

function forEachPiece({ marks }: Line, visit: (start: number, end: number) => void): void {
  for (let start = 0; start < marks.length; ) {
    let end = start + 1
    while (end < marks.length && marks[end] >= 0) end++
    if ((marks[start] & removed) === 0) visit(start, end)
    start = end
  }
}

/**
 * Looks letters up in a table that is filled from the sets' own patterns, 256 letters at a time, when first
 * met.
 */
function createMarker(sets: readonly string[]): (text: string) => Int32Array {
  const members = sets.map((set) => new RegExp(`^${set}$`, 'u'))
  const table = new Int32Array(0x110000)
  const filled = new Uint8Array(0x1100)
  const fill = (block: number): void => {
    filled[block] = 1
    for (let point = block << 8; point < (block + 1) << 8; point++) {
      const letter = String.fromCodePoint(point)
      for (let bit = 0; bit < members.length; bit++) if (members[bit].test(letter)) table[point] |= 1 << bit
    }
  }
  return (text) => {
    const marks = new Int32Array(text.length)
    for (let i = 0; i < text.length; i++) {
      let point = text.charCodeAt(i)
      if ((point & 0xfc00) === 0xd800) point = text.codePointAt(i)!
      if (filled[point >> 8] === 0) fill(point >> 8)
      marks[i] = table[point]
      if (point > 0xffff) marks[++i] = table[point]
    }
    return marks
  }
}

/** Isolates `\s?[set]+`, `[set]` and their like, in one pass. */
function runStage(run: Run, bit: number): Stage {
  // A letter of the set that no piece begins with: the run goes on.
  const goesOn = (mark: number): boolean => (mark & (bit | begins)) === bit
  return ({ text, marks }) => {
    const length = marks.length
    for (let at = 0; at < length; ) {
      const led = run.led && (marks[at] & isSpace) !== 0 && at + 1 < length && goesOn(marks[at + 1])
      if (!led && (marks[at] & bit) === 0) {
        at++
        continue
      }
      let to = led ? at + 1 : at
      to += isPair(text, to) ? 2 : 1
      if (run.many) while (to < length && goesOn(marks[to])) to++
      const stop = run.last ? lastLineEnd(text, marks, at, to) : to
      if (stop > at) {
        marks[at] |= begins
        if (stop < length) marks[stop] |= begins
      }
      // Where no line ends inside the run, none of its other letters can begin a match either.
      at = stop > at ? stop : to
    }
  }
}

function isPair(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xd800
}

/** The farthest end of a line (or of the piece) in (from, to], or `from` where there is none. */
function lastLineEnd(text: string, marks: Int32Array, from: number, to: number): number {
  if (to === marks.length || marks[to] < 0) return to
  while (to > from && text[to] !== '\n') to--
  return to
}

/**
 * Any pattern and behaviour, by RegExp over each piece on its own, so that `^`, `$` and look-around stop
 * there.
 */
function patternStage(pattern: RegExp, behavior: Behavior, invert: boolean): Stage {
  return (line) => {
    const { text, marks } = line
    // A piece is visited after its end is known, so what is marked inside it does not disturb the walk.
    forEachPiece(line, (start, end) => {
      const spans = arrange(matches(text.slice(start, end), pattern, invert), behavior)
      for (const span of spans) if (span.start < end - start) marks[start + span.start] |= begins
      if (behavior !== 'Removed') return
      for (const span of spans) {
        if (span.match) marks.fill(begins | removed, start + span.start, start + span.end)
      }
    })
  }
}

interface Span {
  readonly start: number
  readonly end: number
  readonly match: boolean
}

/** The whole piece as spans that match and spans that do not. */
function matches(piece: string, pattern: RegExp, invert: boolean): Span[] {
  const spans: Span[] = []
  let done = 0
  for (const found of piece.matchAll(pattern)) {
    const end = found.index + found[0].length
    if (done < found.index) spans.push({ start: done, end: found.index, match: invert })
    spans.push({ start: found.index, end, match: !invert })
    done = end
  }
  if (done < piece.length) spans.push({ start: done, end: piece.length, match: invert })
  return spans
}

function arrange(spans: readonly Span[], behavior: Behavior): readonly Span[] {
  if (behavior === 'Isolated' || behavior === 'Removed') return spans
  const joins = (span: Span, before: boolean): boolean =>
    behavior === 'Contiguous' ? span.match === before : span.match && !before
  const backwards = behavior === 'MergedWithNext'
  const joined: Span[] = []
  let before = false
  for (const span of backwards ? spans.toReversed() : spans) {
    const last = joined.at(-1)
    if (last !== undefined && joins(span, before)) {
      const merged = backwards ? { ...last, start: span.start } : { ...last, end: span.end }
      joined[joined.length - 1] = merged
    } else joined.push(span)
    before = span.match
  }
  return backwards ? joined.reverse() : joined
}
