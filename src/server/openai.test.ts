// The clients people have, unchanged, against a real server with the demo model: openai-node and the AI SDK's two
// packages. What a client throws or parses here is what its users see.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { createDeepSeek } from '@ai-sdk/deepseek'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, generateText, jsonSchema, streamText, type ToolSet, tool } from 'ai'
import OpenAI from 'openai'
import { load } from '../index.ts'
import type { LLM } from '../llm/load.ts'
import { Failure } from './failure.ts'
import { type Listening, listen } from './listen.ts'
import { createServer, type Server } from './server.ts'

let llm: LLM
let server: Server
let at: Listening
let client: OpenAI

before(async () => {
  llm = await load(undefined, { backend: 'cpu', threads: 1, max_model_len: 4096 })
  server = createServer(llm, { origins: ['https://page.example'] })
  at = await listen(server.app, { host: '127.0.0.1', port: 0 })
  client = new OpenAI({ baseURL: `${at.url}/v1`, apiKey: 'none', maxRetries: 0 })
})
after(async () => {
  at.closeNow()
  await at.close()
  await llm.close()
})

const who = [{ role: 'user' as const, content: 'Who are you?' }]
const idle = async (): Promise<void> => {
  const end = Date.now() + 5000
  while ((server.jobs.sequences > 0 || (await llm.stats()).running > 0) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  assert.equal(server.jobs.sequences, 0)
  assert.equal((await llm.stats()).running, 0)
}

describe('openai-node', () => {
  it('a plain answer, with usage in both shapes and timings', async () => {
    const answer = await client.chat.completions.create({
      model: 'demo',
      messages: who,
      temperature: 0,
      max_tokens: 8,
    })
    assert.match(answer.choices[0].message.content ?? '', /demo model/)
    assert.equal(answer.choices[0].finish_reason, 'length')
    assert.equal(answer.usage?.completion_tokens, 8)
    const raw = answer as unknown as { usage: Record<string, number>; timings: Record<string, number> }
    assert.equal(
      raw.usage.prompt_cache_hit_tokens + raw.usage.prompt_cache_miss_tokens,
      answer.usage?.prompt_tokens,
    )
    assert.ok(raw.timings.predicted_per_second > 0)
    assert.equal(typeof answer._request_id, 'string')
  })

  it('the same answer streamed, usage last', async () => {
    const whole = await client.chat.completions.create({ model: 'demo', messages: who, temperature: 0 })
    const stream = await client.chat.completions.create({
      model: 'demo',
      messages: who,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    assert.equal(chunks[0].choices[0].delta.role, 'assistant')
    assert.equal(
      chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''),
      whole.choices[0].message.content,
    )
    assert.deepEqual(chunks.at(-1)?.choices, [])
    assert.deepEqual(chunks.at(-1)?.usage?.completion_tokens, whole.usage?.completion_tokens)
    assert.equal(chunks.at(-2)?.choices[0].finish_reason, whole.choices[0].finish_reason)
    assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null))
  })

  it('n answers, log-probabilities, seeds', async () => {
    const ask = () =>
      client.chat.completions.create({
        model: 'demo',
        messages: who,
        n: 3,
        seed: 5,
        temperature: 1.2,
        max_tokens: 6,
        logprobs: true,
        top_logprobs: 2,
      })
    const [one, two] = [await ask(), await ask()]
    assert.deepEqual(one.choices, two.choices)
    assert.deepEqual(
      one.choices.map(({ index }) => index),
      [0, 1, 2],
    )
    const [first] = one.choices[0].logprobs?.content ?? []
    assert.ok(first.logprob <= 0 && first.top_logprobs.length === 2)
    assert.equal(Buffer.from(first.bytes ?? []).toString(), first.token)
  })

  it('leaving a stream frees its sequence', async () => {
    const stream = await client.chat.completions.create({
      model: 'demo',
      messages: who,
      stream: true,
      max_tokens: 3000,
      ...({ ignore_eos: true } as object),
    })
    let seen = 0
    for await (const _ of stream) if (++seen === 5) break
    assert.equal(seen, 5)
    await idle()
  })

  it('an aborted request frees its sequence', async () => {
    const control = new AbortController()
    const asked = client.chat.completions.create(
      { model: 'demo', messages: who, max_tokens: 3000, ...({ ignore_eos: true } as object) },
      { signal: control.signal },
    )
    setTimeout(() => control.abort(), 200)
    await assert.rejects(asked, OpenAI.APIUserAbortError)
    await idle()
  })

  it('errors are of its own classes, and say what mends them', async () => {
    const wrong = (fields: object) =>
      client.chat.completions.create({ model: 'demo', messages: who, ...fields })
    await assert.rejects(wrong({ temperature: -1 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError)
      assert.equal(error.param, 'temperature')
      return true
    })
    await assert.rejects(wrong({ model: 'gpt-4' }), OpenAI.NotFoundError)
    await assert.rejects(wrong({ messages: [] }), /at least one message/)
    await assert.rejects(wrong({ messages: [{ role: 'user', content: 'x '.repeat(5000) }] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError)
      assert.equal(error.code, 'context_length_exceeded')
      return true
    })
    await assert.rejects(
      wrong({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }),
      OpenAI.BadRequestError,
    )
    await assert.rejects(client.embeddings.create({ model: 'demo', input: 'x' }), /embedding model/)
    await assert.rejects(client.get('/nothing'), OpenAI.NotFoundError)
  })

  it('an error before the first token of a stream has its status', async () => {
    const asked = client.chat.completions.create({ model: 'demo', messages: who, stream: true, top_p: 7 })
    await assert.rejects(asked, OpenAI.BadRequestError)
  })

  it('a full queue is retried', async () => {
    let refusals = 2
    const app = async (request: Request): Promise<Response> => {
      if (refusals-- > 0) return new Failure(503, 'full', { headers: { 'retry-after-ms': '5' } }).response()
      return server.app(request)
    }
    const busy = await listen(app, { host: '127.0.0.1', port: 0 })
    const patient = new OpenAI({ baseURL: `${busy.url}/v1`, apiKey: 'none', maxRetries: 2 })
    const answer = await patient.chat.completions.create({ model: 'demo', messages: who, max_tokens: 2 })
    assert.equal(answer.choices.length, 1)
    assert.equal(refusals, -1)
    busy.closeNow()
    await busy.close()
  })

  it('fields without effect are named', async () => {
    const { data, response } = await client.chat.completions
      .create({
        model: 'demo',
        messages: who,
        max_tokens: 1,
        user: 'me',
        ...({ mirostat: 2, temprature: 1 } as object),
      })
      .withResponse()
    const { warnings } = data as unknown as { warnings: { field: string; message: string }[] }
    assert.deepEqual(warnings.map(({ field }) => field).sort(), ['mirostat', 'temprature', 'user'])
    assert.match(
      warnings.find(({ field }) => field === 'temprature')?.message ?? '',
      /did you mean 'temperature'/,
    )
    assert.equal(response.headers.get('x-latent-warnings'), 'user, mirostat, temprature')
  })

  it('models, and completions with echo as evaluation harnesses use them', async () => {
    const models = await client.models.list()
    assert.deepEqual(
      models.data.map(({ id }) => id),
      ['demo', 'deepseek-chat'],
    )
    assert.equal((await client.models.retrieve('deepseek-chat')).object, 'model')
    const scored = await client.completions.create({
      model: 'demo',
      prompt: [
        [0, 5, 6, 7],
        [0, 9],
      ],
      echo: true,
      logprobs: 1,
      max_tokens: 1,
    })
    assert.deepEqual(
      scored.choices.map(({ logprobs }) => logprobs?.token_logprobs?.length),
      [5, 3],
    )
    assert.equal(scored.choices[0].logprobs?.token_logprobs?.[0], null)
    const stream = await client.completions.create({
      model: 'demo',
      prompt: ['a', 'b'],
      max_tokens: 3,
      stream: true,
    })
    const texts = ['', '']
    for await (const chunk of stream) for (const { index, text } of chunk.choices) texts[index] += text
    const plain = await client.completions.create({
      model: 'demo',
      prompt: ['a', 'b'],
      max_tokens: 3,
      temperature: 1,
    })
    assert.equal(plain.choices.length, texts.length)
  })
})

