// A JSON answer that may take long: while it is young its status can still tell of an error; after `afterMs` the headers
// are sent and blanks follow, because clients give up on silence (undici after 300 s). JSON may begin with blanks.
import { type Failure, failureOf } from './failure.ts'

export interface Patience {
  readonly afterMs?: number
  readonly everyMs?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly abort: (reason?: unknown) => void
  /** How an error is said once the headers were sent; default OpenAI's object. */
  readonly failed?: (failure: Failure) => unknown
  readonly onError?: (error: unknown) => void
  /** Called once, however it ends. */
  readonly onEnd?: () => void
}

const encoder = new TextEncoder()

/** `work` as a JSON response; an error before `afterMs` is thrown, one after it is the body. */
export async function patientJson(work: Promise<unknown>, options: Patience): Promise<Response> {
  const { afterMs = 30_000, everyMs = 15_000, headers = {} } = options
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, afterMs, 'late')
    timer.unref()
  })
  try {
    const first = await Promise.race([work.then((value) => ({ value })), late])
    if (first !== 'late') {
      options.onEnd?.()
      return Response.json(first.value, { headers })
    }
  } catch (error) {
    options.onEnd?.()
    throw error
  } finally {
    clearTimeout(timer)
  }
  return slowResponse(work, everyMs, options)
}

/** The late half: headers and a blank at once, then what `work` comes to. */
export function slowResponse(work: Promise<unknown>, everyMs: number, options: Patience): Response {
  let timer: ReturnType<typeof setInterval> | undefined
  let gone = false
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string): void => {
        if (!gone) controller.enqueue(encoder.encode(text))
      }
      timer = setInterval(send, everyMs, '\n')
      timer.unref()
      send('\n')
      void work
        .catch((error: unknown) => {
          options.onError?.(error)
          const failure = failureOf(error)
          return options.failed?.(failure) ?? failure.body
        })
        .then((value) => {
          clearInterval(timer)
          send(JSON.stringify(value))
          if (!gone) controller.close()
          if (!gone) options.onEnd?.()
        })
    },
    cancel(reason) {
      gone = true
      clearInterval(timer)
      options.onEnd?.()
      options.abort(reason)
    },
  })
  return new Response(body, { headers: { 'content-type': 'application/json', ...options.headers } })
}
