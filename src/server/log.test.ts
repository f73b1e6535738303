// The log: one line a request however it ends, what is in it, and what must never be.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fakeLLM, get, post } from './fake.ts'
import { parseKeys } from './keys.ts'
import { createServer, type LogSettings, type ServerOptions } from './server.ts'

type Line = Readonly<Record<string, unknown>>
const llm = await fakeLLM()

function serve(settings: Partial<LogSettings> = {}, options: ServerOptions = {}, model = llm) {
  const lines: string[] = []
  const log: LogSettings = { write: (line) => lines.push(line), format: 'json', ...settings }
  const { app } = createServer(model, { log, ...options })
  const read = (): readonly Line[] => lines.map((line) => JSON.parse(line) as Line)
  return { app, lines, read }
}
const settled = () => new Promise((resolve) => setTimeout(resolve, 20))

describe('lines', () => {
  it('a generation, whole: who, what, how long, how it ended', async () => {
    const { app, read } = serve({}, { keys: parseKeys('team: sk-hidden', 't') })
    const headers = { 'x-api-key': 'sk-hidden', 'x-request-id': 'mine.1' }
    await (
      await app(
        post(
          '/v1/chat/completions',
          { messages: [{ role: 'user', content: 'a riddle' }], max_tokens: 3 },
          headers,
        ),
      )
    ).text()
    const [line, ...others] = read()
    assert.deepEqual(others, [])
    const { time, head_ms, total_ms, prompt_tokens, tokens_per_second, decode_ms, ...rest } = line
    assert.deepEqual(rest, {
      level: 'info',
      message: 'generation',
      request_id: 'mine.1',
      key: 'team',
      method: 'POST',
      path: '/v1/chat/completions',
      status: 200,
      model: 'demo',
      endpoint: 'chat',
      stream: false,
      outcome: 'length',
      output_tokens: 3,
      cached_tokens: 0,
      queue_ms: 1,
      prefill_ms: 2,
    })
    assert.match(String(time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
    for (const value of [head_ms, total_ms, prompt_tokens, tokens_per_second, decode_ms]) {
      assert.equal(typeof value, 'number')
    }
  })

  it('a stream is one line, written when it ends', async () => {
    const { app, read } = serve()
    const answer = await app(post('/v1/completions', { prompt: 'x', stream: true, max_tokens: 2 }))
    assert.deepEqual(read(), [])
    await answer.text()
    assert.deepEqual(
      read().map(({ outcome, stream, status }) => [outcome, stream, status]),
      [['length', true, 200]],
    )
  })

  it('a client that leaves is an abort, without the counts that nobody knows', async () => {
    const { app, read } = serve({}, {}, await fakeLLM({ tokenMs: 5 }))
    await (await app(post('/v1/completions', { prompt: 'x', stream: true }))).body?.cancel()
    await settled()
    const [line] = read()
    assert.deepEqual([line.outcome, line.output_tokens], ['abort', undefined])
  })

  it('other requests, with their level; a path that does not exist is cut', async () => {
    const { app, read } = serve()
    await app(get('/health'))
    await app(get(`/${'x'.repeat(500)}`))
    const [fine, wrong] = read()
    assert.deepEqual([fine.message, fine.level, fine.path, fine.status], ['request', 'info', '/health', 200])
    assert.deepEqual([wrong.level, wrong.status, String(wrong.path).length], ['warn', 404, 200])
  })

  it('a request that is wrong is one line', async () => {
    const { app, read } = serve()
    await app(post('/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }], temperature: -1 }))
    assert.equal(read().length, 1)
    assert.deepEqual([read()[0].status, read()[0].level], [400, 'warn'])
  })

  it('ids that clients choose twice lose no line', async () => {
    const { app, read } = serve()
    const headers = { 'x-request-id': 'same' }
    const send = () => app(post('/v1/completions', { prompt: 'x', stream: true, max_tokens: 1 }, headers))
    const answers = await Promise.all([send(), send(), send()])
    await Promise.all(answers.map((answer) => answer.text()))
    assert.equal(read().length, 3)
  })

  it("the server's own error has its stack, once", async () => {
    const { app, read } = serve({}, {}, await fakeLLM({ error: new TypeError('kernel on fire') }))
    const answer = await app(post('/v1/completions', { prompt: 'x' }))
    assert.equal(answer.status, 500)
    assert.doesNotMatch(await answer.text(), /fire/)
    const errors = read().filter(({ level }) => level === 'error')
    assert.deepEqual(errors.map(({ message }) => message).sort(), ['error', 'generation'])
    assert.deepEqual(errors.map(({ stack }) => typeof stack).sort(), ['string', 'undefined'])
  })
})

describe('what is asked and answered', () => {
  const ask = (app: ReturnType<typeof serve>['app']) =>
    app(post('/v1/completions', { prompt: 'a secret plan' }))

  it('is not logged', async () => {
    const { app, lines } = serve()
    await ask(app)
    assert.doesNotMatch(lines.join(''), /secret|hello/)
  })

  it('is logged where the operator wants it', async () => {
    const { app, read } = serve({ prompts: true })
    await ask(app)
    assert.match(String(read()[0].prompt), /a secret plan/)
    assert.match(JSON.stringify(read()[0].answers), /hello/)
  })
})

describe('for eyes', () => {
  it('one line a request; what a client sends stays inside it', async () => {
    const { app, lines } = serve({ format: 'text' })
    await app(get('/health'))
    await app(get('/a%0a%1b[31mred'))
    assert.match(lines[0], /^\d\d:\d\d:\d\d info request request_id=\S+ method=GET path=\/health status=200 /)
    assert.equal(lines.length, 2)
    assert.doesNotMatch(lines.join(''), /[\n\x1b]/)
  })
})
