// openai-node, unchanged, against a real server with the demo model: what it throws or parses here is what its users see.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { Failure } from './failure.ts'
import { type Fixture, idle, serveDemo } from './fixture.ts'
import { listen } from './listen.ts'

let demo: Fixture
let client: OpenAI

before(async () => {
  demo = await serveDemo()
  client = new OpenAI({ baseURL: `${demo.url}/v1`, apiKey: 'none', maxRetries: 0 })
})
after(() => demo.close())

const who = [{ role: 'user' as const, content: 'Who are you?' }]
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
    await idle(demo)
  })

  it('an aborted request frees its sequence', async () => {
    const control = new AbortController()
    const asked = client.chat.completions.create(
      { model: 'demo', messages: who, max_tokens: 3000, ...({ ignore_eos: true } as object) },
      { signal: control.signal },
    )
    setTimeout(() => control.abort(), 200)
    await assert.rejects(asked, OpenAI.APIUserAbortError)
    await idle(demo)
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
      return demo.server.app(request)
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
