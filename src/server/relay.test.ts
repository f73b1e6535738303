// Fakes that refuse, hang, cut and drip behind a gateway without a socket of its own.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import {
  type Act,
  answer,
  chunk,
  cut,
  error,
  type Fake,
  fake,
  json,
  openStream,
  role,
  say,
  wait,
} from './fakes.ts'
import { createGateway, type Gateway, type GatewayOptions } from './gateway.ts'

const open: { close(): unknown }[] = []
after(() => Promise.all(open.map((one) => one.close())))

async function fakes(...acts: readonly Act[]): Promise<readonly Fake[]> {
  const made = await Promise.all(acts.map((act) => fake(act)))
  for (const one of made) open.push({ close: one.stop })
  return made
}

function gateway(upstreams: readonly Fake[], options: Partial<GatewayOptions> = {}): Gateway {
  const made = createGateway({
    upstreams: upstreams.map(({ url }) => url),
    ...options,
    timeouts: { connectMs: 500, firstByteMs: 300, idleMs: 300, ...options.timeouts },
    health: { everyMs: 60_000, timeoutMs: 500, ...options.health },
  })
  open.push(made)
  return made
}

const ask = (app: Gateway['app'], fields: object, path = '/v1/chat/completions', init: RequestInit = {}) =>
  app(
    new Request(`http://gateway${path}`, {
      method: 'POST',
      body: JSON.stringify({ messages: [{ role: 'user', content: 'hello' }], ...fields }),
      ...init,
    }),
  )

/** What a stream says: its text, and its last event's data. */
async function heard(response: Response): Promise<{ text: string; last: string; all: string }> {
  const all = await response.text()
  const data = [...all.matchAll(/^data: (.*)$/gm)].map(([, value]) => value)
  const text = data.map((one) => /"content":"([^"]*)"/.exec(one)?.[1] ?? '').join('')
  return { text, last: data.at(-1) ?? '', all }
}

/** Two upstreams of which the first asked does `bad`, and the other answers. */
async function once(bad: Act, options: Partial<GatewayOptions> = {}) {
  let count = 0
  const act: Act = (response, asked, n) => (++count === 1 ? bad : answer('good'))(response, asked, n)
  const both = await fakes(act, act)
  return { ...gateway(both, options), both, count: () => count }
}

const mended: readonly (readonly [string, Act])[] = [
  ['a connection that breaks', cut],
  ['502', (response) => json(response, 502, error(502))],
  ['503', (response) => json(response, 503, error(503))],
  ['504', (response) => json(response, 504, error(504))],
  ['429', (response) => json(response, 429, error(429))],
  ['silence', () => undefined],
  ['headers, then silence', openStream],
  [
    'headers, then a cut',
    async (response) => {
      openStream(response)
      await wait(20)
      cut(response)
    },
  ],
  [
    'a role, then the end',
    (response) => {
      openStream(response)
      say(response, role)
      response.end()
    },
  ],
  [
    'a role, then an error',
    (response) => {
      openStream(response)
      say(response, role)
      say(response, error(500))
      response.end()
    },
  ],
]

