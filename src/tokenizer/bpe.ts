// Byte-pair encoding of one piece: its bytes become ids, and neighbours merge in the order of the merge list.
// Knows ids, ranks and a bounded cache; nothing of where pieces begin and end, nor of added tokens.

import { CheckpointError } from '../tensor/error.ts'
import { letters, occursInText } from './alphabet.ts'

/** Merges of a vocabulary, found by pair of ids. */
export interface Merges {
  /** Rank of the pair (lower merges first), or -1. */
  rank(left: number, right: number): number
  /** What the merge of that rank makes. */
  result(rank: number): number
}

export interface Bpe {
  /** Appends the ids of one piece of well-formed text. */
  encode(piece: string, ids: number[]): void
}

export interface BpeOptions {
  readonly vocabulary: ReadonlyMap<string, number>
  readonly merges: Iterable<readonly [string, string]>
  /** A piece that is itself an entry is that entry, whatever the merges would make of it. */
  readonly ignoreMerges: boolean
  readonly where: string
}

// Pieces up to this length are scanned for the best pair; longer ones, where scanning is quadratic, use a
// heap.
const scanned = 48
// English needs about ten thousand words for a 98% hit rate; two generations of these bound the memory to a
// few MB.
const remembered = 1 << 15
const longestRemembered = 64

export function createBpe(options: BpeOptions): Bpe {
  const { vocabulary, ignoreMerges, where } = options
  const byteIds = idsOfBytes(vocabulary, where)
  const table = mergeTable(readMerges(options))
  const utf8 = new TextEncoder()
  let young = new Map<string, readonly number[]>()
  let old = new Map<string, readonly number[]>()

  function compute(piece: string): readonly number[] {
    if (ignoreMerges) {
      const whole = vocabulary.get(spell(utf8.encode(piece)))
      if (whole !== undefined) return [whole]
    }
    const bytes = utf8.encode(piece)
    const symbols = Int32Array.from(bytes, (byte) => byteIds[byte])
    return symbols.length <= scanned ? mergeByScan(symbols, table) : mergeByHeap(symbols, table)
  }

  function remember(piece: string, ids: readonly number[]): void {
    if (young.size >= remembered) {
      old = young
      young = new Map()
    }
    young.set(piece, ids)
  }

  return {
    encode(piece, ids) {
      let known = young.get(piece)
      if (known === undefined) {
        known = old.get(piece)
        const fresh = known === undefined
        known ??= compute(piece)
        if (piece.length <= longestRemembered) remember(fresh ? detach(piece) : piece, known)
      }
      for (let i = 0; i < known.length; i++) ids.push(known[i])
    },
  }
}

/** A copy: a slice of 13 letters or more would keep the whole text it was cut from alive inside the cache. */
function detach(piece: string): string {
  return piece.length < 13 ? piece : Buffer.from(piece, 'utf16le').toString('utf16le')
}

function spell(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += letters[byte]
  return text
}

function idsOfBytes(vocabulary: ReadonlyMap<string, number>, where: string): Int32Array {
  return Int32Array.from(letters, (letter, byte) => {
    const id = vocabulary.get(letter)
    if (id === undefined && occursInText(byte)) {
      const name = `0x${byte.toString(16).padStart(2, '0')} (spelled ${JSON.stringify(letter)})`
      throw new CheckpointError(
        `${where}: the vocabulary has no entry for byte ${name}, so text would be lost`,
      )
    }
    return id ?? -1
  })
}

interface Merge {
  readonly left: number
  readonly right: number
  readonly result: number
}

/** The merges by id, in order of rank. */
function readMerges({ vocabulary, merges, where }: BpeOptions): readonly Merge[] {
  const read: Merge[] = []
  for (const [left, right] of merges) {
    const found = {
      left: vocabulary.get(left),
      right: vocabulary.get(right),
      result: vocabulary.get(left + right),
    }
    if (!complete(found)) {
      const merge = `merge ${read.length} (${JSON.stringify(left)}, ${JSON.stringify(right)})`
      const name = JSON.stringify([left, right, left + right].find((entry) => !vocabulary.has(entry)))
      throw new CheckpointError(`${where}: ${merge} names ${name}, which is not in the vocabulary`)
    }
    read.push(found)
  }
  return read
}

