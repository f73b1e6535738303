// POST /v1/messages: Anthropic's chat, streamed or whole, and what its prompt would count
// (https://docs.anthropic.com/en/api/messages, .../messages-streaming). What a request may hold is in messages.ts.
import { randomUUID } from 'node:crypto'
import { encodeChat } from '../llm/prompt.ts'
import type { Reading } from './answer.ts'
import { type Block, type BlockEvent, type Ended, tell } from './blocks.ts'
import { parse, readBody } from './body.ts'
import { anthropicError } from './dialect.ts'
import type { Warning } from './fields.ts'
import { readForeign, run } from './foreign.ts'
import { countable, messagesBody, readMessages } from './messages.ts'
import { patientJson } from './patience.ts'
import type { Site } from './site.ts'
import { type SseEvent, sse } from './sse.ts'
import type { Caller } from './start.ts'

/** What a message says beside its content. */
export interface MessageShape {
  readonly id: string
  readonly model: string
  readonly promptTokens: number
  readonly maxTokens: number
  readonly stops: readonly string[]
  readonly warnings: readonly Warning[]
}

export async function messages(site: Site, request: Request, caller: Caller): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const body = parse(messagesBody, fields)
  const call = readForeign(site, readMessages(site, fields, body))
  const stream = body.stream === true
  const { reading, sending, promptTokens } = run(site, request, caller, {
    call,
    endpoint: 'messages',
    stream,
  })
  const shape: MessageShape = {
    id: `msg_${randomUUID().replaceAll('-', '')}`,
    model: call.model,
    promptTokens,
    maxTokens: body.max_tokens,
    stops: body.stop_sequences ?? [],
    warnings: call.warnings,
  }
  const headers = { ...sending.headers, 'request-id': caller.id }
  if (!stream) {
    const failed = (failure: Parameters<typeof anthropicError>[0]) => anthropicError(failure, caller.id)
    return patientJson(wholeMessage(reading, shape), { ...sending, headers, failed })
  }
  return sse(messageEvents(reading, shape), {
    ...sending,
    headers,
    failed: (failure) => [{ event: 'error', data: anthropicError(failure, caller.id) }],
  })
}

export async function countTokens(site: Site, request: Request, caller: Caller): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const call = readForeign(site, readMessages(site, fields, parse(countable, fields)))
  const ids = encodeChat(call.messages, call.options, site.llm.template)
  return Response.json({ input_tokens: ids.length }, { headers: { 'request-id': caller.id } })
}

/** Under /anthropic only: /v1/models is OpenAI's. */
export function listForAnthropic(site: Site, _: Request, caller: Caller): Response {
  const created_at = new Date(site.created * 1000).toISOString()
  const data = site.names.map((id) => ({ type: 'model', id, display_name: id, created_at }))
  const [first_id, last_id] = [site.names[0], site.names.at(-1)]
  const headers = { 'request-id': caller.id }
  return Response.json({ data, has_more: false, first_id, last_id }, { headers })
}

function message({ id, model, promptTokens, warnings }: MessageShape) {
  return {
    id,
    type: 'message',
    role: 'assistant',
    model,
    content: [] as unknown[],
    stop_reason: null as string | null,
    stop_sequence: null as string | null,
    usage: {
      input_tokens: promptTokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens: 0,
    },
    ...(warnings.length > 0 && { warnings }),
  }
}

export async function wholeMessage(reading: Reading, shape: MessageShape): Promise<unknown> {
  const coming = tell(reading)
  for (;;) {
    const { done, value } = await coming.next()
    if (done) {
      const content = value.blocks.map(contentOf)
      return { ...message(shape), content, ...stopOf(value, shape), usage: usageOf(value) }
    }
  }
}

const named = (data: { readonly type: string }): SseEvent => ({ event: data.type, data })

/** The events in the order that Anthropic promises. */
export async function* messageEvents(
  reading: Reading,
  shape: MessageShape,
): AsyncGenerator<SseEvent, void, undefined> {
  yield named({ type: 'message_start', ...{ message: message(shape) } })
  yield named({ type: 'ping' })
  const coming = tell(reading)
  try {
    for (;;) {
      const { done, value } = await coming.next()
      if (done) {
        const ending = { delta: stopOf(value, shape), usage: usageOf(value) }
        yield named({ type: 'message_delta', ...ending })
        break
      }
      for (const event of value.events) yield named(blockEvent(event))
    }
  } finally {
    await coming.return(undefined as never)
  }
  yield named({ type: 'message_stop' })
}

function blockEvent({ what, at: index, block, text }: BlockEvent) {
  if (what === 'stop') return { type: 'content_block_stop', index }
  if (what === 'grow') {
    const delta =
      block.type === 'text' ? { type: 'text_delta', text } : { type: 'input_json_delta', partial_json: text }
    return { type: 'content_block_delta', index, delta }
  }
  const content_block =
    block.type === 'text'
      ? { type: 'text', text: '' }
      : { type: 'tool_use', id: block.id, name: block.name, input: {} }
  return { type: 'content_block_start', index, content_block }
}

function contentOf(block: Block): unknown {
  if (block.type === 'text') return { type: 'text', text: block.text, citations: null }
  return { type: 'tool_use', id: block.id, name: block.name, input: inputOf(block.text) }
}

/** Arguments that were cut, or are no object, in the envelope that Anthropic's documents give for that. */
function inputOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text === '' ? '{}' : text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch {
    // said below
  }
  return { INVALID_JSON: text }
}

function stopOf({ finish, stopReason, result }: Ended, { stops, maxTokens }: MessageShape) {
  const said = (stop_reason: string, stop_sequence: string | null = null) => ({ stop_reason, stop_sequence })
  if (finish === 'tool_calls') return said('tool_use')
  if (finish === 'length') {
    const full = result.usage.completion_tokens >= maxTokens
    return said(full ? 'max_tokens' : 'model_context_window_exceeded')
  }
  if (typeof stopReason === 'string' && stops.includes(stopReason)) return said('stop_sequence', stopReason)
  return said('end_turn')
}

/** Anthropic's input_tokens are those that no cache held. */
function usageOf({ result: { usage } }: Ended) {
  const { cached_tokens } = usage.prompt_tokens_details
  return {
    input_tokens: usage.prompt_tokens - cached_tokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached_tokens,
    output_tokens: usage.completion_tokens,
  }
}
