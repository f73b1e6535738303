// Browsers, sizes and slow clients: who may call from where, what an answer's headers forbid, and that nobody holds a
// socket or the memory by sending little, much, or nonsense.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, describe, it } from 'node:test'
import { errorOf, fakeLLM, get, post } from './fake.ts'
import { listen } from './listen.ts'
import { createServer } from './server.ts'

const llm = await fakeLLM()
const page = 'https://page.example'
const { app } = createServer(llm, { origins: [page], maxBody: 1000 })

describe('security headers', () => {
  it('are on every answer, errors too', async () => {
    const answers = [get('/health'), get('/docs'), get('/nothing'), post('/v1/completions', 'no object')]
    for (const request of answers) {
      const { headers } = await app(request)
      assert.equal(headers.get('x-content-type-options'), 'nosniff')
      assert.equal(headers.get('x-frame-options'), 'DENY')
      assert.equal(headers.get('referrer-policy'), 'no-referrer')
      assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none'/)
      assert.match(headers.get('x-request-id') ?? '', /^[\w-]{36}$/)
    }
  })

  it('what an answer says of itself stays', async () => {
    const stream = await app(post('/v1/completions', { prompt: 'x', stream: true }))
    assert.match(stream.headers.get('cache-control') ?? '', /no-transform/)
    await stream.text()
    assert.equal((await app(get('/health'))).headers.get('cache-control'), 'no-store')
  })

  it('an id of the client comes back if it is harmless', async () => {
    const id = async (given: string) =>
      (await app(get('/health', { 'x-request-id': given }))).headers.get('x-request-id')
    assert.equal(await id('trace-1.2_3'), 'trace-1.2_3')
    for (const odd of ['a b', '<script>', 'x'.repeat(129), '{}']) assert.notEqual(await id(odd), odd)
  })
})

describe('origins', () => {
  const preflight = (origin: string, asked: string): Request =>
    new Request('http://localhost/v1/chat/completions', {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': asked,
      },
    })

  it('openai-node in a browser: its headers are allowed, its answers readable', async () => {
    const asked = [
      ...['authorization', 'content-type', 'x-stainless-arch', 'x-stainless-lang', 'x-stainless-os'],
      ...['x-stainless-package-version', 'x-stainless-retry-count', 'x-stainless-runtime'],
      ...['x-stainless-runtime-version', 'x-stainless-timeout', 'anthropic-version', 'x-api-key'],
    ]
    const { status, headers } = await app(preflight(page, asked.join(',')))
    assert.equal(status, 204)
    assert.equal(headers.get('access-control-allow-origin'), page)
    const allowed = (headers.get('access-control-allow-headers') ?? '').split(/, ?/)
    assert.deepEqual(allowed, asked)
    for (const method of ['GET', 'POST', 'DELETE']) {
      assert.ok(headers.get('access-control-allow-methods')?.includes(method))
    }
    const answer = await app(post('/v1/completions', { prompt: 'x' }, { origin: page }))
    assert.equal(answer.status, 200)
    const exposed = answer.headers.get('access-control-expose-headers') ?? ''
    for (const name of [
      'x-request-id',
      'retry-after',
      'retry-after-ms',
      'x-ratelimit-remaining-tokens',
      'x-latent-warnings',
    ]) {
      assert.ok(exposed.includes(name), name)
    }
  })

  it('a page may read its errors', async () => {
    const answer = await app(post('/v1/completions', {}, { origin: page }))
    assert.equal(answer.status, 400)
    assert.equal(answer.headers.get('access-control-allow-origin'), page)
  })

  it('of others no page is let in: no header for it, and no work done', async () => {
    for (const origin of [
      'https://evil.example',
      'null',
      'http://page.example',
      `${page}.evil.example`,
      'nonsense',
    ]) {
      const asked = await app(preflight(origin, 'content-type'))
      assert.equal(asked.headers.get('access-control-allow-origin'), null)
      // what a form or a text/plain fetch sends without asking first
      const sent = await app(
        post('/v1/completions', { prompt: 'x' }, { origin, 'content-type': 'text/plain' }),
      )
      assert.deepEqual([sent.status, (await errorOf(sent)).code], [403, 'origin_not_allowed'])
    }
  })

  it("the server's own pages, and clients that are no pages, may", async () => {
    const own = await app(post('/v1/completions', { prompt: 'x' }, { origin: 'http://localhost' }))
    assert.equal(own.status, 200)
    assert.equal((await app(post('/v1/completions', { prompt: 'x' }))).status, 200)
  })

  it("'*' is everyone", async () => {
    const { app } = createServer(llm, { origins: ['*'] })
    const answer = await app(post('/v1/completions', { prompt: 'x' }, { origin: 'https://any.example' }))
    assert.deepEqual([answer.status, answer.headers.get('access-control-allow-origin')], [200, '*'])
  })

  it('under other host names nothing is answered, where names are given (DNS rebinding)', async () => {
    const { app } = createServer(llm, { hosts: ['localhost', '127.0.0.1'] })
    assert.equal((await app(get('/health'))).status, 200)
    const answer = await app(new Request('http://rebound.example/health'))
    assert.deepEqual([answer.status, (await errorOf(answer)).code], [403, 'host_not_allowed'])
  })
})

