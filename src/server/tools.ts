// Tools (functions) in chats. V2.5 has tokens for calls and its template writes them; for checkpoints that have none
// (V2-Chat-0628, V2-Lite, Coder-V2) calls are blocks of JSON, asked for in the system message and enforced by a grammar.
// Both look the same to clients.
import { z } from 'zod'
import type { Message, Template } from '../tokenizer/template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { plainReader, type Reader } from './answer.ts'
import { type Fields, parse } from './body.ts'
import { createCallReader, nativeSyntax, promptedSyntax } from './calls.ts'
import { Failure } from './failure.ts'
import type { Options, Warning } from './fields.ts'
import type { Site } from './site.ts'
import { callGrammar, type Tool, type ToolChoice } from './toolgrammar.ts'

export interface ToolPlan {
  readonly messages: readonly Message[]
  readonly options: Options
  readonly reader: () => Reader
  readonly warnings: readonly Warning[]
}

/** Members of a request that this file reads. */
export const toolFields = ['tools', 'tool_choice', 'parallel_tool_calls', 'functions', 'function_call']

const definition = z.looseObject({
  name: z
    .string({ error: 'must be the name of a function' })
    .regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, underscores, dots or dashes'),
  description: z.string({ error: 'must be text' }).nullish(),
  strict: z.boolean({ error: 'must be true or false' }).nullish(),
  parameters: z.record(z.string(), z.unknown(), { error: 'must be a JSON schema of an object' }).nullish(),
})
const shape = z.looseObject({
  tools: z
    .array(
      z.looseObject({ type: z.string({ error: "must be 'function'" }), function: z.unknown().optional() }),
      {
        error: 'must be a list of {"type": "function", "function": {...}}',
      },
    )
    .nullish(),
  functions: z.array(z.unknown(), { error: 'must be a list of functions' }).nullish(),
  parallel_tool_calls: z.boolean({ error: 'must be true or false' }).nullish(),
})

export function planTools(
  site: Site,
  fields: Fields,
  messages: readonly Message[],
  structured: boolean,
): ToolPlan {
  const tools = readTools(fields)
  const choice = readChoice(fields, tools)
  const native = hasNativeCalls(site.llm.tokenizer, site.llm.template)
  const written = native ? messages : messages.reduce(spellCalls, [])
  const active = tools.length > 0 && choice !== 'none'
  if (!active) return { messages: written, options: {}, reader: plainReader, warnings: [] }
  if (structured) {
    throw new Failure(
      400,
      "an answer cannot be both structured (response_format) and a call of tools; leave one out, or send tool_choice 'none'",
      { param: 'response_format' },
    )
  }
  const offered = typeof choice === 'object' ? tools.filter(({ name }) => name === choice.name) : tools
  const parallel = fields.parallel_tool_calls !== false
  const grammar = callGrammar(offered, choice, parallel, native)
  return {
    messages: announce(written, native ? nativeText(offered) : promptedText(offered, choice, parallel)),
    options: { ...(native && { skip_special_tokens: false }), ...grammar.options },
    reader: () =>
      createCallReader(native ? nativeSyntax : promptedSyntax, parallel ? Number.POSITIVE_INFINITY : 1),
    warnings: grammar.warnings,
  }
}

function readTools(fields: Fields): readonly Tool[] {
  const { tools, functions } = parse(shape, fields)
  const listed = (tools ?? []).map((tool, i) => {
    if (tool.type === 'function') return { value: tool.function, where: `tools[${i}].function` }
    throw new Failure(400, `tools[${i}].type is '${tool.type}'; only 'function' is known here`, {
      param: 'tools',
    })
  })
  const old = (functions ?? []).map((value, i) => ({ value, where: `functions[${i}]` }))
  const found = [...listed, ...old].map(({ value, where }): Tool => {
    const read = definition.safeParse(value)
    if (!read.success) {
      const { path, message } = read.error.issues[0]
      throw new Failure(400, `${[where, ...path].join('.')}: ${message}`, { param: where.split('[')[0] })
    }
    const { name, description, parameters, strict } = read.data
    return {
      name,
      description: description ?? undefined,
      parameters: parameters ?? { type: 'object', properties: {} },
      strict: strict === true,
    }
  })
  const twice = found.find(({ name }, i) => found.findIndex((tool) => tool.name === name) !== i)
  if (twice) throw new Failure(400, `two tools are named '${twice.name}'`, { param: 'tools' })
  return found
}

