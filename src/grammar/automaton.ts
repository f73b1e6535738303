// Regular expressions as deterministic automata: from every state a letter leads to one state at most. That is how they
// are spelled as rules, because xgrammar (0.1.27) merges states wrongly where alternatives of one rule overlap: it took
// 300 for one of `[1-9] | "1" d | "9" d | [2-8] d | "1" d d | "2" d d`.
import { type Chars, chars, charsOf, choice, type Expr, nothing, type Rules, sequence, text } from './expr.ts'

/**
 * Letters that are told apart, 0 to 127 ASCII, then the `few`, then all others as one, in classes of those that no set
 * tells apart: edges are by class.
 */
interface Alphabet {
  readonly few: readonly string[]
  readonly classes: readonly (readonly number[])[]
  readonly classOf: readonly number[]
}

export interface Automaton {
  readonly alphabet: Alphabet
  /** Of each state: where a class leads, if anywhere. State 0 is the first. */
  readonly edges: readonly ReadonlyMap<number, number>[]
  readonly ends: readonly boolean[]
}

interface Net {
  readonly free: number[][]
  readonly steps: { readonly set: readonly number[]; readonly to: number }[][]
}

const mostStates = 6000
const mostNet = 60_000
/** Larger ones are not looked through for equal states: they come from counts, and have few. */
const mostMerged = 200

/** The automaton of an expression without rules; null where it would be too large. */
export function automatonOf(expr: Expr): Automaton | null {
  const alphabet = alphabetOf([expr])
  const net: Net = { free: [[]], steps: [[]] }
  const end = weave(net, expr, 0, alphabet)
  return end === null ? null : determined(net, (state) => state === end, alphabet)
}

function alphabetOf(exprs: readonly Expr[]): Alphabet {
  const few = new Set<string>()
  const sets = new Map<string, Chars>()
  const add = (set: Chars): void => {
    sets.set(`${set.ascii} ${set.beyond} ${set.few}`, set)
    for (const letter of set.few) few.add(letter)
  }
  const visit = (expr: Expr): void => {
    if (expr.kind === 'chars') add(expr.chars)
    if (expr.kind === 'text') for (const letter of expr.text) add(charsOf(letter))
    if (expr.kind === 'sequence') expr.parts.forEach(visit)
    if (expr.kind === 'choice') expr.of.forEach(visit)
    if (expr.kind === 'repeat') visit(expr.of)
  }
  exprs.forEach(visit)
  return classified([...few], [...sets.values()])
}

function classified(few: readonly string[], sets: readonly Chars[]): Alphabet {
  const members = sets.map((set) => symbolsOf(set, few))
  const signatures: number[][] = Array.from({ length: 129 + few.length }, () => [])
  for (const [i, symbols] of members.entries()) for (const symbol of symbols) signatures[symbol].push(i)
  const numbers = new Map<string, number>()
  const classes: number[][] = []
  const classOf = signatures.map((signature, symbol) => {
    const key = signature.join()
    const own = numbers.get(key) ?? classes.push([]) - 1
    numbers.set(key, own)
    classes[own].push(symbol)
    return own
  })
  return { few, classes, classOf }
}

function symbolsOf({ ascii, beyond, few: own }: Chars, few: readonly string[]): number[] {
  const symbols: number[] = []
  const bits = ascii.toString(2).padStart(128, '0')
  for (let code = 0; code < 128; code++) if (bits[127 - code] === '1') symbols.push(code)
  for (const [i, letter] of few.entries()) if (beyond || own.includes(letter)) symbols.push(128 + i)
  if (beyond) symbols.push(128 + few.length)
  return symbols
}

function classesOf(set: Chars, { few, classOf }: Alphabet): number[] {
  return [...new Set(symbolsOf(set, few).map((symbol) => classOf[symbol]))]
}

function state(net: Net): number {
  net.free.push([])
  return net.steps.push([]) - 1
}

/** Adds an expression after `from`; the state where it ends, or null where the net would be too large. */
function weave(net: Net, expr: Expr, from: number, alphabet: Alphabet): number | null {
  if (net.free.length > mostNet) return null
  const step = (at: number, set: readonly number[]): number => {
    const to = state(net)
    net.steps[at].push({ set, to })
    return to
  }
  switch (expr.kind) {
    case 'text':
      return [...expr.text].reduce((at, letter) => step(at, classesOf(charsOf(letter), alphabet)), from)
    case 'chars':
      return step(from, classesOf(expr.chars, alphabet))
    case 'sequence':
      return expr.parts.reduce<number | null>(
        (at, part) => (at === null ? null : weave(net, part, at, alphabet)),
        from,
      )
    case 'choice': {
      const ends = expr.of.map((part) => weave(net, part, from, alphabet))
      const to = state(net)
      for (const end of ends) if (end !== null) net.free[end].push(to)
      return ends.includes(null) ? null : to
    }
    case 'repeat':
      return weaveRepeat(net, expr, from, alphabet)
    case 'rule':
      return null
  }
}

