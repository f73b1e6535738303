// POST /v1/chat/completions: OpenAI's chat, streamed or whole (platform.openai.com/docs/api-reference/chat).
import { z } from 'zod'
import type { PromptProgress } from '../engine/engine.ts'
import type { Result } from '../llm/completion.ts'
import type { Message } from '../tokenizer/template.ts'
import { type Reader, type Reading, type Step, steps, type Whole, whole } from './answer.ts'
import { type Fields, flag, parse, readBody, streamOptions } from './body.ts'
import { Failure } from './failure.ts'
import { type Options, readFields, type Warning } from './fields.ts'
import { patientJson } from './patience.ts'
import { checkModel, now, type Site } from './site.ts'
import { type SseEvent, sse } from './sse.ts'
import { type Caller, sendingOf, start } from './start.ts'
import { readStructure, structureFields } from './structured.ts'
import { planTools, toolFields } from './tools.ts'
import { chatLogprobs, timingsOf, usageOf } from './wire.ts'

/** A chat of any protocol, ready to run. */
export interface ChatCall {
  readonly model: string
  readonly messages: readonly Message[]
  readonly options: Options
  readonly reader: () => Reader
  readonly warnings: readonly Warning[]
}

const part = z.looseObject({ type: z.string({ error: 'must be the kind of the part' }) })
const message = z.looseObject(
  {
    role: z.string({ error: "must be a role such as 'user'" }),
    content: z
      .union([z.string(), z.null(), z.array(part)], {
        error: 'must be text, or a list of {"type": "text", "text"}',
      })
      .optional(),
    tool_calls: z.array(z.looseObject({}), { error: 'must be a list' }).nullish(),
    tool_call_id: z.string({ error: 'must be text' }).nullish(),
    prefix: flag,
  },
  { error: 'must be an object with "role" and "content"' },
)
export const envelope = z.looseObject({
  messages: z
    .array(message, { error: 'must be a list of {"role", "content"}' })
    .min(1, 'must hold at least one message'),
  stream: flag,
  stream_options: streamOptions,
  logprobs: flag,
  top_logprobs: z.int('must be a whole number').min(0, 'must be 0 or more').nullish(),
  return_token_ids: flag,
  return_progress: flag,
  timings_per_token: flag,
})
export type Body = z.output<typeof envelope>

/** Members that this endpoint reads itself. */
const own = [
  ...['model', 'messages', 'stream', 'stream_options', 'logprobs', 'top_logprobs', 'return_token_ids'],
  ...['return_progress', 'timings_per_token', ...toolFields, ...structureFields],
]

export async function chatCompletions(site: Site, request: Request, caller: Caller): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const body = parse(envelope, fields)
  const call = readChat(site, fields, body)
  const stream = body.stream === true
  const asked = { ...caller, endpoint: 'chat', stream, options: call.options }
  const { completion, job } = start(site, request, asked, (options) => site.llm.chat(call.messages, options))
  const reading = { completion, job, n: job.facts.n, reader: call.reader }
  const sending = sendingOf(site, caller, job, call.warnings)
  const shape = { site, call, body, head: { id: `chatcmpl-${caller.id}`, created: now(), model: call.model } }
  if (stream) return sse(chunks(reading, shape), sending)
  return patientJson(
    whole(reading).then(({ answers, result }) => object(answers, result, shape)),
    sending,
  )
}

/** The body's own members into a call; also what other protocols become first. */
export function readChat(site: Site, fields: Fields, body: Body): ChatCall {
  const model = checkModel(site, fields.model)
  const { options, warnings } = readFields(fields, own, site.strict)
  const structure = readStructure(fields)
  const plan = planTools(site, fields, body.messages.map(asMessage), structure !== null)
  const last = body.messages.at(-1)
  return {
    model,
    messages: plan.messages,
    reader: plan.reader,
    warnings: [...warnings, ...plan.warnings],
    options: {
      ...options,
      ...plan.options,
      ...(structure !== null && { structured_outputs: structure }),
      ...(body.return_progress === true && { return_progress: true }),
      ...(last?.prefix === true && prefixed(last.role, body.messages.length - 1)),
      ...logprobsOf(body),
    },
  }
}

/** DeepSeek's chat prefix completion: the last message is the beginning of the answer. */
function prefixed(role: string, index: number): Options {
  if (role === 'assistant') return { continue_final_message: true }
  throw new Failure(
    400,
    `messages[${index}].prefix: only an assistant's message can be a prefix, this is of '${role}'`,
    {
      param: 'messages',
    },
  )
}

