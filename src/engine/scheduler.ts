// Who computes how many tokens in the next step. No phases: every sequence has tokens that the cache does not hold,
// one when decoding, many when new, and a step computes as many as the budget allows. Knows pages and tokens, no model.
import type { PagePool } from './pages.ts'
import { before, type Sequence } from './sequence.ts'

export interface Limits {
  readonly max_num_seqs: number
  readonly max_num_batched_tokens: number
}

/** The next `count` missing tokens of a sequence. */
export interface Share {
  readonly sequence: Sequence
  readonly count: number
}

/** Most rows a step computes of a sequence whose prompt logits are wanted: each costs a row of the vocabulary. */
const promptLogitRows = 128

export class Scheduler {
  /** Both lists are kept in the order of service (`before`). */
  readonly running: Sequence[] = []
  readonly waiting: Sequence[] = []
  /** Whether the last plan left out a sequence whose mask stands behind a compile. */
  held = false
  preemptions = 0
  prefixQueries = 0
  prefixHits = 0
  readonly #pool: PagePool
  readonly #limits: Limits
  /** The step being planned. */
  #shares: Share[] = []

  constructor(pool: PagePool, limits: Limits) {
    this.#pool = pool
    this.#limits = limits
  }

  add(sequence: Sequence): void {
    insert(this.waiting, sequence)
  }

  /** Lets go of a finished or cancelled sequence, wherever it is. Not between plan and commit. */
  remove(sequence: Sequence): void {
    this.#giveBack(sequence)
    drop(this.running, sequence)
    drop(this.waiting, sequence)
    for (const other of this.waiting) if (other.leader === sequence) other.leader = null
  }

  /** The shares of the next step: running sequences first, then as many waiting ones as fit. */
  plan(): readonly Share[] {
    this.#shares = []
    this.held = false
    for (const sequence of [...this.running]) {
      if (this.#budget() === 0) break
      if (this.#waitsForMask(sequence)) continue
      if (this.running.includes(sequence)) this.#serve(sequence) // it may have been preempted a moment ago
    }
    for (const sequence of [...this.waiting]) {
      if (this.#budget() === 0) break
      if (isHeld(sequence, this.#pool.pageSize) || this.#waitsForMask(sequence)) continue
      if (!this.#makeRoom(sequence)) break
      this.#adopt(sequence)
      if (!this.#serve(sequence)) break
      drop(this.waiting, sequence)
      insert(this.running, sequence)
      this.#countPrefix(sequence)
    }
    return this.#shares
  }

  /** After a step: counts what was computed and publishes pages that became full. */
  commit({ sequence, count }: Share): void {
    const { pageSize } = this.#pool
    sequence.computed += count
    while ((sequence.published + 1) * pageSize <= sequence.computed) {
      const first = sequence.published * pageSize
      const tokens = sequence.tokens.slice(first, first + pageSize)
      const page = sequence.pages[sequence.published++]
      sequence.link = this.#pool.publish(page, sequence.link, tokens, sequence.salt)
    }
  }

  /** Others are computed meanwhile: a compile takes as long as many steps. */
  #waitsForMask({ matcher }: Sequence): boolean {
    if (matcher === null || !matcher.held()) return false
    this.held = true
    return true
  }

  #budget(): number {
    return this.#shares.reduce((left, share) => left - share.count, this.#limits.max_num_batched_tokens)
  }

  /** Gives a sequence its share of the step, with the pages for it. False when it had to give way instead. */
  #serve(sequence: Sequence): boolean {
    const rows = Math.min(this.#budget(), sequence.missing)
    const count = sequence.promptLogits ? Math.min(rows, promptLogitRows) : rows
    const pages = Math.ceil((sequence.computed + count) / this.#pool.pageSize)
    while (sequence.pages.length < pages) {
      const page = this.#pool.take()
      if (page !== null) {
        sequence.pages.push(page)
        continue
      }
      const youngest = this.running.at(-1)
      if (youngest === undefined || before(youngest, sequence) <= 0) {
        this.#preempt(sequence)
        return false
      }
      this.#preempt(youngest)
    }
    this.#shares.push({ sequence, count })
    return true
  }

  /** A place among the running; a strictly more urgent sequence takes that of the least urgent. */
  #makeRoom(sequence: Sequence): boolean {
    if (this.running.length < this.#limits.max_num_seqs) return true
    const youngest = this.running.at(-1)
    if (youngest === undefined || youngest.priority <= sequence.priority) return false
    this.#preempt(youngest)
    return true
  }

  /** Takes back its pages and its share of this step. Its tokens stay, and are computed again later. */
  #preempt(sequence: Sequence): void {
    this.#giveBack(sequence)
    this.#shares = this.#shares.filter((share) => share.sequence !== sequence)
    if (!drop(this.running, sequence)) return // it was only about to run
    insert(this.waiting, sequence)
    this.preemptions++
  }

  #giveBack(sequence: Sequence): void {
    this.#pool.release(sequence.pages)
    sequence.pages = []
    sequence.computed = 0
    sequence.published = 0
    sequence.link = 0
  }

  /** Starts from the pages of a known prefix. At least one token is left to compute: its logits are wanted. */
  #adopt(sequence: Sequence): void {
    if (sequence.promptLogits) return
    const { pages, link } = this.#pool.share(sequence.tokens.slice(0, -1), sequence.salt)
    sequence.pages = pages
    sequence.link = link
    sequence.published = pages.length
    sequence.computed = pages.length * this.#pool.pageSize
  }

  #countPrefix(sequence: Sequence): void {
    if (sequence.cachedTokens !== null) return
    sequence.cachedTokens = Math.min(sequence.computed, sequence.promptLength)
    this.prefixQueries += sequence.promptLength
    this.prefixHits += sequence.cachedTokens
  }
}

/** Siblings of one prompt wait until the first of them has computed the pages they will share. */
function isHeld(sequence: Sequence, pageSize: number): boolean {
  const { leader } = sequence
  if (leader === null) return false
  const shared = Math.floor((sequence.promptLength - 1) / pageSize) * pageSize
  if (leader.computed < shared) return true
  sequence.leader = null
  return false
}

function insert(list: Sequence[], sequence: Sequence): void {
  const at = list.findIndex((other) => before(sequence, other) < 0)
  list.splice(at < 0 ? list.length : at, 0, sequence)
}

function drop(list: Sequence[], sequence: Sequence): boolean {
  const at = list.indexOf(sequence)
  if (at >= 0) list.splice(at, 1)
  return at >= 0
}
