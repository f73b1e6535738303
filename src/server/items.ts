// Items of a Responses conversation: read from a request, and as messages of a chat. Knows no envelope.
// https://platform.openai.com/docs/api-reference/responses/create
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { type Fields, parse } from './body.ts'
import { Failure } from './failure.ts'
import type { Warning } from './fields.ts'
import type { Item } from './store.ts'

export const newId = (kind: string): string => `${kind}_${randomUUID().replaceAll('-', '')}`

const text = z.string({ error: 'must be text' })
const content = z.union([z.string(), z.array(z.looseObject({ type: z.string() }))], {
  error: 'must be text, or a list of parts such as {"type": "input_text", "text"}',
})
const roles = ['user', 'assistant', 'system', 'developer'] as const
const shapes = {
  message: z.looseObject({
    role: z.enum(roles, { error: `must be one of ${roles.join(', ')}` }),
    content,
  }),
  function_call: z.looseObject({ call_id: text, name: text, arguments: text }),
  function_call_output: z.looseObject({ call_id: text, output: content }),
}

const bad = (message: string): Failure => new Failure(400, message, { param: 'input' })

/** The items of `input`; `find` looks up one that is only referred to. */
export function readItems(
  input: string | readonly Fields[],
  find: (id: string) => Item | null,
  warnings: Warning[],
): readonly Item[] {
  if (typeof input === 'string') {
    const part = { type: 'input_text', text: input }
    return [{ id: newId('msg'), type: 'message', status: 'completed', role: 'user', content: [part] }]
  }
  return input.flatMap((given, i) => readItem(given, `input[${i}]`, find, warnings))
}

function readItem(
  given: Fields,
  at: string,
  find: (id: string) => Item | null,
  warnings: Warning[],
): readonly Item[] {
  const type = given.type ?? ('role' in given ? 'message' : 'item_reference')
  if (type === 'reasoning') {
    if (warnings.some(({ field }) => field === 'input')) return []
    const message = 'items of reasoning are left out: these models do not reason apart from the answer'
    warnings.push({ field: 'input', message })
    return []
  }
  if (type === 'item_reference') {
    const found = find(String(given.id))
    if (found) return [found]
    throw new Failure(
      404,
      `${at}: no item '${String(given.id).slice(0, 100)}' is stored; send the item itself`,
      {
        param: 'input',
      },
    )
  }
  if (typeof type !== 'string' || !Object.hasOwn(shapes, type)) {
    throw bad(`${at}: items of type ${JSON.stringify(type)} are not known here, only ${known}`)
  }
  const item = checked(type as keyof typeof shapes, given, at)
  return [{ ...item, type, id: typeof given.id === 'string' ? given.id : newId(prefixes[type]) }]
}

const prefixes: Readonly<Record<string, string>> = {
  message: 'msg',
  function_call: 'fc',
  function_call_output: 'fco',
}
const known = Object.keys(shapes).join(', ')

function checked(type: keyof typeof shapes, given: Fields, at: string): Fields {
  try {
    const item: Fields = parse(shapes[type], given)
    textOf((item.content ?? item.output ?? '') as Content, `${type === 'message' ? 'content' : 'output'}`)
    return { status: 'completed', ...item }
  } catch (error) {
    throw error instanceof Failure ? bad(`${at}.${error.message}`) : error
  }
}

interface Turn {
  readonly role: string
  content: string | null
  tool_calls?: unknown[]
  readonly tool_call_id?: string
}

/** A conversation as a chat: the calls of one answer belong to one message, with the text before them. */
export function messagesOf(items: readonly Item[], instructions: string | null): readonly Fields[] {
  const turns: Turn[] = instructions === null ? [] : [{ role: 'system', content: instructions }]
  for (const item of items) {
    if (item.type === 'message') {
      turns.push({ role: String(item.role), content: textOf(item.content as Content, 'content') })
    } else if (item.type === 'function_call') {
      addCall(turns, item)
    } else {
      turns.push({
        role: 'tool',
        tool_call_id: String(item.call_id),
        content: textOf(item.output as Content, 'output'),
      })
    }
  }
  return turns.map((turn) => ({ ...turn }))
}

function addCall(turns: Turn[], { call_id, name, arguments: given }: Item): void {
  const call = { id: call_id, type: 'function', function: { name, arguments: given } }
  const last = turns.at(-1)
  if (last?.role !== 'assistant') turns.push({ role: 'assistant', content: null, tool_calls: [call] })
  else last.tool_calls = [...(last.tool_calls ?? []), call]
}

type Content = z.output<typeof content>

function textOf(content: Content, at: string): string {
  if (typeof content === 'string') return content
  const texts = content.map((part, i) => {
    const said = part.text ?? part.refusal
    if (/^(?:(?:input_|output_)?text|refusal)$/.test(part.type) && typeof said === 'string') return said
    throw bad(`${at}[${i}]: a part of type '${part.type}'; these models read text only`)
  })
  return texts.join('\n')
}
