// Answers of the demo model under sixty schemas: every one that ends validates. Validation is ajv's, not ours.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import type { StructuredOutputs } from '../../src/grammar/structured.ts'
import { load } from '../../src/llm/load.ts'
import { RequestError } from '../../src/tensor/error.ts'
import { on } from '../backends.ts'
import { sixty } from './sixty.ts'
import { validator } from './validator.ts'

const llm = await load(undefined, { backend: 'cpu', worker: false, max_model_len: 512 })
after(() => llm.close())

const prompts = [
  'Tell me about a person.',
  'Who are you?',
  'Write some JSON.',
  'A list, please.',
  'Give me the data.',
]

describe('structured answers of a library in threads', () => {
  it('the schema reaches the thread, and what is wrong with it comes back with its field', async () => {
    const remote = await load(undefined, { backend: 'reference', max_model_len: 256 })
    try {
      const json = {
        type: 'object',
        properties: { name: { type: 'string', maxLength: 9 } },
        required: ['name'],
        additionalProperties: false,
      }
      const { text, finish_reason } = await remote
        .chat('Who are you?', { structured_outputs: { json }, max_tokens: 60, temperature: 0 })
        .result()
      assert.equal(finish_reason, 'stop')
      assert.ok(validator(json)?.(JSON.parse(text)), text)
      const asked = (structured_outputs: StructuredOutputs) =>
        remote.complete('x', { structured_outputs, max_tokens: 5 })
      const named = (field: string) => (error: unknown) =>
        error instanceof RequestError && error.field === field
      await assert.rejects(
        asked({ json: { properties: { a: { not: {} } } } }).result(),
        named('structured_outputs.json'),
      )
      await assert.rejects(asked({ regex: '(?=a)' }).result(), named('structured_outputs.regex'))
      assert.throws(() => asked({ regex: 'a', json: {} }), named('structured_outputs'))
      const abort = new AbortController()
      const waiting = remote
        .complete('x', { structured_outputs: { regex: 'a{1,9}' }, signal: abort.signal })
        .result()
      abort.abort(new Error('enough'))
      await assert.rejects(waiting, /enough/)
      const stopped = await remote
        .complete('x', { structured_outputs: { regex: 'ab[c-e]+xyz' }, stop: 'ab', max_tokens: 20 })
        .result()
      assert.deepEqual([stopped.text, stopped.stop_reason], ['', 'ab'])
    } finally {
      await remote.close()
    }
  })

  it('requests without a grammar start no thread', async () => {
    const plain = await load(undefined, { backend: 'reference', worker: false, max_model_len: 64 })
    await plain.complete('x', { max_tokens: 2 }).result()
    assert.equal((await plain.stats()).grammars.threads, 0)
    await plain.close()
  })

  it('any JSON object: never empty, never endless whitespace', async () => {
    const texts = await Promise.all(
      [1, 2, 3, 4, 5, 6].map(async (seed) => {
        const options = { structured_outputs: { json_object: true }, max_tokens: 60, temperature: 1.5, seed }
        return llm.chat('Hello.', options).result()
      }),
    )
    for (const { text, finish_reason } of texts) {
      assert.match(text, /^\{/)
      assert.doesNotMatch(text.replace(/"(?:[^"\\]|\\.)*"?/g, ''), /\s{22}|\n\n/)
      if (finish_reason === 'stop') assert.equal(typeof JSON.parse(text), 'object')
      else assert.equal(finish_reason, 'length')
    }
  })
})

describe('answers', on('cpu'), () => {
  it('300 prompts over 60 schemas: all that ends is valid', async (t) => {
    const schemas = sixty()
    assert.equal(schemas.length, 60)
    const counts = { stop: 0, length: 0 }
    const jobs = schemas.flatMap((json, s) => prompts.map((prompt, p) => ({ json, prompt, s, p })))
    await Promise.all(
      jobs.map(async ({ json, prompt, s, p }) => {
        const { text, finish_reason } = await llm
          .chat(prompt, {
            structured_outputs: { json },
            temperature: p % 2,
            seed: s * 10 + p,
            max_tokens: 160,
          })
          .result()
        if (finish_reason !== 'stop') {
          counts.length++
          return
        }
        counts.stop++
        const value: unknown = JSON.parse(text)
        const validate = validator(json)
        assert.ok(
          validate?.(value),
          `${text} of ${JSON.stringify(json)}: ${JSON.stringify(validate?.errors)}`,
        )
      }),
    )
    t.diagnostic(`${counts.stop} ended, ${counts.length} were cut off by max_tokens`)
    assert.equal(counts.stop + counts.length, 300)
    assert.ok(counts.stop >= 240, JSON.stringify(counts))
  })
})
