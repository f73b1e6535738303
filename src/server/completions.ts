// POST /v1/completions: raw prompts, several at once, with echo (so that evaluation harnesses can read the likelihood of
// a text) and suffix (fill in the middle). https://platform.openai.com/docs/api-reference/completions
import { z } from 'zod'
import type { Choice } from '../engine/logprobs.ts'
import type { Completion, Result } from '../llm/completion.ts'
import { encodePrompt } from '../llm/prompt.ts'
import { plainReader, type Step, steps, type Whole, whole } from './answer.ts'
import { type Fields, flag, parse, readBody, streamOptions } from './body.ts'
import { Failure } from './failure.ts'
import { type Options, readFields, type Warning } from './fields.ts'
import { type Job, splitJob, sumOf } from './job.ts'
import { fimPrompt } from './middle.ts'
import { patientJson } from './patience.ts'
import { checkModel, now, type Site } from './site.ts'
import { type SseEvent, sse } from './sse.ts'
import { type Caller, sendingOf, startAll } from './start.ts'
import { readStructure, structureFields } from './structured.ts'
import { textLogprobs, timingsOf, usageOf } from './wire.ts'

const ids = z.array(z.int()).min(1)
export const envelope = z.looseObject({
  prompt: z.union([z.string(), ids, z.array(z.string()).min(1), z.array(ids).min(1)], {
    error: 'must be a text, a list of texts, a list of token ids, or a list of such lists',
  }),
  stream: flag,
  stream_options: streamOptions,
  suffix: z.string({ error: 'must be text' }).nullish(),
  echo: flag,
  logprobs: z
    .union([z.int(), z.boolean()], {
      error: 'must be a whole number, how many of the likeliest tokens to tell',
    })
    .nullish(),
  return_token_ids: flag,
})
type Body = z.output<typeof envelope>

const own = [
  ...['model', 'prompt', 'stream', 'stream_options', 'suffix', 'echo', 'logprobs', 'return_token_ids'],
  ...structureFields,
]

/** What one request asks, for each of its prompts. */
interface Call {
  readonly site: Site
  readonly body: Body
  readonly warnings: readonly Warning[]
  readonly n: number
  readonly head: { readonly id: string; readonly created: number; readonly model: string }
}

/** How long answers are: where a request does not say, and at most. */
export interface Lengths {
  readonly usual: number
  readonly most: number
}

const openai: Lengths = { usual: 16, most: Number.MAX_SAFE_INTEGER }

export function completions(site: Site, request: Request, caller: Caller): Promise<Response> {
  return complete(site, request, caller, openai)
}

export async function complete(
  site: Site,
  request: Request,
  caller: Caller,
  lengths: Lengths,
): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const body = parse(envelope, fields)
  const model = checkModel(site, fields.model)
  const { options, warnings } = readFields(fields, own, site.strict)
  const prompts = promptsOf(body, site)
  const stream = body.stream === true
  const asked = {
    ...caller,
    endpoint: 'completions',
    stream,
    options: { max_tokens: lengths.usual, ...optionsOf(body, fields), ...options },
  }
  checkLength(asked.options.max_tokens, lengths)
  const { completions: made, job } = startAll(site, request, asked, prompts)
  const call = {
    site,
    body,
    warnings,
    n: job.facts.n / prompts.length,
    head: { id: `cmpl-${caller.id}`, created: now(), model },
  }
  const readings = splitJob(job, prompts.length).map((part, i) => reading(made[i], part, call.n))
  const sending = sendingOf(site, caller, job, warnings)
  if (stream) return sse(chunks(readings, made, call), sending)
  return patientJson(
    Promise.all(readings.map(whole)).then((all) => object(all, call)),
    sending,
  )
}

const reading = (completion: Completion, job: Job, n: number) => ({ completion, job, n, reader: plainReader })

function promptsOf({ prompt, suffix }: Body, site: Site): readonly (readonly number[])[] {
  const { tokenizer } = site.llm
  const list = typeof prompt === 'string' || typeof prompt[0] === 'number' ? [prompt] : prompt
  return (list as readonly (string | readonly number[])[]).map((one) => {
    if ((suffix ?? null) === null) return encodePrompt(one, {}, tokenizer)
    if (typeof one === 'string') return fimPrompt(one, suffix ?? '', tokenizer)
    throw new Failure(400, 'suffix needs a prompt of text, token ids given', { param: 'suffix' })
  })
}

function checkLength(tokens: unknown, { most }: Lengths): void {
  if (typeof tokens !== 'number' || tokens <= most) return
  throw new Failure(
    400,
    `max_tokens is ${tokens}, here at most ${most}, as at DeepSeek; /v1/completions has no such limit`,
    { param: 'max_tokens' },
  )
}

/** With echo the prompt's log-probabilities come along. */
function optionsOf({ echo, logprobs, suffix, stream }: Body, fields: Fields): Options {
  if (echo === true && stream === true && (logprobs ?? false) !== false) {
    throw new Failure(400, 'echo with logprobs cannot be streamed; send stream: false', { param: 'stream' })
  }
  if (echo === true && (suffix ?? null) !== null) {
    throw new Failure(400, 'echo and suffix cannot be had together', { param: 'echo' })
  }
  const count = logprobs === true ? 0 : logprobs === false ? null : (logprobs ?? null)
  const structure = readStructure(fields)
  return {
    logprobs: count,
    ...(echo === true && count !== null && { prompt_logprobs: count }),
    ...(structure !== null && { structured_outputs: structure }),
  }
}