function asMessage({ prefix: _, role, content, ...rest }: Body['messages'][number]): Message {
  // the template judges the rest; 'developer' is what OpenAI now calls 'system'
  return { ...rest, role: role === 'developer' ? 'system' : role, content: content ?? null } as Message
}

function logprobsOf({ logprobs, top_logprobs }: Body): Options {
  if (logprobs === true) return { logprobs: top_logprobs ?? 0 }
  if ((top_logprobs ?? 0) > 0) {
    throw new Failure(400, 'top_logprobs needs logprobs: true', { param: 'top_logprobs' })
  }
  return {}
}

interface Shape {
  readonly site: Site
  readonly call: ChatCall
  readonly body: Body
  readonly head: { readonly id: string; readonly created: number; readonly model: string }
}

function object(answers: readonly Whole[], result: Result, { site, call, body, head }: Shape): unknown {
  const { id, ...rest } = head
  return {
    id,
    object: 'chat.completion',
    ...rest,
    system_fingerprint: null,
    choices: answers.map((answer) => ({
      index: answer.index,
      message: {
        role: 'assistant',
        content: answer.content,
        refusal: null,
        ...(answer.toolCalls.length > 0 && { tool_calls: answer.toolCalls }),
      },
      logprobs:
        body.logprobs === true
          ? { content: chatLogprobs(answer.logprobs, site.llm.tokenizer), refusal: null }
          : null,
      finish_reason: answer.finish,
      stop_reason: answer.stopReason,
      ...(body.return_token_ids === true && { token_ids: answer.tokens }),
    })),
    usage: usageOf(result),
    timings: timingsOf(result),
    ...(body.return_token_ids === true && { prompt_token_ids: result.prompt_token_ids }),
    ...(call.warnings.length > 0 && { warnings: call.warnings }),
  }
}

async function* chunks(reading: Reading, shape: Shape): AsyncGenerator<SseEvent, void, undefined> {
  const { call, body, head } = shape
  const { id, ...rest } = head
  const withUsage = body.stream_options?.include_usage === true
  const chunk = (choices: readonly unknown[], more: object = {}): SseEvent => ({
    data: {
      ...{ id, object: 'chat.completion.chunk', ...rest, system_fingerprint: null, choices },
      ...(withUsage && { usage: null }),
      ...more,
    },
  })
  const choice = (index: number, delta: object, more: object = {}) => ({
    index,
    delta,
    logprobs: null,
    finish_reason: null,
    ...more,
  })
  for (let index = 0; index < reading.n; index++) {
    const warnings = index === 0 && call.warnings.length > 0 ? { warnings: call.warnings } : {}
    yield chunk([choice(index, { role: 'assistant', content: '' })], warnings)
  }
  const coming = steps(reading)
  for (;;) {
    const { done, value } = await coming.next()
    if (done) {
      const timings = { timings: timingsOf(value) }
      if (withUsage) yield chunk([], { usage: usageOf(value), ...timings })
      else if (body.timings_per_token === true) yield chunk([], timings)
      break
    }
    if (value.progress)
      yield chunk([choice(value.index, {})], { prompt_progress: progressOf(value.progress) })
    for (const made of choicesOf(value, shape)) yield chunk([choice(value.index, made.delta, made.more)])
  }
  yield { data: '[DONE]' }
}

/** llama.cpp's members. */
function progressOf({ total, cached, processed, ms }: PromptProgress) {
  return { total, cache: cached, processed, time_ms: ms }
}

/** A step as choices of chunks: one a delta, the log-probabilities with the first, the end apart, as OpenAI sends it. */
function choicesOf(step: Step, { site, body }: Shape): { readonly delta: object; readonly more: object }[] {
  const logprobs =
    step.logprobs && step.logprobs.length > 0
      ? { logprobs: { content: chatLogprobs(step.logprobs, site.llm.tokenizer), refusal: null } }
      : {}
  const ids = body.return_token_ids === true && step.tokens.length > 0 ? { token_ids: step.tokens } : {}
  const extra = { ...logprobs, ...ids }
  const deltas: object[] = [...step.deltas]
  if (deltas.length === 0 && Object.keys(extra).length > 0) deltas.push({ content: '' })
  const made = deltas.map((delta, i) => ({ delta, more: i === 0 ? extra : {} }))
  if (step.finish === null) return made
  return [...made, { delta: {}, more: { finish_reason: step.finish, stop_reason: step.stopReason } }]
}
