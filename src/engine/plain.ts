// Errors that survive the crossing between threads.
import { CapacityError, CheckpointError, KernelError, RequestError, ShapeError } from '../tensor/error.ts'

export interface PlainError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly field: string | null
  readonly problems: readonly string[]
}

export function toPlain(error: unknown): PlainError {
  const it = error instanceof Error ? error : new Error(String(error))
  return {
    name: it.name,
    message: it.message,
    stack: it.stack,
    field: it instanceof RequestError ? it.field : null,
    problems: it instanceof CheckpointError ? it.problems : [],
  }
}

export function fromPlain(plain: PlainError): Error {
  const error = revive(plain)
  if (plain.stack !== undefined) error.stack = plain.stack
  return error
}

function revive({ name, message, field, problems }: PlainError): Error {
  switch (name) {
    case 'ShapeError':
      return new ShapeError(message)
    case 'CheckpointError':
      return new CheckpointError(message.split('\n')[0], problems)
    case 'RequestError':
      return new RequestError(message, field)
    case 'CapacityError':
      return new CapacityError(message)
    case 'KernelError':
      return new KernelError(message)
    default:
      return Object.assign(new Error(message), { name })
  }
}
