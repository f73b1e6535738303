// The gateway: latent's front over engines elsewhere (vLLM, SGLang, llama-server, another latent). The same keys, limits,
// ids and errors as the server of a model; behind them no model but a fleet of upstreams.
import { RequestError } from '../tensor/error.ts'
import { type App, type Guard, type Route, surround } from './app.ts'
import { prefixOf, type Rules, readRules } from './balance.ts'
import { type Fields, readBoth } from './body.ts'
import type { CircuitRules } from './circuit.ts'
import type { Timeouts } from './dial.ts'
import { type Protocol, protocols } from './events.ts'
import { Failure, failureOf } from './failure.ts'
import { createFleet, type Fleet, type HealthRules } from './fleet.ts'
import { forthHeaders } from './hop.ts'
import { createJobs, type JobEnd, type Jobs, type Observer } from './job.ts'
import { type RelayRules, relay } from './relay.ts'
import type { Caller } from './start.ts'
import { finder } from './stored.ts'
import { expose } from './tally.ts'
import { readUpstream, type Upstream, type UpstreamOptions } from './upstream.ts'

export interface GatewayOptions {
  /** As texts, `http://host:8000#key=...` (see readUpstream), or already read. */
  readonly upstreams: readonly (string | UpstreamOptions)[]
  readonly balance?: Partial<Rules>
  readonly timeouts?: Partial<Timeouts>
  readonly circuit?: Partial<CircuitRules>
  readonly health?: Partial<HealthRules>
  readonly relay?: Partial<Omit<RelayRules, 'report'>>
  /** Bytes of a request's body; default 32 MiB. */
  readonly maxBody?: number
  /** Requests under way at once; default 4096. */
  readonly maxRequests?: number
  /** Milliseconds an answer may take; 0 is no limit. Default 0. */
  readonly requestTimeoutMs?: number
  readonly origins?: readonly string[]
  readonly hosts?: readonly string[] | undefined
  readonly guard?: Guard
  readonly observers?: readonly Observer[]
  readonly version?: string
  readonly report?: (error: unknown, id: string) => void
}

export interface Gateway {
  readonly app: App
  readonly jobs: Jobs
  readonly upstreams: readonly Upstream[]
  /** One round of health checks, at the start say; further ones go by themselves. */
  probe(): Promise<void>
  /** No more health checks, no idle connections. */
  close(): void
}

/** What the routes share. */
interface Gate {
  readonly fleet: Fleet
  readonly jobs: Jobs
  readonly relay: RelayRules
  readonly prefixBytes: number
  readonly maxBody: number
  readonly version: string
  readonly ended: ReadonlyMap<string, number>
  report(error: unknown, id: string): void
  find(response: string, request: Request, id: string): Promise<Upstream>
}

const openGuard: Guard = { key: () => null, allow: () => ({}) }

export function createGateway(options: GatewayOptions): Gateway {
  const { maxRequests = 4096, maxBody = 32 * 2 ** 20, requestTimeoutMs = 0, version = '0.0.0' } = options
  if (options.upstreams.length === 0) throw new RequestError('a gateway needs at least one --upstream')
  const balance = readRules(options.balance)
  const fleet = createFleet(
    options.upstreams.map((one) => (typeof one === 'string' ? readUpstream(one) : one)),
    {
      balance,
      timeouts: { connectMs: 5000, firstByteMs: 600_000, idleMs: 120_000, ...options.timeouts },
      circuit: { failures: 5, openMs: 1000, mostMs: 30_000, ...options.circuit },
      health: { everyMs: 5000, timeoutMs: 5000, probes: 3, ...options.health },
    },
  )
  const report = options.report ?? (() => undefined)
  const ended = new Map<string, number>()
  const counter: Observer = { end: (end) => addTo(ended, end) }
  const limits = { most: maxRequests, timeoutMs: requestTimeoutMs }
  const jobs = createJobs(limits, [counter, ...(options.observers ?? [])])
  const gate: Gate = {
    ...{ fleet, jobs, maxBody, version, ended, prefixBytes: balance.prefixBytes },
    relay: { attempts: 3, retryMs: 60_000, statusMs: 1000, keepAliveMs: 15_000, report, ...options.relay },
    report,
    find: finder(fleet),
  }
  const { guard = openGuard, origins = [], hosts } = options
  return {
    app: surround(gate, { guard, origins, hosts }, gatewayRoutes),
    jobs,
    upstreams: fleet.upstreams,
    probe: fleet.probe,
    close: fleet.close,
  }
}

function addTo(ended: Map<string, number>, { endpoint, outcome }: JobEnd): void {
  const labels = `endpoint="${endpoint}",outcome="${outcome}"`
  ended.set(labels, (ended.get(labels) ?? 0) + 1)
}

interface Passed {
  readonly endpoint: string
  readonly protocol?: Protocol
  /** Whether it computes on a prompt, so that a cache may hold its beginning. */
  readonly prompt?: boolean
}

type Handle = Route<Gate>['handle']

