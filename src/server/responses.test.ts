// OpenAI's Responses through its own client, over a real socket; DeepSeek's own paths beside it.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { readConversation, responsesBody } from './asked.ts'
import { type Fixture, scripted, serveDemo, twoCalls, until } from './fixture.ts'
import { canFillMiddle } from './middle.ts'
import { createOutput } from './output.ts'
import { responseEvents, wholeResponse } from './responses.ts'
import { createStore, type Entry, type StoredResponse } from './store.ts'

const greedy = { model: 'demo', input: 'Once upon a time', max_output_tokens: 6, temperature: 0 }
const endless = { ...greedy, max_output_tokens: 3000, ignore_eos: true } as typeof greedy

let site: Fixture
let client: OpenAI
const clientOf = (apiKey: string, base = '/v1'): OpenAI =>
  new OpenAI({ baseURL: site.url + base, apiKey, maxRetries: 0 })

before(async () => {
  const key = (request: Request): string | null => request.headers.get('authorization')
  site = await serveDemo({ guard: { key, allow: () => ({}) } })
  client = clientOf('one')
})
after(() => site.close())

async function said(messages: readonly { role: string; content: string }[]): Promise<string> {
  return (await site.llm.chat(messages, { max_tokens: 6, temperature: 0 }).result()).text
}
const user = (content: string) => ({ role: 'user', content })

describe('responses', () => {
  it('made, found again, forgotten; never by another key', async () => {
    const made = await client.responses.create({ ...greedy, metadata: { a: 'b' } })
    assert.equal(made.output_text, await said([user(greedy.input)]))
    assert.equal(made.status, 'incomplete')
    assert.deepEqual(made.incomplete_details, { reason: 'max_output_tokens' })
    assert.equal(made.usage?.output_tokens, 6)
    assert.deepEqual(made.metadata, { a: 'b' })
    const { _request_id: _, ...kept } = await client.responses.retrieve(made.id)
    assert.equal(kept.output_text, made.output_text)
    await assert.rejects(clientOf('two').responses.retrieve(made.id), OpenAI.NotFoundError)
    await assert.rejects(clientOf('two').responses.delete(made.id), OpenAI.NotFoundError)
    await client.responses.delete(made.id)
    await assert.rejects(client.responses.retrieve(made.id), OpenAI.NotFoundError)
    const unkept = await client.responses.create({ ...greedy, store: false })
    await assert.rejects(client.responses.retrieve(unkept.id), OpenAI.NotFoundError)
  })

  it('one that goes on from another sees all of it; instructions are its own', async () => {
    const first = await client.responses.create({ ...greedy, instructions: 'Be brief.' })
    const next = { ...greedy, input: 'And then?', previous_response_id: first.id }
    const second = await client.responses.create(next)
    const turns = [user(greedy.input), { role: 'assistant', content: first.output_text }, user('And then?')]
    assert.equal(second.output_text, await said(turns))
    await client.responses.delete(first.id) // the second does not need it
    const items = await client.responses.inputItems.list(second.id, { order: 'asc' })
    assert.deepEqual(
      items.data.map((item) => ('role' in item ? item.role : item.type)),
      ['user', 'assistant', 'user'],
    )
    const page = await client.responses.inputItems.list(second.id, { limit: 2 })
    assert.equal(page.data.length, 2)
    assert.ok(page.hasNextPage())
    const reference = [
      { type: 'item_reference' as const, id: first.output[0].id ?? '' },
      { role: 'user' as const, content: 'Go on.' },
    ]
    await client.responses.create({ ...greedy, input: reference })
    await assert.rejects(
      client.responses.create({ ...next, previous_response_id: first.id }),
      OpenAI.NotFoundError,
    )
  })

  it('streamed: typed events, numbered, and the same answer', async () => {
    const expected = await client.responses.create(greedy)
    const stream = client.responses.stream(greedy)
    const seen: string[] = []
    let at = 0
    for await (const event of stream) {
      assert.equal(event.sequence_number, at++)
      if (seen.at(-1) !== event.type) seen.push(event.type)
    }
    assert.deepEqual(seen, [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.incomplete',
    ])
    const final = await stream.finalResponse()
    assert.equal(final.output_text, expected.output_text)
    assert.equal((await client.responses.retrieve(final.id)).output_text, expected.output_text)
  })

  it('log-probabilities come with the text that they are of', async () => {
    const made = await client.responses.create({
      ...greedy,
      include: ['message.output_text.logprobs'],
      top_logprobs: 2,
    })
    const [item] = made.output
    const [part] = item.type === 'message' ? item.content : []
    const logprobs = part.type === 'output_text' ? (part.logprobs ?? []) : []
    assert.equal(
      logprobs
        .map(({ token }) => token)
        .join('')
        .trim(),
      made.output_text.trim(),
    )
    assert.ok(logprobs.every(({ top_logprobs }) => top_logprobs.length >= 2))
  })

  it('a client that leaves ends its sequence', async () => {
    const stream = await client.responses.create({ ...endless, stream: true })
    for await (const event of stream) if (event.type === 'response.output_text.delta') break
    assert.ok(await until(() => site.server.jobs.sequences === 0))
  })

  it('in the background: asked for later, or cancelled', async () => {
    const made = await client.responses.create({ ...greedy, background: true })
    assert.equal(made.status, 'in_progress')
    assert.ok(await until(() => site.server.jobs.sequences === 0))
    const done = await client.responses.retrieve(made.id)
    assert.equal(done.output_text, await said([user(greedy.input)]))
    const long = await client.responses.create({ ...endless, background: true })
    const ended = await client.responses.cancel(long.id)
    assert.equal(ended.status, 'cancelled')
    assert.ok(await until(() => site.server.jobs.sequences === 0))
    assert.equal((await client.responses.retrieve(long.id)).status, 'cancelled')
    const whole = await client.responses.create(greedy)
    await assert.rejects(client.responses.cancel(whole.id), OpenAI.BadRequestError)
  })

  it('what is not here is refused by name', async () => {
    const refused = (more: object, message: RegExp) =>
      assert.rejects(client.responses.create({ ...greedy, ...more } as never), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError)
        assert.match(error.message, message)
        return true
      })
    await refused({ tools: [{ type: 'web_search' }] }, /tools\[0\]: 'web_search' is not a tool/)
    await refused({ conversation: 'conv_1' }, /conversation names what is kept at OpenAI/)
    await refused({ background: true, stream: true }, /cannot be streamed/)
    await refused({ input: undefined }, /nothing to answer/)
    await refused({ text: { format: { type: 'grammar' } } }, /text\.format must be/)
    const image = { role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }
    await refused({ input: [image] }, /input\[0\]\.content\[0\]: a part of type 'input_image'/)
  })
})