describe('bodies', () => {
  const send = (body: RequestInit['body'], headers: Record<string, string> = {}) =>
    app(
      new Request('http://localhost/v1/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: body ?? null,
        duplex: 'half',
      } as RequestInit),
    )
  const exactly = (bytes: number) => {
    const bare = JSON.stringify({ prompt: 'x', user: '' })
    return JSON.stringify({ prompt: 'x', user: 'u'.repeat(bytes - bare.length) })
  }

  it('of the limit are taken, one byte more is not', async () => {
    assert.equal((await send(exactly(1000))).status, 200)
    const large = await send(exactly(1001))
    assert.equal(large.status, 413)
    assert.match((await errorOf(large)).message, /larger than 1000 bytes/)
  })

  it('that say a small size and are large, or say none', async () => {
    let pulled = 0
    const endless = new ReadableStream({
      pull(controller) {
        pulled++
        controller.enqueue(new Uint8Array(500))
      },
    })
    assert.equal((await send(endless)).status, 413)
    assert.ok(pulled < 10, `${pulled} pieces were read`)
    assert.equal((await send('{}', { 'content-length': '99999999999' })).status, 413)
  })

  const odd: readonly [string, RequestInit['body'], number, RegExp][] = [
    ['empty', '', 400, /the body is empty/],
    ['no JSON', '{"prompt": ', 400, /the body is not JSON/],
    ['a list', '[]', 400, /must be a JSON object, a list given/],
    ['null', 'null', 400, /null given/],
    ['no UTF-8', new Uint8Array([0x7b, 0xff, 0xfe, 0x7d]), 400, /not UTF-8/],
    ['deep', '['.repeat(900), 400, /not JSON/],
  ]
  for (const [name, body, status, message] of odd) {
    it(`${name}: ${status}`, async () => {
      const answer = await send(body)
      assert.equal(answer.status, status)
      assert.match((await errorOf(answer)).message, message)
    })
  }

  it('of another type are refused with the type that is wanted', async () => {
    const answer = await send('<x/>', { 'content-type': 'application/xml' })
    assert.deepEqual([answer.status, /application\/json/.test((await errorOf(answer)).message)], [415, true])
  })
})

describe('sockets', async () => {
  const listening = await listen(app, {
    host: '127.0.0.1',
    port: 0,
    patience: { headers: 300, request: 600 },
  })
  after(async () => {
    listening.closeNow()
    await listening.close()
  })

  /** Sends pieces, each after its pause, and reads until the server closes. */
  function talk(pieces: readonly string[], pauseMs = 0): Promise<string> {
    return new Promise((resolve, reject) => {
      let text = ''
      const socket = connect(listening.port, '127.0.0.1', async () => {
        for (const piece of pieces) {
          if (socket.destroyed) return
          socket.write(piece)
          if (pauseMs > 0) await new Promise((wake) => setTimeout(wake, pauseMs))
        }
      })
      socket.setTimeout(8000, () => socket.destroy(new Error(`still open, said ${text}`)))
      socket.on('data', (data) => {
        text += data.toString()
      })
      socket.on('error', (error: NodeJS.ErrnoException) => {
        if (!['ECONNRESET', 'EPIPE'].includes(error.code ?? '')) reject(error)
      })
      socket.on('close', () => resolve(text))
    })
  }
  const bodyOf = (text: string) =>
    JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as { error: { message: string } }

  it('headers that never end are cut off with 408 (slow loris)', async () => {
    const drops = Array.from({ length: 20 }, (_, i) => `x-${i}: y\r\n`)
    const text = await talk(['GET /health HTTP/1.1\r\nhost: x\r\n', ...drops], 100)
    assert.match(text, /^HTTP\/1\.1 408 /)
    assert.match(bodyOf(text).error.message, /took too long/)
  })

  it('a body that never ends is cut off too', async () => {
    const head =
      'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n'
    const text = await talk([head, ...Array.from({ length: 20 }, () => ' ')], 100)
    assert.doesNotMatch(text, / 200 /)
  })

  it('headers that are too large are 431', async () => {
    const text = await talk([`GET /health HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`])
    assert.match(text, /^HTTP\/1\.1 431 /)
    assert.match(bodyOf(text).error.message, /headers are too large/)
  })

  it('what is not HTTP is 400', async () => {
    for (const noise of [
      'hello\r\n\r\n',
      '\x16\x03\x01\x02\x00',
      'GET / HTTP/9.9\r\n\r\n',
      'GET /\0 HTTP/1.1\r\n\r\n',
    ]) {
      const text = await talk([noise])
      assert.match(text, /^HTTP\/1\.1 400 /)
      assert.match(bodyOf(text).error.message, /not an HTTP request/)
    }
  })

  it('smuggled and doubled lengths are refused', async () => {
    const head = 'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
    for (const odd of [
      'content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n',
      'content-length: 4\r\ncontent-length: 5\r\n\r\n{}  ',
      'content-length: -1\r\n\r\n',
      'transfer-encoding: xchunked\r\n\r\n{}',
    ]) {
      assert.match(await talk([head + odd]), /^HTTP\/1\.1 400 /, odd)
    }
  })
})
