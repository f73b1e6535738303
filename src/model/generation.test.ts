import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from './config.ts'
import { liteConfig } from './examples.ts'
import { parseGenerationConfig } from './generation.ts'

const config = parseConfig(liteConfig, 'config.json')
const parse = (json: Record<string, unknown> | null) =>
  parseGenerationConfig(json, config, 'generation_config.json')
const published = {
  _from_model_config: true,
  bos_token_id: 100000,
  eos_token_id: 100001,
  do_sample: true,
  temperature: 0.3,
  top_p: 0.95,
  transformers_version: '4.39.3',
}

test('the published file: its temperature and top_p, and no top_k', () => {
  assert.deepEqual(parse(published), {
    bosTokenId: 100000,
    eosTokenIds: [100001],
    maxNewTokens: null,
    sampling: { temperature: 0.3, top_p: 0.95 },
  })
})

test('no file: the ids of the configuration, and plain sampling', () => {
  assert.deepEqual(parse(null), {
    bosTokenId: 100000,
    eosTokenIds: [100001],
    maxNewTokens: null,
    sampling: { temperature: 1, top_p: 1 },
  })
})

test('do_sample false asks for the likeliest token', () => {
  assert.deepEqual(parse({ ...published, do_sample: false }).sampling, { temperature: 0 })
  const penalty = parse({ ...published, do_sample: false, repetition_penalty: 1.1 })
  assert.deepEqual(penalty.sampling, { temperature: 0, repetition_penalty: 1.1 })
})

test('everything a file can state', () => {
  const all = parse({ top_k: 20, min_p: 0.05, typical_p: 0.9, repetition_penalty: 1.2, max_new_tokens: 64 })
  assert.equal(all.maxNewTokens, 64)
  const wanted = { temperature: 1, top_p: 1, top_k: 20, min_p: 0.05, typical_p: 0.9, repetition_penalty: 1.2 }
  assert.deepEqual(all.sampling, wanted)
  assert.deepEqual(parse({ eos_token_id: [1, 2] }).eosTokenIds, [1, 2])
  for (const top_k of [0, -1, null]) assert.equal(parse({ top_k }).sampling.top_k, undefined)
})

const refused: readonly (readonly [json: Record<string, unknown>, message: RegExp])[] = [
  [{ temperature: -1 }, /temperature is -1; wanted a number from 0/],
  [{ temperature: '0.3' }, /temperature is "0.3"/],
  [{ top_p: 0 }, /top_p is 0; wanted a number above 0/],
  [{ top_p: 1.5 }, /top_p is 1.5/],
  [{ top_k: 2.5 }, /top_k is 2.5; wanted an integer/],
  [{ min_p: 2 }, /min_p is 2/],
  [{ repetition_penalty: 0 }, /repetition_penalty is 0/],
  [{ do_sample: 'yes' }, /do_sample is "yes"; wanted true or false/],
  [{ max_new_tokens: 0 }, /max_new_tokens is 0/],
  [{ eos_token_id: 200000 }, /eos_token_id is 200000; wanted a token id below vocab_size 102400/],
  [{ bos_token_id: [1, 2] }, /bos_token_id is \[1,2\]; wanted one token id/],
]

for (const [json, message] of refused) {
  test(`refused: ${JSON.stringify(json)}`, () => {
    assert.throws(
      () => parse(json),
      (error: Error) => message.test(error.message) && error.message.startsWith('generation_config.json: '),
    )
  })
}
