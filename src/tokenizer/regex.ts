// Patterns of tokenizer.json, which are written for Oniguruma, as JavaScript regular expressions of the same
// meaning. Knows the two dialects' differences. What it cannot carry over it refuses: a silent difference
// would change ids.

import { CheckpointError } from '../tensor/error.ts'

/** Spaces as Rust counts them: with U+0085 and without U+FEFF, unlike JavaScript's own `\s`. */
export const space = '\\p{White_Space}'

// Below U+0100 Oniguruma has a table of its own, where the six superscripts and fractions are word letters
// too.
const word = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u{B2}\\u{B3}\\u{B9}\\u{BC}-\\u{BE}'
const outside: Readonly<Record<string, string>> = {
  s: space,
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: `[${word}]`,
  W: `[^${word}]`,
  b: `(?:(?<=[${word}])(?![${word}])|(?<![${word}])(?=[${word}]))`,
  A: '(?<![^])',
  z: '(?![^])',
}
const inside: Readonly<Record<string, string>> = {
  s: space,
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: word,
}
// In Oniguruma's Ruby syntax these look at lines, and only \n ends one.
const anchors: Readonly<Record<string, string>> = { $: '(?![^\\n])', '^': '(?<![^\\n])', '.': '[^\\n]' }

/** The source of the same pattern for `new RegExp(source, 'u')`. */
export function translate(pattern: string, where: string): string {
  const refuse = (what: string): never => {
    throw new CheckpointError(`${where}: ${what} in the pattern ${JSON.stringify(pattern)} is not supported`)
  }
  let source = ''
  let inClass = false
  for (let i = 0; i < pattern.length; ) {
    const letter = pattern[i]
    if (letter === '\\') {
      const [text, length] = translateEscape(pattern, i, inClass, refuse)
      source += text
      i += length
      continue
    }
    if (inClass) {
      if (letter === '[') refuse(pattern[i + 1] === ':' ? 'a POSIX bracket' : 'a set inside a set')
      if (pattern.startsWith('&&', i)) refuse('an intersection of sets')
      if (letter === ']') inClass = false
      source += letter
    } else if (letter === '[') {
      inClass = true
      const negated = pattern[i + 1] === '^'
      if (pattern[i + (negated ? 2 : 1)] === ']') refuse('an empty set')
      source += negated ? '[^' : '['
      if (negated) i++
    } else {
      if (/^\(\?(?!:|=|!|<[=!])/.test(pattern.slice(i)))
        refuse(`a group that begins with ${pattern.slice(i, i + 3)}`)
      if (/^[?*+}]\+/.test(pattern.slice(i))) refuse('a possessive repetition')
      source += anchors[letter] ?? letter
    }
    i++
  }
  return source
}

/** One escape at `at`: its translation and how many letters it took. */
function translateEscape(
  pattern: string,
  at: number,
  inClass: boolean,
  refuse: (what: string) => never,
): readonly [string, number] {
  const letter = pattern[at + 1] ?? refuse('a backslash at the end')
  const known = (inClass ? inside : outside)[letter]
  if (known !== undefined) return [known, 2]
  if (/[nrtfv]/.test(letter)) return [`\\${letter}`, 2]
  const rest = pattern.slice(at)
  const property = /^\\[pP]\{\^?\w+\}/.exec(rest)
  if (property !== null && !property[0].includes('^')) return [property[0], property[0].length]
  const code = /^\\(?:x\{([0-9A-Fa-f]+)\}|u\{([0-9A-Fa-f]+)\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))/.exec(rest)
  if (code !== null) return [`\\u{${code.slice(1).find((digits) => digits !== undefined)}}`, code[0].length]
  if (/[\p{L}\p{N}]/u.test(letter)) refuse(`the escape \\${letter}`)
  const point = pattern.codePointAt(at + 1)!
  return [`\\u{${point.toString(16)}}`, point > 0xffff ? 3 : 2]
}

/** The pattern compiled for JavaScript, or a message that names it. */
export function compile(pattern: string, where: string): RegExp {
  const source = translate(pattern, where)
  try {
    return new RegExp(source, 'gu')
  } catch (error) {
    const reason = (error as Error).message.replace(/^Invalid regular expression: /, '')
    throw new CheckpointError(
      `${where}: JavaScript cannot take the pattern ${JSON.stringify(pattern)}: ${reason}`,
    )
  }
}

/** A literal text as a pattern. */
export function literally(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
}

/** A pattern that is only a run of letters of one set. */
export interface Run {
  /** Source of a set that matches one letter. */
  readonly set: string
  /** One space before the run belongs to it: `\s?`. */
  readonly led: boolean
  /** All letters that follow belong to it, not one: `+`. */
  readonly many: boolean
  /** It must reach the end of the piece (or of the line): `$`. */
  readonly last: boolean
}

/** The run that a pattern describes, or null: runs need no regular expression at all. */
export function asRun(pattern: string, where: string): Run | null {
  const shape = /^(\\s\?)?(\[(?:[^\\\]]|\\[\s\S])+\]|\\[pP]\{\w+\}|\\[sdw])(\+)?(\$)?$/.exec(pattern)
  if (shape === null) return null
  const [, lead, set, plus, end] = shape
  if (end !== undefined && (lead !== undefined || plus === undefined)) return null
  return {
    set: translate(set, where),
    led: lead !== undefined,
    many: plus !== undefined,
    last: end !== undefined,
  }
}
