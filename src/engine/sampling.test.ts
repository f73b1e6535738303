import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestError } from '../tensor/error.ts'
import { type SamplingFields, samplingParams } from './sampling.ts'

const vocab = { size: 1000 }
/** As from JSON: the compiler has not seen the types. */
const read = (given: unknown, defaults?: unknown) =>
  samplingParams(given as SamplingFields, vocab, (defaults ?? {}) as SamplingFields)

const off = {
  temperature: 1,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  typical_p: 1,
  repetition_penalty: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  logit_bias: {},
  seed: null,
  stop_token_ids: [],
  ignore_eos: false,
  min_tokens: 0,
  max_tokens: null,
  bad_token_ids: [],
  allowed_token_ids: null,
  logprobs: null,
  prompt_logprobs: null,
}

test('nothing given is everything off, and every field is there', () => {
  assert.deepEqual(read({}), off)
})

test('null and undefined are not given; what is given beats the defaults', () => {
  const nothing = Object.fromEntries(Object.keys(off).map((key) => [key, null]))
  assert.deepEqual(read(nothing), off)
  assert.equal(read({ top_p: undefined }).top_p, 1)
  const defaults = { temperature: 0.3, top_p: 0.95 }
  assert.deepEqual(read({}, defaults), { ...off, ...defaults })
  assert.deepEqual(read({ temperature: 0, top_p: null }, defaults), { ...off, temperature: 0, top_p: 0.95 })
})

