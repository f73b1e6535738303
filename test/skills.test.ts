// The embedded model, whole: its recorded conversations through the engine, 16 at a time, with a cache so small that
// sequences are preempted, must reproduce the recorded greedy tokens exactly.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openEngine } from '../src/engine/open.ts'
import { samplingParams } from '../src/engine/sampling.ts'
import { on } from './backends.ts'

const demo = fileURLToPath(new URL('../../models/demo/', import.meta.url))
const pageBytes = 64 * 8 * 80 * 4
const clearMargin = 0.05 // below it two logits are so close that another summation order may choose the other

interface Row {
  readonly skill: string
  readonly prompt_ids: readonly number[]
  readonly output_ids: readonly number[]
  readonly min_margin: number
}

const backends = ['reference', 'cpu']
for (const backend of backends)
  it(`every clear row of skills.jsonl, 16 at a time, preempted, on ${backend}`, on(backend), async () => {
    const lines = readFileSync(`${demo}skills.jsonl`, 'utf8').trim().split('\n')
    const rows = lines.map((line) => JSON.parse(line) as Row)
    assert.equal(rows.length, 218)
    const clear = rows.filter((row) => row.min_margin > clearMargin)
    const engine = await openEngine(demo, {
      backend,
      max_model_len: 1024,
      max_num_seqs: 16,
      max_num_batched_tokens: 256,
      cache_bytes: 22 * pageBytes,
    })
    const missed: string[] = []
    await Promise.all(
      clear.map(async (row) => {
        const params = samplingParams({ temperature: 0, max_tokens: 110 }, { size: 4096 })
        const got: number[] = []
        for await (const { choice } of engine.generate({ prompt_token_ids: row.prompt_ids, params })) {
          if (choice) got.push(choice.token)
        }
        if (got.join() !== row.output_ids.join()) missed.push(`${row.skill}: ${got} for ${row.output_ids}`)
      }),
    )
    assert.deepEqual(missed, [])
    const stats = await engine.stats()
    assert.ok(stats.preemptions > 10, `only ${stats.preemptions} preemptions`)
    assert.equal(stats.pages.free + stats.pages.cached, stats.pages.total)
    await engine.close()
  })
