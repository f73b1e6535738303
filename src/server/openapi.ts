// GET /openapi.json and GET /docs, both made from the table of routes, so that they cannot say what the server does not do.
// https://spec.openapis.org/oas/v3.1.0
import { z } from 'zod'
import { docsPage, docsPolicy } from './docs.ts'
import { fieldTable } from './fields.ts'

/** What a route says of itself. */
export interface Listed {
  readonly method: string
  readonly path: string
  readonly summary: string
  readonly open?: boolean
  readonly tag?: string
  readonly body?: z.ZodType
  readonly fields?: boolean
  readonly answer?: string
}

type Fields = Readonly<Record<string, unknown>>

/** The two routes themselves; `all` are the routes that they describe. */
export function pages(all: () => readonly Listed[]) {
  return [
    {
      method: 'get' as const,
      path: '/openapi.json',
      summary: 'All of this, for programs',
      open: true,
      tag: 'operate',
      handle: (site: { readonly version: string }) => Response.json(openapi(all(), site.version)),
    },
    {
      method: 'get' as const,
      path: '/docs',
      summary: 'All of this, for people',
      open: true,
      tag: 'operate',
      answer: 'A page',
      handle: (site: { readonly version: string }) =>
        new Response(docsPage(all(), fieldTable(), site.version), {
          headers: { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': docsPolicy },
        }),
    },
  ]
}

export function openapi(all: readonly Listed[], version: string): Fields {
  const paths: Record<string, Record<string, unknown>> = {}
  const schemas: Record<string, unknown> = { Error: errorSchema, SharedFields: sharedSchema() }
  for (const route of all) {
    const path = templateOf(route.path)
    const name = nameOf(route)
    if (route.body) schemas[name] = bodySchema(route.body, route.fields === true)
    paths[path] = { ...paths[path], [route.method]: operation(route, name) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'latent',
      version,
      description: 'DeepSeek-V2 models behind the APIs that clients already speak.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, { header: [] }],
    tags: [...new Set(all.map(tagOf))].map((tag) => ({ name: tag })),
    paths,
    components: {
      schemas,
      responses: { Error: { description: 'What is wrong, as OpenAI says it', content: json(ref('Error')) } },
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        header: { type: 'apiKey', in: 'header', name: 'x-api-key' },
      },
    },
  }
}

const ref = (name: string): Fields => ({ $ref: `#/components/schemas/${name}` })
const json = (schema: Fields): Fields => ({ 'application/json': { schema } })
const tagOf = ({ tag }: Listed): string => tag ?? 'models'

/** `/v1/models/:model{.+}` -> `/v1/models/{model}`. */
const templateOf = (path: string): string => path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}')

/** `post /v1/chat/completions` -> `PostV1ChatCompletions`. */
function nameOf({ method, path }: Listed): string {
  const words = `${method} ${path}`.match(/[A-Za-z0-9]+/g) ?? []
  return words.map((word) => word[0].toUpperCase() + word.slice(1)).join('')
}

function operation(route: Listed, name: string): Fields {
  const params = [...templateOf(route.path).matchAll(/\{(\w+)\}/g)].map(([, param]) => ({
    name: param,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  const failing = route.open === true ? ['4XX', '5XX'] : ['401', '429', '4XX', '5XX']
  return {
    operationId: name[0].toLowerCase() + name.slice(1),
    summary: route.summary,
    tags: [tagOf(route)],
    ...(route.open === true && { security: [] }),
    ...(params.length > 0 && { parameters: params }),
    ...(route.body && { requestBody: { required: true, content: json(ref(name)) } }),
    responses: {
      200: { description: route.answer ?? route.summary },
      ...Object.fromEntries(failing.map((status) => [status, { $ref: '#/components/responses/Error' }])),
    },
  }
}

function bodySchema(body: z.ZodType, shared: boolean): Fields {
  const { $schema: _, ...own } = z.toJSONSchema(body, { io: 'input', unrepresentable: 'any' }) as Fields
  return shared ? { allOf: [ref('SharedFields'), own] } : own
}

function sharedSchema(): Fields {
  const { applied, ignored } = fieldTable()
  const model = { type: ['string', 'null'], description: 'One of GET /v1/models; default the one there is' }
  return {
    type: 'object',
    description:
      'Fields that every generation takes. Those that change nothing are named in the answer: `warnings`, x-latent-warnings.',
    properties: {
      model,
      ...Object.fromEntries(
        applied.map(({ field, as }) => [field, field === as ? {} : { description: `The same as ${as}` }]),
      ),
      ...Object.fromEntries(
        ignored.map(({ field, why }) => [field, { description: `No effect: ${why}`, deprecated: true }]),
      ),
    },
  }
}

const text = { type: ['string', 'null'] }
const errorSchema: Fields = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: { message: { type: 'string' }, type: { type: 'string' }, param: text, code: text },
    },
  },
}
