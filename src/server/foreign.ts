// What protocols beside OpenAI's chat share on their way into it: a request of theirs becomes the members of a chat, so
// that sampling, tools and structure mean the same whoever asks.
import type { Reading } from './answer.ts'
import { type Fields, parse } from './body.ts'
import { type ChatCall, envelope, readChat } from './chat.ts'
import { Failure } from './failure.ts'
import type { Warning } from './fields.ts'
import type { Site } from './site.ts'
import { type Caller, sendingOf, start } from './start.ts'

/** A request in the members of a chat. */
export interface Foreign {
  readonly fields: Fields
  readonly warnings: readonly Warning[]
}

/** Members of a chat that another protocol lacks, or spells its own way. */
const chatOnly = [
  ...['messages', 'n', 'n_cmpl', 'num_return_sequences', 'logprobs', 'top_logprobs', 'stream_options'],
  ...['return_token_ids', 'return_progress', 'timings_per_token', 'functions', 'function_call'],
  ...['max_tokens', 'max_completion_tokens', 'max_new_tokens', 'n_predict', 'add_generation_prompt'],
  ...['continue_final_message', 'stop_strings', 'parallel_tool_calls'],
]

/** Why members of a protocol's own change nothing; a value among `neutral` asks for nothing. */
export interface Idle {
  readonly why: string
  readonly neutral?: readonly unknown[]
}

/** The members that a protocol does not read itself: latent's extras pass, the rest is named. */
export function beside(
  fields: Fields,
  own: readonly string[],
  idle: Readonly<Record<string, Idle>>,
  site: Site,
): Foreign {
  const passed: Record<string, unknown> = {}
  const warnings: Warning[] = []
  for (const [field, value] of Object.entries(fields)) {
    if (own.includes(field) || value === undefined || value === null) continue
    if (Object.hasOwn(idle, field)) {
      const { why, neutral = [] } = idle[field]
      if (!neutral.includes(value)) warnings.push({ field, message: `${field} has no effect: ${why}` })
    } else if (chatOnly.includes(field)) {
      const message = `${field} has no effect: it is a member of /v1/chat/completions, not of this endpoint`
      if (site.strict) throw new Failure(400, message, { param: field, code: 'unknown_parameter' })
      warnings.push({ field, message })
    } else passed[field] = value
  }
  return { fields: passed, warnings }
}

export function readForeign(site: Site, { fields, warnings }: Foreign): ChatCall {
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
  const call = readChat(site, given, parse(envelope, given))
  return { ...call, warnings: [...warnings, ...call.warnings] }
}

/** A call that runs, and what its response needs whichever way it is sent. */
export function run(
  site: Site,
  request: Request,
  caller: Caller,
  {
    call,
    endpoint,
    stream,
  }: { readonly call: ChatCall; readonly endpoint: string; readonly stream: boolean },
) {
  const asked = { ...caller, endpoint, stream, options: call.options }
  const { completion, job } = start(site, request, asked, (options) => site.llm.chat(call.messages, options))
  const reading: Reading = { completion, job, n: 1, reader: call.reader }
  const sending = sendingOf(site, caller, job, call.warnings)
  return { reading, sending, promptTokens: completion.prompt().length }
}
