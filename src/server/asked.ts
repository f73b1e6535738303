// A request of OpenAI's Responses in the members of a chat. What runs at OpenAI's (their tools, conversations, prompts)
// is refused by name. https://platform.openai.com/docs/api-reference/responses/create
import { z } from 'zod'
import type { Fields } from './body.ts'
import { flag } from './body.ts'
import { Failure } from './failure.ts'
import type { Warning } from './fields.ts'
import { beside, type Foreign, type Idle } from './foreign.ts'
import { messagesOf, readItems } from './items.ts'
import type { Site } from './site.ts'
import type { Item } from './store.ts'

const text = z.string({ error: 'must be text' })
const object = z.looseObject({}, { error: 'must be an object' })
export const responsesBody = z.looseObject({
  input: z.union([z.string(), z.array(object)], { error: 'must be text, or a list of items' }).nullish(),
  instructions: text.nullish(),
  max_output_tokens: z.int('must be a whole number').min(1, 'must be 1 or more').nullish(),
  temperature: z.number({ error: 'must be a number' }).nullish(),
  top_p: z.number({ error: 'must be a number' }).nullish(),
  top_logprobs: z.int('must be a whole number').min(0, 'must be 0 or more').nullish(),
  include: z.array(z.string(), { error: 'must be a list of names' }).nullish(),
  text: z.looseObject({ format: object.nullish() }, { error: 'must be an object' }).nullish(),
  tools: z.array(z.looseObject({ type: text }), { error: 'must be a list' }).nullish(),
  tool_choice: z.union([z.string(), object], { error: 'must be a name or an object' }).nullish(),
  parallel_tool_calls: flag,
  store: flag,
  background: flag,
  stream: flag,
  previous_response_id: text.nullish(),
  metadata: z.record(z.string(), text, { error: 'must be an object of texts' }).nullish(),
})
export type ResponsesBody = z.output<typeof responsesBody>

const own = [
  ...['model', 'input', 'instructions', 'max_output_tokens', 'top_logprobs', 'include', 'text', 'tools'],
  ...['tool_choice', 'parallel_tool_calls', 'store', 'background', 'stream', 'previous_response_id'],
  ...['metadata', 'conversation', 'prompt', 'stream_options'],
]
const idle: Readonly<Record<string, Idle>> = {
  truncation: { why: 'a conversation that is too long is refused, not cut', neutral: ['disabled'] },
  max_tool_calls: { why: 'it counts calls of tools that run at OpenAI' },
  prompt_cache_key: { why: 'prefixes are shared whatever it is (cache_salt keeps them apart)' },
  prompt_cache_retention: { why: 'prefixes stay as long as there is room' },
  prompt_cache_options: { why: 'prefixes stay as long as there is room' },
  context_management: { why: 'the conversation is read as it is sent' },
  moderation: { why: 'nothing is moderated here' },
}

/** A request, its conversation, and its chat. */
export interface Conversation extends Foreign {
  /** All items before the answer. */
  readonly items: readonly Item[]
}

export function readConversation(
  site: Site,
  fields: Fields,
  body: ResponsesBody,
  key: string | null,
): Conversation {
  refuseServices(fields, body)
  const extras = beside(fields, own, idle, site)
  const warnings: Warning[] = [...extras.warnings, ...includeWarnings(body)]
  const before = earlier(site, body.previous_response_id ?? null, key)
  const given = readItems(body.input ?? [], (id) => site.responses.item(key, id), warnings)
  const items = [...before, ...given]
  const messages = messagesOf(items, body.instructions ?? null)
  if (items.length === 0) throw new Failure(400, 'input: there is nothing to answer', { param: 'input' })
  const members = { messages, model: fields.model, max_tokens: body.max_output_tokens ?? undefined }
  const chosen = { ...extras.fields, ...members, ...logprobsOf(body), ...toolsOf(body), ...formatOf(body) }
  return { items, warnings, fields: chosen }
}

