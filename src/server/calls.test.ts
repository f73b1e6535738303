import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Delta, Reader } from './answer.ts'
import { createCallReader, nativeSyntax, promptedSyntax, type Syntax } from './calls.ts'

interface Seen {
  readonly content: string
  readonly calls: readonly { readonly name: string; readonly arguments: string }[]
  readonly finish: string
}

/** Reads `text` in pieces of `size` characters. */
function read(
  text: string,
  size: number,
  syntax: Syntax,
  limit = Number.POSITIVE_INFINITY,
  finish: 'stop' | 'length' = 'stop',
): Seen {
  const reader: Reader = createCallReader(syntax, limit)
  const deltas: Delta[] = []
  for (let at = 0; at < text.length; at += size) deltas.push(...reader.push(text.slice(at, at + size)))
  const end = reader.end(finish)
  deltas.push(...end.deltas)
  const calls: { name: string; arguments: string }[] = []
  for (const { index, id, function: made } of deltas.flatMap(({ tool_calls }) => tool_calls ?? [])) {
    if (id !== undefined) calls[index] = { name: made.name ?? '', arguments: '' }
    calls[index].arguments += made.arguments ?? ''
  }
  return { content: deltas.map(({ content }) => content ?? '').join(''), calls, finish: end.finish }
}

const sizes = [1, 2, 3, 7, 1000]
const block = (name: string, args: string): string =>
  `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`
const hard = '{"text": "a } \\" </tool_call> {", "list": [{"x": 1}, []]}'

describe('calls in an answer', () => {
  it('prompted blocks, whatever the pieces', () => {
    const text = `Let me look.\n${block('weather', hard)}\n${block('time', '{}')}`
    for (const size of sizes) {
      assert.deepEqual(read(text, size, promptedSyntax), {
        content: 'Let me look.',
        calls: [
          { name: 'weather', arguments: hard },
          { name: 'time', arguments: '{}' },
        ],
        finish: 'tool_calls',
      })
    }
  })

  it("V2.5's tokens", () => {
    const call = (name: string, args: string): string =>
      `<｜tool▁call▁begin｜>function<｜tool▁sep｜>${name}\n\`\`\`json\n${args}\n\`\`\`<｜tool▁call▁end｜>`
    const text = `<｜tool▁calls▁begin｜>${call('a', hard)}\n${call('b', '{"y": 2}')}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>`
    for (const size of sizes) {
      const seen = read(text, size, nativeSyntax)
      assert.equal(seen.content, '')
      assert.deepEqual(seen.calls, [
        { name: 'a', arguments: hard },
        { name: 'b', arguments: '{"y": 2}' },
      ])
    }
  })

  it('text without calls comes through whole, blanks and half marks too', () => {
    for (const text of ['  a <tool_cal b  ', 'x < y', 'ends in <tool_', '', 'line\n\n']) {
      for (const size of sizes) {
        const seen = read(text, size, promptedSyntax)
        assert.equal(seen.content, text.trimStart())
        assert.equal(seen.finish, 'stop')
      }
    }
  })

  it('a block that is no call stays text', () => {
    const text = 'so: <tool_call> nothing </tool_call> done'
    for (const size of sizes) {
      const seen = read(text, size, promptedSyntax)
      assert.deepEqual(seen.calls, [])
      assert.equal(seen.content.replace(/\s+/g, ''), text.replace(/\s+/g, ''))
    }
    assert.equal(read('<tool_call>\n{"na', 3, promptedSyntax, 9, 'length').content, '<tool_call>\n{"na')
  })

  it('an answer cut inside arguments keeps what there is, and says length', () => {
    const seen = read('<tool_call>\n{"name": "f", "arguments": {"a": [1, 2', 4, promptedSyntax, 9, 'length')
    assert.deepEqual(seen.calls, [{ name: 'f', arguments: '{"a": [1, 2' }])
    assert.equal(seen.finish, 'length')
  })

  it('calls over the limit are dropped', () => {
    const text = `${block('a', '{}')}\n${block('b', '{}')}`
    for (const size of sizes)
      assert.deepEqual(read(text, size, promptedSyntax, 1).calls, [{ name: 'a', arguments: '{}' }])
  })
})
