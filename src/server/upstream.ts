// One engine behind the gateway: where it is and how to be let in, whether it is up, how much it has to do, and what
// became of what it was asked. Knows no other upstream and no client.
import { readFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { Agent as TlsAgent } from 'node:https'
import { RequestError } from '../tensor/error.ts'
import { type Circuit, type CircuitRules, createCircuit } from './circuit.ts'
import { type Answer, codes, dial, type Timeouts } from './dial.ts'
import { Failure } from './failure.ts'
import { createHistogram, type Histogram, secondsOf } from './histogram.ts'

export interface UpstreamOptions {
  readonly url: string
  /** Sent as a bearer token; what the client sent is not. */
  readonly key?: string | undefined
}

/** `draining` answers, but wants no new requests (it is about to stop, or still warming up). */
export type Mark = 'up' | 'draining' | 'down'

export type Card = Readonly<Record<string, unknown>> & { readonly id: string }

export interface Counts {
  requests: number
  /** Requests that came here because another upstream had failed them. */
  retries: number
  /** Requests that failed here and went to another upstream. */
  failovers: number
  /** Streams that broke after their first token. */
  cut: number
  unreachable: number
  timeouts: number
  errors: number
  promptTokens: number
  generationTokens: number
}

/** A request under way at an upstream. */
export interface Lease {
  readonly signal: AbortSignal
  /** The first token: from here on the request stays here, whatever comes. */
  first(): void
  /** Once, however it went; `null` where that says nothing about the upstream. Unless it went well the connection goes too. */
  end(good: boolean | null, error?: unknown): void
  /** Closes the connection. */
  cut(): void
}

export interface Sending {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
  readonly signal: AbortSignal
}

export interface Upstream {
  readonly name: string
  readonly mark: Mark
  readonly circuit: Circuit
  readonly running: number
  readonly tokens: number
  /** By id; null while it is not known what it serves, which is taken as everything. */
  readonly models: ReadonlyMap<string, Card> | null
  readonly counts: Counts
  readonly firstToken: Histogram
  readonly whole: Histogram
  lease(signal: AbortSignal, tokens: number): Lease
  send(sending: Sending): Promise<Answer>
  /** Looks whether it is up and what it serves; whether it answered. */
  probe(timeoutMs: number): Promise<boolean>
  close(): void
}

/** Who looks after an upstream, told that it should be probed now. */
export type Doubt = (upstream: Upstream) => void

export interface UpstreamRules {
  readonly timeouts: Timeouts
  readonly circuit: CircuitRules
  /** Probes in a row without an answer that mark an upstream down; one refused connection does at once. */
  readonly probes: number
}

/**
 * `http://host:8000`, with or without `/v1`; a key as `#key=...`, `#key-env=NAME` or `#key-file=PATH` behind it, which
 * keeps it out of the part that is ever sent or shown.
 */
export function readUpstream(
  text: string,
  env: Readonly<Record<string, string | undefined>> = {},
): UpstreamOptions {
  const at = text.indexOf('#')
  if (at < 0) return { url: text }
  const url = text.slice(0, at)
  const [, kind, value] = /^(key|key-env|key-file)=(.+)$/.exec(text.slice(at + 1)) ?? []
  if (kind === 'key') return { url, key: value }
  if (kind === 'key-env') {
    const key = env[value]
    if (key) return { url, key }
    throw new RequestError(`--upstream ${url}: the environment has no ${value}; set it to the upstream's key`)
  }
  if (kind === 'key-file') return { url, key: readKey(url, value) }
  throw new RequestError(
    `--upstream ${url}: after '#' comes key=..., key-env=NAME or key-file=PATH; something else is given`,
  )
}

function readKey(url: string, path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw new RequestError(`--upstream ${url}: cannot read the key file: ${(error as Error).message}`)
  }
}

function readUrl(text: string): URL {
  const spelled = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`
  const url = URL.canParse(spelled) ? new URL(spelled) : null
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === '') {
    throw new RequestError(`--upstream must be a URL such as http://localhost:8000, '${text}' given`)
  }
  if (url.username !== '' || url.password !== '') {
    throw new RequestError(`--upstream ${url.host}: give a key as #key=..., not before the host`)
  }
  url.pathname = url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')
  url.search = ''
  url.hash = ''
  return url
}

