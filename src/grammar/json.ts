// JSON's own grammar, spelled as JSON.stringify spells it: one space or one line break with some indentation where JSON
// allows any whitespace, so that no answer is endless whitespace. Knows JSON, no schemas.
import { automatonOf, costOf, isSpellable, lengthsOf, respelled, spell, windowed } from './automaton.ts'
import {
  type Chars,
  chars,
  charsOf,
  choice,
  type Expr,
  everyAscii,
  optional,
  printExpr,
  type Rules,
  range,
  repeat,
  sequence,
  text,
} from './expr.ts'
import { anyNumber } from './number.ts'
import { regular } from './regular.ts'

/** States of a pattern that take almost any letter: each is as costly to compile as a whole string. */
const mostCostly = 160
const shorter = [256, 128, 64, 32, 16]
/** Spaces after a line break: ten levels of two. */
const indentation = 20

/** Letters that stand for themselves inside a string. */
const plain: Chars = { ascii: everyAscii & ~0xffffffffn & ~bit('"') & ~bit('\\'), beyond: true, few: '' }
const quote = text('"')
/** What begins a value, or the space before it; and what comes after one. */
const beginsValue = charsOf(' "{[-0123456789tfn')
const followsValue = charsOf(' \n,}]')
const hex = union(range('0', '9'), range('a', 'f'), range('A', 'F'))

function bit(letter: string): bigint {
  return 1n << BigInt(letter.charCodeAt(0))
}

function union(...sets: readonly Chars[]): Chars {
  return { ascii: sets.reduce((all, { ascii }) => all | ascii, 0n), beyond: false, few: '' }
}

const short: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '\b': 'b',
  '\f': 'f',
  '\n': 'n',
  '\r': 'r',
  '\t': 't',
}

/** One letter of a set as it stands in a string; those of `avoid` are spelled by their numbers. */
function spellLetter({ ascii, beyond, few }: Chars, avoid: bigint): Expr {
  const of: Expr[] = []
  const raw = { ascii: ascii & plain.ascii & ~avoid, beyond, few }
  if (raw.ascii !== 0n || beyond || few !== '') of.push(chars(raw))
  const shorts = Object.keys(short).filter((letter) => (ascii & bit(letter)) !== 0n)
  if (shorts.length > 0) of.push(sequence(text('\\'), chars(charsOf(shorts.map((it) => short[it]).join('')))))
  for (let code = 0; code < 32; code++) {
    const letter = String.fromCharCode(code)
    if ((ascii & bit(letter)) === 0n || Object.hasOwn(short, letter)) continue
    of.push(text(JSON.stringify(letter).slice(1, -1)))
  }
  for (let code = 32; code < 128; code++) {
    const shunned = ascii & avoid & (1n << BigInt(code))
    if (shunned !== 0n) of.push(text(`\\u${code.toString(16).padStart(4, '0')}`))
  }
  return choice(...of)
}

/** A letter that no string contains, allowed by the grammar wherever a string of at most `most` characters is open. */
export interface Mark {
  readonly letter: string
  readonly most: number
}

export interface JsonSetting {
  /** ASCII letters that strings spell by their numbers only, so that no control token fits into one. */
  readonly avoid?: string
  /** Strings are bounded by marks; else by rules, of which there is one for each character. */
  readonly marked?: boolean
}

/** The control characters that JSON has no whitespace among. */
export const markLetters = Array.from({ length: 32 }, (_, code) => String.fromCharCode(code)).filter(
  (letter) => !'\0\t\n\r'.includes(letter),
)

export interface Json {
  readonly rules: Rules
  /** Between tokens. */
  readonly gap: Expr
  readonly value: Expr
  readonly object: Expr
  readonly array: Expr
  readonly string: Expr
  readonly number: Expr
  /** A string of `least` to `most` characters. */
  stringOf(least: number, most: number | null): Expr
  /** The marks of strings whose characters are to be counted by whoever makes masks. */
  readonly marks: () => readonly Mark[]
  /** `"key": value`. */
  pair(name: string, value: Expr): Expr
  /** A pair whose key is none of `names`, as far as few rules can tell them apart. */
  otherPair(names: readonly string[], value: Expr): Expr
  /** A pair whose key is this expression, without its quotes. */
  keyedPair(key: Expr, value: Expr): Expr
  /** The texts of `expr` with `least` to `most` letters as they stand in a string, without quotes. Null: too large. */
  inString(expr: Expr, least: number, most: number | null): Expr | null
  /** Members or items, `least` to `most` of them, between brackets. */
  list(open: string, item: Expr, least: number, most: number | null, close: string): Expr
}

