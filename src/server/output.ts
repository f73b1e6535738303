// A response of OpenAI's Responses as it is made: the object, its items, and the typed events that tell of them.
// https://platform.openai.com/docs/api-reference/responses-streaming
import type { Step } from './answer.ts'
import type { ResponsesBody } from './asked.ts'
import type { Block, BlockEvent, Ended } from './blocks.ts'
import type { Failure } from './failure.ts'
import type { Warning } from './fields.ts'
import { newId } from './items.ts'
import type { Item, StoredResponse } from './store.ts'
import type { chatLogprobs } from './wire.ts'

export type Logprobs = ReturnType<typeof chatLogprobs>

/** What a response says whatever its answer. */
export interface ResponseShape {
  readonly id: string
  readonly created: number
  readonly model: string
  readonly body: ResponsesBody
  readonly defaults: { readonly temperature: number; readonly top_p: number }
  readonly warnings: readonly Warning[]
  readonly logprobs: (step: Step) => Logprobs
}

export interface TypedEvent {
  readonly type: string
  readonly sequence_number: number
  readonly [member: string]: unknown
}

export interface Output {
  /** The response as it is now. */
  now(status: 'queued' | 'in_progress' | 'cancelled'): StoredResponse
  ended(end: Ended): StoredResponse
  failed(failure: Failure): StoredResponse
  /** What a step brings. */
  step(events: readonly BlockEvent[], step: Step): readonly TypedEvent[]
  /** Of the response itself. */
  event(type: string, response: StoredResponse): TypedEvent
}

export function createOutput(shape: ResponseShape): Output {
  const items: Item[] = []
  const logprobs: Logprobs[] = [] // of each item
  let sequence = 0
  const typed = (type: string, members: object): TypedEvent => ({
    type,
    sequence_number: sequence++,
    ...members,
  })

  function begin({ at, block }: BlockEvent): readonly TypedEvent[] {
    const id = newId(block.type === 'text' ? 'msg' : 'fc')
    logprobs[at] = []
    items[at] = itemOf(block, id, 'in_progress', [])
    const item = block.type === 'text' ? { ...items[at], content: [] } : items[at]
    const added = typed('response.output_item.added', { output_index: at, item })
    if (block.type === 'tool') return [added]
    const place = { item_id: id, output_index: at, content_index: 0 }
    return [added, typed('response.content_part.added', { ...place, part: partOf('', []) })]
  }

  function grow({ at, block, text }: BlockEvent, more: Logprobs): readonly TypedEvent[] {
    const { id } = items[at]
    logprobs[at].push(...more)
    items[at] = itemOf(block, id, 'in_progress', logprobs[at])
    const place = { item_id: id, output_index: at }
    return block.type === 'text'
      ? [typed('response.output_text.delta', { ...place, content_index: 0, delta: text, logprobs: more })]
      : [typed('response.function_call_arguments.delta', { ...place, delta: text })]
  }

  function stop({ at, block }: BlockEvent, cut: boolean): readonly TypedEvent[] {
    const { id } = items[at]
    const item = itemOf(block, id, cut ? 'incomplete' : 'completed', logprobs[at])
    items[at] = item
    const place = { item_id: id, output_index: at }
    const inner =
      block.type === 'text'
        ? [
            typed('response.output_text.done', {
              ...{ ...place, content_index: 0, text: block.text, logprobs: logprobs[at] },
            }),
            typed('response.content_part.done', {
              ...{ ...place, content_index: 0, part: partOf(block.text, logprobs[at]) },
            }),
          ]
        : [
            typed('response.function_call_arguments.done', {
              ...{ ...place, name: block.name, arguments: block.text },
            }),
          ]
    return [...inner, typed('response.output_item.done', { output_index: at, item })]
  }

  return {
    now: (status) => responseOf(shape, { status, output: [...items] }),
    ended: (end) => responseOf(shape, { ...endOf(end), output: [...items] }),
    failed: ({ message, status }) =>
      responseOf(shape, {
        status: 'failed',
        output: [...items],
        error: { code: status === 429 ? 'rate_limit_exceeded' : 'server_error', message },
      }),
    step(events, step) {
      let more = shape.logprobs(step) // of the step's first growth
      return events.flatMap((event, i) => {
        if (event.what === 'start') return begin(event)
        if (event.what === 'stop') return stop(event, step.finish === 'length' && i === events.length - 1)
        const now = more
        more = []
        return grow(event, now)
      })
    },
    event: (type, response) => typed(type, { response }),
  }
}

const partOf = (text: string, logprobs: Logprobs) => ({
  ...{ type: 'output_text', text, annotations: [], logprobs },
})

function itemOf(block: Block, id: string, status: string, logprobs: Logprobs): Item {
  if (block.type === 'text') {
    const content = [partOf(block.text, logprobs)]
    return { id, type: 'message', status, role: 'assistant', content }
  }
  const { name, id: call_id, text } = block
  return { id, type: 'function_call', status, call_id, name, arguments: text }
}

function endOf({ finish, result: { usage } }: Ended) {
  return {
    ...(finish === 'length'
      ? { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } }
      : { status: 'completed', completed_at: Math.floor(Date.now() / 1000) }),
    usage: {
      input_tokens: usage.prompt_tokens,
      input_tokens_details: { cached_tokens: usage.prompt_tokens_details.cached_tokens },
      output_tokens: usage.completion_tokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: usage.total_tokens,
    },
  }
}

interface State {
  readonly status: string
  readonly output: readonly Item[]
  readonly error?: { readonly code: string; readonly message: string }
}

function responseOf({ id, created, model, body, defaults, warnings }: ResponseShape, state: State) {
  return {
    id,
    object: 'response',
    created_at: created,
    background: body.background ?? false,
    completed_at: null,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    metadata: body.metadata ?? {},
    model,
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: body.store ?? true,
    temperature: body.temperature ?? defaults.temperature,
    text: { ...body.text, format: body.text?.format ?? { type: 'text' } },
    tool_choice: body.tool_choice ?? 'auto',
    tools: body.tools ?? [],
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? defaults.top_p,
    truncation: 'disabled',
    usage: null,
    ...state,
    ...(warnings.length > 0 && { warnings }),
  }
}