describe('before the first token another upstream takes over', () => {
  for (const [what, bad] of mended) {
    it(what, async () => {
      const { app, count } = await once(bad)
      const response = await ask(app, { stream: true })
      assert.equal(response.status, 200)
      const { text, last, all } = await heard(response)
      assert.equal(text, 'good')
      assert.equal(last, '[DONE]')
      assert.equal(all.match(/"role"/g)?.length, 1, 'what the first one said is not heard')
      assert.equal(count(), 2)
    })
  }

  it('also after the headers have left', async () => {
    const { app } = await once(
      async (response) => {
        await wait(150)
        json(response, 503, error(503))
      },
      { relay: { statusMs: 20, keepAliveMs: 30 } },
    )
    const { text, all } = await heard(await ask(app, { stream: true }))
    assert.equal(text, 'good')
    assert.match(all, /: keep-alive/)
  })

  it('an answer that is not streamed and is cut in its middle', async () => {
    const { app, both } = await once(async (response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
      response.write('{"choices": [')
      await wait(20)
      cut(response)
    })
    const response = await ask(app, {})
    assert.match(await response.text(), /"content":"good"/)
    assert.deepEqual(
      both.map(({ asked }) => asked.length),
      [1, 1],
    )
  })

  it('a refused connection; the upstream is down, and gets nothing more until it is back', async () => {
    const [dead, live] = await fakes(answer('dead'), answer('good'))
    await dead.stop()
    const { app, upstreams, probe } = gateway([dead, live], { balance: { prefixBytes: 0 } })
    for (let i = 0; i < 6; i++) assert.match(await (await ask(app, {})).text(), /good/)
    assert.equal(upstreams[0].mark, 'down')
    assert.equal(upstreams[0].counts.requests, 1)
    const again = await fake(answer('again'), { port: dead.port })
    open.push({ close: again.stop })
    await probe()
    assert.equal(upstreams[0].mark, 'up')
    await Promise.all(Array.from({ length: 20 }, () => ask(app, {})))
    assert.ok(again.asked.length > 0)
  })

  it('not more often than allowed, and then the last refusal is passed on', async () => {
    const full: Act = (response) => json(response, 429, error(429), { 'retry-after': '7' })
    const all = await fakes(full, full, full)
    const { app } = gateway(all, { relay: { attempts: 2 } })
    const response = await ask(app, { stream: true })
    assert.equal(response.status, 429)
    assert.equal(response.headers.get('retry-after'), '7')
    assert.equal(((await response.json()) as { error: { message: string } }).error.message, 'fake 429')
    assert.equal(
      all.reduce((sum, { asked }) => sum + asked.length, 0),
      2,
    )
  })

  it('not after the deadline', async () => {
    const { app, count } = await once(() => undefined, { relay: { retryMs: 100 } })
    const response = await ask(app, {})
    assert.equal(response.status, 504)
    assert.equal(count(), 1)
  })

  it('not where the request is at fault, and not for 500', async () => {
    for (const status of [400, 404, 422, 500]) {
      const { app, count } = await once((response) => json(response, status, error(status)))
      const response = await ask(app, { stream: true })
      assert.equal(response.status, status)
      assert.match(await response.text(), new RegExp(`fake ${status}`))
      assert.equal(count(), 1)
    }
  })

  it('a refusal that comes after the headers is an event', async () => {
    const { app } = await once(
      async (response) => {
        await wait(100)
        json(response, 400, error(400))
      },
      { relay: { statusMs: 20 } },
    )
    assert.match((await heard(await ask(app, { stream: true }))).last, /fake 400/)
  })
})

const half =
  (...events: readonly unknown[]): Act =>
  async (response) => {
    openStream(response)
    for (const event of events) say(response, event)
    await wait(30)
    cut(response)
  }

describe('after the first token nothing is tried again', () => {
  it('a cut is an error event, and no [DONE] follows', async () => {
    const { app, count, upstreams } = await once(half(role, chunk({ content: 'be' })))
    const { text, last, all } = await heard(await ask(app, { stream: true }))
    assert.equal(text, 'be')
    assert.equal((JSON.parse(last) as { error: { code: string } }).error.code, 'upstream_cut')
    assert.doesNotMatch(all, /DONE/)
    assert.equal(count(), 1)
    assert.equal(upstreams[0].counts.cut + upstreams[1].counts.cut, 1)
    assert.equal(upstreams[0].running + upstreams[1].running, 0)
  })

  it('so is silence, and an end without [DONE]', async () => {
    const begin: Act = (response) => {
      openStream(response)
      say(response, chunk({ content: 'be' }))
    }
    const silent = await once(begin)
    assert.match((await heard(await ask(silent.app, { stream: true }))).last, /upstream_timeout/)
    const ending = await once((response, asked, n) => {
      begin(response, asked, n)
      response.end()
    })
    assert.match((await heard(await ask(ending.app, { stream: true }))).last, /upstream_cut/)
  })

  it("an upstream's own error is passed on", async () => {
    const { app } = await once(async (response) => {
      openStream(response)
      say(response, chunk({ content: 'be' }))
      say(response, error(500))
      response.end()
    })
    assert.match((await heard(await ask(app, { stream: true }))).last, /fake 500/)
  })

  it('so is an answer that takes longer than the gateway allows, which is not the fault of the upstream', async () => {
    const reported: unknown[] = []
    const options = { requestTimeoutMs: 100, report: (error: unknown) => reported.push(error) }
    const late = await once(() => undefined, options)
    assert.equal((await ask(late.app, {})).status, 408)
    const { app, upstreams, count } = await once((response) => {
      openStream(response)
      say(response, chunk({ content: 'be' }))
    }, options)
    assert.match((await heard(await ask(app, { stream: true }))).last, /longer than 0.1 s/)
    assert.equal(count(), 1)
    assert.equal(upstreams[0].counts.cut + upstreams[1].counts.cut, 0)
    assert.equal(reported.length, 1)
  })

  it("in Anthropic's words for messages", async () => {
    const event = (type: string) => ({ type, index: 0, delta: { type: 'text_delta', text: 'be' } })
    const { app } = await once(half(event('message_start'), event('content_block_delta')))
    const { all, last } = await heard(await ask(app, { stream: true }, '/v1/messages'))
    assert.match(all, /event: error\ndata: /)
    assert.equal((JSON.parse(last) as { error: { type: string } }).error.type, 'api_error')
    const early = await once(half(event('message_start')))
    assert.match((await heard(await ask(early.app, { stream: true }, '/v1/messages'))).text, /good/)
  })

  it("in those of OpenAI's responses, with the next number", async () => {
    const delta = { type: 'response.output_text.delta', sequence_number: 7, delta: 'be' }
    const { app } = await once(half({ type: 'response.created', response: { id: 'r' } }, delta))
    const { last } = await heard(await ask(app, { stream: true }, '/v1/responses'))
    const said = JSON.parse(last) as { type: string; sequence_number: number }
    assert.deepEqual([said.type, said.sequence_number], ['error', 8])
  })
})

