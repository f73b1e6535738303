// A grammar as a value: expressions over characters, named rules, and their spelling in xgrammar's EBNF.
// Knows nothing of JSON, schemas or tokens. Only what xgrammar gets right is ever spelled: letters beyond ASCII come as
// literals or as "all of them", because its positive classes of such letters miss some.
import { RequestError } from '../tensor/error.ts'

/** A set of characters: ASCII by bits, and of all others every one, or only the few that are listed. */
export interface Chars {
  readonly ascii: bigint
  readonly beyond: boolean
  readonly few: string
}

export type Expr =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chars'; readonly chars: Chars }
  | { readonly kind: 'sequence'; readonly parts: readonly Expr[] }
  | { readonly kind: 'choice'; readonly of: readonly Expr[] }
  | { readonly kind: 'repeat'; readonly of: Expr; readonly least: number; readonly most: number | null }
  | { readonly kind: 'rule'; readonly name: string }

export const everyAscii = (1n << 128n) - 1n
export const nothing: Expr = { kind: 'text', text: '' }
/** Matches no text at all, not even the empty one. */
export const never: Expr = { kind: 'choice', of: [] }

export function text(value: string): Expr {
  return { kind: 'text', text: value }
}

export function sequence(...parts: readonly Expr[]): Expr {
  const kept = parts.filter((part) => part.kind !== 'text' || part.text !== '')
  return kept.length === 1 ? kept[0] : { kind: 'sequence', parts: kept }
}

export function choice(...of: readonly Expr[]): Expr {
  if (of.length === 0) return never
  return of.length === 1 ? of[0] : { kind: 'choice', of }
}

export function repeat(of: Expr, least: number, most: number | null): Expr {
  if (most === 0) return nothing
  return least === 1 && most === 1 ? of : { kind: 'repeat', of, least, most }
}

export function optional(of: Expr): Expr {
  return choice(of, nothing)
}

/** The ASCII letters from one to another. */
export function range(from: string, to: string): Chars {
  let ascii = 0n
  for (let code = from.charCodeAt(0); code <= to.charCodeAt(0); code++) ascii |= 1n << BigInt(code)
  return { ascii, beyond: false, few: '' }
}

export function charsOf(letters: string): Chars {
  let ascii = 0n
  let few = ''
  for (const letter of letters) {
    const code = letter.codePointAt(0) ?? 0
    if (code < 128) ascii |= 1n << BigInt(code)
    else if (!few.includes(letter)) few += letter
  }
  return { ascii, beyond: false, few }
}

export function chars(set: Chars): Expr {
  return { kind: 'chars', chars: set }
}

export function isEmpty({ ascii, beyond, few }: Chars): boolean {
  return ascii === 0n && !beyond && few === ''
}

/** Grammars larger than this are refused before anyone spends time on them. */
const mostText = 512 * 1024

export interface Rules {
  /** A rule of that content; the same content twice is one rule. `ahead` is a class of what may follow it. */
  define(content: Expr, ahead?: Chars): Expr
  /** A rule whose content comes later, for what contains itself. */
  reserve(): { readonly rule: Expr; fill(content: Expr, ahead?: Chars): void }
  /** What `make` makes, once for each key. */
  once<Made extends Expr | null>(key: string, make: () => Made): Made
  /** The whole grammar, or null where no text at all matches `root`. */
  print(root: Expr): string | null
}

export function createRules(): Rules {
  const contents = new Map<string, { readonly content: Expr; readonly ahead: Chars | null }>()
  const names = new Map<string, string>()
  const made = new Map<string, Expr | null>()
  let size = 0
  let count = 0

  function put(name: string, content: Expr, ahead: Chars | null): void {
    size += printExpr(content).length
    if (size > mostText) {
      throw new RequestError(
        `the grammar is larger than ${mostText} characters; give a smaller schema or pattern`,
        'structured_outputs',
      )
    }
    contents.set(name, { content, ahead })
  }

  function define(content: Expr, ahead: Chars | null = null): Expr {
    const key = `${printExpr(content)}${ahead ? ` ahead ${printChars(ahead)}` : ''}`
    const known = names.get(key)
    if (known !== undefined) return { kind: 'rule', name: known }
    const name = `r${count++}`
    names.set(key, name)
    put(name, content, ahead)
    return { kind: 'rule', name }
  }

  function reserve(): ReturnType<Rules['reserve']> {
    const name = `r${count++}`
    return { rule: { kind: 'rule', name }, fill: (content, ahead) => put(name, content, ahead ?? null) }
  }

  function once<Made extends Expr | null>(key: string, make: () => Made): Made {
    if (!made.has(key)) made.set(key, make())
    return made.get(key) as Made // keys tell apart what they are for
  }

  function print(root: Expr): string | null {
    const live = productive(contents)
    const content = prune(root, live)
    if (content === never) return null
    const lines = [`root ::= ${printExpr(content)}`]
    const seen = new Set<string>()
    const visit = (expr: Expr): void => {
      if (expr.kind === 'sequence') expr.parts.forEach(visit)
      else if (expr.kind === 'choice') expr.of.forEach(visit)
      else if (expr.kind === 'repeat') visit(expr.of)
      else if (expr.kind === 'rule' && !seen.has(expr.name)) {
        seen.add(expr.name)
        const { content, ahead } = contents.get(expr.name)!
        const own = prune(content, live)
        lines.push(`${expr.name} ::= (${printExpr(own)})${ahead ? ` (= ${printChars(ahead)})` : ''}`)
        visit(own)
      }
    }
    visit(content)
    return `${lines.join('\n')}\n`
  }

  return { define, reserve, once, print }
}

