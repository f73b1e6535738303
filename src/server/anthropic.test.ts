// Anthropic's Messages through its own client, over a real socket.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { type MessageShape, messageEvents, wholeMessage } from './anthropic.ts'
import { Failure } from './failure.ts'
import { type Fixture, scripted, serveDemo, twoCalls, until } from './fixture.ts'
import { messagesBody, readMessages } from './messages.ts'

const hello = [{ role: 'user' as const, content: 'Once upon a time' }]
const greedy = { model: 'demo', max_tokens: 6, temperature: 0, messages: hello }

let site: Fixture
let client: Anthropic

before(async () => {
  site = await serveDemo({
    guard: {
      key: (request) => {
        const key = request.headers.get('x-api-key') ?? request.headers.get('authorization')
        if (key === 'secret' || key === 'Bearer secret') return 'secret'
        throw new Failure(401, 'this key is not known')
      },
      allow: () => ({}),
    },
  })
  client = new Anthropic({ baseURL: site.url, apiKey: 'secret', maxRetries: 0 })
})
after(() => site.close())

async function answerOf(): Promise<string> {
  const { text } = await site.llm.chat(hello, { max_tokens: 6, temperature: 0 }).result()
  return text
}

describe('messages', () => {
  it('a message, whole: what the model itself says', async () => {
    const { data, request_id } = await client.messages.create(greedy).withResponse()
    const expected = await answerOf()
    assert.deepEqual(data.content, [{ type: 'text', text: expected, citations: null }])
    assert.equal(data.type, 'message')
    assert.equal(data.role, 'assistant')
    assert.equal(data.model, 'demo')
    assert.equal(data.stop_reason, 'max_tokens')
    assert.equal(data.usage.output_tokens, 6)
    assert.ok(data.usage.input_tokens > 0)
    assert.match(data.id, /^msg_[0-9a-f]{32}$/)
    assert.equal(typeof request_id, 'string')
  })

  it('the same streamed, with usage, by a Bearer token, under /anthropic', async () => {
    const bearer = new Anthropic({
      baseURL: `${site.url}/anthropic`,
      apiKey: null,
      authToken: 'secret',
      maxRetries: 0,
    })
    assert.deepEqual(
      (await bearer.models.list()).data.map(({ id }) => id),
      ['demo', 'deepseek-chat'],
    )
    const pieces: string[] = []
    const stream = bearer.messages.stream(greedy).on('text', (text) => pieces.push(text))
    const final = await stream.finalMessage()
    const expected = await answerOf()
    assert.equal(pieces.join(''), expected)
    assert.equal(final.content[0].type === 'text' && final.content[0].text, expected)
    assert.equal(final.stop_reason, 'max_tokens')
    assert.equal(final.usage.output_tokens, 6)
  })

  it('stop sequences are said', async () => {
    const text = await answerOf()
    const stop = text.slice(4, 8)
    const { content, stop_reason, stop_sequence } = await client.messages.create({
      ...greedy,
      stop_sequences: [stop],
    })
    assert.equal(stop_reason, 'stop_sequence')
    assert.equal(stop_sequence, stop)
    const [first] = content
    assert.equal(first.type === 'text' && first.text, text.slice(0, text.indexOf(stop)))
  })

  it('an answer that has been begun is carried on', async () => {
    const begun = 'There was a'
    const { content } = await client.messages.create({
      ...greedy,
      messages: [...hello, { role: 'assistant', content: begun }],
    })
    const expected = await site.llm
      .chat([...hello, { role: 'assistant', content: begun }], {
        max_tokens: 6,
        temperature: 0,
        continue_final_message: true,
      })
      .result()
    assert.equal(content[0].type === 'text' && content[0].text, expected.text)
  })

  it('a prompt is counted as it is used', async () => {
    const system = [{ type: 'text' as const, text: 'Be brief.' }]
    const { input_tokens } = await client.messages.countTokens({ model: 'demo', messages: hello, system })
    const { usage } = await client.messages.create({ ...greedy, system })
    assert.equal(input_tokens, usage.input_tokens + (usage.cache_read_input_tokens ?? 0))
  })

  it("a client that leaves ends its sequence, and Claude's names mean the model there is", async () => {
    const stream = client.messages.stream({
      ...greedy,
      model: 'claude-opus-5',
      max_tokens: 1000,
      ignore_eos: true,
    } as never)
    await new Promise((resolve) => stream.once('text', resolve))
    assert.equal(site.server.jobs.sequences, 1)
    stream.abort()
    await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError)
    assert.ok(await until(() => site.server.jobs.sequences === 0))
    assert.ok(await until(() => site.server.jobs.running === 0))
  })
})

