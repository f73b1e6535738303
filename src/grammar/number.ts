// Numbers between bounds as grammars of their digits. Exact, because digits are compared and never converted.
import {
  chars,
  charsOf,
  choice,
  type Expr,
  never,
  nothing,
  optional,
  range,
  repeat,
  sequence,
  text,
} from './expr.ts'

/** One end of a range; null where there is none. */
export interface Bound {
  readonly value: number
  readonly exclusive: boolean
}

/** Digits before the point of a number without bounds, and after it: what a float64 tells apart, and a few more. */
const wholeDigits = 18
const fractionDigits = 17
/** Decimals of at most so many digits are different numbers: an excluded bound cannot be met by rounding. */
const distinctDigits = 15

const digit = chars(range('0', '9'))
const digits = (least: number, most: number): Expr => repeat(digit, least, most)
const minus = text('-')

/** Any number whose value is finite: three digits of exponent only where they stay below the largest one. */
export function anyNumber(): Expr {
  const whole = choice(text('0'), sequence(chars(range('1', '9')), digits(0, wholeDigits - 1)))
  const fraction = optional(sequence(text('.'), digits(1, fractionDigits)))
  const sign = optional(chars(charsOf('+-')))
  const hundreds = choice(
    sequence(chars(charsOf('12')), digits(2, 2)),
    sequence(text('30'), chars(range('0', '7'))),
  )
  const exponent = sequence(chars(charsOf('eE')), sign, choice(digits(1, 2), hundreds))
  const scientific = sequence(digit, fraction, exponent)
  return sequence(optional(minus), choice(sequence(whole, fraction), scientific))
}

export function anyInteger(): Expr {
  return sequence(
    optional(minus),
    choice(text('0'), sequence(chars(range('1', '9')), digits(0, wholeDigits - 1))),
  )
}

/** Whole numbers from `low` to `high`. */
export function integers(low: Bound | null, high: Bound | null): Expr {
  const least = low && wholeAbove(low)
  const most = high && wholeBelow(high)
  if (least === null && most === null) return anyInteger()
  return signed(least, most, (from, to) => wholes(from, to ?? outward(from)))
}

/** Multiples of 10^zeros. */
export function rounded(zeros: number): Expr {
  const head = sequence(chars(range('1', '9')), digits(0, distinctDigits - 1 - zeros))
  return choice(text('0'), sequence(optional(minus), head, text('0'.repeat(zeros))))
}

function wholeAbove({ value, exclusive }: Bound): bigint {
  const up = BigInt(Math.ceil(value))
  return exclusive && Number.isInteger(value) ? up + 1n : up
}

function wholeBelow({ value, exclusive }: Bound): bigint {
  const down = BigInt(Math.floor(value))
  return exclusive && Number.isInteger(value) ? down - 1n : down
}

/** The largest whole number written where nothing limits it. */
function outward(from: bigint): bigint {
  const usual = 10n ** BigInt(wholeDigits) - 1n
  return from < usual ? usual : 10n ** BigInt(String(from).length) - 1n
}

/** A signed range out of ranges of magnitudes. */
function signed(
  least: bigint | null,
  most: bigint | null,
  magnitudes: (from: bigint, to: bigint | null) => Expr,
): Expr {
  if (least !== null && most !== null && least > most) return never
  const of: Expr[] = []
  if (most === null || most >= 0n) of.push(magnitudes(least !== null && least > 0n ? least : 0n, most))
  if (least === null || least < 0n) {
    const from = most !== null && most < 0n ? -most : 1n
    of.push(sequence(minus, magnitudes(from, least === null ? null : -least)))
  }
  return choice(...of)
}

/** Whole numbers from one magnitude to another, without leading zeros. */
function wholes(from: bigint, to: bigint): Expr {
  if (from > to) return never
  const of: Expr[] = []
  for (let length = String(from).length; length <= String(to).length; length++) {
    const first = length === 1 ? 0n : 10n ** BigInt(length - 1)
    const last = 10n ** BigInt(length) - 1n
    of.push(sameLength(String(from > first ? from : first), String(to < last ? to : last)))
  }
  return choice(...of)
}

/** Strings of digits between two of the same length. */
function sameLength(low: string, high: string): Expr {
  if (low === high) return text(low)
  if (/^0*$/.test(low) && /^9*$/.test(high)) return digits(low.length, low.length)
  if (low[0] === high[0]) return sequence(text(low[0]), sameLength(low.slice(1), high.slice(1)))
  const rest = low.length - 1
  if (rest === 0) return chars(range(low, high))
  const of = [
    sequence(text(low[0]), sameLength(low.slice(1), '9'.repeat(rest))),
    sequence(text(high[0]), sameLength('0'.repeat(rest), high.slice(1))),
  ]
  const [above, below] = [Number(low[0]) + 1, Number(high[0]) - 1]
  if (above <= below) of.push(sequence(chars(range(String(above), String(below))), digits(rest, rest)))
  return choice(...of)
}

/** A magnitude: digits before and after the point, and whether it is itself left out. */
interface Decimal {
  readonly whole: bigint
  readonly fraction: string
  readonly exclusive: boolean
}

