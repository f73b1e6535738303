// The engine's edges: what it refuses, how answers end, what a caller that leaves or fails costs the others.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CapacityError, KernelError, RequestError } from '../tensor/error.ts'
import type { Engine, TokenEvent } from './engine.ts'
import { createEngine } from './local.ts'
import { openEngine } from './open.ts'
import { type SamplingFields, samplingParams } from './sampling.ts'
import { openWorkerEngine } from './worker.ts'

const tiny = fileURLToPath(new URL('../../../test/data/golden/v2-tiny/', import.meta.url))
const options = { backend: 'reference', max_model_len: 128, cache_bytes: 2 ** 20, max_num_batched_tokens: 32 }
const params = (fields: SamplingFields): ReturnType<typeof samplingParams> =>
  samplingParams({ temperature: 0, ignore_eos: true, ...fields }, { size: 512 })

async function all(
  engine: Engine,
  prompt: number[],
  fields: SamplingFields,
  more: object = {},
): Promise<TokenEvent[]> {
  const events: TokenEvent[] = []
  const request = { prompt_token_ids: prompt, params: params(fields), ...more }
  for await (const event of engine.generate(request)) events.push(event)
  return events
}

// opened before any suite is: the first releases of Node 20 do not wait for a suite that is async
const engines = [
  { where: 'in this thread', open: openEngine, engine: await openEngine(tiny, options) },
  { where: 'in a worker', open: openWorkerEngine, engine: await openWorkerEngine(tiny, options) },
]
for (const { where, open, engine } of engines) {
  describe(`engine ${where}`, () => {
    after(() => engine.close())

    it('answers with the golden continuation and says how it ended', async () => {
      const events = await all(engine, [305, 122, 422, 435, 36, 461, 294], { max_tokens: 4 })
      assert.deepEqual(
        events.map(({ choice }) => choice?.token),
        [178, 7, 276, 327],
      )
      assert.deepEqual(
        events.map(({ finish }) => finish),
        [null, null, null, 'length'],
      )
      assert.equal(events[0].prompt?.cachedTokens, 0)
      assert.equal(events[1].prompt, null)
    })

    it('stops at a stop token, at end-of-sequence, and at max_tokens 0', async () => {
      const prompt = [305, 122, 422, 435, 36, 461, 294]
      const stopped = (await all(engine, prompt, { max_tokens: 9, stop_token_ids: [276] })).at(-1)
      assert.deepEqual([stopped?.finish, stopped?.stopToken, stopped?.choice?.token], ['stop', 276, 276])
      const forced = await all(engine, prompt, { max_tokens: 9, ignore_eos: false, logit_bias: { 1: 100 } })
      assert.deepEqual([forced.length, forced[0].finish, forced[0].stopToken], [1, 'stop', null])
      const none = await all(engine, prompt, { max_tokens: 0, prompt_logprobs: 2 })
      assert.deepEqual([none.length, none[0].choice, none[0].finish], [1, null, 'length'])
      assert.equal(none[0].prompt?.logprobs?.length, prompt.length)
      assert.equal(none[0].prompt?.logprobs?.[1]?.top?.length, 2)
    })

    it('n answers share the prompt and differ by seed', async () => {
      const events = await all(
        engine,
        Array.from({ length: 100 }, (_, i) => i + 2),
        { temperature: 2, max_tokens: 6, seed: 4 },
        { n: 3 },
      )
      const texts = [0, 1, 2].map((n) =>
        events
          .filter(({ index }) => index === n)
          .map(({ choice }) => choice?.token)
          .join(),
      )
      assert.equal(new Set(texts).size, 3)
      assert.deepEqual(
        events.filter(({ prompt }) => prompt).map(({ prompt }) => prompt?.cachedTokens),
        [0, 64, 64],
      )
    })

    it('refuses what it cannot serve, naming it', async () => {
      await assert.rejects(
        all(engine, [], {}),
        (error) => error instanceof RequestError && error.field === 'prompt_token_ids',
      )
      await assert.rejects(all(engine, [1, 512], {}), /token id 512 is outside 0 \.\. 511/)
      await assert.rejects(all(engine, [1], {}, { n: 0 }), /n must be a whole number from 1, 0 given/)
      await assert.rejects(
        all(engine, new Array(129).fill(5), {}),
        (error) => error instanceof CapacityError && /129 tokens, max_model_len is 128/.test(error.message),
      )
    })

    it('ends at max_model_len', async () => {
      const events = await all(engine, new Array(126).fill(5), {})
      assert.deepEqual(
        events.map(({ finish }) => finish),
        [null, 'length'],
      )
    })

    it('an aborted answer throws the reason and frees its pages; the others go on', async () => {
      const abort = new AbortController()
      const request = { prompt_token_ids: [9, 8, 7], params: params({ max_tokens: 100 }) }
      const other = all(engine, [9, 8, 6], { max_tokens: 12 })
      await assert.rejects(async () => {
        for await (const _ of engine.generate(request, abort.signal)) abort.abort(new Error('enough'))
      }, /enough/)
      assert.equal((await other).length, 12)
      await assert.rejects(async () => engine.generate(request, abort.signal).next(), /enough/)
      let stats = await engine.stats()
      for (let i = 0; i < 100 && stats.running > 0; i++) stats = await engine.stats()
      assert.deepEqual([stats.running, stats.waiting, stats.pages.held], [0, 0, 0])
    })

    it('an abort is carried out while nobody reads', async () => {
      const abort = new AbortController()
      const request = { prompt_token_ids: [9, 8, 7], params: params({ max_tokens: 120 }) }
      const answer = engine.generate(request, abort.signal)
      await answer.next()
      abort.abort(new Error('enough'))
      let stats = await engine.stats()
      for (let i = 0; i < 200 && stats.running > 0; i++) {
        await new Promise(setImmediate)
        stats = await engine.stats()
      }
      assert.equal(stats.running, 0)
      await assert.rejects(async () => {
        for await (const _ of answer); // what had come before is still there to be read
      }, /enough/)
    })

    it('a closed engine ends its answers and refuses new ones', async () => {
      const own = await open(tiny, options)
      const answer = all(own, [5, 6], { max_tokens: 120 })
      const ended = assert.rejects(answer, /closed/)
      await new Promise((resolve) => setTimeout(resolve, 20))
      await own.close()
      await ended
      await assert.rejects(all(own, [5], {}), /the engine is closed/)
      await own.close()
    })
  })
}

