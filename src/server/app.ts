// The server as a function from Request to Response: routes, and what lies around each of them (request ids, CORS, keys,
// limits, errors). No sockets here: listen.ts has them, and any framework that speaks fetch can mount this.
import { randomUUID } from 'node:crypto'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import type { z } from 'zod'
import { clip } from './body.ts'
import { envelope as chatBody, chatCompletions } from './chat.ts'
import { completions, envelope as completionsBody } from './completions.ts'
import { failureResponse } from './dialect.ts'
import { Failure, failureOf } from './failure.ts'
import type { Answered } from './job.ts'
import { scrape } from './metrics.ts'
import { health, listModels, oneModel, ready, version } from './models.ts'
import { pages } from './openapi.ts'
import { protocols } from './protocols.ts'
import { checkOrigin, type ShieldOptions, shieldHeaders } from './shield.ts'
import type { Site } from './site.ts'
import type { Caller } from './start.ts'
import { applyTemplate, detokenize, detokenizing, tokenize, tokenizing } from './text.ts'

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
  /** Needs a key, but takes nothing from its rate limits. */
  readonly free?: boolean
  readonly tag?: string
  readonly body?: z.ZodType
  /** Whether the body also takes the fields of fields.ts. */
  readonly fields?: boolean
  /** What the answer is. */
  readonly answer?: string
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
  ...pages(() => routes),
  { method: 'get', path: '/version', summary: 'What runs here', tag: 'operate', handle: version },
  {
    method: 'get',
    path: '/metrics',
    summary: "Prometheus, under vLLM's names",
    tag: 'operate',
    free: true,
    handle: scrape,
  },
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Chat, streamed or whole',
    tag: 'generate',
    body: chatBody,
    fields: true,
    answer: 'A chat.completion; with stream, chat.completion.chunk events and [DONE]',
    handle: chatCompletions,
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'Raw prompts; echo; fill in the middle',
    tag: 'generate',
    body: completionsBody,
    fields: true,
    answer: 'A text_completion; with stream, events of the same and [DONE]',
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
  {
    method: 'post',
    path: '/tokenize',
    summary: 'Text or messages to ids',
    tag: 'text',
    body: tokenizing,
    handle: tokenize,
  },
  {
    method: 'post',
    path: '/detokenize',
    summary: 'Ids to text',
    tag: 'text',
    body: detokenizing,
    handle: detokenize,
  },
  {
    method: 'post',
    path: '/apply-template',
    summary: 'Messages as the model reads them',
    tag: 'text',
    body: chatBody,
    fields: true,
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

export interface AppOptions extends ShieldOptions {
  readonly guard: Guard
  readonly routes?: readonly Route[]
  readonly answered?: (answered: Answered) => void
}

interface Env {
  Variables: { id: string; key?: string; route?: string; limits?: Readonly<Record<string, string>> }
}

const exposed = [
  'x-request-id',
  'request-id', // Anthropic's name for the same
  'x-latent-warnings',
  'retry-after',
  'retry-after-ms',
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
    const start = performance.now()
    await next()
    const told = [...shieldHeaders(c.res.headers), ...Object.entries(c.var.limits ?? {})]
    for (const [name, value] of [...told, ['x-request-id', id] as const]) c.header(name, value)
    options.answered?.({
      ...{ id, key: c.var.key ?? null, method: c.req.method, path: c.req.path, status: c.res.status },
      ...{ route: c.var.route ?? null, seconds: (performance.now() - start) / 1000 },
    })
  })
  app.use(
    cors({
      origin: options.origins.includes('*') ? '*' : [...options.origins],
      allowMethods: ['GET', 'POST', 'DELETE', 'OPTIONS'],
      exposeHeaders: exposed,
      maxAge: 86_400,
    }),
  )
  app.use((c, next) => {
    checkOrigin(c.req.raw, options)
    return next()
  })
  for (const route of all) {
    app.on(route.method.toUpperCase(), route.path, (c) => {
      c.set('route', route.path)
      const key = route.open === true ? null : options.guard.key(c.req.raw)
      if (key !== null) c.set('key', key)
      if (route.open !== true && route.free !== true) c.set('limits', options.guard.allow(key))
      const caller = { id: c.var.id, key }
      return route.handle(site, c.req.raw, caller, (name) => c.req.param(name) ?? '')
    })
  }
  app.notFound((c) => {
    options.guard.key(c.req.raw) // strangers do not learn what there is and what not
    return failureResponse(notFound(c.req.method, c.req.path, all), c.req.path, c.get('id'))
  })
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
  return new Failure(404, `there is no ${clip(path, 100)} here; GET /openapi.json lists what there is`)
}