/** A POST with a JSON body to whichever upstream is best. */
const post =
  ({ endpoint, protocol = protocols.openai, prompt = false }: Passed): Handle =>
  (gate, request, caller) =>
    refusing(protocol, async () => {
      const { text, fields } = await readBoth(request, gate.maxBody)
      const before = fields.previous_response_id
      const owned = protocol === protocols.responses && typeof before === 'string' && before !== ''
      return pass(gate, request, caller, {
        endpoint,
        protocol,
        body: text,
        fields,
        model: gate.fleet.checkModel(fields.model),
        prefix: prompt ? prefixOf(fields, gate.prefixBytes) : null,
        owner: owned ? await gate.find(before, request, caller.id) : null,
        stream: fields.stream === true,
      })
    })

/** What is asked of one stored response, to the upstream that made it. */
const stored: Handle = (gate, request, caller, name) =>
  refusing(protocols.responses, async () => {
    const text = request.method === 'POST' ? await request.text() : ''
    return pass(gate, request, caller, {
      endpoint: 'responses',
      protocol: protocols.responses,
      body: text === '' ? null : text,
      fields: {},
      model: null,
      prefix: null,
      owner: await gate.find(name('id'), request, caller.id),
      stream: new URL(request.url).searchParams.get('stream') === 'true',
    })
  })

interface Going {
  readonly endpoint: string
  readonly protocol: Protocol
  readonly body: string | null
  readonly fields: Fields
  readonly model: string | null
  readonly prefix: string | null
  readonly owner: Upstream | null
  readonly stream: boolean
}

function pass(gate: Gate, request: Request, { id, key }: Caller, going: Going): Promise<Response> {
  const { endpoint, protocol, stream } = going
  const job = gate.jobs.begin(request, { id, key, endpoint, stream, n: 1, maxTokens: null })
  const { pathname, search } = new URL(request.url)
  const call = {
    ...going,
    id,
    method: request.method,
    path: pathname + search,
    headers: forthHeaders(request, id),
    stored: protocol === protocols.responses,
  }
  return relay(gate.fleet, call, job, gate.relay)
}

/** Errors of a route whose clients expect another shape than OpenAI's. */
async function refusing(protocol: Protocol, work: () => Promise<Response>): Promise<Response> {
  try {
    return await work()
  } catch (error) {
    if (protocol === protocols.anthropic) return protocol.refused(failureOf(error))
    throw error
  }
}

function ready({ fleet, jobs }: Gate): Response {
  if (!jobs.draining && fleet.upstreams.some(({ mark }) => mark === 'up')) {
    return Response.json({ status: 'ready' })
  }
  const message = jobs.draining ? 'the server is about to stop' : 'no engine behind this gateway is up'
  throw new Failure(503, message, { headers: { 'retry-after': '1' } })
}

function oneModel({ fleet }: Gate, name: string): Response {
  fleet.checkModel(name)
  return Response.json(fleet.models().get(name) ?? { id: name, object: 'model', owned_by: 'unknown' })
}

const metrics = ({ fleet, ended }: Gate): Response =>
  new Response(expose(fleet.upstreams, ended), {
    headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
  })

const asIs = (path: string): Route<Gate> => ({
  method: 'post',
  path,
  summary: 'By the engine',
  handle: post({ endpoint: path.slice(1) }),
})
const ofResponse = (method: Route['method'], path: string): Route<Gate> => ({
  method,
  path: `/v1/responses/:id${path}`,
  summary: 'By the engine that made it',
  handle: stored,
})

const { anthropic, responses } = protocols

export const gatewayRoutes: readonly Route<Gate>[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Chat, streamed or whole',
    handle: post({ endpoint: 'chat', prompt: true }),
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'Raw prompts',
    handle: post({ endpoint: 'completions', prompt: true }),
  },
  {
    method: 'post',
    path: '/v1/responses',
    summary: "OpenAI's responses",
    handle: post({ endpoint: 'responses', protocol: responses, prompt: true }),
  },
  ofResponse('get', ''),
  ofResponse('delete', ''),
  ofResponse('post', '/cancel'),
  ofResponse('get', '/input_items'),
  {
    method: 'post',
    path: '/v1/messages',
    summary: "Anthropic's messages",
    handle: post({ endpoint: 'messages', protocol: anthropic, prompt: true }),
  },
  {
    method: 'post',
    path: '/v1/messages/count_tokens',
    summary: 'How long a prompt is',
    handle: post({ endpoint: 'count_tokens', protocol: anthropic }),
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    summary: 'Where an engine has them',
    handle: post({ endpoint: 'embeddings' }),
  },
  ...['/tokenize', '/detokenize', '/apply-template'].map(asIs),
  {
    method: 'get',
    path: '/v1/models',
    summary: 'What the engines serve',
    handle: ({ fleet }) => Response.json({ object: 'list', data: [...fleet.models().values()] }),
  },
  {
    method: 'get',
    path: '/v1/models/:model{.+}',
    summary: 'One model',
    handle: (gate, _, __, name) => oneModel(gate, name('model')),
  },
  {
    method: 'get',
    path: '/health',
    summary: 'Whether the gateway answers',
    open: true,
    handle: () => Response.json({ status: 'ok' }),
  },
  { method: 'get', path: '/ready', summary: 'Whether an engine is up', open: true, handle: ready },
  {
    method: 'get',
    path: '/version',
    summary: 'Which version this is',
    handle: ({ version }) => Response.json({ version }),
  },
  { method: 'get', path: '/metrics', summary: 'Counts for Prometheus', handle: metrics },
]