function complete(merge: { readonly [Key in keyof Merge]: number | undefined }): merge is Merge {
  return merge.left !== undefined && merge.right !== undefined && merge.result !== undefined
}

/** An open-addressing table: a Map keyed by pairs costs a string or a boxed double each time it is asked. */
function mergeTable(list: readonly Merge[]): Merges {
  let size = 16
  while (size < 2 * list.length) size *= 2
  const lefts = new Int32Array(size).fill(-1)
  const rights = new Int32Array(size)
  const ranks = new Int32Array(size)
  const slot = (left: number, right: number): number => {
    const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
    let at = (hash ^ (hash >>> 15)) & (size - 1)
    while (lefts[at] !== -1 && (lefts[at] !== left || rights[at] !== right)) at = (at + 1) & (size - 1)
    return at
  }
  // A pair listed twice keeps its last rank, as in the Rust library.
  for (const [rank, { left, right }] of list.entries()) {
    const at = slot(left, right)
    lefts[at] = left
    rights[at] = right
    ranks[at] = rank
  }
  const results = Int32Array.from(list, ({ result }) => result)
  return {
    rank(left, right) {
      const at = slot(left, right)
      return lefts[at] === -1 ? -1 : ranks[at]
    },
    result: (rank) => results[rank],
  }
}

/** Merges the lowest rank, leftmost first, until none is left. Quadratic, but the fastest for words. */
function mergeByScan(symbols: Int32Array, merges: Merges): number[] {
  const ids = Array.from(symbols)
  const ranks: number[] = []
  for (let i = 0; i + 1 < ids.length; i++) ranks.push(merges.rank(ids[i], ids[i + 1]))
  for (;;) {
    let best = -1
    for (let i = 0; i < ranks.length; i++) {
      if (ranks[i] !== -1 && (best === -1 || ranks[i] < ranks[best])) best = i
    }
    if (best === -1) return ids
    ids[best] = merges.result(ranks[best])
    ids.splice(best + 1, 1)
    ranks.splice(best, 1)
    if (best > 0) ranks[best - 1] = merges.rank(ids[best - 1], ids[best])
    if (best < ranks.length) ranks[best] = merges.rank(ids[best], ids[best + 1])
  }
}

/** The same over a linked list with a heap of candidates: n log n however long the piece. */
function mergeByHeap(symbols: Int32Array, merges: Merges): number[] {
  const count = symbols.length
  const ids = Int32Array.from(symbols)
  const next = Int32Array.from(ids, (_, i) => i + 1)
  const previous = Int32Array.from(ids, (_, i) => i - 1)
  // ranks[i] is the rank of the pair that begins at i now; a candidate that names another rank is out of
  // date.
  const ranks = new Int32Array(count).fill(-1)
  const heap: number[] = []
  const consider = (at: number): void => {
    if (at < 0) return
    ranks[at] = next[at] < count ? merges.rank(ids[at], ids[next[at]]) : -1
    if (ranks[at] !== -1) pushHeap(heap, ranks[at] * 2 ** 32 + at)
  }
  for (let i = 0; i < count; i++) consider(i)
  while (heap.length > 0) {
    const candidate = popHeap(heap)
    const at = candidate % 2 ** 32
    const rank = (candidate - at) / 2 ** 32
    if (ranks[at] !== rank) continue
    const gone = next[at]
    ids[at] = merges.result(rank)
    next[at] = next[gone]
    if (next[at] < count) previous[next[at]] = at
    ranks[gone] = -1
    consider(at)
    consider(previous[at])
  }
  const merged: number[] = []
  for (let i = 0; i < count; i = next[i]) merged.push(ids[i])
  return merged
}

function pushHeap(heap: number[], value: number): void {
  let at = heap.length
  heap.push(value)
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (heap[parent] <= value) break
    heap[at] = heap[parent]
    at = parent
  }
  heap[at] = value
}

function popHeap(heap: number[]): number {
  const top = heap[0]
  const value = heap.pop()!
  const size = heap.length
  if (size === 0) return top
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= size) break
    if (child + 1 < size && heap[child + 1] < heap[child]) child++
    if (heap[child] >= value) break
    heap[at] = heap[child]
    at = child
  }
  heap[at] = value
  return top
}