/** The prompt before the answer where it was asked for, and the log-probabilities of what is shown. */
function shown(
  { body, site }: Call,
  prompt: { readonly ids: readonly number[]; readonly logprobs: Result['prompt_logprobs'] } | null,
  text: string,
  tokens: readonly number[],
  choices: readonly Choice[],
  offset: number,
) {
  const { tokenizer } = site.llm
  const before = prompt ? prompt.ids.map((token, i) => ({ token, choice: prompt.logprobs?.[i] ?? null })) : []
  const after = choices.map((choice) => ({ token: choice.token, choice }))
  const wanted = body.logprobs !== undefined && body.logprobs !== null && body.logprobs !== false
  // what the text leaves out takes no place in it
  const visible = (token: number, i: number): boolean =>
    !tokenizer.special.has(token) || (i >= before.length && body.skip_special_tokens === false)
  return {
    text: (prompt ? tokenizer.decode(prompt.ids, { skipSpecialTokens: true }) : '') + text,
    logprobs: wanted ? textLogprobs([...before, ...after], tokenizer, offset, visible) : null,
    ...(body.return_token_ids === true && {
      token_ids: tokens,
      ...(prompt && { prompt_token_ids: prompt.ids }),
    }),
  }
}

function object(
  all: readonly { readonly answers: readonly Whole[]; readonly result: Result }[],
  call: Call,
): unknown {
  const { body, head, n, warnings } = call
  const { id, ...rest } = head
  const total = sumOf(all.map(({ result }) => result))
  return {
    id,
    object: 'text_completion',
    ...rest,
    system_fingerprint: null,
    choices: all.flatMap(({ answers, result }, at) =>
      answers.map((answer) => {
        const prompt =
          body.echo === true ? { ids: result.prompt_token_ids, logprobs: result.prompt_logprobs } : null
        return {
          index: at * n + answer.index,
          ...shown(call, prompt, answer.content ?? '', answer.tokens, answer.logprobs, 0),
          finish_reason: answer.finish,
          stop_reason: answer.stopReason,
          ...(result.prompt_logprobs && {
            prompt_logprobs: body.echo === true ? undefined : result.prompt_logprobs,
          }),
        }
      }),
    ),
    usage: usageOf(total),
    timings: timingsOf(total),
    ...(warnings.length > 0 && { warnings }),
  }
}

async function* chunks(
  readings: readonly ReturnType<typeof reading>[],
  made: readonly Completion[],
  call: Call,
): AsyncGenerator<SseEvent, void, undefined> {
  const { body, head, n, warnings } = call
  const { id, ...rest } = head
  const withUsage = body.stream_options?.include_usage === true
  const chunk = (choices: readonly unknown[], more: object = {}): SseEvent => ({
    data: {
      id,
      object: 'text_completion',
      ...rest,
      system_fingerprint: null,
      choices,
      ...(withUsage && { usage: null }),
      ...more,
    },
  })
  const lengths = Array.from({ length: readings.length * n }, () => 0)
  if (warnings.length > 0) yield chunk([], { warnings })
  if (body.echo === true) {
    for (const [index] of lengths.entries()) {
      const ids = made[Math.floor(index / n)].prompt()
      yield chunk([{ index, ...shown(call, { ids, logprobs: null }, '', [], [], 0), finish_reason: null }])
    }
  }
  const results: Result[] = []
  for await (const { at, step, result } of merged(readings.map(steps))) {
    if (result) results.push(result)
    if (!step) continue
    const index = at * n + step.index
    const text = step.deltas.map(({ content }) => content ?? '').join('')
    const end = { finish_reason: step.finish, stop_reason: step.stopReason }
    if (text === '' && step.tokens.length === 0 && step.finish === null) continue
    yield chunk([
      { index, ...shown(call, null, text, step.tokens, step.logprobs ?? [], lengths[index]), ...end },
    ])
    lengths[index] += text.length
  }
  const total = sumOf(results)
  if (withUsage) yield chunk([], { usage: usageOf(total), timings: timingsOf(total) })
  yield { data: '[DONE]' }
}

interface Merged {
  readonly at: number
  readonly step: Step | null
  readonly result: Result | null
}

/** Steps of several prompts as they come. */
async function* merged(
  sources: readonly AsyncGenerator<Step, Result, undefined>[],
): AsyncGenerator<Merged, void, undefined> {
  const ask = (at: number) => sources[at].next().then((given) => ({ at, given }))
  const open = new Map(sources.map((_, at) => [at, ask(at)]))
  try {
    while (open.size > 0) {
      const { at, given } = await Promise.race(open.values())
      if (given.done) open.delete(at)
      else open.set(at, ask(at))
      yield given.done ? { at, step: null, result: given.value } : { at, step: given.value, result: null }
    }
  } finally {
    for (const at of open.keys()) void sources[at].return(undefined as never).catch(() => undefined)
    for (const waiting of open.values()) waiting.catch(() => undefined)
  }
}
