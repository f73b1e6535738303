// Regular expressions as people write them (ECMAScript without what no grammar can say) -> a grammar of the texts they
// match. Knows nothing of JSON and its escapes.
import { RequestError } from '../tensor/error.ts'
import {
  type Chars,
  chars,
  charsOf,
  choice,
  type Expr,
  everyAscii,
  nothing,
  range,
  repeat,
  sequence,
} from './expr.ts'

type Node =
  | { readonly kind: 'set'; readonly set: Chars }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'choice'; readonly of: readonly Node[] }
  | { readonly kind: 'repeat'; readonly of: Node; readonly least: number; readonly most: number | null }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }

export interface Pattern {
  /** The texts that match as a whole. */
  readonly whole: Expr
  /** The texts in which it is found somewhere, as JSON Schema means it. */
  readonly found: Expr
  /** Letters that the pattern leaves out and a grammar cannot: they are to be kept out of the whole answer. */
  readonly barred: string
}

const everything: Chars = { ascii: everyAscii, beyond: true, few: '' }
/** The line ends and spaces of Unicode that no set here can leave out by itself. */
const farBreaks = '\u2028\u2029'
const farSpaces =
  '\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\ufeff'
const dot = without(everything, charsOf('\n\r'))
const word = union(union(range('a', 'z'), range('A', 'Z')), union(range('0', '9'), charsOf('_')))
const digit = range('0', '9')
const space = charsOf(' \t\n\r\f\v')
const classes: Readonly<Record<string, Chars>> = {
  d: digit,
  w: word,
  s: space,
  D: without(everything, digit),
  W: without(everything, word),
}
const controls: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', f: '\f', v: '\v', 0: '\0' }
const longestPattern = 8192
const mostRepeats = 4096
const mostNesting = 64

/** Parses a pattern; throws RequestError with what it cannot say. `path` is the pattern's name. */
export function parsePattern(source: string, path: string): Pattern {
  if (source.length > longestPattern) {
    throw new RequestError(
      `${path} has ${source.length} characters, at most ${longestPattern} are taken`,
      'structured_outputs',
    )
  }
  try {
    new RegExp(source, 'u')
  } catch {
    try {
      new RegExp(source) // looser about escapes, as patterns in the wild are
    } catch (error) {
      throw new RequestError(
        `${path} is no regular expression: ${(error as Error).message}`,
        'structured_outputs',
      )
    }
  }
  const { node, barred } = createParser(source, path).parse()
  if (copies(node) > mostRepeats) {
    throw new RequestError(
      `${path} repeats more than ${mostRepeats} times in all; use smaller counts`,
      'structured_outputs',
    )
  }
  const misplaced = (): never => refuse(path, source, 'an anchor (^ or $) in the middle')
  const edges = open(trimmed(node), misplaced)
  const any = repeat(chars(everything), 0, null)
  return {
    barred,
    whole: choice(...edges.map(({ body }) => write(body))),
    found: choice(
      ...edges.map(({ body, start, end }) =>
        sequence(start ? nothing : any, write(body), end ? nothing : any),
      ),
    ),
  }
}

function refuse(path: string, source: string, what: string): never {
  throw new RequestError(
    `${path} has ${what}, which cannot be enforced: ${JSON.stringify(source.slice(0, 80))}; rewrite the pattern without it`,
    'structured_outputs',
  )
}

interface Edge {
  readonly body: Node
  readonly start: boolean
  readonly end: boolean
}

/** Groups around a whole alternative are opened, so that `^(a|b)$` and `(^a$)` both show their anchors. */
function trimmed(node: Node): Node {
  if (node.kind === 'sequence' && node.parts.length === 1) return trimmed(node.parts[0])
  return node
}