/** Numbers between bounds, written without exponents. Null where a bound has more digits than can be compared. */
export function decimals(low: Bound | null, high: Bound | null): Expr | null {
  if (low === null && high === null) return anyNumber()
  const least = low && decimal(low)
  const most = high && decimal(high)
  if (
    low &&
    high &&
    (low.value > high.value || (low.value === high.value && (low.exclusive || high.exclusive)))
  )
    return never
  const places = placesOf(least, most)
  if (places === null) return null
  const of: Expr[] = []
  const zero: Decimal = { whole: 0n, fraction: '', exclusive: false }
  if (high === null || high.value >= 0) {
    of.push(between(low !== null && low.value >= 0 ? least! : zero, high === null ? null : most, places))
  }
  if (low === null || low.value < 0) {
    const from = high !== null && high.value <= 0 ? most! : zero
    of.push(sequence(minus, between(from, low === null ? null : least, places)))
  }
  return choice(...of)
}

function decimal({ value, exclusive }: Bound): Decimal {
  const [mantissa, power = '0'] = String(Math.abs(value)).split('e')
  const [whole, fraction = ''] = mantissa.split('.')
  const shift = Number(power)
  const moved =
    shift >= 0
      ? [whole + fraction.slice(0, shift).padEnd(shift, '0'), fraction.slice(shift)]
      : ['0', whole.padStart(-shift, '0') + fraction]
  return { whole: BigInt(moved[0]), fraction: moved[1].replace(/0+$/, ''), exclusive }
}

function placesOf(least: Decimal | null, most: Decimal | null): number | null {
  const ends = [least, most].filter((end) => end !== null)
  const needed = Math.max(...ends.map(({ fraction }) => fraction.length))
  const before = Math.max(...ends.map(({ whole }) => String(whole).length))
  if (before > 40 || needed > 40) return null
  if (!ends.some(({ exclusive }) => exclusive)) return Math.max(needed, fractionDigits)
  const room = distinctDigits - before
  return needed > room ? null : Math.max(room, 0)
}

function between(from: Decimal, to: Decimal | null, places: number): Expr {
  const end = to ?? { whole: outward(from.whole), fraction: '9'.repeat(places), exclusive: false }
  if (from.whole > end.whole) return never
  const tail = optional(sequence(text('.'), digits(1, Math.max(places, 1))))
  const free = places === 0 ? nothing : tail
  const edge = (whole: bigint, low: Decimal | null, high: Decimal | null): Expr =>
    sequence(text(String(whole)), fractions(low, high, places))
  if (from.whole === end.whole) return edge(from.whole, from, end)
  return choice(
    edge(from.whole, from, null),
    sequence(wholes(from.whole + 1n, end.whole - 1n), free),
    edge(end.whole, null, end),
  )
}

/** What may follow a whole part that is that of a bound: nothing, or a point and digits on the right side of it. */
function fractions(low: Decimal | null, high: Decimal | null, places: number): Expr {
  const lows = low === null ? null : low.fraction
  const highs = high === null ? null : high.fraction
  const mayEnd = (at: number, tightLow: boolean, tightHigh: boolean): boolean => {
    if (tightLow && lows !== null && (at < lows.length || low!.exclusive)) return false
    return !(tightHigh && high!.exclusive && at >= highs!.length)
  }
  const walk = (at: number, tightLow: boolean, tightHigh: boolean): Expr => {
    const ends = mayEnd(at, tightLow, tightHigh)
    if (at >= places) return ends ? nothing : never
    if (!tightLow && !tightHigh) return digits(0, places - at)
    const from = tightLow ? Number(lows![at] ?? '0') : 0
    const to = tightHigh ? Number(highs![at] ?? '0') : 9
    const of: Expr[] = ends ? [nothing] : []
    const step = (a: number, b: number, low: boolean, high: boolean): void => {
      if (a <= b) of.push(sequence(chars(range(String(a), String(b))), walk(at + 1, low, high)))
    }
    if (from === to) step(from, to, tightLow, tightHigh)
    else {
      step(from, from, tightLow, tightHigh && from === to)
      step(from + 1, to - 1, false, false)
      step(to, to, false, tightHigh)
    }
    return choice(...of)
  }
  const inside = walk(0, low !== null, high !== null)
  // a point needs a digit after it: the empty rest is only right where the number may end before the point
  const pointed = withoutEmpty(inside)
  const of = pointed === never ? [] : [sequence(text('.'), pointed)]
  if (mayEnd(0, low !== null, high !== null)) of.push(nothing)
  return choice(...of)
}

/** The same texts but the empty one, of what `walk` makes. */
function withoutEmpty(expr: Expr): Expr {
  if (expr === never) return never
  if (expr.kind === 'choice') {
    return choice(...expr.of.map(withoutEmpty).filter((part) => part !== never))
  }
  if (expr.kind === 'repeat') return expr.least === 0 ? repeat(expr.of, 1, expr.most) : expr
  return expr.kind === 'text' && expr.text === '' ? never : expr
}
