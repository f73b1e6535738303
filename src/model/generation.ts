// generation_config.json: where text ends and how it is sampled when the caller does not say.
// Sampling fields keep their wire spelling (docs/decisions/0001). Knows no sampler.
import { CheckpointError } from '../tensor/error.ts'
import type { Config } from './config.ts'
import { Fields, type Json } from './fields.ts'

/** Defaults only: a field that is absent is the sampler's own business. */
export interface SamplingDefaults {
  readonly temperature?: number
  readonly top_p?: number
  readonly top_k?: number
  readonly min_p?: number
  readonly typical_p?: number
  readonly repetition_penalty?: number
}

export interface GenerationConfig {
  readonly bosTokenId: number | null
  readonly eosTokenIds: readonly number[]
  readonly maxNewTokens: number | null
  readonly sampling: SamplingDefaults
}

/** Reads generation_config.json, or stands in for it when `json` is null. Token ids that it lacks are the config's. */
export function parseGenerationConfig(json: Json | null, config: Config, where: string): GenerationConfig {
  const fields = new Fields(json ?? {})
  const bos = fields.tokens('bos_token_id', config.vocabSize)
  if (bos.length > 1) fields.refuse('bos_token_id', 'one token id')
  const eos = fields.tokens('eos_token_id', config.vocabSize)
  const generation: GenerationConfig = {
    bosTokenId: bos[0] ?? config.bosTokenId,
    eosTokenIds: eos.length > 0 ? eos : config.eosTokenIds,
    maxNewTokens: fields.optional('max_new_tokens'),
    sampling: readSampling(fields),
  }
  if (fields.problems.length > 0) {
    throw new CheckpointError(`${where}: not generation settings this engine can use:`, fields.problems)
  }
  return generation
}

/**
 * vLLM's reading: what the file states, over temperature 1 and top_p 1. `transformers` would add top_k 50 from its
 * class; the published files do not ask for it. `do_sample: false` asks for the likeliest token; an absent one does not.
 */
function readSampling(fields: Fields): SamplingDefaults {
  const temperature = fields.number('temperature', { max: 100, fallback: 1 })
  const top_p = fields.number('top_p', { above: true, max: 1, fallback: 1 })
  const top_k = fields.integer('top_k', { min: -1, fallback: 0 })
  const penalty = stated(fields, 'repetition_penalty', { above: true, max: 100 })
  const others = {
    ...(top_k > 0 && { top_k }), // 0 and -1 both mean the whole vocabulary
    ...stated(fields, 'min_p', { max: 1 }),
    ...stated(fields, 'typical_p', { above: true, max: 1 }),
  }
  return fields.boolean('do_sample', true)
    ? { temperature, top_p, ...others, ...penalty }
    : { temperature: 0, ...penalty }
}

function stated(fields: Fields, name: string, bounds: { above?: boolean; max: number }): SamplingDefaults {
  return fields.has(name) ? { [name]: fields.number(name, bounds) } : {}
}
