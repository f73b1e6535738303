// The gateway's routes over fakes: models, stored responses, health, counts, the stop.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { type Act, answer, chunk, error, type Fake, fake, json, openStream, say, wait } from './fakes.ts'
import { createGateway, type Gateway, type GatewayOptions } from './gateway.ts'
import { readUpstream } from './upstream.ts'

const open: { close(): unknown }[] = []
after(() => Promise.all(open.map((one) => one.close())))

async function served(act: Act, ...models: readonly string[]): Promise<Fake> {
  const made = await fake(act, { models: models.length > 0 ? models : ['model'] })
  open.push({ close: made.stop })
  return made
}

async function gateway(upstreams: readonly Fake[], options: Partial<GatewayOptions> = {}): Promise<Gateway> {
  const made = createGateway({
    upstreams: upstreams.map(({ url }) => url),
    ...options,
    health: { everyMs: 60_000, timeoutMs: 500, ...options.health },
  })
  open.push(made)
  await made.probe()
  return made
}

const get = ({ app }: Gateway, path: string, init: RequestInit = {}) =>
  app(new Request(`http://gateway${path}`, init))
const post = ({ app }: Gateway, path: string, fields: object, init: RequestInit = {}) =>
  app(new Request(`http://gateway${path}`, { method: 'POST', body: JSON.stringify(fields), ...init }))
const chat = (gate: Gateway, fields: object = {}) =>
  post(gate, '/v1/chat/completions', { messages: [{ role: 'user', content: 'hi' }], ...fields })

describe('models', () => {
  it('are those of all upstreams, and a request goes to one that serves its model', async () => {
    const one = await served(answer('one'), 'a', 'both')
    const two = await served(answer('two'), 'b', 'both')
    const gate = await gateway([one, two])
    const { data } = (await (await get(gate, '/v1/models')).json()) as { data: { id: string }[] }
    assert.deepEqual(data.map(({ id }) => id).sort(), ['a', 'b', 'both'])
    for (let i = 0; i < 5; i++) {
      assert.match(await (await chat(gate, { model: 'a' })).text(), /one/)
      assert.match(await (await chat(gate, { model: 'b' })).text(), /two/)
    }
    assert.equal((await get(gate, '/v1/models/b')).status, 200)
    for (const answer of [await chat(gate, { model: 'c' }), await get(gate, '/v1/models/c')]) {
      assert.equal(answer.status, 404)
      assert.match(await answer.text(), /the model 'c' is not served here.*model_not_found/)
    }
    await two.stop()
    await gate.probe()
    const gone = await chat(gate, { model: 'b' })
    assert.equal(gone.status, 503, 'it is known, but down')
    assert.equal(gone.headers.get('retry-after'), '1')
    assert.match(await (await chat(gate, { model: 'both' })).text(), /one/)
  })

  it('a body is passed on as it came, numbers beyond doubles included', async () => {
    const one = await served(answer('one'))
    const gate = await gateway([one])
    const body = '{ "messages": [],  "seed": 9007199254740993 }'
    await post(gate, '/v1/chat/completions', {}, { body })
    assert.equal(one.asked[0].body, body)
    await post(gate, '/tokenize', { prompt: 'x' })
    await post(gate, '/v1/embeddings?x=1', { input: 'x' })
    assert.deepEqual(
      one.asked.slice(1).map(({ path }) => path),
      ['/tokenize', '/v1/embeddings?x=1'],
    )
  })
})

describe('balance', () => {
  it('a conversation stays where its cache is; unlike ones spread', async () => {
    const fakes = await Promise.all(['a', 'b', 'c'].map((text) => served(answer(text))))
    const gate = await gateway(fakes)
    const where = async (content: string, ...more: readonly string[]): Promise<string> => {
      const messages = [content, ...more].map((text, i) => ({
        role: i % 2 ? 'assistant' : 'user',
        content: text,
      }))
      return (await (await chat(gate, { messages })).text()).replace(/^.*"content":"(.)".*$/, '$1')
    }
    const places = new Set<string>()
    for (let i = 0; i < 12; i++) {
      const place = await where(`question ${i}`)
      assert.equal(await where(`question ${i}`, 'an answer', 'and?'), place)
      places.add(place)
    }
    assert.equal(places.size, 3)
  })

  it('a crowd with one beginning does not stay on one upstream', async () => {
    const slow: Act = async (response, asked, n) => {
      await wait(150)
      answer('x')(response, asked, n)
    }
    const fakes = await Promise.all([slow, slow].map((act) => served(act)))
    const gate = await gateway(fakes, { balance: { margin: 2 } })
    await Promise.all(Array.from({ length: 20 }, () => chat(gate)))
    const counts = fakes.map(({ asked }) => asked.length)
    assert.ok(Math.min(...counts) >= 8, `${counts}`)
  })
})

