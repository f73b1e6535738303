// The Rust library as judge: the same ids for a megabyte of odd text, and for every rule of the file format.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDice, type Oracle, openOracle, oracleIds, smallSpec, specs, tokenizers } from './examples.ts'
import { createTokenizer, type Tokenizer } from './tokenizer.ts'

const english = `The quick brown fox doesn't jump over THE lazy dog; it's 3:45pm (GMT+2), and "we'll" see... naïve café`
const chinese =
  '深度求索（DeepSeek）发布了第二代模型，参数量为2360亿，每个词元激活210亿。「你好」！？《论文》——'
const code =
  'for (let i = 0; i < n; ++i) {\n\t\treturn a[i] !== 0x1F ? `$b` : null  // TODO\r\n}\n\n\ndef f(x):\n    pass'
const odd =
  '\u0085\ufeff\u00a0\u200b\u200d\u2028\u2029\u3000\u1680\u202f\u0000\u0007\u001f\u007f\u00ad\ufffd½²Ⅷ٣①〇Ω\u2126K\u212a'
const mixed =
  'العربية עברית हिन्दी ไทย 한국어 日本語 ひらがな カタカナ Ελληνικά Русский e\u0301 ﬁ ǆ 👩‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽 𝟏𝒜𐐀𞤀'
const controls = [
  '<｜begin▁of▁sentence｜>',
  '<｜User｜>',
  '<|EOT|>',
  '<｜',
  '｜>',
  '<｜fim▁hole｜>',
  'ü',
  ' ',
  '\n',
]

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }
const split = (pattern: object, behavior = 'Isolated', invert = false) => ({
  type: 'Split',
  pattern,
  behavior,
  invert,
})

/** About `size` units of everything, cut at random so that pieces meet in unlikely ways. */
function oddText(size: number, dice: (below: number) => number, planes: number): string {
  const sources = [english, chinese, code, odd, mixed]
  let text = ''
  while (text.length < size) {
    const kind = dice(10)
    if (kind < 6) {
      const source = sources[Math.min(dice(8), 4)]
      const start = dice(source.length)
      text += source.slice(start, start + 1 + dice(40))
    } else if (kind === 6) text += ' \t\n\r'[dice(4)].repeat(1 + dice(4))
    else if (kind === 7) text += controls[dice(controls.length)]
    else for (let count = 1 + dice(6); count > 0; count--) text += letter(dice, planes)
  }
  return text.toWellFormed()
}

/** Any letter that this Unicode version knows. */
function letter(dice: (below: number) => number, planes: number): string {
  for (;;) {
    const narrow = dice(3) > 0 ? 0x3000 : planes
    const text = String.fromCodePoint(dice(narrow))
    if (!/[\p{Cn}\p{Cs}]/u.test(text)) return text
  }
}

/** Without letters that the Rust library's Unicode does not know yet: it cannot agree on their class. */
async function knownToBoth(texts: readonly string[]): Promise<readonly string[]> {
  const steps = [split({ Regex: '\\p{Cn}' }, 'Removed'), byteLevel]
  const spec = smallSpec({ pre_tokenizer: { type: 'Sequence', pretokenizers: steps } })
  const [tokenizer, oracle] = [createTokenizer(spec), openOracle(spec)]
  const known: string[] = []
  for (const text of texts) known.push(tokenizer.decode(await oracleIds(oracle, text)))
  return known
}

async function compare(tokenizer: Tokenizer, oracle: Oracle, texts: readonly string[]): Promise<void> {
  for (const text of texts) {
    const wanted = await oracleIds(oracle, text)
    const ids = tokenizer.encode(text, { parseSpecial: true })
    if (ids.length === wanted.length && ids.every((id, i) => id === wanted[i])) continue
    const at = ids.findIndex((id, i) => id !== wanted[i])
    const before = JSON.stringify(tokenizer.decode(ids.slice(Math.max(0, at - 8), at)))
    assert.deepEqual(ids.slice(at, at + 8), wanted.slice(at, at + 8), `after ${before}`)
  }
}

const cases = [
  ['v2', 1100, 1], // a megabyte of the real vocabulary alone
  ['v2Chat0628', 300, 2],
  ['deepseekLlm', 200, 3],
  ['demo', 300, 4],
] as const

for (const [name, kilobytes, seed] of cases) {
  test(`the same ids as the Rust library: ${name}, about ${kilobytes} kB`, async () => {
    const dice = createDice(seed)
    const texts = Array.from({ length: kilobytes }, (_, i) =>
      oddText(i % 50 === 0 ? 8000 : 350, dice, 0x110000),
    )
    const known = await knownToBoth(texts)
    const bytes = known.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    assert.ok(bytes > kilobytes * 950, `only ${bytes} bytes`)
    await compare(tokenizers[name](), openOracle(specs[name]), known)
  })
}

test('the same text back as the Rust library, for any ids of V2', async () => {
  const [tokenizer, oracle, dice] = [tokenizers.v2(), openOracle(specs.v2), createDice(5)]
  for (let i = 0; i < 300; i++) {
    // Added tokens are left out: the library reads their letters as bytes.
    const ids = Array.from({ length: 1 + dice(40) }, () => (dice(2) === 0 ? dice(300) : dice(100000)))
    assert.equal(tokenizer.decode(ids), await oracle.decode(ids, false))
  }
})

const digits = (individual_digits: boolean) => ({ type: 'Digits', individual_digits })
const behaviors = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous']
const gpt4 =
  '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'

