import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closest, levenshtein } from './closest.ts'

const fields = ['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens', 'min_tokens', 'seed', 'logit_bias']

test('levenshtein counts insertions, deletions and replacements', () => {
  const cases: [string, string, number][] = [
    ['', '', 0],
    ['', 'abc', 3],
    ['abc', '', 3],
    ['kitten', 'sitting', 3],
    ['flaw', 'lawn', 2],
    ['same', 'same', 0],
  ]
  for (const [a, b, distance] of cases) {
    assert.equal(levenshtein(a, b), distance, `${a} -> ${b}`)
    assert.equal(levenshtein(b, a), distance, `${b} -> ${a}`)
  }
})

test('closest finds what was meant', () => {
  const cases: [string, string | null][] = [
    ['temprature', 'temperature'],
    ['topP', 'top_p'],
    ['top-k', 'top_k'],
    ['maxTokens', 'max_tokens'],
    ['max_new_tokens', 'max_tokens'],
    ['sed', 'seed'],
    ['top', 'top_p'],
    ['frobnicate', null],
    ['n', null],
    ['', null],
  ]
  for (const [word, meant] of cases) assert.equal(closest(word, fields), meant, word)
  assert.equal(closest('word', []), null)
})