const weather = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'The weather of a city',
    parameters: {
      type: 'object',
      properties: { city: { enum: ['Paris', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 3 } },
      required: ['city', 'days'],
      additionalProperties: false,
    },
  },
}
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
})

describe('AI SDK', () => {
  const models = () => [
    createOpenAICompatible({ name: 'latent', baseURL: `${at.url}/v1`, includeUsage: true })('demo'),
    createDeepSeek({ baseURL: `${at.url}/v1`, apiKey: 'none' })('deepseek-chat'),
  ]

  it('text, whole and streamed, with usage and cache hits', async () => {
    for (const model of models()) {
      const whole = await generateText({ model, prompt: 'Who are you?', temperature: 0 })
      assert.match(whole.text, /demo model/)
      assert.equal(whole.finishReason, 'stop')
      assert.ok((whole.usage.inputTokens ?? 0) > 0 && (whole.usage.outputTokens ?? 0) > 0)
      const streamed = streamText({ model, prompt: 'Who are you?', temperature: 0 })
      let text = ''
      for await (const piece of streamed.textStream) text += piece
      assert.equal(text, whole.text)
      assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens)
    }
  })

  it('tools, whole and streamed', async () => {
    const schema = jsonSchema(weather.function.parameters as object)
    const tools: ToolSet = {
      weather: tool({ description: 'weather', inputSchema: schema }) as ToolSet[string],
    }
    for (const model of models()) {
      const whole = await generateText({
        model,
        prompt: 'Who are you?',
        tools,
        toolChoice: 'required',
        temperature: 0,
      })
      assert.equal(whole.toolCalls[0].toolName, 'weather')
      assert.equal(whole.finishReason, 'tool-calls')
      const streamed = streamText({
        model,
        prompt: 'Who are you?',
        tools,
        toolChoice: 'required',
        temperature: 0,
      })
      await streamed.consumeStream()
      assert.deepEqual(
        (await streamed.toolCalls).map(({ input }) => input),
        whole.toolCalls.map(({ input }) => input),
      )
    }
  })

  it('errors say what the server said', async () => {
    const [model] = models()
    await assert.rejects(generateText({ model, prompt: 'x', topP: 9, maxRetries: 0 }), (error) => {
      assert.ok(APICallError.isInstance(error))
      assert.match(error.message, /top_p/)
      return true
    })
  })

  it('an abort frees the sequence', async () => {
    const [model] = models()
    const control = new AbortController()
    const streamed = streamText({
      model,
      prompt: 'Write',
      maxOutputTokens: 3000,
      abortSignal: control.signal,
      onError: () => undefined,
    })
    let seen = 0
    for await (const _ of streamed.textStream) if (++seen === 3) control.abort()
    await idle()
  })
})
