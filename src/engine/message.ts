// What crosses between a program's thread and the engine's, one type each way.
import type { LoadProgress } from '../model/load.ts'
import type { EngineLimits, EngineRequest, EngineStats, TokenEvent } from './engine.ts'
import type { EngineOptions } from './open.ts'
import type { PlainError } from './plain.ts'

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
