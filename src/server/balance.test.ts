import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { choose, prefixOf, ranked, readRules, tokensOf } from './balance.ts'

const rules = readRules()
const fleet = (...loads: readonly number[]) => loads.map((load, i) => ({ name: `engine-${i}:8000`, load }))
const keys = Array.from({ length: 3000 }, (_, i) => `key ${i}`)
const share = (names: readonly string[], name: string): number =>
  names.filter((one) => one === name).length / names.length

describe('which upstream', () => {
  it('none of none', () => assert.equal(choose([], { prefix: 'a', tie: 'b' }, rules), null))

  it('without a prefix the least loaded, equals evenly', () => {
    assert.equal(choose(fleet(3, 1, 2), { prefix: null, tie: 'x' }, rules)?.name, 'engine-1:8000')
    const names = keys.map((tie) => choose(fleet(1, 1, 5, 1), { prefix: null, tie }, rules)?.name ?? '')
    for (const i of [0, 1, 3]) assert.ok(Math.abs(share(names, `engine-${i}:8000`) - 1 / 3) < 0.04)
  })

  it('the same prefix goes to the same upstream, whatever the order they are listed in', () => {
    for (const prefix of keys.slice(0, 100)) {
      const one = choose(fleet(0, 1, 2), { prefix, tie: 'a' }, rules)
      const other = choose(fleet(0, 1, 2).reverse(), { prefix, tie: 'b' }, rules)
      assert.equal(one?.name, other?.name)
    }
  })

  it('is a fixed function', () => {
    const names = ['a', 'b', 'c', 'd'].map(
      (prefix) => choose(fleet(0, 0, 0), { prefix, tie: '' }, rules)?.name,
    )
    assert.deepEqual(names, ['engine-0:8000', 'engine-0:8000', 'engine-0:8000', 'engine-2:8000'])
  })

  it('prefixes spread evenly, and only those of an upstream that goes move', () => {
    const names = keys.map((prefix) => choose(fleet(0, 0, 0, 0), { prefix, tie: '' }, rules)?.name ?? '')
    for (const { name } of fleet(0, 0, 0, 0)) assert.ok(Math.abs(share(names, name) - 1 / 4) < 0.04)
    const without = fleet(0, 0, 0, 0).filter(({ name }) => name !== 'engine-2:8000')
    for (const [i, prefix] of keys.entries()) {
      if (names[i] !== 'engine-2:8000') {
        assert.equal(choose(without, { prefix, tie: '' }, rules)?.name, names[i])
      }
    }
  })

  it('a preferred upstream that is too busy is passed over for the next in its order', () => {
    const [first, second] = ranked(fleet(0, 0, 0), 'hot').map(({ name }) => name)
    const loaded = (load: number, least: number) =>
      fleet(0, 0, 0).map(({ name }) => ({ name, load: name === first ? load : least }))
    const at = (load: number, least: number) =>
      choose(loaded(load, least), { prefix: 'hot', tie: '' }, { factor: 1.5, margin: 4 })?.name
    assert.equal(at(4, 0), first, 'within the margin')
    assert.equal(at(5, 0), second)
    assert.equal(at(30, 20), first, 'within the factor')
    assert.equal(at(31, 20), second)
  })
})

describe('what a prompt begins with', () => {
  const chat = (...texts: readonly string[]) => ({
    messages: texts.map((content, i) => ({ role: ['system', 'user', 'assistant'][i % 3], content })),
  })
  it('a conversation keeps its key as it grows', () => {
    assert.equal(prefixOf(chat('s', 'u'), 1024), prefixOf(chat('s', 'u', 'a', 'more'), 1024))
    assert.notEqual(prefixOf(chat('s', 'u'), 1024), prefixOf(chat('s', 'v'), 1024))
  })
  it('long system prompts bring together those who share them', () => {
    const long = 'You are a careful clerk. '.repeat(100)
    assert.equal(prefixOf(chat(long, 'u'), 1024), prefixOf(chat(long, 'v'), 1024))
    assert.notEqual(prefixOf(chat(`A${long}`, 'u'), 1024), prefixOf(chat(long, 'u'), 1024))
  })
  it('prompts of text and ids, instructions, a key of the client; nothing', () => {
    const given = [
      { prompt: 'text' },
      { prompt: [1, 2, 3] },
      { prompt: [[1, 2, 4], [5]] },
      { input: 'x', instructions: 'i' },
      { input: 'x' },
      { prompt: 'text', prompt_cache_key: 'mine' },
    ]
    assert.equal(new Set(given.map((fields) => prefixOf(fields, 1024))).size, given.length)
    assert.equal(prefixOf({}, 1024), null)
    assert.equal(prefixOf({ prompt: 'text' }, 0), null)
    assert.equal(prefixOf({ messages: [null, 3] }, 1024)?.length, 64)
  })
  it('what a request costs', () => {
    assert.equal(tokensOf({ max_tokens: 100, n: 2 }, 400), 300)
    assert.equal(tokensOf({ max_tokens: 'x', n: -1 }, 0), 256)
  })
})
