// What a client is told when a request cannot be answered: status, headers and OpenAI's error object, one table for
// every way to fail. What the server itself got wrong is not described to strangers; the log has it.
import { CapacityError, RequestError } from '../tensor/error.ts'

export interface FailureFields {
  /** The field at fault as the client spells it. */
  readonly param?: string | null
  readonly code?: string | null
  readonly headers?: Readonly<Record<string, string>>
  readonly cause?: unknown
}

/** Types as OpenAI and vLLM name them. */
const types: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  408: 'timeout_error',
  413: 'invalid_request_error',
  415: 'invalid_request_error',
  429: 'rate_limit_error',
  431: 'invalid_request_error',
  499: 'client_closed_request',
  502: 'upstream_error',
  503: 'overloaded_error',
}

/** An error that already knows its status: what the server itself refuses. */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly status: number
  readonly param: string | null
  readonly code: string | null
  readonly headers: Readonly<Record<string, string>>

  constructor(status: number, message: string, fields: FailureFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause })
    this.status = status
    this.param = fields.param ?? null
    this.code = fields.code ?? null
    this.headers = fields.headers ?? {}
  }

  get type(): string {
    return types[this.status] ?? 'server_error'
  }

  /** OpenAI's error object (openai-node's `APIError` reads every member). */
  get body(): { readonly error: ErrorObject } {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } }
  }

  response(): Response {
    return Response.json(this.body, { status: this.status, headers: this.headers })
  }
}

export interface ErrorObject {
  readonly message: string
  readonly type: string
  readonly param: string | null
  readonly code: string | null
}

/** Any error as a client may see it. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error
  if (error instanceof RequestError) return new Failure(400, error.message, { param: error.field })
  if (error instanceof CapacityError) {
    return new Failure(400, error.message, { code: 'context_length_exceeded' })
  }
  if (error instanceof Error && error.name === 'AbortError') {
    return new Failure(499, 'the client went away before the answer ended', { cause: error })
  }
  return new Failure(500, 'the server failed on this request; its log says how', { cause: error })
}
