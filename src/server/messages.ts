// A request of Anthropic's Messages in the members of a chat: blocks become texts, calls of tools and their results.
// What these models cannot take (images, tools that run at Anthropic's) is refused by name.
// https://docs.anthropic.com/en/api/messages
import { z } from 'zod'
import { type Fields, flag, parse } from './body.ts'
import { Failure } from './failure.ts'
import type { Warning } from './fields.ts'
import { beside, type Foreign, type Idle } from './foreign.ts'
import type { Site } from './site.ts'

const name = z.string({ error: 'must be a name' }).min(1, 'must not be empty')
const object = z.looseObject({}, { error: 'must be an object' })
const block = z.looseObject({ type: z.string({ error: 'must be the kind of the block' }) })
const content = z.union([z.string(), z.array(block)], {
  error: 'must be text, or a list of blocks such as {"type": "text", "text"}',
})
const message = z.looseObject(
  { role: z.enum(['user', 'assistant', 'system'], { error: "must be 'user' or 'assistant'" }), content },
  { error: 'must be an object with "role" and "content"' },
)
const tool = z.looseObject(
  {
    type: z.string().nullish(),
    name,
    description: z.string({ error: 'must be text' }).nullish(),
    input_schema: object.optional(),
    strict: flag,
  },
  { error: 'must be an object with "name" and "input_schema"' },
)
const choice = z.looseObject({
  type: z.enum(['auto', 'any', 'tool', 'none'], { error: "must be 'auto', 'any', 'tool' or 'none'" }),
  name: name.optional(),
  disable_parallel_tool_use: flag,
})
/** What /v1/messages/count_tokens takes. */
export const countable = z.looseObject({
  messages: z.array(message, { error: 'must be a list of {"role", "content"}' }).min(1, 'must not be empty'),
  system: content.nullish(),
  tools: z.array(tool, { error: 'must be a list' }).nullish(),
  tool_choice: choice.nullish(),
  thinking: z.looseObject({ type: z.string() }, { error: 'must be an object with "type"' }).nullish(),
  output_config: object.nullish(),
  output_format: object.nullish(),
})
export const messagesBody = countable.extend({
  max_tokens: z.int('must be a whole number: the most tokens that the answer may have').min(0),
  stop_sequences: z
    .array(z.string().min(1, 'must not be empty'), { error: 'must be a list of texts' })
    .nullish(),
  stream: flag,
})
export type MessagesBody = z.output<typeof countable> & Partial<z.output<typeof messagesBody>>

const own = [
  ...['model', 'messages', 'system', 'tools', 'tool_choice', 'thinking', 'output_config', 'output_format'],
  ...['max_tokens', 'stop_sequences', 'stream', 'mcp_servers', 'container'],
  'cache_control', // every prefix is kept anyway, which is all that it asks for
]
const idle: Readonly<Record<string, Idle>> = {
  service_tier: { why: 'there is one tier', neutral: ['auto', 'standard_only'] },
  speed: { why: 'there is one speed', neutral: ['standard'] },
  inference_geo: { why: 'it runs where this server is' },
  context_management: { why: 'the conversation is read as it is sent' },
  diagnostics: { why: 'nothing is diagnosed' },
  user_profile_id: { why: 'it is not stored or sent anywhere' },
  workspace_id: { why: 'it is not stored or sent anywhere' },
  betas: { why: 'there are none here' },
}

export function readMessages(site: Site, fields: Fields, body: MessagesBody): Foreign {
  refuseServices(fields)
  const warnings: Warning[] = []
  const extras = beside(fields, own, idle, site)
  const messages = conversation(body, warnings)
  const model = modelOf(site, fields.model, warnings)
  return {
    warnings: [...extras.warnings, ...warnings, ...thinkingWarnings(body), ...effortWarnings(body)],
    fields: {
      ...extras.fields,
      messages,
      model,
      max_tokens: body.max_tokens,
      stop: body.stop_sequences?.length ? body.stop_sequences : undefined,
      ...toolsOf(body),
      ...formatOf(body),
    },
  }
}

