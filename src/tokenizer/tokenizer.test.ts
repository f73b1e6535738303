// Published vectors, the rules about control tokens, and what decoding promises.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { demoDirectory, directory, readLines, readText, smallSpec, tokenizers } from './examples.ts'
import { createTokenizer, openTokenizer } from './tokenizer.ts'

interface Vector {
  readonly text: string
  readonly ids: readonly number[]
  readonly ids_0628_candidate?: readonly number[]
  readonly roundtrip: boolean
}

const bos = '<｜begin▁of▁sentence｜>'
const eos = '<｜end▁of▁sentence｜>'

test('all published vectors of V2 and of 0628, and back', () => {
  const [v2, v2Chat0628] = [tokenizers.v2(), tokenizers.v2Chat0628()]
  const vectors = readLines('vectors.jsonl.gz').map((line) => JSON.parse(line) as Vector)
  assert.equal(vectors.length, 2009)
  for (const { text, ids, ids_0628_candidate, roundtrip } of vectors) {
    assert.deepEqual(v2.encode(text, { parseSpecial: true }), ids, text)
    assert.deepEqual(v2Chat0628.encode(text, { parseSpecial: true }), ids_0628_candidate ?? ids, text)
    if (roundtrip) assert.equal(v2.decode(ids), text)
  }
})

test("llama.cpp's vectors: 47 of DeepSeek-LLM, and all but the umlaut of V2", () => {
  // The texts are separated by a line of their own; one leading newline of the separator is not theirs.
  const texts = readText('deepseek-llm/llama.cpp.inp').split('\n__ggml_vocab_test__\n')
  const ids = readText('deepseek-llm/llama.cpp.out').split('\n')
  const [llm, v2] = [tokenizers.deepseekLlm(), tokenizers.v2()]
  let [equal, equalV2] = [0, 0]
  for (let i = 0; i < 47; i++) {
    const wanted = ids[i].trim().split(/\s+/).filter(Boolean).map(Number)
    assert.deepEqual(llm.encode(texts[i]), wanted, JSON.stringify(texts[i]))
    equal++
    if (texts[i] !== 'Führer') assert.deepEqual(v2.encode(texts[i]), wanted, JSON.stringify(texts[i]))
    equalV2 += Number(texts[i] !== 'Führer')
  }
  assert.deepEqual([equal, equalV2], [47, 46])
  assert.deepEqual(llm.encode('Führer'), [37, 100014, 71, 6245])
  assert.deepEqual(v2.encode('Führer'), [37, 2874, 71, 6245])
  // Hugging Face's decoder loses the umlaut here.
  assert.equal(llm.decode([37, 100014, 71, 6245]), 'Führer')
})

test('what a tokenizer says about itself', () => {
  const v2 = openTokenizer(directory('deepseek-v2'))
  assert.deepEqual([v2.size, v2.bos, v2.eos, v2.pad], [100002, 100000, 100001, 100001])
  assert.deepEqual([...v2.special], [100000, 100001])
  assert.deepEqual(v2.addedTokens[0], { id: 100000, content: bos, special: true })
  assert.deepEqual([v2.id(bos), v2.id('Ġ'), v2.id('\n'), v2.id('Ċ')], [100000, 207, null, 185])
  assert.deepEqual([v2.piece(207), v2.piece(100000), v2.piece(100002), v2.piece(-1)], [' ', bos, '', ''])
  assert.deepEqual([...v2.bytes(185)], [10])
  assert.deepEqual([...v2.bytes(1e9)], [])
  assert.equal(tokenizers.v2Chat0628().control.size, 18)
  const demo = openTokenizer(demoDirectory)
  assert.deepEqual([demo.size, demo.bos, demo.eos], [3496, 0, 1])
  const text = 'Hello wörld, 12 ½ 中文!\r\n\t {} 🎉'
  assert.equal(demo.decode(demo.encode(text)), text)
})

test('BOS only on request', () => {
  const v2 = tokenizers.v2()
  assert.deepEqual(v2.encode(''), [])
  assert.deepEqual(v2.encode('', { addSpecialTokens: true }), [100000])
  assert.deepEqual(v2.encode('Hello', { addSpecialTokens: true }), [100000, 17464])
  const both = createTokenizer(smallSpec({ added_tokens: [{ id: 300, content: '<s>', special: true }] }), {
    bos_token: '<s>',
    eos_token: { content: '<s>' },
    add_bos_token: true,
    add_eos_token: true,
  })
  assert.deepEqual(both.encode('a', { addSpecialTokens: true }), [300, 97, 300])
})

