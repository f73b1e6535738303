// The server as a function from Request to Response: routes, and what lies around each of them (request ids, CORS, keys,
// limits, errors). No sockets here: listen.ts has them, and any framework that speaks fetch can mount this.
import { randomUUID } from 'node:crypto'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { chatCompletions } from './chat.ts'
import { completions } from './completions.ts'
import { failureResponse } from './dialect.ts'
import { Failure, failureOf } from './failure.ts'
import { health, listModels, oneModel, ready } from './models.ts'
import { protocols } from './protocols.ts'
import type { Site } from './site.ts'
import type { Caller } from './start.ts'
import { applyTemplate, detokenize, tokenize } from './text.ts'

/** What a route's handler is given: the site of a model, or the fleet of a gateway. */
interface Reporting {
  report(error: unknown, id: string): void
}

export interface Route<S = Site> {
  readonly method: 'get' | 'post' | 'delete'
  readonly path: string
  readonly summary: string
  /** Needs no key. */
  readonly open?: boolean
  readonly handle: (
    site: S,
    request: Request,
    caller: Caller,
    name: (param: string) => string,
  ) => Response | Promise<Response>
}

const embeddings = (): never => {
  throw new Failure(
    400,
    'these are models of text generation: DeepSeek-V2 publishes no embedding model, and means of hidden states would be poor ones; use an embedding model for this',
    { code: 'unsupported' },
  )
}

export const routes: readonly Route[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Chat, streamed or whole',
    handle: chatCompletions,
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'Raw prompts; echo; fill in the middle',
    handle: completions,
  },
  { method: 'get', path: '/v1/models', summary: 'What is served', handle: listModels },
  {
    method: 'get',
    path: '/v1/models/:model{.+}',
    summary: 'One model',
    handle: (site, _, __, name) => oneModel(site, name('model')),
  },
  { method: 'post', path: '/v1/embeddings', summary: 'Refused, with the reason', handle: embeddings },
  { method: 'post', path: '/tokenize', summary: 'Text or messages to ids', handle: tokenize },
  { method: 'post', path: '/detokenize', summary: 'Ids to text', handle: detokenize },
  {
    method: 'post',
    path: '/apply-template',
    summary: 'Messages as the model reads them',
    handle: applyTemplate,
  },
  { method: 'get', path: '/health', summary: 'Whether the engine answers', open: true, handle: health },
  { method: 'get', path: '/ready', summary: 'Whether requests are welcome', open: true, handle: ready },
  ...protocols,
]

/** What stands between a request and its route; each may throw a Failure. */
export interface Guard {
  /** The caller's key, or null where none is needed; throws 401. */
  key(request: Request): string | null
  /** Rate limits; headers for the answer. */
  allow(key: string | null): Readonly<Record<string, string>>
}

export interface AppOptions {
  readonly guard: Guard
  readonly origins: readonly string[]
  readonly routes?: readonly Route[]
}

interface Env {
  Variables: { id: string }
}

const exposed = [
  'x-request-id',
  'request-id', // Anthropic's name for the same
  'x-latent-warnings',
  'retry-after',
  'x-ratelimit-limit-requests',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-reset-requests',
  'x-ratelimit-limit-tokens',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-tokens',
]

export type App = (request: Request) => Promise<Response>

export function createApp(site: Site, options: AppOptions): App {
  return surround(site, options, options.routes ?? routes)
}

/** Routes with what lies around them. */
export function surround<S extends Reporting>(
  site: S,
  options: Omit<AppOptions, 'routes'>,
  all: readonly Route<S>[],
): App {
  const app = new Hono<Env>({ strict: false })
  app.use(async (c, next) => {
    const given = c.req.header('x-request-id')
    const id = given !== undefined && /^[\w.-]{1,128}$/.test(given) ? given : randomUUID()
    c.set('id', id)
    await next()
    c.header('x-request-id', id)
  })
  app.use(
    cors({
      origin: options.origins.includes('*') ? '*' : [...options.origins],
      allowMethods: ['GET', 'POST', 'DELETE', 'OPTIONS'],
      exposeHeaders: exposed,
      maxAge: 86_400,
    }),
  )
  for (const route of all) {
    app.on(route.method.toUpperCase(), route.path, async (c) => {
      const request = c.req.raw
      const key = route.open === true ? null : options.guard.key(request)
      const extra = route.open === true ? {} : options.guard.allow(key)
      const answer = await route.handle(
        site,
        request,
        { id: c.get('id'), key },
        (name) => c.req.param(name) ?? '',
      )
      for (const [name, value] of Object.entries(extra)) answer.headers.set(name, value)
      return answer
    })
  }
  app.notFound((c) => failureResponse(notFound(c.req.method, c.req.path, all), c.req.path, c.get('id')))
  app.onError((error, c) => {
    const failure = failureOf(error)
    if (failure.status >= 500 && !(error instanceof Failure)) site.report(error, c.get('id'))
    const answer = failureResponse(failure, c.req.path, c.get('id'))
    answer.headers.set('x-request-id', c.get('id'))
    return answer
  })
  return async (request) => app.fetch(request)
}

function notFound(method: string, path: string, all: readonly Pick<Route, 'path' | 'method'>[]): Failure {
  const there = all.filter((route) => route.path === path).map((route) => route.method.toUpperCase())
  if (there.length > 0) {
    return new Failure(405, `${path} takes ${there.join(' or ')}, ${method} given`, {
      headers: { allow: there.join(', ') },
    })
  }
  return new Failure(404, `there is no ${clip(path)} here; GET /openapi.json lists what there is`)
}

const clip = (text: string): string => (text.length <= 100 ? text : `${text.slice(0, 100)}...`)