/** Characters that are counted one by one; longer strings are counted in blocks, so that their rules stay few. */
const block = 64

export function createJson(rules: Rules, { avoid = '', marked = false }: JsonSetting = {}): Json {
  const avoided = charsOf(avoid).ascii
  const raw: Chars = { ...plain, ascii: plain.ascii & ~avoided }
  const gap = rules.define(
    choice(text(''), text(' '), sequence(text('\n'), repeat(text(' '), 0, indentation))),
  )
  const space = optional(text(' '))
  const unicode = sequence(
    text('u'),
    choice(
      sequence(chars(union(range('0', '9'), charsOf('abcefABCEF'))), repeat(chars(hex), 3, 3)),
      sequence(chars(charsOf('dD')), chars(range('0', '7')), repeat(chars(hex), 2, 2)), // no halves of pairs
    ),
  )
  const escaped = rules.define(choice(chars(charsOf('"\\/bfnrt')), unicode))
  const letter = (next: Expr): Expr[] => [sequence(chars(raw), next), sequence(text('\\'), escaped, next)]
  const tail = rules.reserve()
  tail.fill(choice(quote, ...letter(tail.rule)), followsValue)
  const string = rules.define(sequence(quote, tail.rule))
  const number = regular(anyNumber(), rules)

  /** `count` letters and then `end`; `also` may stand for any of them. */
  function before(end: Expr, count: number, ...also: readonly Expr[]): Expr {
    let expr = end
    for (let i = 0; i < count % block; i++) expr = rules.define(choice(...letter(expr), ...also))
    if (count < block) return expr
    let whole: Expr = text('')
    for (let i = 0; i < block; i++) whole = rules.define(choice(...letter(whole), ...also))
    return sequence(...Array.from({ length: Math.floor(count / block) }, () => whole), expr)
  }

  function atMost(count: number): Expr {
    let expr: Expr = rules.define(quote)
    for (let i = 0; i < count; i++) expr = rules.define(choice(quote, ...letter(expr)), followsValue)
    return expr
  }

  const marks = new Map<number, string>()

  /** Where the letters run out, a smaller bound that has one serves: shorter strings are valid too. */
  function markOf(least: number, most: number): Mark | null {
    const letter = marks.get(most) ?? markLetters.at(marks.size)
    if (letter !== undefined) {
      marks.set(most, letter)
      return { letter, most }
    }
    const [nearest] = [...marks].filter(([it]) => it >= least && it < most).sort(([a], [b]) => b - a)
    return nearest ? { letter: nearest[1], most: nearest[0] } : null
  }

  function markedString(least: number, { letter: marking, most }: Mark): Expr {
    const mark = text(marking)
    const end = rules.once(`tail ${most}`, () => {
      const { rule, fill } = rules.reserve()
      fill(choice(quote, ...letter(rule), mark), followsValue)
      return rule
    })
    return rules.define(sequence(quote, before(end, least, mark)))
  }

  function stringOf(least: number, most: number | null): Expr {
    if (least === 0 && most === null) return string
    const mark = marked && most !== null ? markOf(least, most) : null
    if (mark !== null) return markedString(least, mark)
    if (most === null) return rules.define(sequence(quote, before(tail.rule, least)))
    let left = most - least
    let end = atMost(Math.min(left, block))
    for (left -= block; left > 0; left -= block) {
      const count = Math.min(left, block)
      end = rules.define(choice(atMost(count), before(end, count)))
    }
    return rules.define(sequence(quote, before(end, least)))
  }

  const keyEnd = sequence(quote, text(':'))
  /** `\u` and `\/` would be second spellings of a name that is to be told apart. */
  const keyLetter = (next: Expr, shorts: string, letters: Chars): Expr[] => [
    sequence(chars(letters), next),
    sequence(text('\\'), chars(charsOf(shorts)), next),
  ]
  const anyKey = rules.reserve()
  anyKey.fill(choice(keyEnd, ...keyLetter(anyKey.rule, '"\\bfnrt', raw)), beginsValue)

  const pair = (name: string, value: Expr): Expr => sequence(text(`${JSON.stringify(name)}:`), space, value)
  const keyedPair = (key: Expr, value: Expr): Expr => sequence(quote, key, keyEnd, space, value)
  const otherPair = (names: readonly string[], value: Expr): Expr =>
    sequence(quote, otherKey(names), space, value)

  function otherKey(names: readonly string[]): Expr {
    const trie = createTrie(names)
    const write = (node: Trie): Expr => {
      const named = [...node.next.keys()]
      const escaped = named.filter((unit) => unit.startsWith('\\')).map((unit) => unit[1])
      const shorts = [...'"\\bfnrt'].filter((it) => !escaped.includes(it)).join('')
      const taken = charsOf(named.filter((unit) => !unit.startsWith('\\')).join(''))
      // letters beyond ASCII cannot be left out of a set of them all, so one of them leaves out all
      const free = { ascii: raw.ascii & ~taken.ascii, beyond: taken.few === '', few: '' }
      const of = [...keyLetter(anyKey.rule, shorts, free)]
      if (!node.ends) of.push(keyEnd)
      for (const [unit, next] of node.next) if (next.open) of.push(sequence(text(unit), write(next)))
      return rules.define(choice(...of), beginsValue)
    }
    return names.length === 0 ? anyKey.rule : write(trie)
  }

  function inString(expr: Expr, least: number, most: number | null): Expr | null {
    return rules.once(`in string ${least} ${most} ${printExpr(expr)}`, () => cutString(expr, least, most))
  }

  function cutString(expr: Expr, least: number, most: number | null): Expr | null {
    const whole = automatonOf(expr)
    if (whole === null || !isSpellable(whole)) return null
    const [shortest, longest] = lengthsOf(whole)
    const fits = shortest >= least && (most === null || (longest !== null && longest <= most))
    // where counting all that is allowed takes too many states, shorter texts alone are allowed
    const limits = [most, ...shorter.filter((it) => it >= least && it >= shortest && it < (most ?? 0))]
    const cuts = fits ? [whole] : limits.map((limit) => windowed(whole, least, limit))
    const cut = cuts.find((it) => it !== null && costOf(it) <= mostCostly)
    const written = cut && respelled(cut, (set) => spellLetter(set, avoided))
    return written ? spell(written, rules) : null
  }

  function list(open: string, item: Expr, least: number, most: number | null, close: string): Expr {
    const more = sequence(text(','), gap, item)
    const counted = repeat(more, Math.max(least - 1, 0), most === null ? null : most - 1)
    const filled = sequence(gap, item, counted, gap, text(close))
    if (most === 0) return text(open + close)
    return sequence(text(open), least > 0 ? filled : choice(text(close), filled))
  }

  const value = rules.reserve()
  const object = rules.define(list('{', otherPair([], value.rule), 0, null, '}'))
  const array = rules.define(list('[', value.rule, 0, null, ']'))
  value.fill(choice(object, array, string, number, text('true'), text('false'), text('null')))
  return {
    rules,
    gap,
    value: value.rule,
    object,
    array,
    string,
    number,
    stringOf,
    marks: () => [...marks].map(([most, letter]) => ({ letter, most })),
    pair,
    otherPair,
    keyedPair,
    inString,
    list,
  }
}

interface Trie {
  ends: boolean
  /** Whether its own letters are told apart; what lies below a closed one is left out of the grammar altogether. */
  open: boolean
  readonly next: Map<string, Trie>
}

/** Each open node is a rule that costs as much to compile as a whole string; names may share their beginnings. */
const mostOpen = 12

/** The names letter by letter (in their spelling), open from the top as far as the bound allows. */
function createTrie(names: readonly string[]): Trie {
  const root: Trie = { ends: false, open: true, next: new Map() }
  for (const name of names) {
    let node = root
    for (const unit of units(name)) {
      if (!node.next.has(unit)) node.next.set(unit, { ends: false, open: false, next: new Map() })
      node = node.next.get(unit)!
    }
    node.ends = true
  }
  const queue = [root]
  for (let open = 0; queue.length > 0 && open < mostOpen; open++) {
    const node = queue.shift()!
    node.open = true
    queue.push(...node.next.values())
  }
  return root
}

function units(name: string): string[] {
  return [...name].map((letter) => JSON.stringify(letter).slice(1, -1))
}
