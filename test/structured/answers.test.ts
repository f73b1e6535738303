// Answers of the demo model under sixty schemas: every one that ends validates. Validation is ajv's, not ours.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import Ajv2020Module from 'ajv/dist/2020.js'
import formatsModule from 'ajv-formats'
import { load } from '../../src/llm/load.ts'
import { on } from '../backends.ts'
import { sixty } from './sixty.ts'

// both are CommonJS with a default export, which Node shows as a field of the module
const Ajv2020 = Ajv2020Module.default
const ajv = new Ajv2020({ strict: false, allErrors: false })
formatsModule.default(ajv)
const llm = await load(undefined, { backend: 'cpu', worker: false, max_model_len: 512 })
after(() => llm.close())

const prompts = ['Tell me about a person.', 'Who are you?', 'Write some JSON.', 'A list, please.', 'Give me the data.']

describe('answers', on('cpu'), () => {
  it('300 prompts over 60 schemas: all that ends is valid', async () => {
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
        const validate = ajv.compile(json)
        assert.ok(validate(value), `${text} of ${JSON.stringify(json)}: ${JSON.stringify(validate.errors)}`)
      }),
    )
    assert.equal(counts.stop + counts.length, 300)
    assert.ok(counts.stop >= 240, JSON.stringify(counts))
  })
})