function weaveRepeat(
  net: Net,
  { of, least, most }: Extract<Expr, { kind: 'repeat' }>,
  from: number,
  alphabet: Alphabet,
): number | null {
  let at: number | null = state(net) // its own, so that a loop does not leak into what came before
  net.free[from].push(at)
  for (let i = 0; i < least && at !== null; i++) at = weave(net, of, at, alphabet)
  if (at === null) return null
  const to = state(net)
  net.free[at].push(to)
  if (most === null) {
    const start = state(net)
    net.free[at].push(start)
    const end = weave(net, of, start, alphabet)
    if (end === null) return null
    net.free[end].push(start, to)
    return to
  }
  for (let i = least; i < most; i++) {
    at = weave(net, of, at, alphabet)
    if (at === null) return null
    net.free[at].push(to)
  }
  return to
}

function determined(net: Net, isEnd: (state: number) => boolean, alphabet: Alphabet): Automaton | null {
  const closure = (states: Iterable<number>): number[] => {
    const seen = new Set(states)
    for (const at of seen) for (const to of net.free[at]) seen.add(to)
    return [...seen].sort((a, b) => a - b)
  }
  const sets = [closure([0])]
  const numbers = new Map([[sets[0].join(), 0]])
  const edges: Map<number, number>[] = []
  for (let i = 0; i < sets.length; i++) {
    const targets = new Map<number, Set<number>>()
    for (const at of sets[i]) {
      for (const { set, to } of net.steps[at]) {
        for (const symbol of set) targets.set(symbol, (targets.get(symbol) ?? new Set()).add(to))
      }
    }
    const own = new Map<number, number>()
    const known = new Map<string, number>()
    for (const [symbol, states] of targets) {
      const raw = [...states].join()
      let to = known.get(raw)
      if (to === undefined) {
        const closed = closure(states)
        const key = closed.join()
        to = numbers.get(key) ?? sets.push(closed) - 1
        numbers.set(key, to)
        known.set(raw, to)
      }
      own.set(symbol, to)
    }
    edges.push(own)
    if (sets.length > mostStates) return null
  }
  return minimal({ alphabet, edges, ends: sets.map((set) => set.some(isEnd)) })
}

/** The same language in the fewest states, without those from which no end can be reached. */
function minimal({ alphabet, edges, ends }: Automaton): Automaton {
  const live = reaching(edges, ends)
  let group: number[] = ends.map((end, i) => (!live[i] ? -1 : edges.length > mostMerged ? i : Number(end)))
  for (let count = -1; edges.length <= mostMerged; ) {
    const keys = new Map<string, number>()
    const next = edges.map((own, i) => {
      if (!live[i]) return -1
      const to = [...own]
        .filter(([, target]) => live[target])
        .map(([symbol, target]) => [symbol, group[target]])
      const key = `${group[i]}:${to.sort((a, b) => a[0] - b[0]).join(';')}`
      if (!keys.has(key)) keys.set(key, keys.size)
      return keys.get(key)!
    })
    group = next
    if (keys.size === count) break
    count = keys.size
  }
  if (!live[0]) return { alphabet, edges: [new Map()], ends: [false] }
  const order = new Map([[group[0], 0]])
  for (const own of group) if (own >= 0 && !order.has(own)) order.set(own, order.size)
  const merged = [...order.keys()].map((own) => group.indexOf(own))
  return {
    alphabet,
    edges: merged.map(
      (i) =>
        new Map(
          [...edges[i]].filter(([, to]) => live[to]).map(([symbol, to]) => [symbol, order.get(group[to])!]),
        ),
    ),
    ends: merged.map((i) => ends[i]),
  }
}

function reaching(edges: readonly ReadonlyMap<number, number>[], ends: readonly boolean[]): boolean[] {
  const before = edges.map(() => [] as number[])
  for (const [from, own] of edges.entries()) for (const to of new Set(own.values())) before[to].push(from)
  const live = ends.map(Boolean)
  const queue = ends.flatMap((end, i) => (end ? [i] : []))
  for (let i = 0; i < queue.length; i++) {
    for (const from of before[queue[i]]) {
      if (!live[from]) queue.push(from)
      live[from] = true
    }
  }
  return live
}

/** Letters of the shortest and of the longest text; null where there is no longest. */
export function lengthsOf({ edges, ends }: Automaton): [shortest: number, longest: number | null] {
  let states = new Set([0])
  let shortest: number | null = null
  let longest: number | null = 0
  for (let length = 0; states.size > 0; length++) {
    const ending = [...states].some((at) => ends[at])
    if (ending) shortest ??= length
    if (ending) longest = length
    // as many letters as states: some state came twice, and every state leads to an end
    if (length > edges.length) return [shortest ?? 0, null]
    states = new Set([...states].flatMap((at) => [...edges[at].values()]))
  }
  return [shortest ?? 0, longest]
}

