// The description against the table it is made from: every route is there, every reference leads somewhere, and the page
// for people needs nothing but itself.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { routes } from './app.ts'
import { fakeLLM, get, post } from './fake.ts'
import { fieldTable } from './fields.ts'
import { createServer } from './server.ts'

interface Operation {
  readonly operationId: string
  readonly summary: string
  readonly security?: readonly unknown[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: { $ref: string } }>> }
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required: boolean }[]
  readonly responses: Readonly<Record<string, { readonly description?: string; readonly $ref?: string }>>
}
interface Document {
  readonly openapi: string
  readonly info: { readonly title: string; readonly version: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, object>> }
}

const { app } = createServer(await fakeLLM())
const document = (await (await app(get('/openapi.json'))).json()) as Document
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
)

function* refsIn(value: unknown): Generator<string> {
  if (typeof value !== 'object' || value === null) return
  for (const [name, inner] of Object.entries(value)) {
    if (name === '$ref' && typeof inner === 'string') yield inner
    else yield* refsIn(inner)
  }
}

describe('GET /openapi.json', () => {
  it('is OpenAPI 3.1 with every route, once', () => {
    assert.match(document.openapi, /^3\.1\./)
    assert.match(document.info.version, /^\d+\.\d+\.\d+/)
    assert.deepEqual(
      operations.map(({ method, path }) => `${method} ${path}`).sort(),
      routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}')}`).sort(),
    )
    const ids = operations.map(({ operation }) => operation.operationId)
    assert.equal(new Set(ids).size, ids.length)
  })

  it('every reference leads somewhere', () => {
    const refs = [...refsIn(document)]
    assert.ok(refs.length > 20)
    for (const ref of refs) {
      assert.match(ref, /^#\//)
      const found = ref
        .slice(2)
        .split('/')
        .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], document)
      assert.ok(found, ref)
    }
  })

  it('every operation says what it answers, its parameters, and whether it needs a key', () => {
    for (const { path, operation } of operations) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      assert.deepEqual(
        (operation.parameters ?? []).map(({ name }) => name),
        named,
      )
      assert.ok(operation.responses[200].description)
      const open = routes.find((route) => route.path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}') === path)?.open
      assert.equal(operation.security?.length === 0, open === true, path)
    }
  })

  it('bodies are schemas that compile, take what clients send, and refuse what the server refuses', () => {
    const ajv = new Ajv2020({ strict: false })
    ajv.addSchema({ $id: 'latent', ...document })
    const schema = document.paths['/v1/chat/completions'].post.requestBody?.content['application/json'].schema
    const validate = ajv.compile({ $ref: `latent${schema?.$ref}` })
    assert.ok(validate({ messages: [{ role: 'user', content: 'hi' }], temperature: 0, unheard_of: 1 }))
    assert.ok(!validate({ messages: [] }))
    assert.ok(!validate({ messages: [{ role: 'user', content: 5 }] }))
    assert.ok(!validate({}))
    for (const name of Object.keys(document.components.schemas)) {
      ajv.compile({ $ref: `latent#/components/schemas/${name}` })
    }
  })

  it('every field of the table is there', () => {
    const { properties } = document.components.schemas.SharedFields as { properties: object }
    const { applied, ignored } = fieldTable()
    for (const { field } of [...applied, ...ignored]) assert.ok(Object.hasOwn(properties, field), field)
  })
})

describe('GET /docs', () => {
  it('is one page that needs nothing, under a policy that allows nothing', async () => {
    const answer = await app(get('/docs'))
    const page = await answer.text()
    assert.match(answer.headers.get('content-type') ?? '', /^text\/html/)
    const policy = answer.headers.get('content-security-policy') ?? ''
    assert.match(policy, /^default-src 'none'; style-src 'sha256-/)
    assert.doesNotMatch(policy, /unsafe|\*/)
    const [, style] = /<style>([\s\S]*?)<\/style>/.exec(page) ?? []
    assert.ok(policy.includes(createHash('sha256').update(style).digest('base64')))
    assert.doesNotMatch(page, /<script|\son\w+=|\sstyle=|<link|<img|src=|@import|url\(/)
  })

  it('lists every endpoint and every field', async () => {
    const page = await (await app(get('/docs'))).text()
    for (const { method, path } of routes) assert.ok(page.includes(`${method.toUpperCase()} ${path}`), path)
    const { applied, ignored } = fieldTable()
    for (const { field } of [...applied, ...ignored]) assert.ok(page.includes(`<code>${field}</code>`), field)
    assert.match(page, /curl -N/)
  })

  it("its examples' bodies are taken", async () => {
    const page = await (await app(get('/docs'))).text()
    const examples = [...page.matchAll(/localhost:8000(\S+) [\s\S]*?-d '(.*?)'/g)]
    assert.equal(examples.length, 4)
    for (const [, path, body] of examples) {
      const answer = await app(post(path, JSON.parse(body.replaceAll('&quot;', '"'))))
      assert.equal(answer.status, 200, body)
      await answer.text()
    }
  })
})

describe('GET /version', () => {
  it('says what runs', async () => {
    const said = (await (await app(get('/version'))).json()) as Record<string, unknown>
    assert.deepEqual([said.backend, said.model, said.max_model_len], ['fake', 'demo', 2048])
    assert.equal(said.version, document.info.version)
  })
})