describe('stored responses', () => {
  const store = (text: string): Act => {
    const ids = new Set<string>()
    return (response, { method, path, body }) => {
      if (method === 'POST' && path === '/v1/responses') {
        const { previous_response_id, stream } = JSON.parse(body) as Record<string, unknown>
        if (previous_response_id && !ids.has(String(previous_response_id)))
          return json(response, 404, error(404))
        const id = `resp_${text}${ids.size}`
        ids.add(id)
        if (stream !== true) return json(response, 200, { id, text })
        openStream(response)
        say(response, { type: 'response.created', response: { id } })
        say(response, { type: 'response.output_text.delta', delta: text })
        say(response, { type: 'response.completed', response: { id } })
        return response.end()
      }
      const known = ids.has(path.split('/')[3])
      return json(response, known ? 200 : 404, known ? { path, method, text } : error(404))
    }
  }

  it('go back to the upstream that made them, also past a restart of the gateway', async () => {
    const fakes = await Promise.all(['a', 'b', 'c'].map((text) => served(store(text))))
    const first = await gateway(fakes, { balance: { prefixBytes: 0 } })
    const made: { id: string; text: string }[] = []
    for (let i = 0; i < 9; i++) {
      made.push(
        (await (await post(first, '/v1/responses', { input: 'x' })).json()) as { id: string; text: string },
      )
    }
    const streamed = await (await post(first, '/v1/responses', { input: 'x', stream: true })).text()
    const id = /"id":"([^"]+)"/.exec(streamed)?.[1] ?? ''
    made.push({ id, text: id[5] })
    assert.ok(new Set(made.map(({ text }) => text)).size > 1)
    for (const gate of [first, await gateway(fakes)]) {
      for (const { id, text } of made) {
        const next = await post(gate, '/v1/responses', { input: 'y', previous_response_id: id })
        assert.equal(((await next.json()) as { text: string }).text, text)
        assert.match(await (await get(gate, `/v1/responses/${id}`)).text(), new RegExp(`"text":"${text}"`))
      }
      assert.equal((await get(gate, `/v1/responses/${made[0].id}`, { method: 'DELETE' })).status, 200)
      assert.equal((await get(gate, `/v1/responses/${made[0].id}/input_items`)).status, 200)
      assert.equal((await get(gate, '/v1/responses/resp_none')).status, 404)
    }
  })
})

