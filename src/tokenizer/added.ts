// Finds added tokens in text before anything else looks at it. Knows their spelling and their rules about
// neighbours, and which of them are control tokens that plain text must never become.

import { literally } from './regex.ts'

export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
  /** Takes the spaces before it, or after it, along. */
  readonly lstrip: boolean
  readonly rstrip: boolean
  /** Only where no letter touches it. */
  readonly singleWord: boolean
  /** Looked for in normalized text, after those that are looked for in the raw text. */
  readonly normalized: boolean
}

/**
 * Whether a token steers the model: text that merely spells it must stay text.
 * Some checkpoints do not mark `<｜User｜>` or `<｜fim▁hole｜>` special, so the look decides too.
 */
export function isControl(token: Pick<AddedToken, 'content' | 'special'>): boolean {
  return token.special || /^<[｜|][\s\S]*[｜|]>$/.test(token.content)
}

/** Tells whether a control token may stand at [start, end) of the text. */
export type Allowed = (start: number, end: number) => boolean

export interface Part {
  readonly start: number
  readonly end: number
  /** null: ordinary text. */
  readonly id: number | null
}

/** A function that cuts text into added tokens and what is between them. */
export function createFinder(
  tokens: readonly AddedToken[],
): (text: string, allowed: Allowed) => readonly Part[] {
  const named = tokens.filter((token) => token.content !== '')
  const phases = [false, true]
    .map((normalized) => named.filter((token) => token.normalized === normalized))
    .filter((phase) => phase.length > 0)
    .map(createPhase)
  return (text, allowed) => {
    let parts: readonly Part[] = [{ start: 0, end: text.length, id: null }]
    for (const phase of phases) {
      parts = parts.flatMap((part) =>
        part.id === null ? phase(text, part.start, part.end, allowed) : [part],
      )
    }
    return parts
  }
}

type Phase = (text: string, start: number, end: number, allowed: Allowed) => readonly Part[]

function createPhase(tokens: readonly AddedToken[]): Phase {
  const byContent = new Map(tokens.map((token) => [token.content, token]))
  const any = alternatives(tokens, 'g')
  const harmless = alternatives(
    tokens.filter((token) => !isControl(token)),
    'y',
  )

  /** The next token at or after `from`; where a control token may not begin, what else is spelled there. */
  function next(text: string, from: number, allowed: Allowed): { at: number; token: AddedToken } | null {
    for (;;) {
      any.lastIndex = from
      const found = any.exec(text)
      if (found === null) return null
      const token = byContent.get(found[0])!
      if (!isControl(token) || allowed(found.index, any.lastIndex)) return { at: found.index, token }
      harmless.lastIndex = found.index
      const other = harmless.exec(text)
      if (other !== null) return { at: other.index, token: byContent.get(other[0])! }
      from = found.index + 1
    }
  }

  return (whole, start, end, allowed) => {
    const text = whole.slice(start, end)
    const parts: Part[] = []
    let done = 0
    let from = 0
    const allowedHere: Allowed = (left, right) => allowed(start + left, start + right)
    for (let found = next(text, from, allowedHere); found !== null; found = next(text, from, allowedHere)) {
      const { at, token } = found
      from = at + token.content.length
      // As in the Rust library, a token may begin inside the spaces that the one before it took along.
      if (!token.singleWord || standsAlone(text, at, from)) {
        let left = at
        let right = from
        if (token.lstrip) while (left > done && isSpace.test(text[left - 1])) left--
        if (token.rstrip) while (right < text.length && isSpace.test(text[right])) right++
        if (done < left) parts.push({ start: start + done, end: start + left, id: null })
        parts.push({ start: start + left, end: start + right, id: token.id })
        done = right
      }
    }
    if (done < text.length) parts.push({ start: start + done, end, id: null })
    return parts
  }
}

const letter = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]'
const endsInWord = new RegExp(`${letter}$`, 'u')
const beginsWithWord = new RegExp(`^${letter}`, 'u')
const isSpace = /\p{White_Space}/u

function standsAlone(text: string, start: number, end: number): boolean {
  return (
    !endsInWord.test(text.slice(Math.max(0, start - 2), start)) &&
    !beginsWithWord.test(text.slice(end, end + 2))
  )
}

/** The longest of the contents that begin first: alternatives are tried in order. */
function alternatives(tokens: readonly AddedToken[], flag: 'g' | 'y'): RegExp {
  const contents = tokens.map((token) => token.content).sort((a, b) => b.length - a.length)
  return new RegExp(contents.length === 0 ? '[]' : contents.map(literally).join('|'), flag)
}
