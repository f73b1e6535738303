import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createWrap } from './wrap.ts'

function wrapped(pieces: readonly string[], columns = 10): string {
  const wrap = createWrap(() => columns)
  return pieces.map((piece) => wrap.push(piece)).join('') + wrap.flush()
}

it('breaks between words, wherever the pieces begin', () => {
  assert.equal(wrapped(['one two three four']), 'one two\nthree\nfour')
  assert.equal(wrapped(['on', 'e tw', 'o thr', 'ee fo', 'ur']), 'one two\nthree\nfour')
})

it('keeps what fits as it is: indents, blank lines, blanks at the end', () => {
  assert.equal(wrapped(['a\n\n  b  c\n ']), 'a\n\n  b  c\n ')
})

it('leaves words longer than a line to the terminal', () => {
  assert.equal(wrapped(['abcdefghijklmnop q']), 'abcdefghijklmnop\nq')
})

it('does not hold letters back that may be broken anywhere', () => {
  const wrap = createWrap(() => 80)
  assert.equal(wrap.push('你好'), '你好')
})
