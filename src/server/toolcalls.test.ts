// Tools and structured answers as openai-node sees them, with the demo model: a grammar makes even it keep the form.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { type Fixture, serveDemo, weather } from './fixture.ts'

let demo: Fixture
let client: OpenAI

before(async () => {
  demo = await serveDemo()
  client = new OpenAI({ baseURL: `${demo.url}/v1`, apiKey: 'none', maxRetries: 0 })
})
after(() => demo.close())

const who = [{ role: 'user' as const, content: 'Who are you?' }]
const ask = { model: 'demo', messages: who, temperature: 0 }

describe('openai-node, tools and structure', () => {
  it('a required call, whole', async () => {
    const answer = await client.chat.completions.create({
      ...ask,
      tools: [weather],
      tool_choice: 'required',
      parallel_tool_calls: false,
    })
    const [call] = answer.choices[0].message.tool_calls ?? []
    assert.ok(call.type === 'function')
    assert.equal(call.function.name, 'weather')
    const given = JSON.parse(call.function.arguments) as { city: string; days: number }
    assert.ok(['Paris', 'Rome'].includes(given.city) && given.days >= 1 && given.days <= 3)
    assert.equal(answer.choices[0].finish_reason, 'tool_calls')
  })

  it('a named call, streamed: the name first, the arguments in pieces, the same in the end', async () => {
    const choice = { type: 'function' as const, function: { name: 'weather' } }
    const whole = await client.chat.completions.create({ ...ask, tools: [weather], tool_choice: choice })
    const stream = client.chat.completions.stream({ ...ask, tools: [weather], tool_choice: choice })
    const final = await stream.finalChatCompletion()
    const [a] = whole.choices[0].message.tool_calls ?? []
    const [b] = final.choices[0].message.tool_calls ?? []
    assert.ok(a.type === 'function' && b.type === 'function')
    assert.deepEqual(b.function.arguments, a.function.arguments)
    assert.equal(final.choices[0].finish_reason, 'tool_calls')
  })

  it('calls and results go back as messages', async () => {
    const answer = await client.chat.completions.create({
      ...ask,
      max_tokens: 4,
      tools: [weather],
      tool_choice: 'none',
      messages: [
        ...who,
        {
          role: 'assistant',
          tool_calls: [
            {
              id: 'a',
              type: 'function',
              function: { name: 'weather', arguments: '{"city":"Rome","days":1}' },
            },
          ],
        },
        { role: 'tool', tool_call_id: 'a', content: 'sun' },
      ],
    })
    assert.equal(answer.choices[0].finish_reason, 'length')
  })

  it('wrong tools are refused by name', async () => {
    const wrong = (fields: object) => client.chat.completions.create({ ...ask, ...fields })
    await assert.rejects(wrong({ tools: [weather, weather] }), /two tools are named 'weather'/)
    await assert.rejects(
      wrong({ tools: [weather], tool_choice: { type: 'function', function: { name: 'x' } } }),
      /not among the tools/,
    )
    await assert.rejects(wrong({ tools: [{ type: 'web_search' }] }), /only 'function' is known/)
    await assert.rejects(wrong({ tool_choice: 'required' }), /there are no tools/)
    await assert.rejects(
      wrong({ tools: [weather], response_format: { type: 'json_object' } }),
      /both structured/,
    )
  })

  it('a schema is kept', async () => {
    const schema = {
      type: 'object',
      properties: { ok: { type: 'boolean' }, n: { type: 'integer', minimum: 0, maximum: 9 } },
      required: ['ok', 'n'],
      additionalProperties: false,
    }
    const answer = await client.chat.completions.create({
      ...ask,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema, strict: true } },
    })
    const value = JSON.parse(answer.choices[0].message.content ?? '') as { ok: boolean; n: number }
    assert.equal(typeof value.ok, 'boolean')
    assert.ok(value.n >= 0 && value.n <= 9)
    assert.equal(answer.choices[0].finish_reason, 'stop')
    const bad = { type: 'object', properties: { a: { type: 'array', uniqueItems: true } } }
    await assert.rejects(
      client.chat.completions.create({
        ...ask,
        response_format: { type: 'json_schema', json_schema: { name: 'x', schema: bad } },
      }),
      /uniqueItems/,
    )
  })

  it('a pattern too complicated to enforce is refused, of answers and of arguments', async () => {
    const schema = {
      type: 'object',
      properties: { x: { type: 'string', pattern: '[ab]*a[ab]{14}' } },
    }
    const wrong = (fields: object) => client.chat.completions.create({ ...ask, ...fields })
    const format = { type: 'json_schema', json_schema: { name: 'x', schema } }
    await assert.rejects(wrong({ response_format: format }), /too many states/)
    const tools = [{ type: 'function', function: { name: 'f', parameters: schema } }]
    await assert.rejects(wrong({ tools, tool_choice: 'required' }), /too many states/)
  })
})
