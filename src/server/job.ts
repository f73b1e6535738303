// One generation as the server sees it: let in or refused, ended by its client, its time or its answer, and reported to
// whoever counts (metrics, log, token limits). Knows no endpoint and no text.
import { setMaxListeners } from 'node:events'
import type { FinishReason } from '../engine/engine.ts'
import type { Result } from '../llm/completion.ts'
import { Failure } from './failure.ts'

export interface JobFacts {
  /** The request's id, as its headers and log lines say it. */
  readonly id: string
  readonly endpoint: string
  /** Whose key asked; null where there are no keys. */
  readonly key: string | null
  /** Answers asked for. */
  readonly n: number
  readonly maxTokens: number | null
  readonly stream: boolean
}

export type Outcome = FinishReason | 'tool_calls' | 'abort' | 'timeout' | 'error'

export interface JobEnd extends JobFacts {
  readonly outcome: Outcome
  readonly seconds: number
  /** Null where no answer came to its end. */
  readonly result: Result | null
  readonly error: unknown
}

/** An HTTP request whose answer's head is about to leave (a stream's body has yet to come). */
export interface Answered {
  readonly id: string
  readonly key: string | null
  readonly method: string
  /** The route that took it; null where there was none. */
  readonly route: string | null
  readonly path: string
  readonly status: number
  readonly seconds: number
}

/** Told of every request and generation; every member is optional. */
export interface Observer {
  answered?(answered: Answered): void
  begin?(facts: JobFacts): void
  /** A token came, milliseconds after the one before it, or after the request where it is the first. */
  token?(facts: JobFacts, ms: number, first: boolean): void
  end?(end: JobEnd): void
}

export interface Job {
  readonly facts: JobFacts
  readonly signal: AbortSignal
  abort(reason?: unknown): void
  token(): void
  /** The first call counts. */
  end(result: Result | null, outcome: Outcome, error?: unknown): void
}

export interface JobLimits {
  /** Sequences that run or wait at once; more are refused with 503. */
  readonly most: number
  /** 0 is no limit. */
  readonly timeoutMs: number
}

export interface Jobs {
  /** Throws a Failure (503) where there is no room, or the server is about to stop. */
  begin(request: Request, facts: JobFacts): Job
  readonly running: number
  readonly sequences: number
  readonly draining: boolean
  /** No new ones from now on; resolves when the last has ended. */
  drain(): Promise<void>
  /** Ends those still running. */
  abortAll(reason: unknown): void
}

const timedOut = 'TimeoutError'
/** Answers of one request, prompts times n: setting more up would hold up everyone. */
const mostAtOnce = 4096

export function createJobs(limits: JobLimits, observers: readonly Observer[]): Jobs {
  const running = new Set<Job>()
  let sequences = 0
  let draining = false
  let empty: (() => void) | null = null

  function begin(request: Request, facts: JobFacts): Job {
    if (draining) throw refuse('the server is about to stop; try another one, or later', 'server_stopping')
    if (facts.n > mostAtOnce) {
      throw new Failure(
        400,
        `one request asks for ${facts.n} answers; ask for at most ${mostAtOnce} at once`,
        { param: 'n' },
      )
    }
    if (sequences > 0 && sequences + facts.n > limits.most) {
      throw refuse(
        `${sequences} answers are being made or wait, ${facts.n} more would pass the limit of ${limits.most}; try again later (or raise --max-queue)`,
        'queue_full',
      )
    }
    const job = open(request, facts)
    for (const observer of observers) observer.begin?.(facts)
    return job
  }

  function open(request: Request, facts: JobFacts): Job {
    const control = new AbortController()
    setMaxListeners(0, control.signal)
    const start = performance.now()
    let last = start
    let first = true
    let ended = false
    const abort = (reason: unknown = new DOMException('the client went away', 'AbortError')): void =>
      control.abort(reason)
    const leave = (): void => abort()
    const timer = limits.timeoutMs > 0 ? setTimeout(expire, limits.timeoutMs) : undefined
    timer?.unref()

    function expire(): void {
      const message = `the answer took longer than ${limits.timeoutMs / 1000} s (--request-timeout of the server)`
      control.abort(
        Object.assign(new Failure(408, message, { headers: { 'x-should-retry': 'false' } }), {
          name: timedOut,
        }),
      )
    }

    const job: Job = {
      facts,
      signal: control.signal,
      abort,
      token() {
        const now = performance.now()
        for (const observer of observers) observer.token?.(facts, now - last, first)
        last = now
        first = false
      },
      end(result, outcome, error) {
        if (ended) return
        ended = true
        clearTimeout(timer)
        request.signal.removeEventListener('abort', leave)
        running.delete(job)
        sequences -= facts.n
        const seconds = (performance.now() - start) / 1000
        for (const observer of observers) observer.end?.({ ...facts, outcome, seconds, result, error })
        if (running.size === 0) empty?.()
      },
    }
    running.add(job)
    sequences += facts.n
    if (request.signal.aborted) leave()
    request.signal.addEventListener('abort', leave, { once: true })
    return job
  }

  return {
    begin,
    get running() {
      return running.size
    },
    get sequences() {
      return sequences
    },
    get draining() {
      return draining
    },
    drain() {
      draining = true
      return new Promise((resolve) => {
        empty = resolve
        if (running.size === 0) resolve()
      })
    },
    abortAll(reason) {
      for (const job of running) job.abort(reason)
    },
  }
}

function refuse(message: string, code: string): Failure {
  return new Failure(503, message, { code, headers: { 'retry-after': '1' } })
}

/** How a generation that threw has ended. */
export function outcomeOf(error: unknown): Outcome {
  const name = error instanceof Error ? error.name : ''
  return name === timedOut ? 'timeout' : name === 'AbortError' ? 'abort' : 'error'
}

/** Parts of one job, one a prompt: it ends when all have ended, or with the first error. */
export function splitJob(job: Job, count: number): readonly Job[] {
  const results: Result[] = []
  return Array.from({ length: count }, () => {
    let ended = false
    return {
      ...job,
      abort: (reason) => {
        if (!ended) job.abort(reason)
      },
      end(result, outcome, error) {
        if (ended) return
        ended = true
        if (result === null) return job.end(null, outcome, error)
        results.push(result)
        if (results.length === count) job.end(sumOf(results), outcome)
      },
    }
  })
}

/** Several results as one, for counting: tokens of all, times of the first. */
export function sumOf(results: readonly Result[]): Result {
  const sum = (count: (usage: Result['usage']) => number): number =>
    results.reduce((total, { usage }) => total + count(usage), 0)
  return {
    ...results[0],
    usage: {
      prompt_tokens: sum((usage) => usage.prompt_tokens),
      completion_tokens: sum((usage) => usage.completion_tokens),
      total_tokens: sum((usage) => usage.total_tokens),
      prompt_tokens_details: { cached_tokens: sum((usage) => usage.prompt_tokens_details.cached_tokens) },
    },
  }
}
