// Keys: what a file may hold, that nothing of a key is kept or said, and that no way into the server is without one.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { type Route, routes } from './app.ts'
import { Failure } from './failure.ts'
import { fakeLLM, get, post } from './fake.ts'
import { createKeys, hashKey, parseKeys, readKeyFile } from './keys.ts'
import { createServer } from './server.ts'

const secret = 'sk-correct-horse'
const llm = await fakeLLM()
const { app } = createServer(llm, {
  keys: parseKeys(`team: ${secret}`, 'test'),
  origins: ['https://page.example'],
})
const bearer = { authorization: `Bearer ${secret}` }

describe('key files', () => {
  it('a key a line, with comments and names, plain or hashed', () => {
    const text = `# who may ask\nalice: one  # hers\n\ntwo\nbob:${hashKey('three')}\n${hashKey('four')}\r\n`
    const keys = parseKeys(text, 'f')
    assert.deepEqual(
      keys.map(({ name }) => name.replace(/-[0-9a-f]{8}$/, '-*')),
      ['alice', 'key-*', 'bob', 'key-*'],
    )
    const ask = createKeys(keys)
    for (const [key, name] of [
      ['one', 'alice'],
      ['three', 'bob'],
    ]) {
      assert.equal(ask(get('/', { authorization: `bearer ${key}` })), name)
    }
    assert.match(ask(get('/', { 'x-api-key': 'four' })), /^key-/)
  })

  it('a list with commas, as the environment has it', () => {
    assert.equal(parseKeys(' a, b ,', 'LATENT_API_KEY').length, 2)
  })

  it('only hashes are kept', () => {
    assert.doesNotMatch(inspect(parseKeys(`x: ${secret}`, 'f'), { depth: 9 }), /correct/)
  })

  const wrong: readonly [string, RegExp][] = [
    ['sha256:12', /f, entry 1: after sha256: there must be 64 hexadecimal digits/],
    ['a: sha256:zz', /64 hexadecimal/],
    ['\nmy secret', /f, entry 2: a key is made of ASCII/],
    ['schlüssel', /ASCII/],
    ['a:', /ASCII/],
  ]
  for (const [text, message] of wrong) {
    it(`${JSON.stringify(text)} is refused, and not repeated`, () => {
      assert.throws(
        () => parseKeys(text, 'f'),
        (error: Error) => message.test(error.message) && !/secret|schl|zz/.test(error.message),
      )
    })
  }

  it('a file that is not there, or holds none', () => {
    assert.throws(() => readKeyFile('/no/such/keys'), /cannot read the key file \/no\/such\/keys/)
    const directory = mkdtempSync(join(tmpdir(), 'latent-keys-'))
    try {
      writeFileSync(join(directory, 'keys'), '# none\n')
      assert.throws(() => readKeyFile(join(directory, 'keys')), /holds no key/)
      writeFileSync(join(directory, 'keys'), 'k')
      assert.equal(readKeyFile(join(directory, 'keys')).length, 1)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})

describe('asking', () => {
  const ask = createKeys(parseKeys(`team: ${secret}, other: b`, 'test'))
  const failure = (headers: Record<string, string>): Failure => {
    try {
      ask(get('/', headers))
    } catch (error) {
      assert.ok(error instanceof Failure)
      return error
    }
    return assert.fail('let in')
  }

  it('either header will do, and one of two that is right', () => {
    assert.equal(ask(get('/', bearer)), 'team')
    assert.equal(ask(get('/', { 'x-api-key': secret })), 'team')
    assert.equal(ask(get('/', { authorization: 'Bearer nonsense', 'x-api-key': 'b' })), 'other')
  })

  for (const headers of [
    {},
    { authorization: '' },
    { authorization: 'Bearer ' },
    { authorization: `Basic ${secret}` },
    { authorization: secret },
    { authorization: `Bearer ${secret} x` },
    { 'x-api-key': '' },
    { 'x-api-key': secret.slice(1) },
    { 'x-api-key': hashKey(secret) },
    { 'x-api-key': `${secret}\u00e9` },
  ] as Record<string, string>[]) {
    it(`${JSON.stringify(headers)} is refused, and not repeated`, () => {
      const { status, code, message, headers: sent } = failure(headers)
      assert.deepEqual([status, code], [401, 'invalid_api_key'])
      assert.match(sent['www-authenticate'], /^Bearer realm="latent"/)
      assert.doesNotMatch(message, /horse/)
    })
  }
})

/** OpenAI's words, and Anthropic's. */
const refused = /"code":"invalid_api_key"|"type":"error".*"authentication_error"/

describe('every way in', () => {
  const path = ({ path }: Route): string => path.replace(/:\w+(\{[^}]*\})?/g, 'demo')
  const request = (route: Route, headers: Record<string, string> = {}): Request =>
    route.method === 'post'
      ? post(path(route), { prompt: 'hi' }, headers)
      : new Request(`http://localhost${path(route)}`, { method: route.method.toUpperCase(), headers })

  it('the open routes are these', () => {
    assert.deepEqual(
      routes.filter(({ open }) => open).map(({ path }) => path),
      ['/openapi.json', '/docs', '/health', '/ready'],
    )
  })

  for (const route of routes) {
    it(`${route.method} ${route.path} ${route.open ? 'is open' : 'needs a key'}`, async () => {
      const without = await app(request(route))
      assert.equal(without.status === 401, route.open !== true)
      if (route.open) return
      assert.match(without.headers.get('www-authenticate') ?? '', /^Bearer/)
      assert.ok(refused.test(await without.text()), 'in the words of the path')
      assert.equal((await app(request(route, { 'x-api-key': 'wrong' }))).status, 401)
      assert.notEqual((await app(request(route, bearer))).status, 401)
    })
  }

  it('no spelling of a path leads around it', async () => {
    const closed = routes.filter(({ open }) => !open)
    for (const route of closed) {
      const plain = path(route)
      for (const odd of [
        `${plain}/`,
        `/${plain}`,
        `${plain}?x=/health`,
        `/health/..${plain}`,
        plain.replace('/', '/%2e/'),
        plain.toUpperCase(),
        `${plain}%00`,
        `${plain};/health`,
        encodeURI(plain).replaceAll('/', '%2F'),
      ]) {
        const target = odd.startsWith('/') ? odd : `/${odd}`
        const answer = await app(
          new Request(`http://localhost${target}`, { method: route.method.toUpperCase() }),
        )
        assert.equal(answer.status, 401, `${route.method} ${target}`)
      }
    }
  })

  it('a stranger does not learn what there is: unknown paths and wrong methods are 401 too', async () => {
    for (const method of ['GET', 'POST', 'DELETE', 'PUT', 'PATCH', 'HEAD']) {
      for (const target of ['/', '/nothing', '/v1/secret', '/v1/chat/completions', '/metrics']) {
        const answer = await app(new Request(`http://localhost${target}`, { method }))
        assert.equal(answer.status, 401, `${method} ${target}`)
        assert.equal(answer.headers.get('allow'), null)
      }
    }
    assert.equal((await app(get('/nothing', bearer))).status, 404)
    const wrong = await app(get('/v1/chat/completions', bearer))
    assert.deepEqual([wrong.status, wrong.headers.get('allow')], [405, 'POST'])
  })

  it('a preflight works without one', async () => {
    for (const route of routes) {
      const answer = await app(
        new Request(`http://localhost${path(route)}`, {
          method: 'OPTIONS',
          headers: {
            origin: 'https://page.example',
            'access-control-request-method': route.method.toUpperCase(),
            'access-control-request-headers': 'authorization,content-type',
          },
        }),
      )
      assert.equal(answer.status, 204)
      assert.equal(answer.headers.get('access-control-allow-origin'), 'https://page.example')
    }
  })
})