/** The alternatives of a pattern, each with whether it is bound to the start and to the end. */
function open(node: Node, misplaced: () => never): Edge[] {
  if (node.kind === 'choice') return node.of.flatMap((part) => open(trimmed(part), misplaced))
  const parts = node.kind === 'sequence' ? [...node.parts] : [node]
  let start = false
  let end = false
  while (parts[0]?.kind === 'start') start = parts.shift() !== undefined
  while (parts.at(-1)?.kind === 'end') end = parts.pop() !== undefined
  if (parts.length === 1 && parts[0].kind === 'choice' && hasAnchor(parts[0])) {
    return open(parts[0], misplaced).map((edge) => ({
      body: edge.body,
      start: edge.start || start,
      end: edge.end || end,
    }))
  }
  const body: Node = { kind: 'sequence', parts }
  if (hasAnchor(body)) misplaced()
  return [{ body, start, end }]
}

function hasAnchor(node: Node): boolean {
  if (node.kind === 'start' || node.kind === 'end') return true
  if (node.kind === 'sequence') return node.parts.some(hasAnchor)
  if (node.kind === 'choice') return node.of.some(hasAnchor)
  return node.kind === 'repeat' && hasAnchor(node.of)
}

function write(node: Node): Expr {
  if (node.kind === 'set') return chars(node.set)
  if (node.kind === 'sequence') return sequence(...node.parts.map(write))
  if (node.kind === 'choice') return choice(...node.of.map(write))
  return node.kind === 'repeat' ? repeat(write(node.of), node.least, node.most) : nothing
}

/** How large the pattern is with its counts written out. */
function copies(node: Node): number {
  if (node.kind === 'sequence') return node.parts.reduce((sum, part) => sum + copies(part), 0)
  if (node.kind === 'choice') return node.of.reduce((sum, part) => sum + copies(part), 0)
  if (node.kind === 'repeat') return copies(node.of) * Math.max(node.most ?? node.least, 1)
  return 1
}

export function union(a: Chars, b: Chars): Chars {
  const beyond = a.beyond || b.beyond
  const few = beyond ? '' : [...new Set([...a.few, ...b.few])].join('')
  return { ascii: a.ascii | b.ascii, beyond, few }
}

function without(a: Chars, b: Chars): Chars {
  return { ...a, ascii: a.ascii & ~b.ascii & everyAscii }
}

