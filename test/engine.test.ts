// The property that guards the engine: tokens and log-probabilities do not depend on batching, chunking, preemption,
// cached prefixes or cancelled neighbours; and after any workload no page is lost.
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { LatentFormat } from '../src/backend/latents.ts'
import { type OpenModel, openModel } from '../src/engine/open.ts'
import { engineFor, type Job, type Outcome, randomWorkload, runTogether } from '../src/engine/workload.ts'
import { on } from './backends.ts'

const workloads = 240
/** Each backend over each format of the cache; the rules met are counted where all workloads run. */
const settings = [
  { backend: 'reference', kept: 'f32', workloads },
  { backend: 'cpu', kept: 'f32', workloads },
  { backend: 'reference', kept: 'q8', workloads: 60 },
  { backend: 'cpu', kept: 'q8', workloads: 60 },
  { backend: 'cpu', kept: 'bf16', workloads: 60 },
] as const
const golden = (name: string): string =>
  fileURLToPath(new URL(`../../test/data/golden/${name}/`, import.meta.url))

for (const { backend, kept, workloads: count } of settings)
  describe(`engine property on ${backend}, latents in ${kept}`, on(backend), () => {
    const models: OpenModel[] = []
    const met = { preemptions: 0, prefixHits: 0, cancelled: 0, chunked: 0 }
    before(async () => {
      for (const name of ['v2-tiny', 'lite-tiny']) models.push(await openModel(golden(name), { backend }))
    })

    for (let first = 0; first < count; first += 20) {
      it(`random workloads ${first} to ${first + 19}`, async () => {
        for (let seed = first; seed < first + 20; seed++) await check(models[seed % 2], seed, met, kept)
      })
    }

    it('the workloads met preemption, prefix hits, cancellation and chunked prefill', () => {
      const least = count / 12
      for (const [what, times] of Object.entries(met)) assert.ok(times > least, `${what}: only ${times}`)
    })
  })

async function check(
  opened: OpenModel,
  seed: number,
  met: Record<string, number>,
  kept: LatentFormat,
): Promise<void> {
  const workload = randomWorkload(seed, opened.config.vocabSize)
  const engine = engineFor(opened, opened.backend, workload, kept)
  const together = await runTogether(engine, workload.jobs)
  const stats = await settled(engine)
  assert.equal(stats.pages.free + stats.pages.cached, stats.pages.total, `workload ${seed} lost pages`)
  assert.deepEqual([stats.running, stats.waiting], [0, 0], `workload ${seed} left sequences behind`)
  met.preemptions += stats.preemptions
  met.prefixHits += stats.prefixHits
  for (const [i, job] of workload.jobs.entries()) {
    const [alone] = await runTogether(engineFor(opened, opened.backend, roomy, kept), [
      { ...job, delay: 0, leaveAfter: null },
    ])
    compare(together[i], alone, job, `workload ${seed}, job ${i}`)
    if (job.leaveAfter !== null) met.cancelled++
    if (job.request.prompt_token_ids.length > workload.max_num_batched_tokens) met.chunked++
  }
}

/** One sequence at a time, one chunk, no reuse. */
const roomy = {
  pageSize: 64,
  pages: 8,
  max_num_seqs: 8,
  max_num_batched_tokens: 4096,
  prefixCaching: false,
  jobs: [],
}

/** A cancellation is carried out at the next step. */
async function settled(engine: ReturnType<typeof engineFor>): ReturnType<typeof engine.stats> {
  for (let turn = 0; turn < 50; turn++) {
    const stats = await engine.stats()
    if (stats.running + stats.waiting === 0) return stats
    await new Promise(setImmediate)
  }
  return engine.stats()
}

function compare(got: readonly Outcome[], want: readonly Outcome[], job: Job, where: string): void {
  if (job.leaveAfter === null) {
    assert.deepEqual(got, want, where)
    return
  }
  for (const [index, outcome] of got.entries()) {
    const length = outcome.tokens.length
    assert.deepEqual(outcome.tokens, want[index].tokens.slice(0, length), where)
    assert.deepEqual(outcome.logprobs, want[index].logprobs.slice(0, length), where)
  }
}