describe('tools of responses', () => {
  const body = responsesBody.parse({
    tools: [
      { type: 'function', name: 'add', parameters: { type: 'object' }, strict: null },
      { type: 'function', name: 'now', parameters: null },
    ],
    tool_choice: { type: 'allowed_tools', mode: 'required', tools: [{ type: 'function', name: 'add' }] },
    parallel_tool_calls: false,
    text: { format: { type: 'json_schema', name: 'n', schema: { type: 'object' }, strict: true } },
    input: [
      { role: 'user', content: 'What is 1 + 2?' },
      { role: 'assistant', content: [{ type: 'output_text', text: 'Let me see.' }] },
      { type: 'function_call', call_id: 'call_a', name: 'add', arguments: '{"a":1}' },
      { type: 'reasoning', summary: [] },
      { type: 'function_call_output', call_id: 'call_a', output: '3' },
    ],
  })
  const output = () =>
    createOutput({
      id: 'resp_1',
      created: 0,
      model: 'demo',
      body,
      defaults: { temperature: 1, top_p: 1 },
      warnings: [],
      logprobs: () => [],
    })

  it('offers, calls and results become those of a chat', () => {
    const { fields, warnings } = readConversation(site.server.site, { model: 'demo', n: 3 }, body, null)
    const call = { id: 'call_a', type: 'function', function: { name: 'add', arguments: '{"a":1}' } }
    assert.deepEqual(fields.messages, [
      { role: 'user', content: 'What is 1 + 2?' },
      { role: 'assistant', content: 'Let me see.', tool_calls: [call] },
      { role: 'tool', tool_call_id: 'call_a', content: '3' },
    ])
    const offer = { name: 'add', parameters: { type: 'object' } }
    assert.deepEqual(fields.tools, [{ type: 'function', function: offer }])
    assert.equal(fields.tool_choice, 'required')
    assert.equal(fields.parallel_tool_calls, false)
    const schema = { name: 'n', schema: { type: 'object' }, strict: true }
    assert.deepEqual(fields.response_format, { type: 'json_schema', json_schema: schema })
    assert.deepEqual(warnings.map(({ field }) => field).sort(), ['input', 'n'])
  })

  it('calls are items of their own, streamed or whole', async () => {
    const told: string[] = []
    let final: unknown = null
    for await (const { data } of responseEvents(
      scripted(twoCalls, 'tool_calls'),
      output(),
      () => undefined,
    )) {
      const event = data as OpenAI.Responses.ResponseStreamEvent
      const at = 'output_index' in event ? ` ${event.output_index}` : ''
      told.push(`${event.type.replace('response.', '')}${at}${'delta' in event ? ` ${event.delta}` : ''}`)
      if (event.type === 'response.completed') final = event.response.output
    }
    assert.deepEqual(told.slice(9), [
      'output_item.added 1',
      'function_call_arguments.delta 1 {"a": 1,',
      'function_call_arguments.delta 1  "b": 2}',
      'function_call_arguments.done 1',
      'output_item.done 1',
      'output_item.added 2',
      'function_call_arguments.delta 2 {}',
      'function_call_arguments.done 2',
      'output_item.done 2',
      'completed',
    ])
    const kept: StoredResponse[] = []
    const whole = await wholeResponse(scripted(twoCalls, 'tool_calls'), output(), (made) => kept.push(made))
    const bare = (list: unknown) => (list as readonly object[]).map((item) => ({ ...item, id: '' }))
    assert.deepEqual(bare(whole.output), bare(final))
    assert.deepEqual(kept, [whole])
    assert.deepEqual(bare(whole.output)[1], {
      ...{ id: '', type: 'function_call', status: 'completed' },
      ...{ call_id: 'call_a', name: 'add', arguments: '{"a": 1, "b": 2}' },
    })
  })
})

