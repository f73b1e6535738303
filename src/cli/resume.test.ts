import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { toFile } from './resume.ts'
import { scratch } from './trial.ts'

const row = (index: number, more: object = { text: `row ${index}` }): string =>
  JSON.stringify({ index, ...more })

/** Goes on from `before` as generate does: all indices in order, kept lines as they are. */
async function resumed(
  before: string,
  count: number,
  until = count,
  keys: readonly string[] = [],
): Promise<string> {
  const path = join(scratch(), 'out.jsonl')
  writeFileSync(path, before)
  const wanted = Array.from({ length: count }, (_, i) => keys[i] ?? null)
  const output = toFile(path, wanted, false)
  for (let i = 0; i < until; i++) await output.write(i, output.kept.get(i) ?? row(i, { text: 'new' }))
  output.close()
  return readFileSync(path, 'utf8')
}

const fresh = (index: number): string => row(index, { text: 'new' })
const file = (...rows: readonly string[]): string => rows.map((line) => `${line}\n`).join('')

it('goes on after the last whole line', async () => {
  assert.equal(await resumed(file(row(0), row(1)), 3), file(row(0), row(1), fresh(2)))
  assert.equal(await resumed(`${file(row(0))}{"index": 1, "te`, 3), file(row(0), fresh(1), fresh(2)))
  assert.equal(await resumed('{"ind', 1), file(fresh(0)))
  assert.equal(await resumed('', 1), file(fresh(0)))
})

it('fills gaps and runs failed rows again, in order', async () => {
  assert.equal(await resumed(file(row(0), row(2)), 3), file(row(0), fresh(1), row(2)))
  assert.equal(await resumed(file(row(0, { error: 'no' }), row(1)), 2), file(fresh(0), row(1)))
})

it('runs rows again whose key is another, and keeps those without one', async () => {
  const before = file(row(0, { key: 'a' }), row(1, { key: 'old' }), row(2))
  const after = file(row(0, { key: 'a' }), fresh(1), row(2))
  assert.equal(await resumed(before, 3, 3, ['a', 'b', 'c']), after)
  assert.equal(await resumed(before, 3, 0, ['a', 'b', 'c']), file(row(0, { key: 'a' }), row(2)))
})

it('loses nothing when it is stopped while it fills a gap', async () => {
  assert.equal(await resumed(file(row(1), row(3)), 4, 1), file(fresh(0), row(1), row(3)))
})

it('refuses a file of something else', async () => {
  for (const other of ['hello\n', file(row(7)), file(row(0), row(0)), '[]\n']) {
    await assert.rejects(resumed(other, 3), /line \d of .* is not the answer to one of the 3 rows/)
  }
})
