// More than 20,000 requests that no client should send, the same ones every time: whatever comes, each gets a well-formed
// answer, none is the server's own failure, and nothing of them stays behind.
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { it } from 'node:test'
import { load } from '../llm/load.ts'
import { routes } from './app.ts'
import { fakeLLM } from './fake.ts'
import { listen } from './listen.ts'
import { applied, name, names, odd, random, value } from './noise.ts'
import { createServer, type Server } from './server.ts'

const rejections: unknown[] = []
let sent = 0
process.on('unhandledRejection', (reason) => rejections.push(reason))

const posts = routes.filter(({ method }) => method === 'post').map(({ path }) => path)
const bases: readonly Readonly<Record<string, unknown>>[] = [
  { messages: [{ role: 'user', content: 'hi' }], max_tokens: 2 },
  {
    messages: [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: [{ type: 'text', text: 'hi' }] },
    ],
    stream: true,
  },
  { prompt: 'hi', max_tokens: 2, logprobs: 1, echo: true },
  { prompt: [[1, 2], [3]], n: 2, stream: true, max_tokens: 2 },
  { tokens: [1, 2, 3] },
  { input: 'hi', max_output_tokens: 2 },
]

const request = (path: string, body: RequestInit['body'] | undefined, init: RequestInit = {}): Request =>
  new Request(`http://localhost${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    ...init,
    ...(body !== undefined && { body }),
  })

/** Well-formed: a success, or a refusal with OpenAI's error object; never a failure of the server's own. */
async function check(answer: Response, about: string): Promise<void> {
  const { status, headers } = answer
  const text = await answer.text()
  const said = `${status} ${text.slice(0, 300)} to ${about.slice(0, 600)}`
  assert.ok(status < 500 || status === 503, said)
  assert.match(headers.get('x-request-id') ?? '', /^[\w.-]+$/, said)
  const stream = headers.get('content-type')?.startsWith('text/event-stream') ?? false
  if (stream) assert.match(text, /^: latent\n\n[\s\S]*\n\n$/, said)
  if (stream || status < 400 || text === '') return
  const body = JSON.parse(text) as Record<string, unknown>
  // Anthropic's protocol wraps the same object
  const error = body.error as Record<string, unknown>
  assert.equal(typeof error?.message, 'string', said)
  assert.ok((error.message as string).length > 0 && (error.message as string).length < 5000, said)
  assert.equal(typeof error.type, 'string', said)
  assert.doesNotMatch(text, /node_modules|\.js:\d+| {4}at /, said)
}

async function send(server: Server, made: Request, about: string): Promise<void> {
  sent++
  let answer: Response
  try {
    answer = await server.app(made)
  } catch (error) {
    return assert.fail(`${(error as Error).stack} at ${about.slice(0, 600)}`)
  }
  if (made.method === 'HEAD') assert.ok(answer.status < 500 || answer.status === 503, about)
  else await check(answer, about)
}

/** Leaves a stream after some pieces, or before the first. */
async function leave(server: Server, made: Request): Promise<void> {
  sent++
  const answer = await server.app(made)
  const reader = answer.body?.getReader()
  for (let left = random.below(5); left > 0; left--) if ((await reader?.read())?.done) break
  await reader?.cancel()
}

async function repeat(count: number, atOnce: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0
  const run = async (): Promise<void> => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, run))
}

function mutated(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Buffer.from(text))
  for (let i = random.below(6); i >= 0; i--) bytes[random.below(bytes.length)] = random.below(256)
  return random.chance(0.3) ? bytes.slice(0, random.below(bytes.length)) : bytes
}

async function clean(server: Server): Promise<void> {
  let { running, waiting, pages } = await server.site.llm.stats()
  // an engine in its own thread hears of an abort a step later than the jobs do
  for (let i = 0; i < 300 && server.jobs.sequences + running + waiting + pages.held > 0; i++) {
    await new Promise((wake) => setTimeout(wake, 10))
    ;({ running, waiting, pages } = await server.site.llm.stats())
  }
  assert.deepEqual(
    { sequences: server.jobs.sequences, jobs: server.jobs.running, running, waiting, held: pages.held },
    { sequences: 0, jobs: 0, running: 0, waiting: 0, held: 0 },
  )
  assert.equal(pages.free + pages.cached, pages.total)
  assert.deepEqual(rejections, [])
}

const results: (readonly [name: string, error: unknown])[] = []

/** Before the runner hears of any test: from then on it follows every promise, which doubles the time of these. */
async function run(name: string, work: () => Promise<void>): Promise<void> {
  await work().then(
    () => results.push([name, null]),
    (error: unknown) => results.push([name, error]),
  )
}

async function withoutModel(): Promise<void> {
  const errors: unknown[] = []
  const server = createServer(await fakeLLM(), { maxBody: 100_000, report: (error) => errors.push(error) })

  await run('every field with two of three odd values', async () => {
    const short = { prompt: 'hi', max_tokens: 1 }
    const calls = names.flatMap((field) =>
      odd.filter((_, i) => i % 3 !== field.length % 3).map((given) => ({ field, given })),
    )
    assert.ok(calls.length > 5500, `${calls.length}`)
    await repeat(calls.length, 4, async (i) => {
      const { field, given } = calls[i]
      const base = field === 'prompt' || random.chance(0.75) ? short : bases[0]
      const path = base === short ? '/v1/completions' : '/v1/chat/completions'
      const text = JSON.stringify({ ...base, [field]: given })
      await send(server, request(path, text), `${path} ${text}`)
    })
    await clean(server)
  })

  await run('bodies made of anything', async () => {
    await repeat(5000, 4, async () => {
      const path = random.pick(posts)
      const body = random.chance(0.5) ? { ...random.pick(bases) } : {}
      for (let i = random.below(6); i > 0; i--) Object.assign(body, { [name()]: value() })
      const text = JSON.stringify(random.chance(0.05) ? value() : body)
      await send(server, request(path, text), `${path} ${text}`)
    })
    await clean(server)
  })

  await run('bytes changed, texts cut, no UTF-8, depths', async () => {
    await repeat(4000, 4, async () => {
      const path = random.pick(posts)
      const bytes = mutated(JSON.stringify(random.pick(bases)))
      await send(server, request(path, bytes), `${path} ${Buffer.from(bytes).toString('latin1')}`)
    })
    for (const open of ['[', '{"a":', '{"messages":[', '"\\u']) {
      const text = open.repeat(90_000 / open.length)
      for (const path of posts) await send(server, request(path, text), open)
    }
    const deep = `{"prompt":"x","metadata":${'['.repeat(40_000)}${']'.repeat(40_000)}}`
    for (const path of posts) await send(server, request(path, deep), 'a deep list')
    await clean(server)
  })

  await run('paths, methods and headers', async () => {
    const parts = [
      ...[
        'v1',
        'chat',
        'completions',
        'models',
        'demo',
        '..',
        '.',
        '',
        '%2e%2e',
        '%00',
        '%ff',
        '%',
        '*',
        ':model',
      ],
      ...['etc', 'passwd', 'ü', '\\', '{.+}', 'a'.repeat(2000), '?a=b', '#x', 'openapi.json', 'docs', ';x'],
    ]
    const headers = [
      'content-type',
      'accept',
      'authorization',
      'x-api-key',
      'x-request-id',
      'origin',
      'range',
      'cookie',
    ]
    await repeat(4000, 4, async () => {
      const path = `/${Array.from({ length: random.below(6) }, () => random.pick(parts)).join('/')}`
      const method = random.pick(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'BREW', 'get'])
      const init: RequestInit = { method, headers: {} }
      for (let i = random.below(4); i > 0; i--) {
        const given = `${JSON.stringify(random.pick(odd))}`.replace(/[^\x20-\xff]/g, '?')
        Object.assign(init.headers as object, { [random.pick(headers)]: given })
      }
      const body =
        method === 'GET' || method === 'HEAD' || method === 'get' ? undefined : random.pick(['', '{}', 'x'])
      const target = random.chance(0.2) ? random.pick(routes).path : path
      await send(server, request(target, body, init), `${method} ${target} ${JSON.stringify(init.headers)}`)
    })
    await clean(server)
  })

  await run('readers that leave at any moment', async () => {
    const slow = createServer(await fakeLLM({ tokenMs: 1 }))
    await repeat(600, 16, (i) => {
      const control = new AbortController()
      const body = JSON.stringify({ ...bases[i % 2 === 0 ? 0 : 3], stream: true, max_tokens: 6 })
      const made = request(i % 2 === 0 ? '/v1/chat/completions' : '/v1/completions', body, {
        signal: control.signal,
      })
      if (random.chance(0.3)) setTimeout(() => control.abort(), random.below(8))
      return leave(slow, made)
    })
    await clean(slow)
    assert.deepEqual(errors, [])
  })
}

async function throughSockets(): Promise<void> {
  const server = createServer(await fakeLLM({ tokenMs: 1 }), { maxBody: 100_000 })
  const listening = await listen(server.app, { host: '127.0.0.1', port: 0 })

  /** Sends bytes and hangs up, at once or when something comes back. */
  const throwAt = (bytes: Buffer): Promise<string> =>
    new Promise((resolve) => {
      const patient = random.chance(0.5)
      let text = ''
      const socket = connect(listening.port, '127.0.0.1', () => socket.write(bytes))
      const timer = setTimeout(() => socket.destroy(), patient ? 50 : random.below(4))
      socket.on('data', (data) => {
        text += data.toString('latin1')
        if (random.chance(0.5)) socket.destroy()
      })
      socket.on('error', () => undefined)
      socket.on('close', () => {
        clearTimeout(timer)
        resolve(text)
      })
    })

  await run('garbage, halves of requests, and requests with garbage in them', async () => {
    const whole =
      'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n{"prompt": "hi", "stream": true }       '
    await repeat(400, 16, async (i) => {
      const noise = Buffer.from(Array.from({ length: 1 + random.below(300) }, () => random.below(256)))
      const bytes = [
        noise,
        Buffer.from(whole.slice(0, random.below(whole.length))),
        Buffer.from(mutated(whole)),
      ][i % 3]
      const said = await throwAt(bytes)
      if (said !== '') assert.match(said, /^HTTP\/1\.1 [1-5]\d\d /)
      assert.doesNotMatch(said, /^HTTP\/1\.1 500/)
    })
    await clean(server)
  })

  await run('streams whose reader is gone', async () => {
    await repeat(200, 16, () => {
      const body = JSON.stringify({ prompt: 'hi', stream: true, max_tokens: 16 })
      return new Promise((resolve) => {
        const asking = httpRequest(
          {
            port: listening.port,
            path: '/v1/completions',
            method: 'POST',
            headers: { 'content-type': 'application/json' },
          },
          (answer) => {
            answer.once('data', () => setTimeout(() => answer.destroy(), random.below(10)))
            answer.on('error', () => undefined)
            answer.on('close', () => resolve())
          },
        )
        asking.on('error', () => resolve())
        asking.end(body)
        if (random.chance(0.3)) setTimeout(() => asking.destroy(), random.below(5))
      })
    })
    await clean(server)
    assert.equal((await fetch(`${listening.url}/health`)).status, 200)
  })
  listening.closeNow()
  await listening.close()
}

async function onModel(): Promise<void> {
  const llm = await load('demo', { max_model_len: 256, max_num_seqs: 8 })
  const errors: unknown[] = []
  const server = createServer(llm, { report: (error) => errors.push(error) })

  await run('odd requests, long and short, some left in the middle: all pages come back', async () => {
    const calls = Array.from({ length: 250 }, () => {
      const path = random.pick(['/v1/chat/completions', '/v1/completions'])
      const long = 'word '.repeat(random.below(300))
      const base = {
        messages: [{ role: 'user', content: long }],
        prompt: long,
        max_tokens: 1 + random.below(6),
      }
      const body = { ...base, stream: random.chance(0.5), n: 1 + random.below(3) }
      for (let j = random.below(3); j > 0; j--)
        Object.assign(body, { [random.pick(applied).field]: random.pick(odd) })
      if (typeof body.max_tokens !== 'number' || !(body.max_tokens <= 8)) body.max_tokens = 4
      if (typeof body.n !== 'number' || !(body.n <= 4)) body.n = 1
      const text = JSON.stringify(body)
      return { path, text }
    })
    await repeat(calls.length, 16, async (i) => {
      const { path, text } = calls[i]
      if (i % 3 === 0) await leave(server, request(path, text))
      else await send(server, request(path, text), `${path} ${text}`)
    })
    await clean(server)
    assert.deepEqual(errors, [])
  })
  await llm.close()
}

await withoutModel()
await throughSockets()
await onModel()

it('there were more than 20,000', () => assert.ok(sent > 20_000, `${sent}`))
for (const [name, error] of results) {
  it(name, () => {
    if (error !== null) throw error
  })
}
