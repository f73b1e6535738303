// However ids and text are cut into pushes, the outcome is that of the whole.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDice, tokenizers } from './examples.ts'
import { createDecoder, createStopWatch } from './stream.ts'

test('a letter comes out whole, with the id that completes it', () => {
  const v2 = tokenizers.v2()
  const text = 'naïve 👩‍👩‍👧 中文 \uFEFF end'
  const ids = v2.encode(text)
  const decoder = createDecoder(v2)
  const pushes = ids.map((id) => decoder.push(id))
  assert.equal(pushes.join(''), text)
  assert.ok(pushes.some((push) => push === ''))
  assert.ok(pushes.every((push) => push.isWellFormed() && !push.includes('\uFFFD')))
  assert.equal(decoder.flush(), '')
})

test('any ids decode the same in a stream as at once', () => {
  const dice = createDice(11)
  for (const tokenizer of [tokenizers.v2(), tokenizers.deepseekLlm(), tokenizers.demo()]) {
    for (let round = 0; round < 400; round++) {
      // Low ids are mostly single bytes, which rarely make letters.
      const ids = Array.from({ length: dice(30) }, () => dice(dice(2) === 0 ? 260 : tokenizer.size))
      for (const skipSpecialTokens of [false, true]) {
        const decoder = createDecoder(tokenizer, { skipSpecialTokens })
        const text = ids.map((id) => decoder.push(id)).join('') + decoder.flush()
        assert.equal(text, tokenizer.decode(ids, { skipSpecialTokens }))
      }
    }
  }
})

test('half a letter at the end, special tokens, and ids that do not exist', () => {
  const v2 = tokenizers.v2()
  const [first] = v2.encode('\u{10FFFF}')
  const decoder = createDecoder(v2, { skipSpecialTokens: true })
  assert.deepEqual(
    [decoder.push(first), decoder.push(100001), decoder.flush(), decoder.flush()],
    ['', '', '\uFFFD', ''],
  )
  assert.equal(createDecoder(v2).push(100001), '<｜end▁of▁sentence｜>')
  assert.throws(() => decoder.push(100002), { name: 'RequestError', message: /token id 100002 is not/ })
})

/**
 * The rule said plainly: letter by letter, the first at which some stop string is complete; the longest of
 * these.
 */
function plainly(text: string, stops: readonly string[], include: boolean) {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop))
    if (complete.length === 0) continue
    const stopped = complete.reduce((a, b) => (b.length > a.length ? b : a))
    return { text: text.slice(0, include ? end : end - stopped.length), stopped }
  }
  return { text, stopped: null }
}

test('stop strings: any cutting of the text gives what the whole gives', () => {
  const dice = createDice(12)
  const word = (length: number) => Array.from({ length }, () => 'abc'[dice(dice(3) === 0 ? 3 : 2)]).join('')
  for (let round = 0; round < 5000; round++) {
    const text = word(dice(24))
    const stops = Array.from({ length: dice(4) }, () => word(1 + dice(5)))
    const include = dice(2) === 0
    const watch = createStopWatch(stops, { include })
    let [shown, stopped] = ['', null as string | null]
    for (let at = 0; at < text.length; ) {
      const length = dice(5)
      const answer = watch.push(text.slice(at, at + length))
      at += length
      shown += answer.text
      stopped = answer.stopped
      // Nothing that was shown may turn out to be part of a stop string.
      if (!include) assert.ok(plainly(text, stops, false).text.startsWith(shown))
    }
    shown += watch.flush()
    assert.deepEqual({ text: shown, stopped }, plainly(text, stops, include), JSON.stringify([text, stops]))
  }
})

test('stop strings: held back no longer than needed', () => {
  const watch = createStopWatch(['User:', '\n\n'])
  assert.deepEqual(watch.push('Hello Us'), { text: 'Hello ', stopped: null })
  assert.deepEqual(watch.push('age'), { text: 'Usage', stopped: null })
  assert.deepEqual(watch.push('\n'), { text: '', stopped: null })
  assert.deepEqual(watch.push('\nmore'), { text: '', stopped: '\n\n' })
  assert.deepEqual(watch.push('more'), { text: '', stopped: '\n\n' })
  assert.equal(watch.flush(), '')
  const rest = createStopWatch(['User:'])
  rest.push('User')
  assert.deepEqual([rest.flush(), rest.flush()], ['User', ''])
  assert.throws(() => createStopWatch(['']), { name: 'RequestError', message: /a stop string is "", wanted/ })
})
