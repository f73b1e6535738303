// Every way a tokenizer.json can be wrong, and the sentence that says so.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { smallSpec } from './examples.ts'
import { createTokenizer } from './tokenizer.ts'

const small = smallSpec()
const model = small.model as { vocab: Record<string, number>; merges: unknown }
const withModel = (fields: object) => smallSpec({ model: { ...model, ...fields } })
const withVocab = (fields: object) => withModel({ vocab: { ...model.vocab, ...fields } })
const byteLevel = small.pre_tokenizer
const withSteps = (...steps: unknown[]) =>
  smallSpec({ pre_tokenizer: { type: 'Sequence', pretokenizers: [...steps, byteLevel] } })
const split = (pattern: unknown, behavior = 'Isolated') => ({
  type: 'Split',
  pattern,
  behavior,
  invert: false,
})
const regex = (source: string) => withSteps(split({ Regex: source }))
const withAdded = (...tokens: unknown[]) => smallSpec({ added_tokens: tokens })
const { '!': _, ...withoutByte } = model.vocab

const malformed: readonly (readonly [string, unknown, RegExp])[] = [
  ['not an object', [], /tokenizer\.json is \[\], wanted an object/],
  ['no model', smallSpec({ model: undefined }), /model is undefined, wanted an object/],
  ['another model', withModel({ type: 'Unigram' }), /model's type is "Unigram", wanted "BPE"/],
  ['no vocabulary', withModel({ vocab: undefined }), /vocab is undefined, wanted an object/],
  ['a negative id', withVocab({ x: -1 }), /the id of "x" is -1, wanted a whole number/],
  ['half an id', withVocab({ x: 1.5 }), /the id of "x" is 1\.5/],
  ['an absurd id', withVocab({ x: 1e12 }), /the id of "x" is 1000000000000/],
  ['one id twice', withVocab({ xy: 5 }), /have the same id 5, wanted one each/],
  ['a missing byte', withModel({ vocab: withoutByte }), /no entry for byte 0x21 \(spelled "!"\)/],
  ['no merges', withModel({ merges: undefined }), /merges is undefined, wanted a list/],
  ['a merge of three', withModel({ merges: ['a b c'] }), /merge 0 is "a b c", wanted two pieces/],
  ['a merge of numbers', withModel({ merges: [[1, 2]] }), /merge 0 is \[1,2\], wanted two pieces/],
  [
    'an unknown side',
    withModel({ merges: ['a b', 'a qq'] }),
    /merge 1 \("a", "qq"\) names "qq", which is not/,
  ],
  ['an unknown result', withModel({ merges: [['z', 'z']] }), /merge 0 .* names "zz"/],
  ['dropout', withModel({ dropout: 0.1 }), /dropout is 0\.1, wanted null/],
  ['a suffix', withModel({ end_of_word_suffix: '</w>' }), /end_of_word_suffix is "<\/w>", wanted null/],
  ['a normalizer', smallSpec({ normalizer: { type: 'NFC' } }), /normalizer "NFC" is not supported/],
  [
    'a normalizer inside a sequence',
    smallSpec({ normalizer: { type: 'Sequence', normalizers: [{ type: 'Lowercase' }] } }),
    /normalizer "Lowercase" is not supported/,
  ],
  ['another decoder', smallSpec({ decoder: { type: 'Metaspace' } }), /decoder "Metaspace" is not supported/],
  ['no pre-tokenizer', smallSpec({ pre_tokenizer: null }), /ends with null, wanted "ByteLevel"/],
  ['another pre-tokenizer', withSteps({ type: 'Metaspace' }), /pre-tokenizer "Metaspace" is not supported/],
  ['ByteLevel too soon', withSteps(byteLevel), /ByteLevel stands before another step/],
  [
    'an unknown behavior',
    withSteps(split({ Regex: 'a' }, 'Sideways')),
    /behavior "Sideways" is not supported/,
  ],
  ['no pattern', withSteps(split({})), /pattern: Regex is undefined, wanted a string/],
  ['a broken regex', regex('(a'), /cannot take the pattern "\(a"/],
  ['a possessive regex', regex('a++'), /possessive repetition in the pattern "a\+\+"/],
  ['an inline flag', regex('(?i:a)'), /a group that begins with \(\?i/],
  ['a nested set', regex('[a[b]]'), /a set inside a set/],
  ['a POSIX bracket', regex('[[:alpha:]]'), /a POSIX bracket/],
  ['an intersection', regex('[a-z&&b]'), /an intersection of sets/],
  ['an unknown escape', regex('\\h'), /the escape \\h/],
  ['an unknown property', regex('\\p{Nonsense}'), /JavaScript cannot take the pattern/],
  ['an added token without a content', withAdded({ id: 300 }), /added token 0: content is undefined/],
  ['an added token without an id', withAdded({ content: 'x' }), /added token 0: id is undefined/],
  ['an added token on a used id', withAdded({ id: 5, content: 'xyz' }), /"xyz" has id 5, but .* has that id/],
  [
    'an added token with two ids',
    withAdded({ id: 400, content: 'a' }),
    /"a" has id 400, but its id is 97 elsewhere/,
  ],
  [
    'two added tokens with one id',
    withAdded({ id: 300, content: 'x1' }, { id: 300, content: 'x2' }),
    /added token 1: "x2" has id 300, but "x1" has that id/,
  ],
  [
    'a flag that is none',
    withAdded({ id: 300, content: 'x1', lstrip: 1 }),
    /lstrip is 1, wanted true or false/,
  ],
]

for (const [name, spec, message] of malformed) {
  test(`refused: ${name}`, () => {
    assert.throws(() => createTokenizer(JSON.parse(JSON.stringify(spec))), {
      name: 'CheckpointError',
      message,
    })
  })
}

test('refused: a config that names what the file lacks', () => {
  const refused = (config: unknown, message: RegExp) =>
    assert.throws(() => createTokenizer(small, config), { name: 'CheckpointError', message })
  refused({ bos_token: '<s>' }, /bos_token "<s>" of its config is not in it/)
  refused({ eos_token: 7 }, /eos_token is 7, wanted a token or null/)
  refused({ add_bos_token: 'yes' }, /add_bos_token is "yes", wanted true or false/)
  refused([], /the config of tokenizer\.json is \[\], wanted an object/)
  assert.equal(createTokenizer(small, { pad_token: '<pad>' }).pad, null)
})

test('accepted: empty normalizers, old spellings, holes', () => {
  const nested = { type: 'Sequence', normalizers: [{ type: 'Sequence', normalizers: [] }] }
  assert.deepEqual(createTokenizer(smallSpec({ normalizer: nested })).encode('abc'), [258])
  const pairs = createTokenizer(
    withModel({
      merges: [
        ['a', 'b'],
        ['ab', 'c'],
      ],
    }),
  )
  assert.deepEqual(pairs.encode('abc'), [258])
  const holed = createTokenizer(withAdded({ id: 300, content: '<x>', special: true }))
  assert.deepEqual([holed.size, holed.piece(299), holed.decode([299, 300])], [301, '', '<x>'])
  // A token of the config that is only a vocabulary entry is special all the same: no merge may lead to it.
  const named = createTokenizer(small, { eos_token: 'abc' })
  assert.deepEqual([...named.special], [258])
  assert.deepEqual(named.encode('abc'), [257, 99])
  assert.deepEqual(named.encode('abc', { parseSpecial: true }), [258])
})