/** Programs made for Claude name Claude; as at DeepSeek's own endpoint that means the model there is. */
function modelOf(site: Site, model: unknown, warnings: Warning[]): unknown {
  if (typeof model !== 'string' || !/^(?:anthropic\/)?claude/.test(model) || site.names.includes(model))
    return model
  const message = `${model.slice(0, 100)} is not served here: the answer is by ${site.names[0]}`
  warnings.push({ field: 'model', message })
  return site.names[0]
}

function refuseServices(fields: Fields): void {
  for (const field of ['mcp_servers', 'container']) {
    const value = fields[field] ?? null
    if (value === null || (Array.isArray(value) && value.length === 0)) continue
    throw new Failure(400, `${field} asks for a service of Anthropic's that is not here; leave it out`, {
      param: field,
    })
  }
}

function thinkingWarnings({ thinking }: MessagesBody): readonly Warning[] {
  if (!thinking || thinking.type === 'disabled') return []
  return [
    {
      field: 'thinking',
      message: 'thinking has no effect: these models do not reason apart from the answer',
    },
  ]
}

function effortWarnings({ output_config }: MessagesBody): readonly Warning[] {
  const names = Object.keys(output_config ?? {}).filter((member) => member !== 'format')
  if (names.length === 0) return []
  const message = `output_config.${names.join(', ')} has no effect: these models do not reason apart from the answer`
  return [{ field: 'output_config', message }]
}

function formatOf({ output_config, output_format }: MessagesBody): Fields {
  const format = (output_config?.format ?? output_format ?? null) as Fields | null
  if (format === null) return {}
  if (format.type !== 'json_schema' || typeof format.schema !== 'object') {
    throw new Failure(400, 'output_config.format must be {"type": "json_schema", "schema"}', {
      param: 'output_config',
    })
  }
  return { response_format: { type: 'json_schema', json_schema: { name: 'answer', schema: format.schema } } }
}

function toolsOf({ tools, tool_choice }: MessagesBody): Fields {
  const offered = (tools ?? []).map(({ type, name, description, input_schema, strict }, i) => {
    if ((type ?? 'custom') !== 'custom' || input_schema === undefined) {
      const what = (type ?? 'custom') === 'custom' ? 'has no input_schema' : `is of type '${type}'`
      throw new Failure(
        400,
        `tools[${i}] ('${name}') ${what}; only tools with an input_schema are known here`,
        {
          param: 'tools',
        },
      )
    }
    const rest = { ...(description && { description }), ...(typeof strict === 'boolean' && { strict }) }
    return { type: 'function', function: { name, ...rest, parameters: input_schema } }
  })
  const named = { auto: 'auto', any: 'required', none: 'none', tool: null } as const
  if (tool_choice?.type === 'tool' && tool_choice.name === undefined) {
    throw new Failure(400, 'tool_choice.name: must be the name of a tool', { param: 'tool_choice' })
  }
  return {
    ...(offered.length > 0 && { tools: offered }),
    ...(tool_choice && {
      tool_choice: named[tool_choice.type] ?? { type: 'function', function: { name: tool_choice.name } },
    }),
    ...(tool_choice?.disable_parallel_tool_use === true && { parallel_tool_calls: false }),
  }
}

type Content = z.output<typeof content>
const result = z.looseObject({ content: content.nullish() })
type Turn = { role: string; content: string | null; tool_calls?: unknown[]; tool_call_id?: string }

function conversation({ system, messages }: MessagesBody, warnings: Warning[]): readonly Fields[] {
  const turns: Turn[] = []
  const calls = new Set<string>()
  if (system !== undefined && system !== null && system.length > 0) {
    turns.push({ role: 'system', content: textOf(system, 'system') })
  }
  for (const [i, { role, content }] of messages.entries()) {
    const at = `messages[${i}].content`
    if (role === 'system') turns.push({ role, content: textOf(content, at) })
    else if (role === 'user') for (const turn of userTurns(content, at, calls)) add(turns, turn)
    else add(turns, assistantTurn(content, at, calls, warnings))
  }
  if (messages.at(-1)?.role !== 'assistant') return turns
  if (turns.at(-1)?.tool_calls !== undefined) {
    throw new Failure(400, 'messages: the last one calls a tool; its tool_result has to follow', {
      param: 'messages',
    })
  }
  return turns.with(-1, { ...(turns.at(-1) as Turn), prefix: true } as Turn) // the answer goes on from here
}

