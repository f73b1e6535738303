// What passes from one side of the gateway to the other beside the body: headers, and errors as the other side said them.
import type { IncomingHttpHeaders } from 'node:http'
import type { Fields } from './body.ts'
import { Failure } from './failure.ts'

/** Of one connection, not of the message (RFC 9110, 7.6.1). */
const hop = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade'],
  ...['content-length', 'content-encoding', 'host', 'expect', 'accept-encoding', 'date', 'server'],
])

/** What a client says that an upstream may know: not its keys, whatever they are called. */
export function forthHeaders(request: Request, id: string): Readonly<Record<string, string>> {
  const named = namedIn(request.headers.get('connection'))
  const secret = /auth|key|token|secret|cookie|credential/i
  const own = /^(origin|referer|sec-|x-request-id$|access-control-)/i
  const passed = [...request.headers].filter(
    ([name]) => !hop.has(name) && !named.has(name) && !secret.test(name) && !own.test(name),
  )
  return { ...Object.fromEntries(passed), 'x-request-id': id }
}

/** What an upstream says that a client may know; limits, cookies and CORS are between the gateway and each of them. */
export function backHeaders(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const named = namedIn(headers.connection ?? null)
  const own = /^(x-request-id|set-cookie|vary|x-ratelimit-.*|access-control-.*|alt-svc|www-authenticate)$/
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      typeof value !== 'string' || hop.has(name) || named.has(name) || own.test(name) ? [] : [[name, value]],
    ),
  )
}

const namedIn = (connection: string | null): ReadonlySet<string> =>
  new Set((connection ?? '').split(',').map((name) => name.trim().toLowerCase()))

/** An answer that is not streamed has to fit in memory. */
const largest = 2 ** 28

export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of body) {
    size += piece.byteLength
    if (size > largest)
      throw new Failure(502, `the engine behind this gateway sent more than ${largest} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

/** An upstream's refusal as one of our own. */
export function errorOf(reply: {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly bytes: Buffer
}): Failure {
  const retry = reply.headers['retry-after']
  const { message, param, code } = fieldsOf(reply.bytes)
  const text = typeof message === 'string' ? message : `the engine behind this gateway said ${reply.status}`
  return new Failure(reply.status < 400 ? 502 : reply.status, text, {
    param: typeof param === 'string' ? param : null,
    code: typeof code === 'string' ? code : null,
    headers: retry === undefined ? {} : { 'retry-after': retry },
  })
}

function fieldsOf(bytes: Buffer): Fields {
  try {
    const value = (JSON.parse(bytes.toString('utf8')) ?? {}) as Fields
    return typeof value.error === 'object' && value.error !== null ? (value.error as Fields) : value
  } catch {
    return {}
  }
}