test('text that spells a control token stays text', () => {
  const v2Chat0628 = tokenizers.v2Chat0628()
  for (const { id, content } of v2Chat0628.addedTokens) {
    const text = `a${content}b ${content.slice(0, -1)}${content}`
    const ids = v2Chat0628.encode(text)
    assert.deepEqual(
      ids.filter((id) => id >= 100000),
      [],
      content,
    )
    assert.equal(v2Chat0628.decode(ids), text)
    assert.deepEqual(v2Chat0628.encode(content, { parseSpecial: true }), [id])
  }
  // Added tokens that steer nothing are always found, as Hugging Face does.
  assert.deepEqual(tokenizers.deepseekLlm().encode('ü'), [100014])
})

test('literal offsets keep control tokens out one by one', () => {
  const v2 = tokenizers.v2()
  const text = `${eos}${eos}`
  const ids = v2.encode(text, { parseSpecial: true, literal: new Set([0]) })
  assert.deepEqual(ids, [...v2.encode(eos), 100001])
  const tail = v2.encode(text, { parseSpecial: true, literal: new Set([text.length - 1]) })
  assert.deepEqual(tail, [100001, ...v2.encode(eos)])
})

test('decoding: skipping, bytes, and ids that do not exist', () => {
  const v2 = tokenizers.v2()
  assert.equal(v2.decode([100000, 17464, 100001]), `${bos}Hello${eos}`)
  assert.equal(v2.decode([100000, 17464, 100001], { skipSpecialTokens: true }), 'Hello')
  assert.equal(v2.decode(new Set([17464])), 'Hello')
  for (const id of [100002, -1, 1.5, Number.NaN]) {
    const message = { name: 'RequestError', message: /token id .* is not in the vocabulary.*100001/ }
    assert.throws(() => v2.decode([id]), message)
  }
  assert.equal(v2.decode(v2.encode('\uFEFFa\uFEFF')), '\uFEFFa\uFEFF')
})

test('lone surrogates become U+FFFD, wherever they stand', () => {
  for (const tokenizer of [tokenizers.v2(), tokenizers.demo()]) {
    for (const text of [
      '\ud800',
      'a\udc00b',
      '\ud83d',
      '\ude00\ud83d',
      'x\ud83d\ud83d\ude00',
      ' \ud800 \ud800',
    ]) {
      assert.deepEqual(tokenizer.encode(text), tokenizer.encode(text.toWellFormed()))
      assert.equal(tokenizer.decode(tokenizer.encode(text)), text.toWellFormed())
    }
  }
  assert.throws(
    () => tokenizers.v2().encode(null as unknown as string),
    /cannot encode null, wanted a string/,
  )
})

test('long runs neither hang nor change', () => {
  const [v2, demo] = [tokenizers.v2(), tokenizers.demo()]
  const runs = ['a', ' ', '\n', '1', '.', '😀', '中', 'ab', ' a', eos, '<｜', '\u0301']
  for (const run of runs) {
    const text = run.repeat(Math.ceil(200_000 / Buffer.byteLength(run)))
    for (const tokenizer of [v2, demo]) assert.equal(tokenizer.decode(tokenizer.encode(text)), text)
  }
})

test('the cache does not change what comes out', () => {
  const tokenizer = createTokenizer(smallSpec())
  const words = Array.from({ length: 70_000 }, (_, i) => `abc${i}`)
  const first = words.map((word) => tokenizer.encode(word).join())
  assert.deepEqual(
    words.map((word) => tokenizer.encode(word).join()),
    first,
  )
  const ids = tokenizer.encode('abc')
  ids.push(1)
  assert.deepEqual(tokenizer.encode('abc'), [258])
})

test('a directory with a gzipped file, and without a config', () => {
  const folder = mkdtempSync(join(tmpdir(), 'latent-tokenizer-'))
  try {
    assert.throws(() => openTokenizer(folder), {
      name: 'CheckpointError',
      message: /has no tokenizer\.json; fetch the model/,
    })
    const packed = gzipSync(JSON.stringify(smallSpec()))
    writeFileSync(join(folder, 'tokenizer.json.gz'), packed)
    const tokenizer = openTokenizer(folder)
    assert.deepEqual(tokenizer.encode('abc'), [258])
    assert.deepEqual([tokenizer.bos, tokenizer.eos, tokenizer.pad], [null, null, null])
    writeFileSync(join(folder, 'tokenizer.json.gz'), packed.subarray(0, 100))
    assert.throws(() => openTokenizer(folder), { name: 'CheckpointError', message: /is not gzipped JSON/ })
    writeFileSync(join(folder, 'tokenizer.json'), '{"model": ')
    assert.throws(() => openTokenizer(folder), {
      name: 'CheckpointError',
      message: /tokenizer\.json is not JSON/,
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})
