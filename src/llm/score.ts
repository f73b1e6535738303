// How likely a model holds each given token after the ones before it: what anyone needs to check latent against another
// implementation. One sequence, no sampling, every row's logits.
import type { Batch } from '../backend/batch.ts'
import { type Choice, tokenLogprobs } from '../engine/logprobs.ts'
import { openModel, pageSize, readConfig } from '../engine/open.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import { type LoadOptions, locate } from './load.ts'

export interface ScoreOptions
  extends Pick<
    LoadOptions,
    'backend' | 'threads' | 'cpu_features' | 'revision' | 'progress' | 'signal' | 'env'
  > {
  /** Keep all logits; default false. */
  readonly logits?: boolean
  /** How many of the likeliest tokens to report at each position; default 0. */
  readonly top?: number
}

export interface Scores {
  /** For each id, its log-probability and the likeliest ids; null for the first, which has nothing before it. */
  readonly tokens: readonly (Choice | null)[]
  /** Sum of the log-probabilities. */
  readonly total: number
  /** exp(-mean log-probability); null for a single id. */
  readonly perplexity: number | null
  /** [n, vocab], row i after ids 0 .. i; null unless asked for. */
  readonly logits: Float32Array | null
  readonly vocabSize: number
}

/** Rows of a step: each costs a row of logits. */
const chunk = 128

export async function score(
  model: string | undefined,
  ids: readonly number[],
  options: ScoreOptions = {},
): Promise<Scores> {
  const { progress, signal, top = 0 } = options
  const directory = await locate(model, options)
  const shape = readConfig(directory)
  checkIds(ids, shape.vocabSize, shape.maxPositionEmbeddings) // before a load that may take minutes
  const opened = await openModel(directory, options, (at) => progress?.({ status: 'load', ...at }), signal)
  const { config, backend } = opened
  try {
    const V = config.vocabSize
    const pages = backend.pages(opened.pageShape(Math.ceil(ids.length / pageSize), 'f32'))
    const tokens: (Choice | null)[] = [null]
    const kept = options.logits ? new Float32Array(ids.length * V) : null
    for (let first = 0; first < ids.length; first += chunk) {
      signal?.throwIfAborted()
      const batch = batchOf(ids, first, Math.min(chunk, ids.length - first), pages.pages)
      const logits = await backend.scope(() => backend.read(opened.model.forward(batch, pages)))
      kept?.set(logits, first * V)
      for (let i = 0; i < batch.tokens.length && first + i + 1 < ids.length; i++) {
        tokens.push(tokenLogprobs(logits.subarray(i * V, (i + 1) * V), ids[first + i + 1], top))
      }
    }
    const total = tokens.reduce((sum, choice) => sum + (choice?.logprob ?? 0), 0)
    const perplexity = ids.length > 1 ? Math.exp(-total / (ids.length - 1)) : null
    return { tokens, total, perplexity, logits: kept, vocabSize: V }
  } finally {
    opened.close()
  }
}

function checkIds(ids: readonly number[], vocabSize: number, longest: number): void {
  if (ids.length === 0) throw new RequestError('there are no ids to score; give at least one', 'ids')
  const odd = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize)
  if (odd !== undefined) throw new RequestError(`token id ${odd} is outside 0 .. ${vocabSize - 1}`, 'ids')
  if (ids.length > longest) {
    throw new CapacityError(`${ids.length} ids were given, the model takes at most ${longest}`)
  }
}

function batchOf(ids: readonly number[], first: number, count: number, tableWidth: number): Batch {
  const positions = Int32Array.from({ length: count }, (_, i) => first + i)
  return {
    tokens: Int32Array.from(ids.slice(first, first + count)),
    positions,
    slots: positions,
    starts: Int32Array.of(0, count),
    tables: Int32Array.from({ length: tableWidth }, (_, i) => i),
    tableWidth,
    wanted: Int32Array.from({ length: count }, (_, i) => i),
  }
}
