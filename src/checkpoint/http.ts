// One HTTP request as a hub wants it: redirects by hand so that the token stays home, a watch on silence, and patience
// with what passes. Knows status codes and clocks; not what is downloaded.
import { setTimeout as sleep } from 'node:timers/promises'
import { CheckpointError } from '../tensor/error.ts'

/** Milliseconds, unless it says otherwise. */
export interface Timing {
  /** Silence after which a connection counts as dead. */
  readonly stall: number
  /** First wait before trying again; doubles, up to `longest`. */
  readonly backoff: number
  readonly longest: number
  /** Tries without any progress before giving up; questions that are not downloads get at most 3. */
  readonly attempts: number
  /** Between looks at a lock, and when it counts as left behind. */
  readonly poll: number
  readonly stale: number
  /** Between two progress events of a file. */
  readonly interval: number
}

export const defaultTiming: Timing = {
  stall: 30_000,
  backoff: 1_000,
  longest: 60_000,
  attempts: 6,
  poll: 200,
  stale: 60_000,
  interval: 100,
}

export interface Net {
  readonly endpoint: string
  readonly token: string | null
  readonly signal: AbortSignal | undefined
  readonly timing: Timing
}

export interface Reply {
  readonly response: Response
  /** Where redirects led. */
  readonly url: URL
  /** Throws why reading the body failed: early releases of Node 20 say only that it was aborted. */
  explain(error: unknown): never
  /** Tells the watch that something came. */
  touch(): void
  /** Ends the request, read or not. */
  end(): void
}

export interface Question {
  readonly method: 'GET' | 'HEAD'
  readonly headers?: Readonly<Record<string, string>>
  /** Says of an answer with a Location whether to go there. */
  readonly follow: (response: Response, sameOrigin: boolean) => boolean
}

export async function request(start: string, question: Question, net: Net): Promise<Reply> {
  const watch = watchdog(net)
  try {
    let url = new URL(start)
    for (let hops = 0; hops <= 10; hops++) {
      const response = await fetch(url, {
        method: question.method,
        headers: headersFor(url, question, net),
        redirect: 'manual',
        signal: watch.signal,
      })
      watch.touch()
      const location =
        response.status >= 300 && response.status < 400 ? response.headers.get('location') : null
      const next = location === null ? null : new URL(location, url)
      if (next === null || !question.follow(response, next.origin === url.origin)) {
        return { response, url, explain: watch.explain, touch: watch.touch, end: watch.end }
      }
      await response.body?.cancel()
      url = next
    }
    throw new CheckpointError(`${start} redirects in circles`)
  } catch (error) {
    watch.end()
    throw error
  }
}

function headersFor(url: URL, question: Question, net: Net): Record<string, string> {
  const headers: Record<string, string> = {
    'user-agent': 'latent',
    // a compressed body would make byte ranges and lengths meaningless
    'accept-encoding': 'identity',
    ...question.headers,
  }
  if (net.token !== null && url.origin === new URL(net.endpoint).origin) {
    headers.authorization = `Bearer ${net.token}`
  }
  return headers
}

interface Watch extends Pick<Reply, 'explain' | 'touch' | 'end'> {
  readonly signal: AbortSignal
}

function watchdog(net: Net): Watch {
  const controller = new AbortController()
  const stalled = (): void => controller.abort(new Error(`nothing came for ${net.timing.stall / 1000} s`))
  const cancelled = (): void => controller.abort(net.signal?.reason)
  let timer = setTimeout(stalled, net.timing.stall)
  if (net.signal?.aborted) cancelled()
  net.signal?.addEventListener('abort', cancelled)
  return {
    signal: controller.signal,
    explain(error) {
      throw controller.signal.aborted ? controller.signal.reason : error
    },
    touch() {
      clearTimeout(timer)
      timer = setTimeout(stalled, net.timing.stall)
    },
    end() {
      clearTimeout(timer)
      net.signal?.removeEventListener('abort', cancelled)
      controller.abort()
    },
  }
}

/** An error that time may mend; `wait` is what the server asked for. */
export function passing(message: string, wait: number | null = null): Error {
  return new Error(message, { cause: { wait } })
}

/** Throws for an answer that is not a success: for good, or passing. */
export function refuse(reply: Reply, what: string, net: Net): void {
  const { status, headers } = reply.response
  if (status < 400) return
  reply.end()
  const atHome = reply.url.origin === new URL(net.endpoint).origin
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    throw passing(`the server answered ${status}`, retryAfter(headers.get('retry-after')))
  }
  // storage hosts refuse a signed address that has run out: the next try gets a new one
  if (!atHome && (status === 401 || status === 403)) throw passing(`${reply.url.host} answered ${status}`)
  throw new CheckpointError(`${what}: ${meaning(status, headers.get('x-error-code'), net)}`)
}

function meaning(status: number, code: string | null, net: Net): string {
  if (status === 404 || code === 'RepoNotFound' || code === 'RevisionNotFound') {
    const which =
      code === 'RevisionNotFound' ? 'no such revision' : code === 'EntryNotFound' ? 'no such file' : null
    const hidden = net.token === null ? ' (a private one needs HF_TOKEN)' : ''
    return `${which ?? 'no such repository or revision'} on ${net.endpoint}${which ? '' : hidden} (${status})`
  }
  if (status === 401 || status === 403) {
    const how = net.token === null ? 'set HF_TOKEN' : 'the token in HF_TOKEN does not open it'
    return `${net.endpoint} refuses (${status}): the repository is gated, private or absent; accept its terms on its page and ${how}`
  }
  return `the server answered ${status}`
}

/** Milliseconds, from seconds or a date. */
function retryAfter(value: string | null): number | null {
  if (value === null) return null
  const wait = /^\d+(\.\d+)?$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(wait) ? Math.max(0, wait) : null
}

/**
 * Tries until it works. A CheckpointError is final, and so is the caller's abort; all else is taken for weather. Tries are
 * counted anew whenever `progress` has grown.
 */
export async function patiently<T>(
  what: string,
  attempts: number,
  net: Net,
  action: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  let best = progress()
  for (let failures = 1; ; failures++) {
    try {
      net.signal?.throwIfAborted()
      return await action()
    } catch (error) {
      if (net.signal?.aborted) throw net.signal.reason
      if (error instanceof CheckpointError) throw error
      if (progress() > best) failures = 1
      best = Math.max(best, progress())
      if (failures >= attempts) {
        throw new CheckpointError(`${what}: gave up after ${failures} tries: ${reason(error)}`)
      }
      const doubled = Math.min(net.timing.longest, net.timing.backoff * 2 ** (failures - 1))
      const wait = askedWait(error) ?? doubled
      // an hour's wait is an answer, not a pause
      if (wait > 300_000)
        throw new CheckpointError(`${what}: ${reason(error)}, try again in ${wait / 1000} s`)
      await sleep(wait, undefined, net.signal === undefined ? {} : { signal: net.signal }).catch(() => {})
    }
  }
}

function askedWait(error: unknown): number | null {
  const cause = error instanceof Error ? error.cause : null
  const wait = typeof cause === 'object' && cause !== null && 'wait' in cause ? cause.wait : null
  return typeof wait === 'number' ? wait : null
}

/** fetch hides the story in the cause. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message
}
