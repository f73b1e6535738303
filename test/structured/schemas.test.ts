// Schemas against other people's verdicts: a schema that is taken never takes an invalid instance. What is valid and left
// out is counted: properties in another order, values of types that the keywords do not speak of.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RequestError } from '../../src/tensor/error.ts'
import { createAcceptors, readRows, type SchemaRow } from './acceptor.ts'

const open = await createAcceptors()

interface Score {
  taken: number
  refused: number
  valid: number
  validTaken: number
  invalid: number
  readonly loose: string[]
}

async function score(rows: readonly SchemaRow[]): Promise<Score> {
  const sum: Score = { taken: 0, refused: 0, valid: 0, validTaken: 0, invalid: 0, loose: [] }
  for (const row of rows) {
    const acceptor = await open({ json: row.schema }).catch((error: unknown) => {
      if (!(error instanceof RequestError)) throw error
      assert.match(error.message, /^structured_outputs\.json: \$/, 'a refusal names its place')
      return null
    })
    if (!acceptor) {
      sum.refused++
      continue
    }
    sum.taken++
    for (const { data, valid } of row.tests) {
      const taken = await acceptor.accepts(JSON.stringify(data))
      if (valid) {
        sum.valid++
        if (taken) sum.validTaken++
        continue
      }
      sum.invalid++
      if (taken) sum.loose.push(`${row.name ?? `${row.file} ${row.description}`}: ${JSON.stringify(data)}`)
    }
    acceptor.close()
  }
  return sum
}

describe('schemas', () => {
  for (const [name, taken] of [
    ['draft7', 0.6],
    ['draft2020-12', 0.4],
  ] as const) {
    it(`${name} of the JSON-Schema-Test-Suite: nothing invalid is taken`, async () => {
      const sum = await score(readRows<SchemaRow>(`${name}.jsonl.gz`))
      assert.deepEqual(sum.loose, [])
      assert.ok(sum.invalid > 150, `only ${sum.invalid} invalid instances were tried`)
      assert.ok(sum.taken / (sum.taken + sum.refused) > taken, `only ${sum.taken} schemas were taken`)
      // the suite asks what `{ "minLength": 2 }` says of numbers; here such a schema means strings
      assert.ok(
        sum.validTaken / sum.valid > 0.65,
        `${sum.validTaken} of ${sum.valid} valid instances were taken`,
      )
    })
  }

  it('maskbench: nothing invalid is taken, and nearly all that is valid', async () => {
    const sum = await score(readRows<SchemaRow>('maskbench.jsonl.gz'))
    assert.deepEqual(sum.loose, [])
    assert.ok(sum.invalid > 450, `only ${sum.invalid} invalid instances were tried`)
    assert.ok(sum.taken / (sum.taken + sum.refused) > 0.8, `only ${sum.taken} schemas were taken`)
    assert.ok(
      sum.validTaken / sum.valid > 0.95,
      `${sum.validTaken} of ${sum.valid} valid instances were taken`,
    )
  })
})
