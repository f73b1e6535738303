// In whose words a path's failures are said: OpenAI's everywhere, except where Anthropic's clients ask.
import type { Failure } from './failure.ts'

const anthropic = /^\/(?:anthropic(?:\/|$)|v1\/messages(?:\/|$))/

/** Types as Anthropic names them. */
const types: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  408: 'timeout_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

export function anthropicError(failure: Failure, id: string) {
  const { status, code } = failure
  const type = types[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error')
  // agents look for these words to know that the conversation has to be shortened
  const opening = code === 'context_length_exceeded' ? 'prompt is too long: ' : ''
  return { type: 'error', error: { type, message: opening + failure.message }, request_id: id } as const
}

/** A failure as the clients of this path read it. */
export function failureResponse(failure: Failure, path: string, id: string): Response {
  if (!anthropic.test(path)) return failure.response()
  // 529 is how Anthropic says "overloaded": its clients retry it as they retry 503, and have a class for it
  const status = failure.status === 503 ? 529 : failure.status
  const headers = { ...failure.headers, 'request-id': id }
  return Response.json(anthropicError(failure, id), { status, headers })
}