function earlier(site: Site, id: string | null, key: string | null): readonly Item[] {
  if (id === null) return []
  const entry = site.responses.get(key, id)
  if (entry === null) {
    throw new Failure(
      404,
      `there is no response '${id.slice(0, 100)}' (previous_response_id); it was not stored, was deleted, or made room for newer ones`,
      { param: 'previous_response_id', code: 'previous_response_not_found' },
    )
  }
  if (entry.cancel !== null) {
    throw new Failure(400, `the response '${id}' is still being made; wait for its end`, {
      param: 'previous_response_id',
    })
  }
  return [...entry.input, ...entry.response.output]
}

function refuseServices(fields: Fields, { background, stream, store }: ResponsesBody): void {
  for (const field of ['conversation', 'prompt']) {
    if ((fields[field] ?? null) === null) continue
    throw new Failure(400, `${field} names what is kept at OpenAI; send input and previous_response_id`, {
      param: field,
    })
  }
  if (background !== true) return
  const clash = stream === true ? 'cannot be streamed' : store === false ? 'has to be stored' : null
  if (clash !== null) {
    throw new Failure(400, `a background response ${clash}; ask for it with GET /v1/responses/{id}`, {
      param: 'background',
    })
  }
}

const wantedLogprobs = 'message.output_text.logprobs'

function logprobsOf({ include, top_logprobs }: ResponsesBody): Fields {
  if (include?.includes(wantedLogprobs) !== true && (top_logprobs ?? 0) === 0) return {}
  return { logprobs: true, top_logprobs: top_logprobs ?? 0 }
}

function includeWarnings({ include }: ResponsesBody): readonly Warning[] {
  const rest = (include ?? []).filter((name) => name !== wantedLogprobs)
  if (rest.length === 0) return []
  const message = `include: ${rest.join(', ').slice(0, 200)} is not made here, so there is nothing to include`
  return [{ field: 'include', message }]
}

function formatOf({ text }: ResponsesBody): Fields {
  const { type = 'text', name, schema, strict } = (text?.format ?? {}) as Fields
  if (type === 'text') return {}
  if (type === 'json_object') return { response_format: { type } }
  if (type === 'json_schema' && typeof schema === 'object' && schema !== null) {
    return { response_format: { type, json_schema: { name, schema, strict } } }
  }
  const wanted = '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "name", "schema"}'
  throw new Failure(400, `text.format must be ${wanted}`, { param: 'text' })
}

function toolsOf({ tools, tool_choice, parallel_tool_calls }: ResponsesBody): Fields {
  const { choice, allowed } = choiceOf(tool_choice ?? null)
  const offered = (tools ?? [])
    .map(({ type, name, description, parameters, strict }, i) => {
      if (type === 'function') return { name, description, parameters, strict }
      const message = `tools[${i}]: '${type}' is not a tool that can be used here; only 'function' is`
      throw new Failure(400, message, { param: 'tools' })
    })
    .filter(({ name }) => allowed === null || allowed.includes(name))
    .map((made) => {
      const given = Object.entries(made).filter(([, value]) => value !== undefined && value !== null)
      return { type: 'function', function: Object.fromEntries(given) }
    })
  return {
    ...(offered.length > 0 && { tools: offered }),
    ...(choice !== null && (offered.length > 0 || choice === 'required') && { tool_choice: choice }),
    ...(offered.length > 0 && typeof parallel_tool_calls === 'boolean' && { parallel_tool_calls }),
  }
}

interface Chosen {
  /** As a chat says it. */
  readonly choice: unknown
  /** Names that may be called; null is all. */
  readonly allowed: readonly unknown[] | null
}

function choiceOf(given: ResponsesBody['tool_choice']): Chosen {
  if (given === undefined || given === null || typeof given === 'string') {
    return { choice: given ?? null, allowed: null }
  }
  const { type, name, mode, tools } = given as Fields
  if (type === 'function') return { choice: { type, function: { name } }, allowed: null }
  if (type === 'allowed_tools' && Array.isArray(tools)) {
    return { choice: mode ?? 'auto', allowed: tools.map((tool: unknown) => (tool as Fields | null)?.name) }
  }
  throw new Failure(400, `tool_choice of type ${JSON.stringify(type)} is not known here`, {
    param: 'tool_choice',
  })
}
