// One turn of a chat as callers write it, checked before a template sees it. Knows shapes, not what roles
// mean.

import { RequestError } from '../tensor/error.ts'
import { type Fields, isFields, show } from './fields.ts'

export interface Message {
  readonly role: string
  /** null only where tool calls say it all. Parts are joined by newlines, as other servers do. */
  readonly content: string | null | readonly { readonly type: 'text'; readonly text: string }[]
  readonly name?: string
  readonly tool_calls?: readonly unknown[]
  readonly tool_call_id?: string
}

/** The messages as a template takes them: every content a string, or null beside tool calls. */
export function checkMessages(messages: unknown): readonly Fields[] {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new RequestError(`messages is ${show(messages)}, wanted a list of at least one message`, 'messages')
  }
  return messages.map((message: unknown, index) => {
    const field = `messages[${index}]`
    if (!isFields(message)) throw new RequestError(`${field} is ${show(message)}, wanted an object`, field)
    if (typeof message.role !== 'string' || message.role === '') {
      throw new RequestError(
        `${field}.role is ${show(message.role)}, wanted a name such as "user"`,
        `${field}.role`,
      )
    }
    return { ...message, content: joinContent(message, `${field}.content`) }
  })
}

function joinContent(message: Fields, field: string): string | null {
  const { content, role } = message
  if (typeof content === 'string') return content
  if (content === null || content === undefined) {
    if (role === 'assistant' && Array.isArray(message.tool_calls) && message.tool_calls.length > 0)
      return null
    throw new RequestError(`${field} is ${show(content)}, wanted text (or tool_calls of an assistant)`, field)
  }
  if (!Array.isArray(content))
    throw new RequestError(`${field} is ${show(content)}, wanted a string or text parts`, field)
  return content
    .map((part: unknown, index) => {
      if (isFields(part) && part.type === 'text' && typeof part.text === 'string') return part.text
      throw new RequestError(
        `${field}[${index}] is ${show(part)}, wanted {"type": "text", "text": "..."}`,
        field,
      )
    })
    .join('\n')
}