describe('health', () => {
  it('marks go up and down with the probes; a broken circuit lets one try', async () => {
    const one = await served(answer('one'))
    const gate = await gateway([one], { health: { probes: 2 } })
    const { upstreams, probe } = gate
    assert.equal((await get(gate, '/ready')).status, 200)
    one.health = 503
    await probe()
    assert.equal(upstreams[0].mark, 'down')
    assert.equal((await get(gate, '/ready')).status, 503)
    assert.equal((await get(gate, '/health')).status, 200)
    one.health = 200
    await probe()
    assert.equal(upstreams[0].mark, 'up')
    one.health = 0
    await probe()
    assert.equal(upstreams[0].mark, 'up', 'once is no proof')
    await probe()
    assert.equal(upstreams[0].mark, 'down')
    one.health = 404
    await probe()
    assert.equal(upstreams[0].mark, 'up', 'the list of models does as well')
  })

  it('an upstream that keeps failing is left alone while another is there', async () => {
    const bad = await served((response) => json(response, 500, error(500)))
    const good = await served(answer('good'))
    const rules = { circuit: { failures: 2, openMs: 200 }, balance: { prefixBytes: 0 } }
    const gate = await gateway([bad, good], rules)
    for (let i = 0; i < 20; i++) await chat(gate)
    assert.equal(bad.asked.length, 2)
    bad.act = answer('better')
    await wait(250)
    for (let i = 0; i < 20; i++) await chat(gate)
    assert.ok(bad.asked.length > 5)
  })

  it('one that is about to stop gets nothing new', async () => {
    const one = await served((response) => json(response, 503, error(503, 'server_stopping')))
    const two = await served(answer('two'))
    const gate = await gateway([one, two], { balance: { prefixBytes: 0 } })
    for (let i = 0; i < 10; i++) assert.match(await (await chat(gate)).text(), /two/)
    assert.equal(one.asked.length, 1)
    assert.equal(gate.upstreams[0].mark, 'draining')
  })

  it('one that says it is not ready is asked only where there is no other', async () => {
    const one = await served(answer('one'))
    const two = await served(answer('two'))
    one.ready = 503
    const gate = await gateway([one, two], { balance: { prefixBytes: 0 } })
    assert.deepEqual(
      gate.upstreams.map(({ mark }) => mark),
      ['draining', 'up'],
    )
    for (let i = 0; i < 10; i++) assert.match(await (await chat(gate)).text(), /two/)
    await two.stop()
    assert.match(await (await chat(gate)).text(), /one/)
    one.ready = 200
    await gate.probe()
    assert.deepEqual(
      gate.upstreams.map(({ mark }) => mark),
      ['up', 'down'],
    )
  })

  it('a key that an engine refuses is not the client to blame for', async () => {
    const locked = await served((response) => json(response, 401, error(401)))
    const gate = await gateway([locked])
    const response = await chat(gate)
    assert.equal(response.status, 502)
    assert.match(await response.text(), /refuses the gateway's key.*upstream_key/)
  })

  it('requests that wait at an upstream that goes down are moved', async () => {
    const hung = await served(() => undefined)
    const good = await served(answer('good'))
    const both = await gateway([hung, good], { health: { probes: 1 }, balance: { prefixBytes: 0 } })
    const asking = Promise.all(Array.from({ length: 6 }, () => chat(both)))
    await wait(100)
    assert.equal(hung.asked.length, 3)
    hung.health = 0
    await both.probe()
    for (const response of await asking) assert.match(await response.text(), /good/)
  })
})

describe('the rest', () => {
  it('counts', async () => {
    const usage = { usage: { prompt_tokens: 7, completion_tokens: 2 } }
    const one = await served((response) => {
      openStream(response)
      say(response, chunk({ content: 'a' }))
      say(response, { ...chunk({}, 'stop'), ...usage })
      say(response, '[DONE]')
      response.end()
    })
    const gate = await gateway([one], { version: '1.2.3' })
    await (await chat(gate, { stream: true })).text()
    const text = await (await get(gate, '/metrics')).text()
    const has = (line: string): void => assert.ok(text.split('\n').includes(line), `${line}\n${text}`)
    has(`latent_gateway_upstream_requests_total{upstream="${one.name}"} 1`)
    has(`latent_gateway_upstream_up{upstream="${one.name}"} 1`)
    has(`latent_gateway_upstream_time_to_first_token_seconds_count{upstream="${one.name}"} 1`)
    has('latent_gateway_requests_total{endpoint="chat",outcome="stop"} 1')
    has('vllm:prompt_tokens_total 7')
    has('vllm:generation_tokens_total 2')
    has('vllm:time_to_first_token_seconds_count 1')
    has('vllm:num_requests_running 0')
    assert.equal(await (await get(gate, '/version')).text(), '{"version":"1.2.3"}')
  })

  it('drains: those under way end, new ones are refused', async () => {
    const one = await served(async (response, asked, n) => {
      await wait(200)
      answer('done')(response, asked, n)
    })
    const gate = await gateway([one])
    const asking = chat(gate, { stream: true })
    await wait(50)
    const drained = gate.jobs.drain()
    const refused = await chat(gate)
    assert.equal(refused.status, 503)
    assert.match(await refused.text(), /server_stopping/)
    assert.equal((await get(gate, '/ready')).status, 503)
    assert.match(await (await asking).text(), /DONE/)
    await drained
  })

  it('errors in the shape of the route', async () => {
    const gate = await gateway([await served(answer('x'))])
    const response = await post(gate, '/v1/messages', { model: 'none' })
    assert.deepEqual([response.status, ((await response.json()) as { type: string }).type], [404, 'error'])
    assert.equal((await get(gate, '/nowhere')).status, 404)
    assert.equal((await get(gate, '/v1/chat/completions')).status, 405)
  })

  it('upstreams are read, and what is wrong is said', async () => {
    assert.deepEqual(readUpstream('http://a:1#key=k#=1'), { url: 'http://a:1', key: 'k#=1' })
    assert.deepEqual(readUpstream('http://a:1#key-env=K', { K: 'k' }), { url: 'http://a:1', key: 'k' })
    assert.throws(() => readUpstream('http://a:1#key-env=K', {}), /has no K/)
    assert.throws(() => readUpstream('http://a:1#key-file=/does/not/exist'), /cannot read the key file/)
    assert.throws(() => readUpstream('http://a:1#else=1'), /key-env=NAME/)
    assert.throws(() => createGateway({ upstreams: ['ftp://a'] }), /must be a URL/)
    assert.throws(() => createGateway({ upstreams: ['http://me:secret@a'] }), /#key=/)
    assert.throws(() => createGateway({ upstreams: [] }), /at least one/)
    assert.throws(() => createGateway({ upstreams: ['http://a', 'http://a/v1'] }), /twice/)
  })
})