/** Turns of one side that follow one another are one, as Anthropic takes them. */
function add(turns: Turn[], turn: Turn): void {
  const last = turns.at(-1)
  if (last?.role !== turn.role || turn.role === 'tool') {
    turns.push(turn)
    return
  }
  const texts = [last.content, turn.content].filter((text) => text !== null)
  last.content = texts.length > 0 ? texts.join('\n') : null
  if (turn.tool_calls) last.tool_calls = [...(last.tool_calls ?? []), ...turn.tool_calls]
}

function userTurns(content: Content, at: string, calls: ReadonlySet<string>): readonly Turn[] {
  if (typeof content === 'string') return [{ role: 'user', content }]
  const turns: Turn[] = []
  for (const [i, part] of content.entries()) {
    const result = part.type === 'tool_result'
    if (result) turns.push(toolTurn(part, `${at}[${i}]`, calls))
    else add(turns, { role: 'user', content: textOf([part], at, i) })
  }
  return turns.length > 0 ? turns : [{ role: 'user', content: '' }]
}

function toolTurn(part: Fields, at: string, calls: ReadonlySet<string>): Turn {
  const { tool_use_id, is_error } = part
  if (typeof tool_use_id !== 'string' || !calls.has(tool_use_id)) {
    const message = `${at}.tool_use_id: ${JSON.stringify(tool_use_id)} is of no tool_use before it`
    throw new Failure(400, message, { param: 'messages' })
  }
  const text = textOf(parse(result, part).content ?? '', `${at}.content`)
  // a chat has no flag for it, and the model should know
  return {
    role: 'tool',
    tool_call_id: tool_use_id,
    content: is_error === true && !/^error/i.test(text) ? `Error: ${text}` : text,
  }
}

function assistantTurn(content: Content, at: string, calls: Set<string>, warnings: Warning[]): Turn {
  if (typeof content === 'string') return { role: 'assistant', content }
  const texts: string[] = []
  const made: unknown[] = []
  for (const [i, part] of content.entries()) {
    if (part.type === 'tool_use') made.push(callOf(part, `${at}[${i}]`, calls))
    else if (part.type !== 'thinking' && part.type !== 'redacted_thinking') texts.push(textOf([part], at, i))
    else if (!warnings.some(({ field }) => field === 'messages')) {
      const message = 'blocks of thinking are left out: these models do not reason apart from the answer'
      warnings.push({ field: 'messages', message })
    }
  }
  const text = texts.length > 0 || made.length === 0 ? texts.join('\n') : null
  return { role: 'assistant', content: text, ...(made.length > 0 && { tool_calls: made }) }
}

function callOf(part: Fields, at: string, calls: Set<string>): unknown {
  const { id, name, input } = part
  if (typeof id !== 'string' || typeof name !== 'string' || typeof (input ?? {}) !== 'object') {
    throw new Failure(400, `${at}: a tool_use needs "id", "name" and "input" (an object)`, {
      param: 'messages',
    })
  }
  calls.add(id)
  return { id, type: 'function', function: { name, arguments: JSON.stringify(input ?? {}) } }
}

/** The text of a content that may hold nothing else. */
function textOf(content: Content, at: string, first = 0): string {
  if (typeof content === 'string') return content
  const texts = content.map((part, i) => {
    if (part.type === 'text' && typeof part.text === 'string') return part.text
    const what = part.type === 'text' ? 'a text block without "text"' : `a block of type '${part.type}'`
    throw new Failure(400, `${at}[${first + i}]: ${what}; these models read text only`, { param: 'messages' })
  })
  return texts.join('\n')
}
