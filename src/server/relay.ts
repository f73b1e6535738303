// A request on its way to an upstream and its answer on the way back. Until a token has been passed on, another upstream
// may take over: a refused connection, a cut, a timeout, 429, 502, 503, 504 or an error before the first token is the
// gateway's to mend, within a number of attempts and a time. After it, a cut is said as the protocol says errors.
import { tokensOf } from './balance.ts'
import type { Fields } from './body.ts'
import { type Answer, codes } from './dial.ts'
import { isRetryable, type Protocol, parseEvents, type Received, usageIn } from './events.ts'
import { Failure } from './failure.ts'
import type { Fleet, Want } from './fleet.ts'
import { backHeaders, errorOf, readAll } from './hop.ts'
import { type Job, outcomeOf } from './job.ts'
import { slowResponse } from './patience.ts'
import { type SseEvent, sse } from './sse.ts'
import type { Lease, Upstream } from './upstream.ts'

export interface RelayRules {
  /** Upstreams that one request may try. */
  readonly attempts: number
  /** After this long no further one is tried. */
  readonly retryMs: number
  /** How long a stream waits for the upstream's status before its own headers leave. */
  readonly statusMs: number
  readonly keepAliveMs: number
  /** Told of a stream that broke after its headers. */
  readonly report: (error: unknown, id: string) => void
}

export interface Call extends Want {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
  readonly fields: Fields
  readonly stream: boolean
  readonly protocol: Protocol
  /** Whether the answer has an id by which it will be asked for. */
  readonly stored: boolean
}

/** What an upstream gave: all of it, or a stream whose headers have come. */
export interface Whole {
  readonly kind: 'whole'
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly bytes: Buffer
}
interface Flow {
  readonly kind: 'flow'
  readonly headers: Readonly<Record<string, string>>
  readonly events: AsyncGenerator<Received, void, undefined>
  readonly upstream: Upstream
  readonly lease: Lease
}
type Reply = Whole | Flow

/** The client's key was good enough for the gateway: what an engine says of keys is between the two. */
const locked: ReadonlySet<number> = new Set([401, 403, 407])
const keyless = "the engine behind this gateway refuses the gateway's key (#key=... behind its --upstream)"
const elsewhere: ReadonlySet<number> = new Set([...locked, 429, 502, 503, 504])

/** The upstreams that one request tries, in order. */
interface Course {
  readonly more: boolean
  /** The next reply worth passing on; throws where none is left. */
  open(failed?: unknown): Promise<Reply>
}

function createCourse(fleet: Fleet, call: Call, job: Job, rules: RelayRules): Course {
  const tried = new Set<Upstream>()
  const deadline = performance.now() + rules.retryMs
  const cost = tokensOf(call.fields, call.body?.length ?? 0)
  let from: Upstream | null = null

  const next = (): Upstream | null =>
    tried.size > 0 && (tried.size >= rules.attempts || performance.now() > deadline)
      ? null
      : fleet.choose(call, tried)

  async function open(failed?: unknown): Promise<Reply> {
    let last: unknown = failed
    for (let upstream = next(); upstream; upstream = next()) {
      if (from) {
        from.counts.failovers++
        upstream.counts.retries++
      }
      from = upstream
      tried.add(upstream)
      const lease = upstream.lease(job.signal, cost)
      try {
        const reply = await replyOf(await upstream.send({ ...call, signal: lease.signal }), upstream, lease)
        if (reply.kind === 'flow' || !elsewhere.has(reply.status))
          return settle(fleet, call, reply, upstream, lease)
        last = locked.has(reply.status) ? new Failure(502, keyless, { code: codes.key }) : reply
        const busy = reply.status === 429 || reply.status === 503
        const stopping = reply.bytes.includes('server_stopping')
        lease.end(busy && !stopping ? null : false, last instanceof Failure ? last : errorOf(reply))
      } catch (error) {
        const gone = job.signal.aborted
        lease.end(gone ? null : false, error)
        if (gone) throw job.signal.reason
        last = error
      }
    }
    if (isWhole(last)) return last
    throw last ?? nobody(call)
  }
  return {
    get more() {
      return next() !== null
    },
    open,
  }
}

const isWhole = (value: unknown): value is Whole =>
  typeof value === 'object' && value !== null && (value as Whole).kind === 'whole'

function nobody({ owner }: Call): Failure {
  const message = owner
    ? 'the engine that holds this response is down; try again later'
    : 'no engine behind this gateway is up; try again later'
  return new Failure(503, message, { code: 'no_upstream', headers: { 'retry-after': '1' } })
}

async function replyOf(
  { status, headers: given, body }: Answer,
  upstream: Upstream,
  lease: Lease,
): Promise<Reply> {
  const back = backHeaders(given)
  if (status < 300 && /^text\/event-stream/i.test(given['content-type'] ?? '')) {
    // sse() says what kind of stream it is
    const { 'content-type': _, 'cache-control': __, ...headers } = back
    return { kind: 'flow', headers, events: parseEvents(body), upstream, lease }
  }
  return { kind: 'whole', status, headers: back, bytes: await readAll(body) }
}