describe('the store of responses', () => {
  const entry = (id: string, cancel: Entry['cancel'] = null): Entry => {
    const response = { id, status: 'completed', output: [], text: 'x'.repeat(100) }
    return { key: null, input: [], response, cancel }
  }

  it('the one unused for longest makes room, by count and by bytes; those being made stay', () => {
    const store = createStore({ most: 2, bytes: 1e6 })
    for (const id of ['a', 'b']) store.put(entry(id))
    store.get(null, 'a')
    store.put(entry('c'))
    assert.deepEqual(
      ['a', 'b', 'c'].map((id) => store.get(null, id) !== null),
      [true, false, true],
    )
    store.put(entry('d', () => undefined))
    store.put(entry('e'))
    store.put(entry('f'))
    assert.ok(store.get(null, 'd'))
    assert.equal(store.size, 2)
    const each = store.bytes / 2
    const small = createStore({ most: 100, bytes: each * 2.5 })
    for (const id of ['a', 'b', 'c', 'd']) small.put(entry(id))
    assert.equal(small.size, 2)
    for (const id of ['c', 'd']) small.delete(null, id)
    assert.deepEqual([small.size, small.bytes], [0, 0])
    const none = createStore({ most: 100, bytes: 10 })
    none.put(entry('a'))
    assert.deepEqual([none.size, none.bytes], [0, 0])
  })
})

describe("DeepSeek's own paths", () => {
  it('a message marked prefix is carried on, under /beta', async () => {
    const beta = clientOf('one', '/beta')
    const messages = [user(greedy.input), { role: 'assistant', content: 'There was a', prefix: true }]
    const ask = { model: 'deepseek-chat', max_tokens: 6, temperature: 0 }
    const { choices } = await beta.chat.completions.create({ ...ask, messages } as never)
    const rule = { max_tokens: 6, temperature: 0, continue_final_message: true }
    const expected = await site.llm
      .chat(
        messages.map(({ role, content }) => ({ role, content })),
        rule,
      )
      .result()
    assert.equal(choices[0].message.content, expected.text)
    const wrong = beta.chat.completions.create({
      ...ask,
      messages: [{ ...user('a'), prefix: true }],
    } as never)
    await assert.rejects(wrong, /only an assistant's message can be a prefix/)
  })

  it('models, balance, chat without /v1, and completions of at most 4096 tokens', async () => {
    const bare = clientOf('one', '')
    assert.deepEqual(
      (await bare.models.list()).data.map(({ id }) => id),
      ['demo', 'deepseek-chat'],
    )
    const chat = await bare.chat.completions.create({
      ...{ model: 'deepseek-chat', max_tokens: 6, temperature: 0 },
      messages: [{ role: 'user', content: greedy.input }],
    })
    assert.equal(chat.choices[0].message.content, await said([user(greedy.input)]))
    const balance = await bare.get<{ is_available: boolean; balance_infos: { currency: string }[] }>(
      '/user/balance',
    )
    assert.equal(balance.is_available, true)
    assert.equal(balance.balance_infos[0].currency, 'USD')
    const beta = clientOf('one', '/beta')
    const ask = { model: 'demo', prompt: 'Once', temperature: 0 }
    const made = await beta.completions.create({ ...ask, max_tokens: 4 })
    assert.equal(made.usage?.completion_tokens, 4)
    const middle = beta.completions.create({ ...ask, suffix: 'the end', max_tokens: 4 })
    if (canFillMiddle(site.llm.tokenizer)) assert.ok((await middle).usage?.completion_tokens)
    else await assert.rejects(middle, /suffix cannot be used/)
    await assert.rejects(
      beta.completions.create({ ...ask, max_tokens: 5000 }),
      /at most 4096, as at DeepSeek/,
    )
  })

  it('text_offset points into the echoed text, which shows no special tokens', async () => {
    const made = await client.completions.create({
      ...{ model: 'demo', prompt: 'Once upon a time', temperature: 0 },
      ...{ max_tokens: 4, echo: true, logprobs: 1 },
    })
    const [{ text, logprobs }] = made.choices
    const { tokens = [], text_offset = [] } = logprobs ?? {}
    const special = site.llm.tokenizer.addedTokens
      .filter((token) => token.special)
      .map(({ content }) => content)
    for (const [i, token] of tokens.entries()) {
      if (!special.includes(token))
        assert.equal(text.slice(text_offset[i], text_offset[i] + token.length), token)
    }
    assert.ok(special.includes(tokens[0]))
    assert.equal(text_offset[1], 0)
  })
})