/** Step lists by what they try. */
const pipelines: Readonly<Record<string, readonly object[]>> = {
  ...Object.fromEntries(
    behaviors.flatMap((behavior) =>
      [false, true].flatMap((invert) => [
        [`${behavior} ${invert} regex`, [split({ Regex: '[ab]\\s?' }, behavior, invert), byteLevel]],
        [`${behavior} ${invert} string`, [split({ String: 'b' }, behavior, invert), byteLevel]],
      ]),
    ),
  ),
  'one digit': [digits(true), byteLevel],
  'all digits': [digits(false), byteLevel],
  'GPT-2': [{ ...byteLevel, use_regex: true }],
  'GPT-2 with a space first': [{ ...byteLevel, use_regex: true, add_prefix_space: true }],
  'a space before every piece': [split({ Regex: 'b+' }), { ...byteLevel, add_prefix_space: true }],
  'V3 and GPT-4': [split({ Regex: '\\p{N}{1,3}' }), split({ Regex: gpt4 }), byteLevel],
  'ends of lines': [split({ Regex: 'a$' }), split({ Regex: '^b' }), split({ Regex: '\\s+$' }), byteLevel],
  'one-letter runs': [
    split({ Regex: '\\s?[ab]' }),
    split({ Regex: '[^a-c]' }),
    split({ Regex: '\\w+' }),
    byteLevel,
  ],
  'spaces in the set': [split({ Regex: '\\s?[\\sb]+' }), split({ Regex: '\\S+' }), byteLevel],
  'classes and escapes': [split({ Regex: '\\d\\D|\\W\\w\\b|a.|\\x{62}c|\\-' }), byteLevel],
  'empty matches': [split({ Regex: 'c*' }), byteLevel],
  'an empty string': [split({ String: '' }), byteLevel],
  'signs in a string': [split({ String: 'a.b' }), split({ String: ' ' }), byteLevel],
}

const letters = [
  'a',
  'b',
  'c',
  'aa',
  'ab',
  'abc',
  ' ',
  '  ',
  ' a',
  '\n',
  '\r',
  '\t',
  '1',
  '23',
  '½',
  '٣',
  "'s",
  '.',
  '-',
]
const rare = ['é', '中', '😀', '\u0085', '\u00a0', '\ufeff', '\u2028', '𝟏', '_', 'a.b', 'x']

function smallText(dice: (below: number) => number): string {
  const pool = dice(2) === 0 ? letters : [...letters, ...rare]
  return Array.from({ length: 1 + dice(14) }, () => pool[dice(pool.length)]).join('')
}

for (const [name, pretokenizers] of Object.entries(pipelines)) {
  test(`the same ids as the Rust library: ${name}`, async () => {
    const spec = smallSpec({ pre_tokenizer: { type: 'Sequence', pretokenizers } })
    const dice = createDice(name.length)
    const texts = Array.from({ length: 250 }, () => smallText(dice))
    const [tokenizer, oracle] = [createTokenizer(spec), openOracle(spec)]
    for (const text of texts) {
      assert.deepEqual(tokenizer.encode(text), await oracleIds(oracle, text), JSON.stringify(text))
    }
  })
}

test('the same added tokens as the Rust library: strips, whole words, longest first, both rounds', async () => {
  const plain = { lstrip: false, rstrip: false, single_word: false, normalized: false, special: false }
  const dice = createDice(9)
  for (let round = 0; round < 40; round++) {
    const contents = ['<a>', '<a>b', 'ab', 'bc', ' x', '<|z|>', '中', 'c'].filter(() => dice(3) > 0)
    const added_tokens = contents.map((content, index) => ({
      ...plain,
      id: content === 'c' ? 99 : content === 'ab' ? 257 : 300 + index,
      content,
      lstrip: dice(4) === 0,
      rstrip: dice(6) === 0,
      single_word: dice(4) === 0,
      normalized: dice(2) === 0,
      // A special token that merges could build is where the library and this room part on purpose.
      special: content !== 'ab' && dice(2) === 0,
    }))
    // The library numbers new tokens itself, without holes.
    let next = 260
    for (const token of added_tokens) if (token.id >= 300) token.id = next++
    const spec = smallSpec({ added_tokens })
    const [tokenizer, oracle] = [createTokenizer(spec), openOracle(spec)]
    const pool = [...contents, ...letters, ' ', '<', '>']
    for (let i = 0; i < 60; i++) {
      const text = Array.from({ length: 1 + dice(8) }, () => pool[dice(pool.length)]).join('')
      const shown = `${JSON.stringify(text)} with ${JSON.stringify(added_tokens)}`
      assert.deepEqual(tokenizer.encode(text, { parseSpecial: true }), await oracleIds(oracle, text), shown)
    }
  }
})

test('ignore_merges: a piece that is an entry is that entry', async () => {
  const spec = smallSpec({
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split({ Regex: '\\w+' }), byteLevel] },
  })
  const model = spec.model as { vocab: Record<string, number> }
  const withEntry = { ...spec, model: { ...model, vocab: { ...model.vocab, cba: 260 }, ignore_merges: true } }
  const [tokenizer, oracle] = [createTokenizer(withEntry), openOracle(withEntry)]
  for (const text of ['cba', 'cbaa', ' cba abc', 'ab']) {
    assert.deepEqual(tokenizer.encode(text), await oracleIds(oracle, text), text)
  }
  assert.deepEqual(tokenizer.encode('cba'), [260])
})