describe('failures of messages', () => {
  const create = (more: object) => client.messages.create({ ...greedy, ...more } as never)

  it('each is of the class and type that the client knows', async () => {
    const wrong = new Anthropic({ baseURL: site.url, apiKey: 'wrong', maxRetries: 0 })
    await assert.rejects(wrong.messages.create(greedy), (error) => {
      assert.ok(error instanceof Anthropic.AuthenticationError)
      assert.equal(error.type, 'authentication_error')
      assert.equal(typeof error.requestID, 'string')
      return true
    })
    await assert.rejects(create({ model: 'gpt' }), Anthropic.NotFoundError)
    await assert.rejects(create({ max_tokens: undefined }), /max_tokens: must be a whole number/)
    await assert.rejects(create({ temperature: 'hot' }), Anthropic.BadRequestError)
    await assert.rejects(client.post('/v1/messages/nothing', { body: {} }), Anthropic.NotFoundError)
    await assert.rejects(client.get('/v1/messages'), /405.*takes POST/)
    await assert.rejects(create({ messages: [{ role: 'user', content: 'a '.repeat(5000) }] }), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError)
      assert.match(error.message, /prompt is too long: /)
      return true
    })
  })

  it('what the models cannot take is refused by name', async () => {
    const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: '' } }
    await assert.rejects(
      create({ messages: [{ role: 'user', content: [{ type: 'text', text: 'See:' }, image] }] }),
      /messages\[0\]\.content\[1\]: a block of type 'image'; these models read text only/,
    )
    await assert.rejects(
      create({ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }),
      /tools\[0\] \('web_search'\) is of type 'web_search_20250305'/,
    )
    await assert.rejects(create({ mcp_servers: [{}] }), /mcp_servers/)
  })

  it('a full server is overloaded in their words, which their client tries again', async () => {
    const full = await serveDemo({ maxQueue: -1000 })
    const running = new Anthropic({ baseURL: full.url, apiKey: 'any', maxRetries: 0 })
    const first = running.messages.stream({ ...greedy, max_tokens: 1000, ignore_eos: true } as never)
    await new Promise((resolve) => first.once('text', resolve))
    await assert.rejects(running.messages.create(greedy), (error) => {
      assert.ok(error instanceof Anthropic.OverloadedError)
      assert.equal(error.type, 'overloaded_error')
      assert.equal(error.headers.get('retry-after'), '1')
      return true
    })
    first.abort()
    await first.done().catch(() => undefined)
    await full.close()
  })
})

describe('failures in mid-stream', () => {
  let slow: Fixture
  before(async () => {
    slow = await serveDemo({ requestTimeoutMs: 500 })
  })
  after(() => slow.close())

  it("Anthropic's client throws what the error event says", async () => {
    const client = new Anthropic({ baseURL: slow.url, apiKey: 'any', maxRetries: 0 })
    const stream = client.messages.stream({ ...greedy, max_tokens: 4000, ignore_eos: true } as never)
    let text = ''
    stream.on('text', (piece) => {
      text += piece
    })
    await assert.rejects(stream.finalMessage(), (error) => {
      assert.ok(error instanceof Anthropic.APIError)
      assert.equal(error.type, 'timeout_error')
      return true
    })
    assert.notEqual(text, '')
    assert.ok(await until(() => slow.server.jobs.sequences === 0))
  })

  it('a response that failed keeps what it had said', async () => {
    const client = new OpenAI({ baseURL: `${slow.url}/v1`, apiKey: 'any', maxRetries: 0 })
    const ask = { model: 'demo', input: 'Once', max_output_tokens: 4000, ignore_eos: true }
    const streamed = await client.responses.create({ ...ask, stream: true } as { stream: true })
    let last: OpenAI.Responses.ResponseStreamEvent | null = null
    for await (const event of streamed) last = event
    assert.ok(last?.type === 'response.failed')
    assert.match(last.response.error?.message ?? '', /took longer than 0\.5 s/)
    const kept = await client.responses.retrieve(last.response.id)
    assert.equal(kept.status, 'failed')
    assert.notEqual(kept.output_text, '')
    const late = await client.responses.create({ ...ask, background: true } as { background: true })
    assert.ok(await until(() => slow.server.jobs.sequences === 0))
    assert.equal((await client.responses.retrieve(late.id)).status, 'failed')
  })
})

const shape: MessageShape = {
  id: 'msg_1',
  model: 'demo',
  promptTokens: 20,
  maxTokens: 100,
  stops: [],
  warnings: [],
}