/** The rules that match at least one finite text. */
function productive(contents: ReadonlyMap<string, { readonly content: Expr }>): ReadonlySet<string> {
  const live = new Set<string>()
  for (let before = -1; before !== live.size; ) {
    before = live.size
    for (const [name, { content }] of contents) {
      if (!live.has(name) && prune(content, live) !== never) live.add(name)
    }
  }
  return live
}

/** The expression without alternatives that can never end. */
function prune(expr: Expr, live: ReadonlySet<string>): Expr {
  switch (expr.kind) {
    case 'text':
      return expr
    case 'chars':
      return isEmpty(expr.chars) ? never : expr
    case 'rule':
      return live.has(expr.name) ? expr : never
    case 'repeat': {
      const of = prune(expr.of, live)
      if (of !== never) return of === expr.of ? expr : repeat(of, expr.least, expr.most)
      return expr.least === 0 ? nothing : never
    }
    case 'sequence': {
      const parts = expr.parts.map((part) => prune(part, live))
      return parts.includes(never) ? never : { kind: 'sequence', parts }
    }
    case 'choice':
      return choice(...expr.of.map((part) => prune(part, live)).filter((part) => part !== never))
  }
}

/** Its spelling, which tells expressions apart too. */
export function printExpr(expr: Expr): string {
  switch (expr.kind) {
    case 'text':
      return `"${[...expr.text].map(printLetter).join('')}"`
    case 'chars':
      return printChars(expr.chars)
    case 'rule':
      return expr.name
    case 'sequence':
      return expr.parts.length === 0 ? '""' : expr.parts.map(printPart).join(' ')
    case 'choice':
      return expr.of.map(printPart).join(' | ')
    case 'repeat':
      return `${printPart(expr.of)}${printCount(expr.least, expr.most)}`
  }
}

function printPart(expr: Expr): string {
  const printed = printExpr(expr)
  const wrapped = expr.kind === 'choice' || expr.kind === 'sequence' || expr.kind === 'repeat'
  return wrapped ? `(${printed})` : printed
}

function printCount(least: number, most: number | null): string {
  if (most === null && least <= 1) return least === 0 ? '*' : '+'
  return `{${least},${most ?? ''}}`
}

/** Escapes of fixed width: after `\x1f` a letter from a to f would be read as a third digit. */
function printLetter(letter: string): string {
  const code = letter.codePointAt(0) ?? 0
  if (/[a-zA-Z0-9 _.,:;{}/<>=+*()|-]/.test(letter)) return letter
  return code > 0xffff
    ? `\\U${code.toString(16).padStart(8, '0')}`
    : `\\u${code.toString(16).padStart(4, '0')}`
}

function printChars({ ascii, beyond, few }: Chars): string {
  if (beyond) {
    if (ascii === everyAscii) return '([\\u0000-\\u007f] | [^\\u0000-\\u007f])'
    return `[^${printRanges(everyAscii ^ ascii)}]`
  }
  const parts = [...few].map((letter) => `"${printLetter(letter)}"`)
  if (ascii !== 0n) parts.unshift(`[${printRanges(ascii)}]`)
  return parts.length === 1 ? parts[0] : `(${parts.join(' | ')})`
}

function printRanges(ascii: bigint): string {
  const letter = (code: number): string => `\\u${code.toString(16).padStart(4, '0')}`
  const bits = ascii.toString(2).padStart(128, '0') // 128 shifts of a bigint would cost more than all else here
  const has = (code: number): boolean => bits[127 - code] === '1'
  let printed = ''
  for (let code = 0; code < 128; code++) {
    if (!has(code)) continue
    const from = code
    while (code < 127 && has(code + 1)) code++
    printed += from === code ? letter(from) : `${letter(from)}-${letter(code)}`
  }
  return printed
}
