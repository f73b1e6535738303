// What crosses between a program's thread and the engine's, one type each way, and errors that survive the crossing.
import type { LoadProgress } from '../model/load.ts'
import { CapacityError, CheckpointError, KernelError, RequestError, ShapeError } from '../tensor/error.ts'
import type { EngineLimits, EngineRequest, EngineStats, TokenEvent } from './engine.ts'
import type { EngineOptions } from './open.ts'

export interface ThreadData {
  readonly directory: string
  readonly options: EngineOptions
}

export type ToThread =
  | { readonly kind: 'generate'; readonly id: number; readonly request: EngineRequest }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'stats'; readonly id: number }
  | { readonly kind: 'close' }

/** An answer's next event; `null` after the last one. */
export interface Delivery {
  readonly id: number
  readonly event: TokenEvent | null
  readonly error?: PlainError
}

export type FromThread =
  | { readonly kind: 'progress'; readonly at: LoadProgress }
  | { readonly kind: 'ready'; readonly limits: EngineLimits; readonly warnings: readonly string[] }
  | { readonly kind: 'failed'; readonly error: PlainError }
  | { readonly kind: 'deliveries'; readonly deliveries: readonly Delivery[] }
  | { readonly kind: 'stats'; readonly id: number; readonly stats: EngineStats }

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
