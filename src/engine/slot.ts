// Where a mask crosses threads: a few words of state, then one bit a token. The grammar's thread writes it while the
// engine computes; it is read once its turn is the one that is wanted, and not written again before the next token.
export interface Slot {
  readonly shared: SharedArrayBuffer
  readonly head: Int32Array
  readonly words: Int32Array
}

/** Words of the head. */
export const turnAt = 0
/** Set by a reader that sleeps and wants a message when the turn comes. */
export const wantedAt = 1
export const stateAt = 2
const headWords = 4

/** What the state word says of the place in the grammar. */
export const goesOn = 0
/** Nothing but the end is allowed. */
export const onlyEnd = 1
/** No token is allowed, not even the end. */
export const deadEnd = 2

export function createSlot(vocabSize: number): Slot {
  return openSlot(new SharedArrayBuffer(4 * (headWords + Math.ceil(vocabSize / 32))))
}

export function openSlot(shared: SharedArrayBuffer): Slot {
  return {
    shared,
    head: new Int32Array(shared, 0, headWords),
    words: new Int32Array(shared, 4 * headWords),
  }
}
