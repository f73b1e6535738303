// Tools (functions) in chats.
import type { Message } from '../tokenizer/template.ts'
import { plainReader, type Reader } from './answer.ts'
import type { Fields } from './body.ts'
import type { Options, Warning } from './fields.ts'
import type { Site } from './site.ts'

export interface ToolPlan {
  readonly messages: readonly Message[]
  readonly options: Options
  readonly reader: () => Reader
  readonly warnings: readonly Warning[]
}

/** Members of a request that this file reads. */
export const toolFields = ['tools', 'tool_choice', 'parallel_tool_calls', 'functions', 'function_call']

export function planTools(
  _site: Site,
  _fields: Fields,
  messages: readonly Message[],
  _structured: boolean,
): ToolPlan {
  return { messages, options: {}, reader: plainReader, warnings: [] }
}