export function createUpstream(options: UpstreamOptions, rules: UpstreamRules, doubt: Doubt): Upstream {
  const url = readUrl(options.url)
  const base = url.pathname === '/' ? '' : url.pathname
  const agent = new (url.protocol === 'https:' ? TlsAgent : Agent)({ keepAlive: true, maxFreeSockets: 64 })
  const authorization: Readonly<Record<string, string>> =
    options.key === undefined ? {} : { authorization: `Bearer ${options.key}` }
  const circuit = createCircuit(rules.circuit)
  const counts: Counts = {
    ...{ requests: 0, retries: 0, failovers: 0, cut: 0, unreachable: 0, timeouts: 0, errors: 0 },
    ...{ promptTokens: 0, generationTokens: 0 },
  }
  const firstToken = createHistogram(secondsOf.firstToken)
  const whole = createHistogram(secondsOf.whole)
  /** Those that have passed nothing on yet, and can go elsewhere. */
  const waiting = new Set<AbortController>()
  const absent = new Set<string>()
  let mark: Mark = 'up'
  let running = 0
  let tokens = 0
  let silent = 0
  let models: ReadonlyMap<string, Card> | null = null

  function down(): void {
    mark = 'down'
    absent.clear() // what comes back may be another program
    const failure = new Failure(502, 'the engine behind this gateway went down', { code: codes.cut })
    for (const control of waiting) control.abort(failure)
  }

  function lease(signal: AbortSignal, cost: number): Lease {
    const control = new AbortController()
    const leave = (): void => held.end(null, signal.reason)
    const start = performance.now()
    const seconds = (): number => (performance.now() - start) / 1000
    let ended = false
    const cut = (error?: unknown): void =>
      control.abort(error ?? new DOMException('the request has ended', 'AbortError'))
    signal.addEventListener('abort', leave, { once: true })
    waiting.add(control)
    circuit.begin()
    counts.requests++
    running++
    tokens += cost
    const held: Lease = {
      signal: control.signal,
      first() {
        if (!waiting.delete(control)) return
        firstToken.add(seconds())
        circuit.end(true) // a long answer must not keep others waiting for its end
      },
      end(good, error) {
        if (ended) return
        ended = true
        signal.removeEventListener('abort', leave)
        waiting.delete(control)
        running--
        tokens -= cost
        circuit.end(good)
        if (good) whole.add(seconds())
        else if (good === false) failed(error)
        if (!good) cut(error)
      },
      cut,
    }
    if (signal.aborted) leave()
    return held
  }

  function failed(error: unknown): void {
    const code = error instanceof Failure ? error.code : null
    if (code === codes.unreachable) counts.unreachable++
    else if (code === codes.timeout) counts.timeouts++
    else counts.errors++
    if (code === codes.unreachable) down()
    if (code === 'server_stopping' && mark === 'up') mark = 'draining'
    doubt(upstream)
  }

  const send = (sending: Sending, timeouts: Timeouts = rules.timeouts): Promise<Answer> =>
    dial(
      { url, agent },
      {
        ...sending,
        path: base + sending.path,
        headers: { ...sending.headers, 'accept-encoding': 'identity', ...authorization },
        timeouts,
      },
    )

  /** The status of a GET and what it says; -1 where the path is known not to be there. */
  async function look(path: string, ms: number): Promise<{ readonly status: number; readonly text: string }> {
    if (absent.has(path)) return { status: -1, text: '' }
    const timeouts = { connectMs: ms, firstByteMs: ms, idleMs: ms }
    const { signal } = new AbortController()
    const answer = await send({ method: 'GET', path, headers: {}, body: null, signal }, timeouts)
    let text = ''
    const decoder = new TextDecoder()
    for await (const piece of answer.body) {
      text += decoder.decode(piece, { stream: true })
      if (text.length > 2 ** 22) break
    }
    if (/^(404|405|501)$/.test(String(answer.status))) absent.add(path)
    return { status: absent.has(path) ? -1 : answer.status, text }
  }

  async function probe(timeoutMs: number): Promise<boolean> {
    try {
      const health = await look('/health', timeoutMs)
      const ready = health.status < 400 ? await look('/ready', timeoutMs) : health
      const listed = await look('/v1/models', timeoutMs)
      if (listed.status === 200) models = readModels(listed.text) ?? models
      silent = 0
      const well = health.status === -1 ? listed.status < 500 : health.status < 400
      if (!well) down()
      else mark = ready.status === 503 ? 'draining' : 'up'
      return true
    } catch (error) {
      silent++
      const refused = error instanceof Failure && error.code === codes.unreachable
      if (refused || silent >= rules.probes) down()
      return false
    }
  }

  const upstream: Upstream = {
    name: url.host + base,
    get mark() {
      return mark
    },
    circuit,
    get running() {
      return running
    },
    get tokens() {
      return tokens
    },
    get models() {
      return models
    },
    ...{ counts, firstToken, whole, lease, send, probe },
    close: () => agent.destroy(),
  }
  return upstream
}

function readModels(text: string): ReadonlyMap<string, Card> | null {
  try {
    const { data } = JSON.parse(text) as { readonly data?: readonly Card[] }
    if (!Array.isArray(data)) return null
    return new Map(data.flatMap((card) => (typeof card?.id === 'string' ? [[card.id, card]] : [])))
  } catch {
    return null
  }
}
