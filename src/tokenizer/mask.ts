// Keeps what people write apart from what a template writes, across a rendering that only knows one string.
// Knows control tokens' spelling and strings inside values; nothing of templates or ids.
//
// A control token can only be spelled from its first letter to its last. So in everything that comes from
// outside, the letters that could be such an edge become private letters that occur nowhere else. They
// survive trimming, joining, JSON and case changes, and hold the place of exactly one letter: after the
// rendering they turn back, and where they stood is where no control token may begin or end.

import { RequestError } from '../tensor/error.ts'
import { isFields } from './fields.ts'

export interface Mask {
  /** A letter that occurs nowhere else either, for the caller's own use. */
  readonly spare: string
  hide(value: unknown): unknown
  reveal(text: string): { readonly text: string; readonly literal: ReadonlySet<number> }
}

/** A mask for these control tokens, whose private letters occur neither in `values` nor in `source`. */
export function createMask(controls: readonly string[], values: unknown, source: string): Mask {
  const edges = new Set(
    controls.filter((control) => control !== '').flatMap((control) => [control[0], control.at(-1)!]),
  )
  const [spare, ...letters] = unusedLetters(edges.size + 1, values, source)
  const privateOf = new Map([...edges].map((edge, index) => [edge, letters[index]]))
  const edgeOf = new Map([...privateOf].map(([edge, letter]) => [letter, edge]))
  const hideText = (text: string): string => {
    const spots = findEdges(text, controls, edges)
    if (spots.length === 0) return text
    let hidden = ''
    let done = 0
    for (const at of spots) {
      hidden += text.slice(done, at) + privateOf.get(text[at])
      done = at + 1
    }
    return hidden + text.slice(done)
  }
  return {
    spare,
    hide: (value) => mapStrings(value, hideText),
    reveal(text) {
      const literal = new Set<number>()
      const revealed = text.replace(/[\uE000-\uF8FF]/g, (letter, offset: number) => {
        const edge = edgeOf.get(letter)
        if (edge !== undefined) literal.add(offset)
        return edge ?? letter
      })
      return { text: revealed, literal }
    },
  }
}

/**
 * Where a control token could begin or end in `text`, or in what a template makes by joining it to other
 * text.
 */
function findEdges(text: string, controls: readonly string[], edges: ReadonlySet<string>): readonly number[] {
  const spots: number[] = []
  const first = text.length - text.trimStart().length
  const last = text.trimEnd().length - 1
  for (let i = first; i <= last; i++) {
    if (!edges.has(text[i])) continue
    const begins = (control: string): boolean =>
      text[i] === control[0] && (i === last || control.length === 1 || text[i + 1] === control[1])
    const ends = (control: string): boolean =>
      text[i] === control.at(-1) && (i === first || control.length === 1 || text[i - 1] === control.at(-2))
    if (controls.some((control) => begins(control) || ends(control))) spots.push(i)
  }
  return spots
}

function unusedLetters(count: number, values: unknown, source: string): readonly string[] {
  const used = new Set<string>()
  const collect = (text: string): string => {
    for (const [letter] of text.matchAll(/[\uE000-\uF8FF]/g)) used.add(letter)
    return text
  }
  collect(source)
  mapStrings(values, collect)
  const unused: string[] = []
  for (let code = 0xe000; code <= 0xf8ff && unused.length < count; code++) {
    const letter = String.fromCharCode(code)
    if (!used.has(letter)) unused.push(letter)
  }
  if (unused.length < count)
    throw new RequestError('the messages use every private letter of Unicode', 'messages')
  return unused
}

function mapStrings(value: unknown, map: (text: string) => string): unknown {
  if (typeof value === 'string') return map(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map))
  if (!isFields(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [map(key), mapStrings(item, map)]))
}
