// Rate limits under a clock of the test's own: what is taken, when it comes back, and what clients are told.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Result } from '../llm/completion.ts'
import { routes } from './app.ts'
import { Failure } from './failure.ts'
import { fakeLLM, post } from './fake.ts'
import type { JobFacts } from './job.ts'
import { parseKeys } from './keys.ts'
import { createRates } from './rates.ts'
import { createServer } from './server.ts'

const facts: JobFacts = { id: '1', endpoint: 'chat', key: 'a', n: 1, maxTokens: null, stream: false }
const ended = (prompt: number | null) => ({
  ...facts,
  outcome: 'stop' as const,
  seconds: 1,
  error: undefined,
  result: prompt === null ? null : ({ usage: { prompt_tokens: prompt } } as Result),
})

function refusal(work: () => unknown): Failure {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof Failure)
    return error
  }
  return assert.fail('let through')
}

describe('requests a minute', () => {
  it('are taken, refused, and come back with time', () => {
    let now = 0
    const { allow } = createRates({ requests: 3, tokens: null }, () => now)
    assert.deepEqual(allow('a'), {
      'x-ratelimit-limit-requests': '3',
      'x-ratelimit-remaining-requests': '2',
      'x-ratelimit-reset-requests': '20s',
    })
    allow('a')
    assert.equal(allow('a')['x-ratelimit-reset-requests'], '1m0s')
    const { status, code, message, headers } = refusal(() => allow('a'))
    assert.deepEqual([status, code], [429, 'rate_limit_exceeded'])
    assert.match(message, /3 requests a minute .* try again in 20 s/)
    assert.deepEqual([headers['retry-after'], headers['retry-after-ms']], ['20', '20000'])
    assert.equal(headers['x-ratelimit-remaining-requests'], '0')
    now += 19_999
    refusal(() => allow('a'))
    now += 1
    allow('a')
    now += 1e9
    assert.equal(allow('a')['x-ratelimit-remaining-requests'], '2', 'no more than a minute is saved up')
  })

  it('each key has its own', () => {
    const { allow } = createRates({ requests: 1, tokens: null }, () => 0)
    allow('a')
    allow('b')
    allow(null)
    for (const key of ['a', 'b', null]) refusal(() => allow(key))
  })

  it('without limits nothing is counted or said', () => {
    const { allow } = createRates({ requests: null, tokens: null }, () => 0)
    for (let i = 0; i < 1000; i++) assert.deepEqual(allow('a'), {})
  })
})

describe('tokens a minute', () => {
  it('are taken as they come, the prompt at the end; an overdrawn key waits until it is made good', () => {
    let now = 0
    const { allow, observer } = createRates({ requests: null, tokens: 600 }, () => now)
    assert.equal(allow('a')['x-ratelimit-remaining-tokens'], '600')
    for (let i = 0; i < 100; i++) observer.token?.(facts, 1, i === 0)
    assert.equal(allow('a')['x-ratelimit-remaining-tokens'], '500')
    observer.end?.(ended(700))
    const { headers, message } = refusal(() => allow('a'))
    assert.match(message, /600 tokens a minute/)
    assert.equal(headers['retry-after-ms'], '20100')
    assert.equal(headers['x-ratelimit-remaining-tokens'], '0')
    allow('b')
    now += 20_100
    assert.equal(allow('a')['x-ratelimit-remaining-tokens'], '1')
  })

  it('who leaves before the end pays for what came', () => {
    const { allow, observer } = createRates({ requests: null, tokens: 10 }, () => 0)
    for (let i = 0; i < 10; i++) observer.token?.(facts, 1, i === 0)
    observer.end?.(ended(null))
    refusal(() => allow('a'))
  })

  it('a refused request takes nothing from the other budget', () => {
    const { allow, observer } = createRates({ requests: 5, tokens: 1 }, () => 0)
    observer.token?.(facts, 1, true)
    const refused = refusal(() => allow('a'))
    assert.equal(refused.headers['x-ratelimit-remaining-requests'], '5')
  })
})

describe('every route', async () => {
  const llm = await fakeLLM()
  for (const route of routes) {
    const { method, open = false, free = false } = route
    const path = route.path.replace(/:\w+(\{[^}]*\})?/g, 'demo')
    it(`${method} ${path} ${open || free ? 'is not counted' : 'is counted'}`, async () => {
      const { app } = createServer(llm, { keys: parseKeys('a:x', 't'), rates: { requests: 1, tokens: 1000 } })
      const headers = { 'x-api-key': 'x' }
      const bare = new Request(`http://localhost${path}`, { method: method.toUpperCase(), headers })
      const send = () => app(method === 'post' ? post(path, { prompt: 'hi' }, headers) : bare)
      const first = await send()
      assert.equal(first.headers.get('x-ratelimit-limit-requests'), open || free ? null : '1')
      assert.equal(first.headers.get('x-ratelimit-limit-tokens'), open || free ? null : '1000')
      await first.text()
      const second = await send()
      assert.equal(second.status === 429, !open && !free)
      if (open || free) return
      assert.match(await second.text(), /"rate_limit_exceeded"|"rate_limit_error"/)
      assert.ok(Number(second.headers.get('retry-after')) >= 1)
      assert.ok(Number(second.headers.get('retry-after-ms')) > 1000)
    })
  }

  it('an answer is paid by its key, streamed or whole', async () => {
    for (const stream of [true, false]) {
      const { app } = createServer(llm, {
        keys: parseKeys('a:x,b:y', 't'),
        rates: { requests: null, tokens: 20 },
      })
      const send = (key: string) =>
        app(
          post(
            '/v1/completions',
            { prompt: 'a b c d e f g h', stream, max_tokens: 16 },
            { 'x-api-key': key },
          ),
        )
      const first = await send('x')
      assert.equal(first.headers.get('x-ratelimit-remaining-tokens'), '20')
      await first.text()
      assert.equal((await send('x')).status, 429)
      await (await send('y')).text()
    }
  })
})