test('values at the edges are accepted and kept', () => {
  const cases: Record<string, readonly unknown[]> = {
    temperature: [0, 1e-9, 0.005, 100],
    top_p: [1e-9, 1],
    top_k: [1, 5000],
    min_p: [0, 1],
    typical_p: [1e-9, 1],
    repetition_penalty: [1e-3, 10],
    presence_penalty: [-2, 2],
    frequency_penalty: [-2, 2],
    seed: [0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
    stop_token_ids: [[], [0, 999]],
    ignore_eos: [true, false],
    max_tokens: [0, 1, 1e9],
    bad_token_ids: [[], [[1], [2, 3], [4, 5, 6]]],
    allowed_token_ids: [[0], [999, 0]],
    logprobs: [0, 1, 1000],
    prompt_logprobs: [0, 1, 1000],
  }
  for (const [key, values] of Object.entries(cases)) {
    for (const value of values) assert.deepEqual(read({ [key]: value }), { ...off, [key]: value }, key)
  }
  assert.deepEqual(read({ min_tokens: 5, max_tokens: 5 }), { ...off, min_tokens: 5, max_tokens: 5 })
})

test('other spellings of the same come out as one', () => {
  assert.equal(read({ top_k: -1 }).top_k, 0)
  assert.equal(read({ logprobs: -1 }).logprobs, 1000)
  assert.equal(read({ prompt_logprobs: -1 }).prompt_logprobs, 1000)
  const fromJson = read(JSON.parse('{"logit_bias": {"7": -100, "999": 100}}'))
  assert.deepEqual(fromJson.logit_bias, { 7: -100, 999: 100 })
  assert.deepEqual(read({ logit_bias: { 7: -100, 999: 100 } }), fromJson)
})

test('the params do not share lists with what was given', () => {
  const given = { stop_token_ids: [1], bad_token_ids: [[2]], logit_bias: { 3: 1 } }
  const params = read(given)
  given.stop_token_ids.push(9)
  given.bad_token_ids[0].push(9)
  given.logit_bias[3] = 9
  assert.deepEqual(params, { ...off, stop_token_ids: [1], bad_token_ids: [[2]], logit_bias: { 3: 1 } })
})

const number = /it must be a/
const bad: readonly (readonly [field: string, value: unknown, message: RegExp])[] = [
  ['temperature', -0.1, /^temperature is -0\.1, it must be a finite number, 0 or more/],
  ['temperature', Number.NaN, /^temperature is NaN, /],
  ['temperature', Infinity, /^temperature is Infinity, /],
  ['temperature', '0.7', /^temperature is '0\.7', .*; send 0\.7 without quotes$/],
  ['temperature', 'hot', /^temperature is 'hot', [^;]*$/],
  ['temperature', [1], /^temperature is \[ 1 \], /],
  ['top_p', 0, /^top_p is 0, it must be a number above 0 and at most 1/],
  ['top_p', 1.01, /^top_p is 1\.01, /],
  ['top_p', true, /^top_p is true, /],
  ['top_k', -2, /^top_k is -2, it must be an integer, 1 or more \(0 or -1 is off\)/],
  ['top_k', 1.5, /^top_k is 1\.5, /],
  ['top_k', '40', /send 40 without quotes/],
  ['min_p', -0.01, /^min_p is -0\.01, it must be a number from 0 \(off\) to 1/],
  ['min_p', 2, number],
  ['typical_p', 0, /^typical_p is 0, /],
  ['typical_p', 1.5, number],
  ['repetition_penalty', 0, /^repetition_penalty is 0, it must be a finite number above 0/],
  ['repetition_penalty', -1, number],
  ['repetition_penalty', Infinity, number],
  ['presence_penalty', 2.1, /^presence_penalty is 2\.1, it must be a number from -2 to 2/],
  ['presence_penalty', {}, /^presence_penalty is \{\}, /],
  ['frequency_penalty', -2.1, /from -2 to 2/],
  ['logit_bias', { 1000: 1 }, /^logit_bias has the key '1000', its keys must be token ids from 0 to 999/],
  ['logit_bias', { '-1': 1 }, /has the key '-1'/],
  ['logit_bias', { hello: 1 }, /has the key 'hello'/],
  ['logit_bias', { 5: 101 }, /^logit_bias\[5\] is 101, it must be a number from -100 to 100/],
  ['logit_bias', { 5: '1' }, /^logit_bias\[5\] is '1', .* without quotes/],
  ['logit_bias', [[5, 1]], /it must be an object from token id to bias/],
  ['logit_bias', 'none', /^logit_bias is 'none'/],
  ['seed', 1.5, /^seed is 1\.5, it must be an integer of at most 53 bits/],
  ['seed', 2 ** 53, /^seed is 9007199254740992, /],
  ['seed', 10n, /^seed is 10n, /],
  ['stop_token_ids', 5, /^stop_token_ids is 5, it must be a list of token ids/],
  [
    'stop_token_ids',
    [1, 1000],
    /^stop_token_ids\[1\] is 1000, it must be a token id, an integer from 0 to 999/,
  ],
  ['stop_token_ids', [null], /^stop_token_ids\[0\] is null, /],
  ['ignore_eos', 1, /^ignore_eos is 1, it must be true or false/],
  ['ignore_eos', 'true', /send true without quotes/],
  ['min_tokens', -1, /^min_tokens is -1, it must be an integer, 0 or more/],
  ['max_tokens', -1, /^max_tokens is -1, /],
  ['max_tokens', 1.5, /^max_tokens is 1\.5, /],
  ['max_tokens', '16', /send 16 without quotes/],
  ['bad_token_ids', [5], /^bad_token_ids\[0\] is 5, it must be a list of token ids/],
  ['bad_token_ids', [[]], /^bad_token_ids\[0\] is \[\], it must be a list of at least one/],
  ['bad_token_ids', [[1], [2, -1]], /^bad_token_ids\[1\]\[1\] is -1, /],
  ['allowed_token_ids', [], /^allowed_token_ids is \[\], .*at least one/],
  ['allowed_token_ids', ['a'], /^allowed_token_ids\[0\] is 'a', /],
  ['logprobs', -2, /^logprobs is -2, it must be an integer from 0 to 1000 \(or -1, the whole vocabulary\)/],
  ['logprobs', 1001, /^logprobs is 1001, /],
  ['logprobs', true, /^logprobs is true, /],
  ['prompt_logprobs', 0.5, /^prompt_logprobs is 0\.5, /],
  ['temprature', 1, /^'temprature' is not a sampling field; did you mean 'temperature'\?/],
  ['topP', 1, /did you mean 'top_p'\?/],
  ['max_new_tokens', 1, /did you mean 'max_tokens'\?/],
  ['toString', 1, /is not a sampling field/],
  ['frobnicate', 1, /is not a sampling field; the fields are temperature, top_p, /],
]

test('what cannot be is refused: the field, what it holds, what it may hold', () => {
  const refusal = (field: string, message: RegExp) => (error: unknown) => {
    assert.ok(error instanceof RequestError, `${field}: ${error}`)
    assert.match(error.message, message)
    assert.equal(error.field, field)
    return true
  }
  for (const [field, value, message] of bad) {
    assert.throws(() => read({ [field]: value }), refusal(field, message))
    assert.throws(() => read({}, { [field]: value }), refusal(field, message))
  }
  const crossed = /^min_tokens is 9, above max_tokens, which is 8; lower min_tokens or raise max_tokens/
  assert.throws(() => read({ min_tokens: 9, max_tokens: 8 }), refusal('min_tokens', crossed))
})