describe('opening an engine', () => {
  const refusals: readonly [object, RegExp][] = [
    [{ max_model_len: 0 }, /max_model_len must be a whole number from 1, 0 given/],
    [{ max_num_seqs: 1.5 }, /max_num_seqs must be a whole number from 1, 1.5 given/],
    [{ cache_bytes: 10 }, /cache_bytes is 10, one page of 64 tokens takes \d+/],
    [
      { max_model_len: 128, cache_bytes: 50_000 },
      /holds \d+ tokens, max_model_len is 128; raise cache_bytes to \d+ or lower/,
    ],
    [{ max_model_len: 200_000 }, /the model was made for at most 163840/],
    [{ kv_dtype: 'q4' }, /kv_dtype must be f32, bf16 or q8, 'q4' given/],
    [{ backend: 'tpu' }, /there is no backend 'tpu'; choose one of/],
  ]
  for (const [bad, message] of refusals) {
    it(`${JSON.stringify(bad)} is refused`, async () => {
      await assert.rejects(openEngine(tiny, bad), message)
    })
  }

  it('a folder without config.json is refused, also across the thread', async () => {
    await assert.rejects(
      openEngine(`${tiny}expected`),
      /has no config.json; give a Hugging Face model directory/,
    )
    await assert.rejects(openWorkerEngine(`${tiny}expected`), { name: 'CheckpointError' })
  })

  for (const kv_dtype of ['bf16', 'q8'] as const) {
    it(`a cache of ${kv_dtype} latents answers too`, async () => {
      const engine = await openEngine(tiny, { ...options, kv_dtype })
      const events = await all(engine, [305, 122, 422, 435, 36, 461, 294], { max_tokens: 3 })
      assert.equal(events.length, 3)
      await engine.close()
    })
  }

  it('a step that fails fails its sequences and leaves the engine whole', async () => {
    const engine = await openEngine(tiny, options)
    const limits = engine.limits
    await engine.close()
    let broken = true
    const backend = {
      name: 'broken',
      scope: (body: () => Promise<unknown>) => body(),
      close: () => {},
      read: async () => new Float32Array(512),
    }
    const model = {
      forward: () => {
        if (broken) throw new KernelError('the device is gone')
      },
    }
    const parts = {
      model,
      backend,
      pages: { pages: 4, pageSize: 64 },
      limits,
      eosTokenIds: [1],
      vocabSize: 512,
      tokens: 512,
    }
    const own = createEngine(parts as unknown as Parameters<typeof createEngine>[0])
    await assert.rejects(all(own, [5, 6], { max_tokens: 2 }), /the device is gone/)
    broken = false
    assert.equal((await all(own, [5, 6], { max_tokens: 2 })).length, 2)
    assert.equal((await own.stats()).pages.held, 0)
  })
})
