// What protects the server from pages in somebody's browser, and pages from the server's answers: who may call across
// origins, under which host names, and headers that keep an answer from being taken for something else.
import { Failure } from './failure.ts'

export interface ShieldOptions {
  /** Origins whose pages may call; '*' is all. */
  readonly origins: readonly string[]
  /** Host names under which the server answers; none given is all. */
  readonly hosts?: readonly string[] | undefined
}

/** Set where the answer does not say otherwise. */
const headers: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
}

export function shieldHeaders(given: Headers): readonly (readonly [string, string])[] {
  return Object.entries(headers).filter(([name]) => !given.has(name))
}

/**
 * Throws a 403 where a page of a foreign origin, or one that has itself pointed at this machine (DNS rebinding), wants
 * the server to work. CORS only keeps pages from reading the answer; a key-less local server would still compute it.
 */
export function checkOrigin(request: Request, { origins, hosts = [] }: ShieldOptions): void {
  const { host, hostname } = new URL(request.url)
  if (hosts.length > 0 && !hosts.includes(hostname)) {
    throw new Failure(403, `this server does not answer as '${clip(hostname)}'; add it to --allowed-hosts`, {
      code: 'host_not_allowed',
    })
  }
  const origin = request.headers.get('origin')
  if (origin === null || request.method === 'GET' || request.method === 'HEAD') return
  if (origins.includes('*') || origins.includes(origin) || hostOf(origin) === host) return
  throw new Failure(403, `pages of '${clip(origin)}' may not call; add it to --allowed-origins`, {
    code: 'origin_not_allowed',
  })
}

function hostOf(origin: string): string | null {
  try {
    return new URL(origin).host
  } catch {
    return null
  }
}

const clip = (text: string): string => text.slice(0, 100)
