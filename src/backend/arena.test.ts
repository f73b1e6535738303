import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createArena } from './arena.ts'

function fake(): { arena: ReturnType<typeof createArena>; pieces: number[]; released: number[] } {
  const pieces: number[] = []
  const released: number[] = []
  const allocate = (bytes: number): number => {
    pieces.push(bytes)
    return pieces.length * 2 ** 40
  }
  return { arena: createArena(allocate, (memory) => released.push(memory)), pieces, released }
}

it('a scope gives back what was taken in it, nested, failed or awaited', async () => {
  const { arena } = fake()
  const outer = arena.take(100)
  const inner = arena.scope(() => arena.take(100))
  assert.equal(arena.take(100), inner, 'the same memory again')
  assert.notEqual(inner, outer)
  assert.throws(() =>
    arena.scope(() => {
      arena.take(1000)
      throw new Error('stop')
    }),
  )
  const before = arena.scope(() => arena.take(1))
  await arena.scope(async () => {
    const first = arena.take(64)
    await null
    assert.notEqual(arena.take(64), first, 'still held while the promise is open')
  })
  assert.equal(
    arena.scope(() => arena.take(1)),
    before,
  )
})

it('takes large pieces, makes one to measure for more, and releases them all', () => {
  const { arena, pieces, released } = fake()
  arena.take(10)
  arena.take(2 ** 27)
  arena.take(10)
  assert.deepEqual(pieces, [2 ** 26, 2 ** 27, 2 ** 26])
  arena.close()
  assert.equal(released.length, 3)
})