/** Its texts of `least` to `most` letters; null where it would be too large. */
export function windowed(
  { alphabet, edges, ends }: Automaton,
  least: number,
  most: number | null,
): Automaton | null {
  const top = most ?? least
  const numbers = new Map([['0,0', 0]])
  const places = [{ at: 0, length: 0 }]
  const made: Map<number, number>[] = []
  for (let i = 0; i < places.length; i++) {
    const { at, length } = places[i]
    const own = new Map<number, number>()
    made.push(own)
    if (most !== null && length === most) continue
    for (const [symbol, to] of edges[at]) {
      const next = { at: to, length: Math.min(length + 1, top) }
      const key = `${next.at},${next.length}`
      if (!numbers.has(key)) numbers.set(key, places.push(next) - 1)
      own.set(symbol, numbers.get(key)!)
    }
    if (places.length > mostStates) return null
  }
  return minimal({ alphabet, edges: made, ends: places.map(({ at, length }) => ends[at] && length >= least) })
}

/** Each letter spelled in several (an escape, say), and the whole deterministic again. */
export function respelled(automaton: Automaton, spell: (set: Chars) => Expr): Automaton | null {
  const { edges, ends } = automaton
  const labels = edges.map((own) => labelled(automaton, own).map(({ set, to }) => ({ expr: spell(set), to })))
  const alphabet = alphabetOf(labels.flat().map(({ expr }) => expr))
  const net: Net = { free: edges.map(() => []), steps: edges.map(() => []) }
  for (const [from, own] of labels.entries()) {
    for (const { expr, to } of own) {
      for (const part of expr.kind === 'choice' ? expr.of : [expr]) {
        if (part.kind === 'chars') {
          net.steps[from].push({ set: classesOf(part.chars, alphabet), to })
          continue
        }
        const end = weave(net, part, from, alphabet)
        if (end === null) return null
        net.free[end].push(to)
      }
    }
  }
  return determined(net, (at) => ends[at] === true, alphabet)
}

/** The edges of a state by where they lead. */
function labelled({ alphabet }: Automaton, own: ReadonlyMap<number, number>): { set: Chars; to: number }[] {
  const bySymbol = new Map<number, number[]>()
  for (const [symbol, to] of own) bySymbol.set(to, [...(bySymbol.get(to) ?? []), symbol])
  return [...bySymbol].map(([to, symbols]) => ({ set: setOf(symbols, alphabet), to }))
}

function setOf(own: readonly number[], { few, classes }: Alphabet): Chars {
  const symbols = own.flatMap((it) => classes[it])
  let ascii = 0n
  for (const symbol of symbols) if (symbol < 128) ascii |= 1n << BigInt(symbol)
  const beyond = symbols.includes(128 + few.length)
  const letters = symbols.flatMap((symbol) => few[symbol - 128] ?? [])
  return { ascii, beyond, few: letters.join('') }
}

/** The class of all letters that are not told apart by themselves. */
function others({ few, classOf }: Alphabet): number {
  return classOf[128 + few.length]
}

/** A state whose letters beyond ASCII part ways cannot be spelled: all of them but one is no set that xgrammar has. */
export function isSpellable({ alphabet, edges }: Automaton): boolean {
  return edges.every((own) => {
    const to = own.get(others(alphabet))
    return to === undefined || alphabet.few.every((_, i) => own.get(alphabet.classOf[128 + i]) === to)
  })
}

/** States that take almost any letter: what a grammar costs to compile. */
export function costOf({ alphabet, edges }: Automaton): number {
  return edges.filter((own) => own.has(others(alphabet))).length
}

/** The automaton as rules, one for each state where texts part. */
export function spell(automaton: Automaton, rules: Rules): Expr {
  const { edges, ends } = automaton
  const reserved = new Map<number, { rule: Expr; fill: (content: Expr) => void }>()
  const queue: number[] = []
  const isWay = (at: number): boolean => !ends[at] && labelled(automaton, edges[at]).length === 1
  const ruleOf = (at: number): Expr => {
    const known = reserved.get(at)
    if (known) return known.rule
    const made = rules.reserve()
    reserved.set(at, made)
    queue.push(at)
    return made.rule
  }
  const letter = ({ ascii, beyond, few }: Chars): Expr => {
    if (beyond) return chars({ ascii, beyond, few: '' })
    const parts = [...few].map((it) => rules.define(text(it))) // letters that share bytes overlap too
    return choice(...(ascii === 0n ? [] : [chars({ ascii, beyond, few: '' })]), ...parts)
  }
  const onward = (to: number, seen: readonly number[]): Expr => {
    if (ends[to] && edges[to].size === 0) return nothing
    if (!isWay(to) || seen.includes(to) || seen.length > 64) return ruleOf(to)
    const [{ set, to: next }] = labelled(automaton, edges[to])
    return sequence(letter(set), onward(next, [...seen, to]))
  }
  const first = ruleOf(0)
  for (let i = 0; i < queue.length; i++) {
    const at = queue[i]
    const of = labelled(automaton, edges[at]).map(({ set, to }) => sequence(letter(set), onward(to, [at])))
    reserved.get(at)!.fill(choice(...(ends[at] ? [nothing] : []), ...of))
  }
  return first
}
