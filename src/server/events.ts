// Streams of events as they come from an upstream: bytes into events, and what an event means in the protocol of its
// route, so far as that decides whether another upstream may still take over. Knows no network.
import type { Fields } from './body.ts'
import { Failure } from './failure.ts'
import type { SseEvent } from './sse.ts'

export interface Received extends SseEvent {
  readonly data: string
}

/** Larger ones are no events of these protocols. */
const largest = 2 ** 26

export async function* parseEvents(
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<Received, void, undefined> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const piece of bytes) {
    text += decoder.decode(piece, { stream: true })
    const blocks = text.split(/\r?\n\r?\n/)
    // "\n\r" may be half of a blank line: what follows the last one waits
    text = blocks.pop() ?? ''
    if (text.length > largest) throw new Failure(502, 'the engine behind this gateway sent an endless event')
    for (const block of blocks) {
      const event = readEvent(block)
      if (event) yield event
    }
  }
  const rest = readEvent(text)
  if (rest) yield rest
}

/** Null where it holds comments only. */
function readEvent(block: string): Received | null {
  let name: string | undefined
  const data: string[] = []
  for (const line of block.split(/\r?\n/)) {
    const value = line.slice(line.indexOf(':') + 1).replace(/^ /, '')
    if (line.startsWith('data:')) data.push(value)
    else if (line.startsWith('event:')) name = value
  }
  if (data.length === 0) return null
  return { ...(name !== undefined && { event: name }), data: data.join('\n') }
}

/** `opening` says nothing yet, `news` is not part of the answer, `last` and `error` end it. */
export type Meaning = 'opening' | 'news' | 'content' | 'last' | 'error'

export interface Protocol {
  /** `begun`: content has come, so that only the end is looked for. */
  meaning(event: Received, begun: boolean): Meaning
  /** An error after the headers; `last` is the event before it. */
  failed(failure: Failure, last: Received | null): readonly SseEvent[]
  /** An error that still has a status. */
  refused(failure: Failure): Response
}

function fieldsOf({ data }: Received): Fields | null {
  try {
    const value = JSON.parse(data) as unknown
    return typeof value === 'object' && value !== null ? (value as Fields) : null
  } catch {
    return null
  }
}

const openai: Protocol = {
  meaning(event, begun) {
    if (event.data === '[DONE]') return 'last'
    if (event.event === 'error') return 'error'
    if (begun && !event.data.includes('"error"')) return 'content'
    const fields = fieldsOf(event)
    if (fields === null) return 'content'
    if ((fields.error ?? null) !== null) return 'error'
    if (begun) return 'content'
    if ((fields.prompt_progress ?? null) !== null) return 'news'
    const { choices } = fields
    return Array.isArray(choices) && choices.every(isEmpty) && !fields.usage ? 'opening' : 'content'
  },
  failed: (failure) => [{ data: failure.body }],
  refused: (failure) => failure.response(),
}

/** A choice of a chunk that names a role at most. */
function isEmpty(choice: unknown): boolean {
  const { delta, text, finish_reason, logprobs, token_ids } = (choice ?? {}) as Fields
  const members = Object.entries((delta ?? {}) as Fields).filter(([name]) => name !== 'role')
  const said = [text, finish_reason, logprobs, token_ids, ...members.map(([, value]) => value)]
  return said.every((value) => value === undefined || value === null || value === '')
}

const anthropicTypes: Readonly<Record<number, string>> = {
  ...{ 400: 'invalid_request_error', 401: 'authentication_error', 403: 'permission_error' },
  ...{ 404: 'not_found_error', 413: 'request_too_large', 429: 'rate_limit_error' },
  ...{ 503: 'overloaded_error', 504: 'timeout_error', 529: 'overloaded_error' },
}

const anthropicError = ({ status, message }: Failure) => ({
  type: 'error',
  error: {
    type: anthropicTypes[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error'),
    message,
  },
})

const typeOf = (event: Received): string => event.event ?? String(fieldsOf(event)?.type ?? '')

const anthropic: Protocol = {
  meaning(event) {
    const type = typeOf(event)
    if (type === 'message_stop') return 'last'
    if (type === 'error') return 'error'
    return /^(message_start|ping|content_block_start)$/.test(type) ? 'opening' : 'content'
  },
  failed: (failure) => [{ event: 'error', data: anthropicError(failure) }],
  refused: (failure) =>
    Response.json(anthropicError(failure), { status: failure.status, headers: failure.headers }),
}

const responses: Protocol = {
  meaning(event) {
    const type = typeOf(event)
    if (/^response\.(completed|incomplete|failed|cancelled)$/.test(type)) return 'last'
    if (type === 'error') return 'error'
    const silent = /^response\.(created|queued|in_progress|output_item\.added|content_part\.added)$/
    return silent.test(type) ? 'opening' : 'content'
  },
  failed({ code, type, message, param }, last) {
    const number = Number(last && fieldsOf(last)?.sequence_number)
    const sequence_number = last && Number.isInteger(number) ? number + 1 : 0
    return [{ event: 'error', data: { type: 'error', code: code ?? type, message, param, sequence_number } }]
  },
  refused: (failure) => failure.response(),
}

export const protocols = { openai, anthropic, responses } as const

/** Whether another upstream might do better with a request that an upstream ended with this event. */
export function isRetryable(event: Received): boolean {
  const fields = fieldsOf(event)
  const error = (fields?.error ?? fields ?? {}) as Fields
  const status = Number(error.status ?? error.code)
  if (status >= 400 && status < 500) return status === 408 || status === 429
  return !/invalid|BadRequest|not_?found|too_large/i.test(String(error.type))
}

/** The tokens that a JSON text says were used; cheap, as it is asked of every event. */
export function usageIn(text: string): { readonly prompt: number; readonly generation: number } | null {
  if (!text.includes('"usage"')) return null
  const count = (names: string): number =>
    Number(new RegExp(`"(?:${names})":\\s*(\\d+)`).exec(text)?.[1] ?? 0)
  const used = {
    prompt: count('prompt_tokens|input_tokens'),
    generation: count('completion_tokens|output_tokens'),
  }
  return used.prompt + used.generation > 0 ? used : null
}