/** A reply that will be passed on: what it tells about its upstream, and whose response it is. */
function settle(fleet: Fleet, call: Call, reply: Reply, upstream: Upstream, lease: Lease): Reply {
  if (reply.kind === 'flow') return reply
  const good = reply.status < 400 ? true : reply.status >= 500 ? false : null
  if (good) {
    lease.first()
    count(upstream, usageIn(reply.bytes.toString('latin1')))
    const id = call.stored ? /"id":\s*"([^"]+)"/.exec(reply.bytes.toString('utf8'))?.[1] : undefined
    if (id !== undefined) fleet.own(id, upstream)
  }
  lease.end(good, errorOf(reply))
  return reply
}

function count({ counts }: Upstream, used: ReturnType<typeof usageIn>): void {
  counts.promptTokens += used?.prompt ?? 0
  counts.generationTokens += used?.generation ?? 0
}

export async function relay(fleet: Fleet, call: Call, job: Job, rules: RelayRules): Promise<Response> {
  const course = createCourse(fleet, call, job, rules)
  const opening = course.open()
  const early = await within(opening, call.stream ? rules.statusMs : 30_000).catch((error: unknown) => {
    job.end(null, outcomeOf(error), error)
    throw error
  })
  if (early?.kind === 'whole') {
    job.end(null, early.status < 400 ? 'stop' : 'error')
    return new Response(new Uint8Array(early.bytes), { status: early.status, headers: early.headers })
  }
  const sending = { abort: job.abort, onEnd: () => job.end(null, 'abort'), keepAliveMs: rules.keepAliveMs }
  if (early === null && !call.stream) {
    return slowResponse(jsonOf(opening, job), rules.keepAliveMs, sending)
  }
  const passing = createPassing(fleet, call, job, course)
  return sse(passing.events(opening), {
    ...sending,
    headers: early?.headers ?? {},
    onError: (error) => rules.report(error, call.id),
    failed: (failure) => call.protocol.failed(failure, passing.last()),
  })
}

async function jsonOf(opening: Promise<Reply>, job: Job): Promise<unknown> {
  const reply = await opening.catch((error: unknown) => {
    job.end(null, outcomeOf(error), error)
    throw error
  })
  if (reply.kind === 'flow') {
    reply.lease.end(null)
    throw new Failure(502, 'the engine behind this gateway sent a stream that nobody asked for')
  }
  job.end(null, reply.status < 400 ? 'stop' : 'error')
  return JSON.parse(reply.bytes.toString('utf8')) as unknown
}

/** The value, or null where it takes longer. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, ms, null)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

interface Passing {
  events(opening: Promise<Reply>): AsyncGenerator<SseEvent, void, undefined>
  last(): Received | null
}

function createPassing(fleet: Fleet, call: Call, job: Job, course: Course): Passing {
  let last: Received | null = null
  let begun = false

  async function* events(opening: Promise<Reply>): AsyncGenerator<SseEvent, void, undefined> {
    let reply = await opening.catch(ended)
    for (;;) {
      if (reply.kind === 'whole') return ended(errorOf(reply))
      const { lease, upstream } = reply
      let good: boolean | null = null
      let failed: unknown
      try {
        good = yield* flow(reply)
        return job.end(null, good ? 'stop' : 'error')
      } catch (error) {
        failed = error
        good = job.signal.aborted ? null : false
        if (begun && good === false) upstream.counts.cut++
        if (begun || good === null) ended(error)
      } finally {
        lease.end(good, failed)
      }
      reply = await course.open(failed).catch(ended)
    }
  }

  function ended(error: unknown): never {
    job.end(null, outcomeOf(error), error)
    throw error
  }

  /** The events of one upstream, held while they say nothing, so that what another says instead fits; how it ended. */
  async function* flow(from: Flow): AsyncGenerator<SseEvent, boolean | null, undefined> {
    const held: Received[] = []
    let used: ReturnType<typeof usageIn> = null
    for (;;) {
      const { done, value: event } = await from.events.next()
      if (done)
        throw new Failure(502, 'the engine behind this gateway broke off its answer', { code: codes.cut })
      const meaning = call.protocol.meaning(event, begun)
      used = usageIn(event.data) ?? used
      if (call.stored) learn(event, from.upstream)
      if (meaning === 'news') yield event
      else if (!begun && meaning === 'opening' && held.length < 1000) held.push(event)
      else {
        if (!begun && meaning === 'error' && isRetryable(event) && course.more) throw said(event)
        if (!begun && meaning !== 'error') begin(from.lease)
        for (const one of [...held.splice(0), event]) yield (last = one)
      }
      if (meaning === 'last' || meaning === 'error') count(from.upstream, used)
      if (meaning === 'error') return isRetryable(event) ? false : null
      if (meaning === 'last') return rest(from)
    }
  }

  function begin(lease: Lease): void {
    begun = true
    lease.first()
    job.token()
  }

  function learn({ data }: Received, upstream: Upstream): void {
    if (begun || !data.includes('"response.created"')) return
    const id = /"response":\s*\{\s*"id":\s*"([^"]+)"/.exec(data)?.[1]
    if (id !== undefined) fleet.own(id, upstream)
  }

  return { events, last: () => last }
}

/** Lets the upstream end its answer, so that its connection serves the next one; nobody waits for that. */
function rest({ events, lease }: Flow): true {
  const timer = setTimeout(() => lease.cut(), 1000)
  timer.unref()
  const drain = async (): Promise<void> => {
    while (!(await events.next()).done);
  }
  void drain()
    .catch(() => undefined)
    .finally(() => clearTimeout(timer))
  return true
}

const said = ({ data }: Received): Failure =>
  new Failure(502, 'the engine behind this gateway failed on this request', { cause: data })