describe('a client', () => {
  it('that leaves ends the work upstream at once: waiting, streaming, whole', async () => {
    const [one] = await fakes(() => undefined)
    const { app, upstreams } = gateway([one], { timeouts: { firstByteMs: 10_000, idleMs: 10_000 } })
    for (const fields of [{}, { stream: true }]) {
      const control = new AbortController()
      const asking = ask(app, fields, undefined, { signal: control.signal })
      await wait(50)
      control.abort()
      assert.equal((await asking).status, 499)
    }
    one.act = (response) => {
      openStream(response)
      say(response, chunk({ content: 'be' }))
    }
    const response = await ask(app, { stream: true })
    const reader = response.body?.getReader()
    await reader?.read()
    await reader?.cancel()
    await wait(100)
    assert.equal(one.left, 3)
    assert.equal(upstreams[0].running, 0)
    assert.equal(upstreams[0].mark, 'up')
  })

  it('that reads slowly slows the upstream down', async () => {
    let written = 0
    const [one] = await fakes(async (response) => {
      openStream(response)
      const big = chunk({ content: 'x'.repeat(10_000) })
      for (let i = 0; i < 5000 && !response.destroyed; i++) {
        written += 10_000
        if (!say(response, big))
          await Promise.race([new Promise((go) => response.once('drain', go)), wait(400)])
        if (response.writableNeedDrain) break
      }
      await wait(400)
      while (response.writableNeedDrain) await wait(10)
      say(response, '[DONE]')
      response.end()
    })
    const { app } = gateway([one], { timeouts: { firstByteMs: 5000, idleMs: 200 } })
    const response = await ask(app, { stream: true })
    await wait(1200)
    assert.ok(written < 2e7, `${written} bytes went out to nobody`)
    const { last } = await heard(response)
    assert.equal(last, '[DONE]', 'the time of the client is not the silence of the engine')
  })

  it('is given no secrets and gives none away', async () => {
    const [one] = await fakes((response, asked) =>
      json(response, 200, asked.headers, {
        'set-cookie': 'a=b',
        'x-mine': 'yes',
        'x-ratelimit-limit-requests': '1',
      }),
    )
    const made = createGateway({ upstreams: [`${one.url}/v1#key=theirs`] })
    open.push(made)
    const headers = {
      ...{ authorization: 'Bearer mine', 'x-api-key': 'mine', cookie: 'mine', 'x-request-id': 'abc' },
      ...{ connection: 'x-hop', 'x-hop': '1', 'x-kept': '1' },
    }
    const response = await ask(made.app, { model: 'model' }, undefined, { headers })
    const seen = (await response.json()) as Record<string, string>
    assert.equal(seen.authorization, 'Bearer theirs')
    assert.doesNotMatch(JSON.stringify(seen), /mine/)
    assert.deepEqual([seen['x-request-id'], seen['x-kept'], seen['x-hop']], ['abc', '1', undefined])
    assert.equal(response.headers.get('x-request-id'), 'abc')
    assert.equal(response.headers.get('x-mine'), 'yes')
    assert.equal(response.headers.get('set-cookie'), null)
    assert.equal(response.headers.get('x-ratelimit-limit-requests'), null)
    assert.equal(one.asked[0].path, '/v1/chat/completions')
  })
})
