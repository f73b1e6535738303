// How answers end, against plain restatements over random requests: what an answer would have been without an end is
// asked for first, and the rules are then read off that list of tokens.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Engine, EngineRequest, TokenEvent } from './engine.ts'
import { openModel } from './open.ts'
import { type SamplingFields, samplingParams } from './sampling.ts'
import { createDice, type Dice, engineFor } from './workload.ts'

const tiny = fileURLToPath(new URL('../../../test/data/golden/v2-tiny/', import.meta.url))
const opened = await openModel(tiny, { backend: 'reference' })
const { vocabSize, eosTokenIds } = opened.config
const sizes = { pageSize: 8, pages: 40, max_num_seqs: 6, max_num_batched_tokens: 16, jobs: [] }
const engine = engineFor(opened, opened.backend, { ...sizes, prefixCaching: true })
const { max_model_len } = engine.limits
after(() => engine.close())

interface Ended {
  readonly tokens: readonly number[]
  readonly finish: string | null
  readonly stopToken: number | null
}

async function answers(on: Engine, request: EngineRequest): Promise<Ended[]> {
  const events: TokenEvent[] = []
  for await (const event of on.generate(request)) events.push(event)
  return Array.from({ length: request.n ?? 1 }, (_, index) => {
    const own = events.filter((event) => event.index === index)
    const last = own.at(-1)
    for (const { finish, stopToken } of own.slice(0, -1)) assert.deepEqual([finish, stopToken], [null, null])
    const tokens = own.flatMap(({ choice }) => (choice === null ? [] : [choice.token]))
    return { tokens, finish: last?.finish ?? null, stopToken: last?.stopToken ?? null }
  })
}

function request(prompt: readonly number[], fields: SamplingFields, n = 1): EngineRequest {
  return { prompt_token_ids: prompt, params: samplingParams(fields, { size: vocabSize }), n }
}

/** The rules in words: an answer ends with the first end-of-sequence or stop token, or when it is long enough. */
function restated(endless: readonly number[], fields: SamplingFields): Ended {
  const isEos = (token: number): boolean => fields.ignore_eos !== true && eosTokenIds.includes(token)
  const isStop = (token: number): boolean => fields.stop_token_ids?.includes(token) === true
  const tokens = endless.slice(0, fields.max_tokens ?? undefined)
  const end = tokens.findIndex((token) => isEos(token) || isStop(token))
  if (end < 0) return { tokens, finish: 'length', stopToken: null }
  return {
    tokens: tokens.slice(0, end + 1),
    finish: 'stop',
    stopToken: isEos(tokens[end]) ? null : tokens[end],
  }
}

function randomFields(dice: Dice): SamplingFields & { readonly seed: number } {
  return {
    temperature: dice.of([0, 1, 1.5]),
    seed: dice.from(0, 10_000),
    top_k: 30,
    // makes the end of sequence about as likely as not to come
    logit_bias: Object.fromEntries(eosTokenIds.map((id) => [id, dice.from(0, 12)])),
  }
}

const ids = (dice: Dice, count: number): number[] =>
  Array.from({ length: count }, () => dice.from(2, vocabSize - 1))

test('stop_token_ids, ignore_eos, max_tokens and n end answers where a plain reading says', async () => {
  const met = { eos: 0, stop: 0, both: 0, length: 0, none: 0, full: 0, siblings: 0 }
  const rounds = Array.from({ length: 150 }, async (_, round) => {
    const dice = createDice(round)
    const prompt = ids(dice, dice.from(1, 20))
    const { seed, ...sampling } = randomFields(dice)
    const n = dice.of([1, 1, 2, 3])
    const endless = await Promise.all(
      Array.from({ length: n }, async (_, index) => {
        const fields = { ...sampling, seed: seed + index, ignore_eos: true }
        return (await answers(engine, request(prompt, fields)))[0].tokens
      }),
    )
    for (const tokens of endless) assert.equal(tokens.length, max_model_len - prompt.length)
    const all = endless.flat()
    const fields = {
      ignore_eos: dice.chance(0.5),
      stop_token_ids: [
        ...Array.from({ length: dice.from(0, 2) }, () => dice.of(all)),
        ...ids(dice, dice.from(0, 2)),
        ...(dice.chance(0.2) ? eosTokenIds : []),
      ],
      max_tokens: dice.chance(0.3) ? null : dice.from(0, 20),
    }
    const got = await answers(engine, request(prompt, { ...sampling, ...fields, seed }, n))
    const wanted = endless.map((tokens) => restated(tokens, fields))
    assert.deepEqual(got, wanted, JSON.stringify({ round, fields }))
    for (const { tokens, finish, stopToken } of wanted) {
      const both =
        finish === 'stop' && stopToken === null && fields.stop_token_ids.includes(tokens.at(-1) ?? -1)
      if (both) met.both++
      else if (finish === 'stop') met[stopToken === null ? 'eos' : 'stop']++
      else met[tokens.length === 0 ? 'none' : tokens.length < endless[0].length ? 'length' : 'full']++
    }
    if (new Set(wanted.map(({ tokens }) => tokens.join())).size > 1) met.siblings++
  })
  await Promise.all(rounds)
  for (const [what, times] of Object.entries(met)) assert.ok(times >= 3, `${what}: only ${times}`)
})
