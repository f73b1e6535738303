// One HTTP request to one upstream. node:http and not fetch: fetch gives up after 300 s without headers and offers no
// knob for it, hides whether a connection was ever made, and unpacks bodies that are only passed on.
// Knows no retries and no protocol above HTTP.
import { type Agent, type IncomingHttpHeaders, type IncomingMessage, request as overHttp } from 'node:http'
import { request as overHttps } from 'node:https'
import { Failure } from './failure.ts'

export interface Timeouts {
  /** Until the connection stands, TLS included. */
  readonly connectMs: number
  /** From then to the first byte of the answer's body. */
  readonly firstByteMs: number
  /** Between two pieces of it; the time a slow client takes does not count. */
  readonly idleMs: number
}

export interface Target {
  readonly url: URL
  readonly agent: Agent
}

export interface Ask {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
  readonly timeouts: Timeouts
  readonly signal: AbortSignal
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Read at the reader's pace; throws a Failure where the answer is cut. */
  readonly body: AsyncGenerator<Uint8Array, void, undefined>
}

/** Codes of what is wrong with an upstream. */
export const codes = {
  unreachable: 'upstream_unreachable',
  cut: 'upstream_cut',
  timeout: 'upstream_timeout',
  key: 'upstream_key',
} as const

export function dial(target: Target, ask: Ask, fresh = false): Promise<Answer> {
  const { signal, timeouts, body } = ask
  if (signal.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const tls = target.url.protocol === 'https:'
    const request = (tls ? overHttps : overHttp)(target.url, {
      method: ask.method,
      path: ask.path,
      agent: fresh ? false : target.agent,
      headers: {
        ...ask.headers,
        ...(body !== null && { 'content-length': String(Buffer.byteLength(body)) }),
      },
    })
    // without a reason: Node may have no one left to give it to but the process
    const leave = (): void => void request.destroy()
    const clock = createClock(leave)
    let connected = false
    const connect = (): void => {
      connected = true
      clock.start(timeouts.firstByteMs, 'did not answer')
    }
    clock.start(timeouts.connectMs, 'did not take the connection')
    request.on('socket', (socket) => {
      if (socket.connecting) socket.once(tls ? 'secureConnect' : 'connect', connect)
      else connect()
    })
    request.on('error', (error) => {
      clock.stop()
      signal.removeEventListener('abort', leave)
      // an idle connection that the upstream closed just now says nothing about the upstream
      const stale = request.reusedSocket && !fresh && !signal.aborted && !clock.expired
      if (stale) resolve(dial(target, ask, true))
      else reject(signal.aborted ? signal.reason : failureOf(clock.expired ?? error, connected))
    })
    request.on('response', (response) => {
      const { statusCode = 502, headers } = response
      response.on('error', () => undefined) // its reader is told; there may be none any more
      const ended = (): void => signal.removeEventListener('abort', leave)
      resolve({ status: statusCode, headers, body: read(response, clock, { ask, ended }) })
    })
    signal.addEventListener('abort', leave, { once: true })
    request.end(body ?? undefined)
  })
}

async function* read(
  response: IncomingMessage,
  clock: Clock,
  { ask, ended }: { readonly ask: Ask; readonly ended: () => void },
): AsyncGenerator<Uint8Array, void, undefined> {
  const pieces: AsyncIterator<Uint8Array> = response[Symbol.asyncIterator]()
  let ms = ask.timeouts.firstByteMs
  try {
    for (;;) {
      clock.start(ms, 'fell silent')
      const { done, value } = await pieces.next()
      clock.stop()
      if (done) return
      ms = ask.timeouts.idleMs
      yield value
    }
  } catch (error) {
    if (ask.signal.aborted) throw ask.signal.reason
    if (clock.expired) throw clock.expired // Node says only that the connection ended
    throw failureOf(error as Error, true)
  } finally {
    clock.stop()
    ended()
    // closing the connection is how an engine learns that nobody listens
    if (!response.complete) response.destroy()
  }
}

interface Clock {
  readonly expired: Failure | null
  start(ms: number, what: string): void
  stop(): void
}

/** One timer, for one thing at a time. */
function createClock(expire: () => void): Clock {
  let timer: ReturnType<typeof setTimeout> | undefined
  let expired: Failure | null = null
  const stop = (): void => clearTimeout(timer)
  return {
    get expired() {
      return expired
    },
    start(ms, what) {
      stop()
      timer = setTimeout(() => {
        const message = `the engine behind this gateway ${what} within ${ms / 1000} s`
        expired = new Failure(504, message, { code: codes.timeout })
        expire()
      }, ms)
      timer.unref()
    },
    stop,
  }
}

function failureOf(error: Error, connected: boolean): Failure {
  if (!connected) {
    const message = 'the engine behind this gateway cannot be reached'
    return new Failure(502, message, { code: codes.unreachable, cause: error })
  }
  if (error instanceof Failure) return error
  const message = 'the engine behind this gateway broke off its answer'
  return new Failure(502, message, { code: codes.cut, cause: error })
}