describe('tools of messages', () => {
  const read = (fields: object) => readMessages(site.server.site, fields as never, messagesBody.parse(fields))

  it('offers, calls and results become those of a chat', () => {
    const { fields, warnings } = read({
      model: 'demo',
      max_tokens: 10,
      system: 'Add.',
      messages: [
        { role: 'user', content: 'What is 1 + 2?' },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'Hm.', signature: '' },
            { type: 'text', text: 'Let me see.' },
            { type: 'tool_use', id: 'call_a', name: 'add', input: { a: 1 } },
          ],
        },
        {
          role: 'user',
          content: [
            {
              type: 'tool_result',
              tool_use_id: 'call_a',
              content: [{ type: 'text', text: 'no b' }],
              is_error: true,
            },
            { type: 'text', text: 'Well?' },
          ],
        },
        { role: 'user', content: 'Go on.' },
      ],
      tools: [{ name: 'add', description: 'Sums', input_schema: { type: 'object' }, strict: true }],
      tool_choice: { type: 'tool', name: 'add', disable_parallel_tool_use: true },
    })
    const call = { id: 'call_a', type: 'function', function: { name: 'add', arguments: '{"a":1}' } }
    assert.deepEqual(fields.messages, [
      { role: 'system', content: 'Add.' },
      { role: 'user', content: 'What is 1 + 2?' },
      { role: 'assistant', content: 'Let me see.', tool_calls: [call] },
      { role: 'tool', tool_call_id: 'call_a', content: 'Error: no b' },
      { role: 'user', content: 'Well?\nGo on.' },
    ])
    const offer = { name: 'add', description: 'Sums', strict: true, parameters: { type: 'object' } }
    assert.deepEqual(fields.tools, [{ type: 'function', function: offer }])
    assert.deepEqual(fields.tool_choice, { type: 'function', function: { name: 'add' } })
    assert.equal(fields.parallel_tool_calls, false)
    assert.deepEqual(
      warnings.map(({ field }) => field),
      ['messages'],
    )
  })

  it('what has no effect is named; a result of no call is refused', () => {
    const { warnings, fields } = read({
      ...{ model: 'claude-x', max_tokens: 1, messages: hello, n: 2, seed: 3, service_tier: 'auto' },
      thinking: { type: 'enabled', budget_tokens: 1024 },
      context_management: { edits: [] },
    })
    assert.deepEqual(warnings.map(({ field }) => field).sort(), [
      'context_management',
      'model',
      'n',
      'thinking',
    ])
    assert.equal(fields.seed, 3)
    assert.equal(fields.n, undefined)
    const result = { type: 'tool_result', tool_use_id: 'call_z', content: '' }
    assert.throws(
      () => read({ max_tokens: 1, messages: [{ role: 'user', content: [result] }] }),
      /"call_z" is of no tool_use before it/,
    )
  })

  it("events come in Anthropic's order", async () => {
    const told: string[] = []
    for await (const { event, data } of messageEvents(scripted(twoCalls, 'tool_calls'), shape)) {
      const { index, content_block, delta } = data as Readonly<
        Record<string, Readonly<Record<string, unknown>>>
      >
      const inner = [content_block?.type, content_block?.name, delta?.text, delta?.partial_json]
      told.push([event, index, ...inner.filter((part) => part !== undefined)].join(' ').trim())
    }
    assert.deepEqual(told, [
      'message_start',
      'ping',
      'content_block_start 0 text',
      'content_block_delta 0 Let me',
      'content_block_delta 0 see.',
      'content_block_stop 0',
      'content_block_start 1 tool_use add',
      'content_block_delta 1 {"a": 1,',
      'content_block_delta 1  "b": 2}',
      'content_block_stop 1',
      'content_block_start 2 tool_use now',
      'content_block_delta 2 {}',
      'content_block_stop 2',
      'message_delta',
      'message_stop',
    ])
  })

  it('whole, arguments are objects, and those that were cut say so', async () => {
    const message = (await wholeMessage(scripted(twoCalls, 'tool_calls'), shape)) as Anthropic.Message
    assert.equal(message.stop_reason, 'tool_use')
    assert.deepEqual(message.content.slice(1), [
      { type: 'tool_use', id: 'call_a', name: 'add', input: { a: 1, b: 2 } },
      { type: 'tool_use', id: 'call_b', name: 'now', input: {} },
    ])
    assert.deepEqual(message.usage, {
      input_tokens: 12,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 8,
      output_tokens: 7,
    })
    const cut = await wholeMessage(scripted(twoCalls.slice(0, 4), 'length'), { ...shape, maxTokens: 4 })
    const { content, stop_reason } = cut as Anthropic.Message
    assert.equal(stop_reason, 'max_tokens')
    assert.deepEqual(content[1].type === 'tool_use' && content[1].input, { INVALID_JSON: '{"a": 1,' })
  })
})
