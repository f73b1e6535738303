import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PagePool } from './pages.ts'
import { createCounts } from './sampler.ts'
import { samplingParams } from './sampling.ts'
import { Scheduler, type Share } from './scheduler.ts'
import { Sequence } from './sequence.ts'

let order = 0
function sequence(length: number, priority = 0, fields: object = {}, first = 100 * order): Sequence {
  const prompt = Array.from({ length }, (_, i) => first + i)
  return new Sequence({
    order: order++,
    priority,
    params: samplingParams(fields, { size: 1e6 }),
    seed: 0,
    prompt,
    maxLength: 1000,
    salt: '',
    matcher: null,
    counts: createCounts(prompt),
    now: 0,
  })
}

/** Carries a step out: commits it and gives every sequence that is complete its next token. */
function carryOut(scheduler: Scheduler, shares: readonly Share[]): void {
  for (const share of shares) {
    scheduler.commit(share)
    if (share.sequence.missing === 0) share.sequence.tokens.push(7)
  }
}

const plain = (shares: readonly Share[]): [number, number][] =>
  shares.map(({ sequence, count }) => [sequence.order, count])

describe('scheduler', () => {
  it('shares one budget: running first, then waiting in order of arrival, chunked', () => {
    const scheduler = new Scheduler(new PagePool(100, 4), { max_num_seqs: 8, max_num_batched_tokens: 10 })
    const [a, b, c] = [sequence(4), sequence(9), sequence(3)]
    for (const s of [a, b, c]) scheduler.add(s)
    const first = scheduler.plan()
    assert.deepEqual(plain(first), [
      [a.order, 4],
      [b.order, 6],
    ])
    carryOut(scheduler, first)
    assert.deepEqual(plain(scheduler.plan()), [
      [a.order, 1],
      [b.order, 3],
      [c.order, 3],
    ])
  })

  it('serves lower priority numbers first and lets them take the place of higher ones', () => {
    const scheduler = new Scheduler(new PagePool(100, 4), { max_num_seqs: 1, max_num_batched_tokens: 10 })
    const [late, urgent] = [sequence(3, 1), sequence(3, 0)]
    scheduler.add(late)
    carryOut(scheduler, scheduler.plan())
    scheduler.add(urgent)
    const step = scheduler.plan()
    assert.deepEqual(plain(step), [[urgent.order, 3]])
    assert.equal(scheduler.preemptions, 1)
    assert.deepEqual(scheduler.waiting, [late])
    assert.equal(late.tokens.length, 4, 'what it had written stays')
  })

  it('out of pages, the youngest gives its own back, and finds its prefix again', () => {
    const pool = new PagePool(4, 2)
    const scheduler = new Scheduler(pool, { max_num_seqs: 8, max_num_batched_tokens: 64 })
    const [a, b] = [sequence(3), sequence(3)]
    scheduler.add(a)
    scheduler.add(b)
    carryOut(scheduler, scheduler.plan()) // two pages each
    carryOut(scheduler, scheduler.plan()) // both pages full
    const step = scheduler.plan()
    assert.deepEqual(plain(step), [[a.order, 1]])
    assert.deepEqual(scheduler.waiting, [b])
    assert.equal(scheduler.preemptions, 1)
    scheduler.remove(a)
    const again = scheduler.plan()
    assert.equal(again[0].sequence, b)
    assert.equal(b.computed + again[0].count, b.tokens.length)
    scheduler.remove(b)
    assert.equal(pool.counts.held, 0)
  })

  it('siblings wait for the pages they will share', () => {
    const pool = new PagePool(100, 4)
    const scheduler = new Scheduler(pool, { max_num_seqs: 8, max_num_batched_tokens: 64 })
    const [a, b] = [sequence(10, 0, {}, 5), sequence(10, 0, {}, 5)]
    b.leader = a
    scheduler.add(a)
    scheduler.add(b)
    const first = scheduler.plan()
    assert.deepEqual(plain(first), [[a.order, 10]])
    carryOut(scheduler, first)
    assert.deepEqual(plain(scheduler.plan()), [
      [a.order, 1],
      [b.order, 2],
    ])
    assert.equal(b.cachedTokens, 8)
    assert.deepEqual(b.pages.slice(0, 2), a.pages.slice(0, 2))
  })

  it('a sequence whose prompt logits are wanted takes no cached pages and at most 128 rows', () => {
    const scheduler = new Scheduler(new PagePool(100, 4), { max_num_seqs: 8, max_num_batched_tokens: 1000 })
    const scored = sequence(300, 0, { prompt_logprobs: 0 })
    scheduler.add(scored)
    assert.deepEqual(plain(scheduler.plan()), [[scored.order, 128]])
  })
})
