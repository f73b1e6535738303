import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PagePool } from './pages.ts'
import { createDice } from './workload.ts'

function sum({ free, cached, held }: PagePool['counts']): number {
  return free + cached + held
}

describe('page pool', () => {
  it('shares the longest known prefix of whole pages', () => {
    const pool = new PagePool(4, 2)
    const [a, b] = [pool.take(), pool.take()] as number[]
    const first = pool.publish(a, 0, [1, 2], '')
    pool.publish(b, first, [3, 4], '')
    pool.release([a, b])
    assert.deepEqual(pool.counts, { total: 4, free: 2, cached: 2, held: 0 })
    assert.deepEqual(pool.share([1, 2, 3, 4, 5], '').pages, [a, b])
    assert.deepEqual(pool.share([1, 2, 3, 9], '').pages, [a])
    assert.deepEqual(
      pool.share([3, 4], '').pages,
      [],
      'the same tokens after another prefix are another page',
    )
    assert.deepEqual(pool.share([1, 2], 'tenant').pages, [], 'another salt shares nothing')
  })

  it("no salt can pass for a place in somebody else's chain", () => {
    for (const salt of ['1', '10', '1:', ':', '0', '1::3,4']) {
      const pool = new PagePool(4, 2)
      const [a, b] = [pool.take(), pool.take()] as number[]
      const first = pool.publish(a, 0, [1, 2], '')
      pool.publish(b, first, [3, 4], '')
      assert.deepEqual(pool.share([3, 4], salt).pages, [], salt)
      assert.deepEqual(pool.share([1, 2], salt).pages, [], salt)
    }
  })

  it('takes free pages first, then forgets the oldest released', () => {
    const pool = new PagePool(2, 1)
    const [a, b] = [pool.take(), pool.take()] as number[]
    assert.equal(pool.take(), null)
    const link = pool.publish(a, 0, [1], '')
    pool.publish(b, link, [2], '')
    pool.release([a, b])
    assert.equal(pool.take(), b, 'the end of the chain is of no use without its beginning, and goes first')
    assert.deepEqual(pool.share([1, 2], '').pages, [a])
  })

  it('the same prefix computed twice stays known once, and the twin is freed', () => {
    const pool = new PagePool(2, 1)
    const [a, b] = [pool.take(), pool.take()] as number[]
    assert.equal(pool.publish(a, 0, [7], ''), pool.publish(b, 0, [7], ''))
    pool.release([a])
    pool.release([b])
    assert.deepEqual(pool.counts, { total: 2, free: 1, cached: 1, held: 0 })
  })

  it('refuses a second release, and clear empties what nobody holds', () => {
    const pool = new PagePool(2, 1)
    const page = pool.take() as number
    pool.publish(page, 0, [1], '')
    pool.release([page])
    assert.throws(() => pool.release([page]), /released twice/)
    pool.clear()
    assert.deepEqual(pool.counts, { total: 2, free: 2, cached: 0, held: 0 })
    assert.deepEqual(pool.share([1], '').pages, [])
  })

  it('loses no page in 20,000 random takes, shares, publications and releases', () => {
    const dice = createDice(3)
    const pool = new PagePool(9, 2)
    const holders: { pages: number[]; tokens: number[]; link: number }[] = []
    for (let turn = 0; turn < 20_000; turn++) {
      const at = dice.from(0, Math.max(0, holders.length - 1))
      if (dice.chance(0.3)) {
        const tokens = Array.from({ length: 8 }, () => dice.from(0, 1))
        holders.push({ ...pool.share(tokens, ''), tokens })
      } else if (dice.chance(0.6) && holders.length > 0) {
        const holder = holders[at]
        const page = holder.pages.length < 4 ? pool.take() : null
        if (page !== null) {
          const first = holder.pages.push(page) * 2 - 2
          holder.link = pool.publish(page, holder.link, holder.tokens.slice(first, first + 2), '')
        }
      } else if (holders.length > 0) pool.release(holders.splice(at, 1)[0].pages)
      const held = new Set(holders.flatMap((holder) => holder.pages))
      assert.equal(pool.counts.held, held.size)
      assert.equal(sum(pool.counts), 9)
    }
    for (const { pages } of holders) pool.release(pages)
    assert.equal(pool.counts.held, 0)
  })
})