function createParser(
  source: string,
  path: string,
): { parse(): { readonly node: Node; readonly barred: string } } {
  const letters = [...source]
  let at = 0
  let depth = 0
  let barred = ''
  const peek = (): string | undefined => letters[at]
  const eat = (letter: string): boolean => letters[at] === letter && ++at > 0
  const no = (what: string): never => refuse(path, source, what)

  function alternatives(): Node {
    if (++depth > mostNesting) no(`groups nested more than ${mostNesting} deep`)
    const of = [run()]
    while (eat('|')) of.push(run())
    depth--
    return of.length === 1 ? of[0] : { kind: 'choice', of }
  }

  function run(): Node {
    const parts: Node[] = []
    while (at < letters.length && peek() !== '|' && peek() !== ')') parts.push(counted(atom()))
    return parts.length === 1 ? parts[0] : { kind: 'sequence', parts }
  }

  function atom(): Node {
    const letter = letters[at++]
    if (letter === '(') return group()
    if (letter === '[') return { kind: 'set', set: bracket() }
    if (letter === '.') {
      barred += farBreaks
      return { kind: 'set', set: dot }
    }
    if (letter === '^') return { kind: 'start' }
    if (letter === '$') return { kind: 'end' }
    if (letter === '\\') return { kind: 'set', set: escaped(false) }
    return { kind: 'set', set: charsOf(letter) }
  }

  function group(): Node {
    if (eat('?')) {
      const kind = letters[at++]
      if (kind === '<' && peek() !== '=' && peek() !== '!') {
        while (letters[at++] !== '>');
      } else if (kind !== ':')
        no(kind === '=' || kind === '!' || kind === '<' ? 'a lookaround' : 'a group with flags')
    }
    const inside = alternatives()
    eat(')')
    return inside
  }

  function counted(of: Node): Node {
    let node = of
    for (;;) {
      const counts = quantifier()
      if (counts === null) return node
      eat('?') // lazy or greedy: the texts are the same
      if (hasAnchor(node)) no('a repeated anchor')
      node = { kind: 'repeat', of: node, least: counts[0], most: counts[1] }
    }
  }

  function quantifier(): [number, number | null] | null {
    if (eat('*')) return [0, null]
    if (eat('+')) return [1, null]
    if (eat('?')) return [0, 1]
    const found = /^\{(\d+)(,(\d*))?\}/.exec(letters.slice(at, at + 24).join(''))
    if (!found) return null
    at += found[0].length
    const least = Number(found[1])
    if (found[2] === undefined) return [least, least]
    return [least, found[3] === '' ? null : Number(found[3])]
  }

  function escaped(inBracket: boolean): Chars {
    const letter = letters[at++]
    if (Object.hasOwn(classes, letter)) return classes[letter]
    if (letter === 'S') {
      barred += farSpaces + farBreaks
      return without(everything, space)
    }
    if (Object.hasOwn(controls, letter)) return charsOf(controls[letter])
    if (letter === 'x' || letter === 'u') return charsOf(code(letter))
    if (letter === 'c') return charsOf(String.fromCharCode((letters[at++].codePointAt(0) ?? 0) & 31))
    if (letter === 'b' && inBracket) return charsOf('\b')
    if (letter === 'b' || letter === 'B') no('a word boundary')
    if (letter === 'p' || letter === 'P') no('a Unicode property')
    if (/[1-9k]/.test(letter)) no('a back reference')
    return charsOf(letter)
  }

  function code(kind: string): string {
    const rest = letters.slice(at, at + 12).join('')
    const form = kind === 'x' ? /^([0-9a-fA-F]{2})/ : /^(?:\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{4}))/
    const found = form.exec(rest)
    if (!found) return kind
    at += found[0].length
    const value = Number.parseInt(found[1] ?? found[2], 16)
    if (value >= 0xd800 && value <= 0xdfff) no('half of a surrogate pair')
    return String.fromCodePoint(value)
  }

  function bracket(): Chars {
    const negated = eat('^')
    const start = at
    let set: Chars = { ascii: 0n, beyond: false, few: '' }
    while (!eat(']')) {
      const from = member()
      const isRange = peek() === '-' && letters[at + 1] !== ']' && single(from) !== null
      if (!isRange) set = union(set, from)
      else {
        at++
        set = union(set, between(single(from)!, member()))
      }
    }
    if (!negated) return set
    if (letters.slice(start, at).join('').includes('\\s')) barred += farSpaces + farBreaks
    if (set.few !== '') no('a set that leaves out letters beyond ASCII')
    return { ascii: everyAscii ^ set.ascii, beyond: !set.beyond, few: '' }
  }

  function member(): Chars {
    return eat('\\') ? escaped(true) : charsOf(letters[at++])
  }

  function between(from: number, last: Chars): Chars {
    const to = single(last)
    if (to === null) return union(union(charsOf(String.fromCodePoint(from)), charsOf('-')), last)
    if (to >= 0x10ffff && from <= 0x80) return union(asciiFrom(from), { ascii: 0n, beyond: true, few: '' })
    if (to >= 128 && to - from > 256) no('a range of letters beyond ASCII')
    let all = ''
    for (let code = from; code <= to; code++) all += String.fromCodePoint(code)
    return charsOf(all)
  }

  return {
    parse() {
      const node = alternatives()
      if (at < letters.length) no('an unbalanced parenthesis')
      return { node, barred }
    },
  }
}

function asciiFrom(from: number): Chars {
  return { ascii: (everyAscii >> BigInt(from)) << BigInt(from), beyond: false, few: '' }
}

/** The code of the only letter of a set; null where there are more. */
function single({ ascii, beyond, few }: Chars): number | null {
  if (beyond) return null
  if (ascii === 0n) return [...few].length === 1 ? few.codePointAt(0)! : null
  if (few !== '' || (ascii & (ascii - 1n)) !== 0n) return null
  return ascii.toString(2).length - 1
}
