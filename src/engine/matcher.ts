// One answer's place in its grammar, seen from the engine: tell it tokens, take masks. The mask of the next token is
// computed in another thread from the moment the last one is told; whoever takes it may have to wait some microseconds.
import { createSlot, deadEnd, onlyEnd, type Slot, stateAt, turnAt, wantedAt } from './slot.ts'

export interface Matcher {
  /** Whether the mask of the next token is there. */
  ready(): boolean
  /** Waits for it: a moment in place, then without holding up the thread. Throws what became of the grammar. */
  settled(): Promise<void>
  /** A compile stands before this mask: better compute others meanwhile. */
  held(): boolean
  /** Of a mask that is there: nothing but the end may follow. */
  ended(): boolean
  /** No token may follow, not even the end. */
  stuck(): boolean
  /** One bit a token, valid until the next token is told. */
  readonly words: Int32Array
  advance(token: number): void
  close(): void
}

export interface OpenMatcher extends Matcher {
  readonly id: number
  readonly key: string
  readonly slot: Slot
  readonly tokens: readonly number[]
  behind: boolean
  wake(): void
  fail(error: unknown): void
}

interface Wire {
  advance(token: number): void
  close(): void
}

/** Milliseconds that a thread sleeps in place for a mask; masks take tens of microseconds. */
const moment = 2
const keepAwake = 1000

export function createMatcher(id: number, key: string, vocabSize: number, wire: Wire): OpenMatcher {
  const slot = createSlot(vocabSize)
  const { head, words } = slot
  const tokens: number[] = []
  let failure: { readonly error: unknown } | null = null
  const sleepers: (() => void)[] = []
  const wake = (): void => {
    for (const sleeper of sleepers.splice(0)) sleeper()
  }
  const ready = (): boolean => Atomics.load(head, turnAt) === tokens.length + 1

  function sleep(): Promise<void> {
    return new Promise((resolve) => {
      const awake = setTimeout(wake, keepAwake) // threads of masks keep no process alive, somebody who waits does
      sleepers.push(() => {
        clearTimeout(awake)
        resolve()
      })
      Atomics.store(head, wantedAt, 1)
      if (ready()) wake() // it may have come before anyone knew that it was wanted
    })
  }

  const matcher: OpenMatcher = {
    id,
    key,
    slot,
    tokens,
    words,
    behind: false,
    ready,
    held: () => matcher.behind && failure === null && !ready(),
    ended: () => head[stateAt] === onlyEnd,
    stuck: () => head[stateAt] === deadEnd,
    async settled() {
      if (!ready() && failure === null) Atomics.wait(head, turnAt, Atomics.load(head, turnAt), moment)
      while (!ready() && failure === null) await sleep()
      if (failure !== null) throw failure.error
    },
    advance(token) {
      tokens.push(token)
      wire.advance(token)
    },
    close: () => wire.close(),
    wake,
    fail(error) {
      failure ??= { error }
      wake()
    },
  }
  return matcher
}