function readChoice(fields: Fields, tools: readonly Tool[]): ToolChoice {
  const given = fields.tool_choice ?? fields.function_call ?? (tools.length > 0 ? 'auto' : 'none')
  const param = (fields.tool_choice ?? null) === null ? 'function_call' : 'tool_choice'
  if (given === 'none') return 'none'
  if (given === 'auto') return tools.length > 0 ? 'auto' : 'none'
  if (given === 'required' || given === 'any') {
    if (tools.length > 0) return 'required'
    throw new Failure(400, `${param} is '${given}', but there are no tools`, { param })
  }
  const { name, function: inner } = (typeof given === 'object' ? given : {}) as Fields
  const wanted = (inner as Fields | undefined)?.name ?? name
  if (typeof wanted !== 'string') {
    throw new Failure(
      400,
      `${param} is ${JSON.stringify(given)}; it must be 'auto', 'none', 'required' or {"type": "function", "function": {"name"}}`,
      { param },
    )
  }
  if (tools.some((tool) => tool.name === wanted)) return { name: wanted }
  throw new Failure(400, `${param} names '${wanted}', which is not among the tools`, { param })
}

/** Tokens for calls, and a template that writes them. */
export function hasNativeCalls(tokenizer: Tokenizer, template: Template): boolean {
  return tokenizer.id(nativeSyntax.open) !== null && template.source.includes(nativeSyntax.open)
}

/** The tools' description at the end of the system message, or as one. */
function announce(messages: readonly Message[], text: string): readonly Message[] {
  const at = messages.findLastIndex(({ role }) => role === 'system')
  if (at < 0) return [{ role: 'system', content: text }, ...messages]
  const own = messages[at]
  return messages.with(at, { ...own, content: `${textOf(own)}\n\n${text}` })
}

const described = ({ name, description, parameters }: Tool) => ({ name, description, parameters })

/** As V2.5's card writes them. */
function nativeText(tools: readonly Tool[]): string {
  const list = tools.map(
    (tool) => `- \`${tool.name}\`:\n\`\`\`json\n${JSON.stringify(described(tool), null, 4)}\n\`\`\``,
  )
  return `## Tools\n\n### Function\n\nYou have the following functions available:\n\n${list.join('\n\n')}`
}

function promptedText(tools: readonly Tool[], choice: ToolChoice, parallel: boolean): string {
  const list = tools.map((tool) => JSON.stringify(described(tool)))
  const must = choice === 'auto' ? 'If a function helps to answer, call it' : 'Call a function'
  const more = parallel ? ' Write one block for each call.' : ' Call one function only.'
  return [
    '## Tools\n\nYou can call these functions, described by JSON schemas:\n',
    ...list,
    `\n${must} by writing a block of exactly this form, and nothing after it:\n`,
    `${promptedSyntax.open}\n{"name": "the function's name", "arguments": {"parameter": "value"}}\n${promptedSyntax.close}\n`,
    `You get the results in the next message.${more}`,
  ].join('\n')
}

/** Calls and results as text, for templates that have no place for them. */
function spellCalls(done: readonly Message[], message: Message): readonly Message[] {
  const { role, tool_calls, tool_call_id, ...rest } = message
  if (role === 'assistant' && Array.isArray(tool_calls) && tool_calls.length > 0) {
    const blocks = tool_calls.map((call, i) => spellCall(call as Fields, i))
    return [
      ...done,
      { ...rest, role, content: [textOf(message), ...blocks].filter((text) => text !== '').join('\n') },
    ]
  }
  if (role !== 'tool' && role !== 'function') return [...done, message]
  const id = tool_call_id === undefined || tool_call_id === null ? '' : ` id=${JSON.stringify(tool_call_id)}`
  const result = `<tool_response${id}>\n${textOf(message)}\n</tool_response>`
  const before = done.at(-1)
  const follows = before?.role === 'user' && textOf(before).startsWith('<tool_response')
  if (follows) return done.with(-1, { ...before, content: `${textOf(before)}\n${result}` })
  return [...done, { role: 'user', content: result }]
}

function spellCall(call: Fields, index: number): string {
  const { name, arguments: given } = (call.function ?? {}) as Fields
  if (typeof name !== 'string') {
    throw new Failure(400, `messages: tool_calls[${index}].function.name is missing`, { param: 'messages' })
  }
  let value: unknown = given ?? {}
  try {
    if (typeof given === 'string') value = JSON.parse(given)
  } catch {
    value = given // not JSON: shown as the text it is
  }
  return `${promptedSyntax.open}\n${JSON.stringify({ name, arguments: value })}\n${promptedSyntax.close}`
}

function textOf({ content }: Message): string {
  if (typeof content === 'string') return content
  return (content ?? []).map((part) => part.text).join('\n')
}
