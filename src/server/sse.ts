// Server-sent events: an async generator of events as a Response whose headers leave at once, with comments while
// nothing comes (proxies and clients cut silent connections), and the generator ended as soon as the client goes.
// Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
import { type Failure, failureOf } from './failure.ts'

export interface SseEvent {
  /** The event's name, where the protocol has names. */
  readonly event?: string
  /** An object is sent as JSON, a string as it is. */
  readonly data: unknown
}

export interface SseOptions {
  /** Ends the work behind the events. */
  readonly abort: (reason?: unknown) => void
  readonly headers?: Readonly<Record<string, string>>
  /** How an error in mid-stream is said; default OpenAI's `data: {"error": ...}`. */
  readonly failed?: (failure: Failure) => readonly SseEvent[]
  /** Told of an error after the headers were sent. */
  readonly onError?: (error: unknown) => void
  readonly keepAliveMs?: number
  /** Called once, however the stream ends. */
  readonly onEnd?: () => void
}

const encoder = new TextEncoder()

export function encodeEvent({ event, data }: SseEvent): string {
  const text = typeof data === 'string' ? data : JSON.stringify(data)
  const lines = text.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`)
  return `${event === undefined ? '' : `event: ${event}\n`}${lines.join('')}\n`
}

export function sse(events: AsyncGenerator<SseEvent, void, undefined>, options: SseOptions): Response {
  const { keepAliveMs = 15_000, failed = (failure) => [{ data: failure.body }] } = options
  let timer: ReturnType<typeof setInterval> | undefined
  let ended = false

  function end(): void {
    if (ended) return
    ended = true
    clearInterval(timer)
    options.onEnd?.()
  }

  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode(': latent\n\n'))
      timer = setInterval(() => {
        if (!ended) controller.enqueue(encoder.encode(': keep-alive\n\n'))
      }, keepAliveMs)
      timer.unref()
    },
    async pull(controller) {
      try {
        const { done, value } = await events.next()
        if (ended) return
        if (!done) return controller.enqueue(encoder.encode(encodeEvent(value)))
      } catch (error) {
        if (ended) return
        options.onError?.(error)
        for (const event of failed(failureOf(error))) controller.enqueue(encoder.encode(encodeEvent(event)))
      }
      end()
      controller.close()
    },
    async cancel(reason) {
      end()
      options.abort(reason)
      await events.return(undefined).catch(() => undefined)
    },
  })
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      ...options.headers,
    },
  })
}
