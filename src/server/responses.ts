// /v1/responses: OpenAI's newer protocol. Answers are stored for a while, so that the next request need only say what is
// new; one may also be made in the background and asked for later. What a request may hold is in asked.ts.
import { encodeChat } from '../llm/prompt.ts'
import type { Reading } from './answer.ts'
import { type ResponsesBody, readConversation, responsesBody } from './asked.ts'
import { tell } from './blocks.ts'
import { parse, readBody } from './body.ts'
import type { ChatCall } from './chat.ts'
import { Failure, failureOf } from './failure.ts'
import { readForeign, run } from './foreign.ts'
import { newId } from './items.ts'
import { createOutput, type Output, type TypedEvent } from './output.ts'
import { patientJson } from './patience.ts'
import { now, type Site } from './site.ts'
import { type SseEvent, sse } from './sse.ts'
import type { Caller } from './start.ts'
import type { Entry, Item, StoredResponse } from './store.ts'
import { chatLogprobs } from './wire.ts'

/** Keeps a response where that was asked for. */
type Keep = (response: StoredResponse, cancel?: () => void) => void

export async function createResponse(site: Site, request: Request, caller: Caller): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const body = parse(responsesBody, fields)
  const conversation = readConversation(site, fields, body, caller.key)
  const call = readForeign(site, conversation)
  const keep: Keep = (response, cancel) => {
    if (body.store === false) return
    site.responses.put({ key: caller.key, input: conversation.items, response, cancel: cancel ?? null })
  }
  const output = outputOf(site, call, body)
  const stream = body.stream === true
  // nobody's leaving ends what is made in the background
  const asker = body.background === true ? new Request(request.url) : request
  const { reading, sending } = run(site, asker, caller, { call, endpoint: 'responses', stream })
  if (body.background === true) return inBackground(site, caller, { reading, output, keep })
  if (!stream) return patientJson(wholeResponse(reading, output, keep), sending)
  return sse(responseEvents(reading, output, keep), {
    ...sending,
    failed: (failure) => {
      const response = output.failed(failure)
      keep(response)
      return [named(output.event('response.failed', response))]
    },
  })
}

function outputOf(site: Site, call: ChatCall, body: ResponsesBody): Output {
  const { temperature = 1, top_p = 1 } = site.llm.generation.sampling
  return createOutput({
    id: newId('resp'),
    created: now(),
    model: call.model,
    body,
    defaults: { temperature, top_p },
    warnings: call.warnings,
    logprobs: (step) => (step.logprobs ? chatLogprobs(step.logprobs, site.llm.tokenizer) : []),
  })
}

export async function wholeResponse(reading: Reading, output: Output, keep: Keep): Promise<StoredResponse> {
  const coming = tell(reading)
  for (;;) {
    const { done, value } = await coming.next()
    if (done) {
      const response = output.ended(value)
      keep(response)
      return response
    }
    output.step(value.events, value.step)
  }
}

const named = (data: TypedEvent): SseEvent => ({ event: data.type, data })

export async function* responseEvents(
  reading: Reading,
  output: Output,
  keep: Keep,
): AsyncGenerator<SseEvent, void, undefined> {
  yield named(output.event('response.created', output.now('in_progress')))
  yield named(output.event('response.in_progress', output.now('in_progress')))
  const coming = tell(reading)
  try {
    for (;;) {
      const { done, value } = await coming.next()
      if (done) {
        const response = output.ended(value)
        keep(response) // before the client hears of it: it may refer to it at once
        yield named(output.event(`response.${response.status}`, response))
        return
      }
      for (const event of output.step(value.events, value.step)) yield named(event)
    }
  } finally {
    await coming.return(undefined as never)
  }
}

function inBackground(
  site: Site,
  caller: Caller,
  { reading, output, keep }: { readonly reading: Reading; readonly output: Output; readonly keep: Keep },
): Response {
  let gone = false
  const cancel = (): void => {
    gone = true
    reading.job.abort()
  }
  const begun = output.now('in_progress')
  keep(begun, cancel)
  wholeResponse(reading, output, (response) => {
    if (!gone) keep(response)
  }).catch((error: unknown) => {
    if (gone) return
    const failure = failureOf(error)
    if (failure.status >= 500) site.report(error, caller.id)
    keep(output.failed(failure))
  })
  return Response.json(begun)
}

function stored(site: Site, caller: Caller, id: string): Entry {
  const entry = site.responses.get(caller.key, id)
  if (entry) return entry
  throw unknown(id)
}

function unknown(id: string): Failure {
  return new Failure(404, `Response with id '${id.slice(0, 100)}' not found.`, { code: 'response_not_found' })
}

export function getResponse(site: Site, request: Request, caller: Caller, id: string): Response {
  if (new URL(request.url).searchParams.get('stream') === 'true') {
    throw new Failure(400, 'a stored response is not streamed again; leave stream out', { param: 'stream' })
  }
  return Response.json(stored(site, caller, id).response)
}

export function deleteResponse(site: Site, caller: Caller, id: string): Response {
  const entry = site.responses.delete(caller.key, id)
  if (entry === null) throw unknown(id)
  entry.cancel?.()
  return Response.json({ id, object: 'response', deleted: true })
}

export function cancelResponse(site: Site, caller: Caller, id: string): Response {
  const entry = stored(site, caller, id)
  if (entry.response.background !== true) {
    throw new Failure(400, 'only a response made in the background can be cancelled; close the connection')
  }
  if (entry.cancel === null) return Response.json(entry.response)
  entry.cancel()
  const response = { ...entry.response, status: 'cancelled' }
  site.responses.put({ ...entry, response, cancel: null })
  return Response.json(response)
}

/** A page of what came before the answer, newest first unless asked otherwise. */
export function inputItems(site: Site, request: Request, caller: Caller, id: string): Response {
  const query = new URL(request.url).searchParams
  const limit = Number(query.get('limit') ?? 20)
  if (!Number.isInteger(limit) || limit < 1 || limit > 100) {
    throw new Failure(400, 'limit must be a whole number from 1 to 100', { param: 'limit' })
  }
  const { input } = stored(site, caller, id)
  const items: readonly Item[] = query.get('order') === 'asc' ? input : input.toReversed()
  const after = query.get('after')
  const first = after === null ? 0 : items.findIndex((item) => item.id === after) + 1
  if (after !== null && first === 0) {
    throw new Failure(400, `after: there is no item '${after.slice(0, 100)}'`, { param: 'after' })
  }
  const data = items.slice(first, first + limit)
  return Response.json({
    ...{ object: 'list', data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null },
    has_more: first + limit < items.length,
  })
}

/** What a request's prompt counts, without an answer. */
export async function inputTokens(site: Site, request: Request, caller: Caller): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const conversation = readConversation(site, fields, parse(responsesBody, fields), caller.key)
  const call = readForeign(site, conversation)
  const ids = encodeChat(call.messages, call.options, site.llm.template)
  return Response.json({ object: 'response.input_tokens', input_tokens: ids.length })
}
