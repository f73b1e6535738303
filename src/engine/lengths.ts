// How long strings may grow, counted beside the grammar. A grammar that counts characters has a state for each, and each
// state is a pass over the whole vocabulary when it is compiled: 255 of them take seconds. So a grammar marks the strings
// that are bounded with a letter that no string may contain (a control character), a mask that has that letter's bit says
// that such a string is open, and what would overrun it is cleared here.

/** Where the text of an answer is, read as JSON. */
export interface Scan {
  readonly inString: boolean
  /** Bytes of an escape still to come, after its backslash. */
  readonly owed: number
  /** Characters of the open string. */
  readonly count: number
}

export const scanStart: Scan = { inString: false, owed: 0, count: 0 }

export interface Lengths {
  /** Clears what would overrun `room` more characters, and what would begin to fill a string whose bound is not known. */
  apply(words: Int32Array, scan: Scan, room: number | null): void
}

/** One character's bytes after another; `opened` hears of the characters of strings that open on the way. */
export function advanceScan(from: Scan, bytes: string, opened?: (count: number) => void): Scan {
  let { inString, owed, count } = from
  let first = inString
  for (let i = 0; i < bytes.length; i++) {
    const code = bytes.charCodeAt(i)
    if (!inString) {
      if (code !== quote) continue
      inString = true
      count = 0
    } else if (owed > 0) {
      owed = owed === 5 ? (code === 0x75 ? 4 : 0) : owed - 1 // 5: the letter after the backslash, u has four more
    } else if (code === quote) {
      inString = false
      first = false
    } else {
      if (code < 0x80 || code >= 0xc0) count++ // the other bytes go on with a letter
      if (code === backslash) owed = 5
      if (!first) opened?.(count)
    }
  }
  return { inString, owed, count }
}

const quote = 0x22
const backslash = 0x5c

export function createLengths(tokens: readonly string[], size: number): Lengths {
  const inside = new Int32Array(tokens.length)
  const words = Math.ceil(size / 32)
  /** Tokens that put characters into a string that they open themselves, from outside a string and from inside one. */
  const fills = { outside: new Int32Array(words).fill(-1), inside: new Int32Array(words).fill(-1) }
  for (const [id, bytes] of tokens.entries()) {
    advanceScan(scanStart, bytes, () => clear(fills.outside, id))
    inside[id] = firstCount(bytes)
    advanceScan({ ...scanStart, inString: true }, bytes, () => clear(fills.inside, id))
  }
  const longest = inside.reduce((most, count) => Math.max(most, count), 0)
  const within = new Map<number, Int32Array>()
  const atMost = (room: number): Int32Array => {
    const known = within.get(room)
    if (known) return known
    const made = new Int32Array(words).fill(-1)
    for (let id = 0; id < inside.length; id++) if (inside[id] > room) clear(made, id)
    within.set(room, made)
    return made
  }

  /** In the middle of an escape a token's own count does not hold: it is read through, if it is allowed at all. */
  function readThrough(mask: Int32Array, scan: Scan, room: number | null): void {
    for (let id = 0; id < tokens.length; id++) {
      if (mask[id >> 5] === 0) id |= 31
      else if (((mask[id >> 5] >>> (id & 31)) & 1) === 1 && overruns(tokens[id], scan, room)) clear(mask, id)
    }
  }

  return {
    apply(mask, scan, room) {
      if (scan.owed > 0) return readThrough(mask, scan, room)
      and(mask, scan.inString ? fills.inside : fills.outside)
      if (room !== null && room < longest) and(mask, atMost(room))
    },
  }
}

function overruns(bytes: string, scan: Scan, room: number | null): boolean {
  let reopened = false
  advanceScan(scan, bytes, () => {
    reopened = true
  })
  return reopened || (room !== null && firstCount(bytes, scan.owed) > room)
}

/** Characters that a token adds to the string that is open where it begins. */
function firstCount(bytes: string, owed = 0): number {
  let most = 0
  let scan: Scan = { inString: true, owed, count: 0 }
  for (let i = 0; i < bytes.length && scan.inString; i++) {
    scan = advanceScan(scan, bytes[i])
    most = Math.max(most, scan.count)
  }
  return most
}

function and(mask: Int32Array, other: Int32Array): void {
  for (let i = 0; i < mask.length; i++) mask[i] &= other[i]
}

function clear(words: Int32Array, id: number): void {
  words[id >> 5] &= ~(1 << (id & 31))
}
