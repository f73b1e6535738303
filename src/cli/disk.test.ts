import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { CapacityError } from '../tensor/error.ts'
import { checkRoom, freeBytes } from './disk.ts'

it('refuses what does not fit, and says how much is short', () => {
  checkRoom(5e9, 5e9, '/models')
  checkRoom(5e9, null, '/models')
  assert.throws(
    () => checkRoom(8.8e9, 3e9, '/models'),
    (error) =>
      error instanceof CapacityError &&
      /takes 8\.80 GB, the disk of \/models has 3\.00 GB left; free 5\.80 GB/.test(error.message),
  )
})

it('asks the folder that is there for one that is not', () => {
  const free = freeBytes(join(tmpdir(), 'not', 'made', 'yet'))
  assert.ok(free === null || free > 0)
})
