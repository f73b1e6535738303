// How much each key may ask: requests and tokens a minute, as buckets that fill while time passes. What an answer costs
// nobody knows before, so tokens are taken as they come (also from who leaves early), the prompt's at the end; that may
// overdraw a bucket, and who has overdrawn waits. Knows no endpoint.
// Headers: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
import { Failure } from './failure.ts'
import type { Observer } from './job.ts'

/** A minute; null is no limit. */
export interface RateLimits {
  readonly requests: number | null
  readonly tokens: number | null
}

export interface Rates {
  /** Takes a request from the key's budget; headers for the answer, or a 429. */
  allow(key: string | null): Readonly<Record<string, string>>
  readonly observer: Observer
}

interface Bucket {
  readonly kind: 'requests' | 'tokens'
  readonly limit: number
  /** Below 0: overdrawn. */
  left(): number
  take(amount: number): void
  /** Milliseconds until `wanted` are there. */
  wait(wanted: number): number
}

/** `clock` is in milliseconds. Callers without keys share one budget. */
export function createRates(limits: RateLimits, clock: () => number = () => performance.now()): Rates {
  const budgets = new Map<string | null, readonly Bucket[]>()

  function budgetOf(key: string | null): readonly Bucket[] {
    const known = budgets.get(key)
    if (known) return known
    const made = (['requests', 'tokens'] as const).flatMap((kind) => {
      const limit = limits[kind]
      return limit === null ? [] : [createBucket(kind, limit, clock)]
    })
    budgets.set(key, made)
    return made
  }

  function allow(key: string | null): Readonly<Record<string, string>> {
    const budget = budgetOf(key)
    const empty = budget.find((bucket) => bucket.left() < 1)
    if (empty) throw refuse(empty, headersOf(budget))
    budget.find(({ kind }) => kind === 'requests')?.take(1)
    return headersOf(budget)
  }

  function spend(key: string | null, tokens: number): void {
    for (const bucket of budgetOf(key)) if (bucket.kind === 'tokens') bucket.take(tokens)
  }

  const observer: Observer = {
    token: ({ key }) => spend(key, 1),
    end: ({ key, result }) => spend(key, result?.usage.prompt_tokens ?? 0),
  }
  return { allow, observer }
}

function createBucket(kind: Bucket['kind'], limit: number, clock: () => number): Bucket {
  const perMs = limit / 60_000
  let level = limit
  let at = clock()

  function left(): number {
    const now = clock()
    level = Math.min(limit, level + (now - at) * perMs)
    at = now
    return level
  }

  return {
    kind,
    limit,
    left,
    take(amount) {
      level = left() - amount
    },
    wait: (wanted) => Math.max(0, Math.ceil((wanted - left()) / perMs)),
  }
}

function headersOf(budget: readonly Bucket[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    budget.flatMap(({ kind, limit, left, wait }) => [
      [`x-ratelimit-limit-${kind}`, String(limit)],
      [`x-ratelimit-remaining-${kind}`, String(Math.max(0, Math.floor(left())))],
      [`x-ratelimit-reset-${kind}`, duration(wait(limit))],
    ]),
  )
}

/** As OpenAI writes it: `12ms`, `1.5s`, `6m0s`. */
function duration(ms: number): string {
  if (ms < 1000) return `${ms}ms`
  if (ms < 60_000) return `${ms / 1000}s`
  return `${Math.floor(ms / 60_000)}m${Math.ceil((ms % 60_000) / 1000)}s`
}

function refuse({ kind, limit, wait }: Bucket, headers: Readonly<Record<string, string>>): Failure {
  const ms = wait(1)
  const seconds = Math.max(1, Math.ceil(ms / 1000))
  return new Failure(
    429,
    `this key may use ${limit} ${kind} a minute and has used them; try again in ${seconds} s`,
    {
      code: 'rate_limit_exceeded',
      headers: { ...headers, 'retry-after': String(seconds), 'retry-after-ms': String(ms) },
    },
  )
}
