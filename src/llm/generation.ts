// GenerationConfig as transformers spells it, and what it means to latent. Knows no text and generates nothing.
// As there, a field that is null is off and `do_sample` that is not true is greedy. Unlike there, the class adds no
// top_k of 50 and no max_length of 20: nothing is cut that neither the file nor the caller asked to cut.
import { readConfigFile } from '../checkpoint/checkpoint.ts'
import type { SamplingFields } from '../engine/sampling.ts'
import { RequestError } from '../tensor/error.ts'
import { type HubOptions, hubNames, locateFiles } from './hub.ts'
import { refuseUnknown } from './names.ts'
import type { GenerateOptions } from './request.ts'

export class GenerationConfig {
  do_sample: boolean | null = null
  temperature: number | null = null
  top_p: number | null = null
  top_k: number | null = null
  min_p: number | null = null
  typical_p: number | null = null
  repetition_penalty: number | null = null
  max_new_tokens: number | null = null
  /** Prompt included; max_new_tokens goes before it. */
  max_length: number | null = null
  min_new_tokens: number | null = null
  min_length: number | null = null
  num_return_sequences: number | null = null
  bos_token_id: number | readonly number[] | null = null
  eos_token_id: number | readonly number[] | null = null
  /** The first of a list is taken, so that it can be set to eos_token_id. */
  pad_token_id: number | readonly number[] | null = null
  bad_words_ids: readonly (readonly number[])[] | null = null
  suppress_tokens: readonly number[] | null = null
  stop_strings: string | readonly string[] | null = null
  /** latent's: the same seed gives the same answer. Row r of a batch draws from seed + r * num_return_sequences. */
  seed: number | null = null
  /** Only true: without the latents of earlier tokens nothing could be computed in time. */
  use_cache: boolean | null = null

  constructor(fields: GenerationFields = {}) {
    refuseUnknown(fields, Object.keys(this), 'a field of GenerationConfig')
    Object.assign(this, fields)
  }

  /** generation_config.json over the ids of config.json. */
  static async from_pretrained(name: string, options: HubOptions = {}): Promise<GenerationConfig> {
    refuseUnknown(options, hubNames, 'an option of GenerationConfig.from_pretrained')
    return readGenerationConfig(await locateFiles(name, options))
  }
}

export type GenerationFields = {
  readonly [K in keyof GenerationConfig]?: GenerationConfig[K] | undefined
}

/** Of generation_config.json, the fields that latent knows; files carry many that say nothing about generation. */
export function readGenerationConfig(directory: string): GenerationConfig {
  const ids = ['bos_token_id', 'eos_token_id', 'pad_token_id']
  const model = readConfigFile(directory, 'config.json') ?? {}
  const own = readConfigFile(directory, 'generation_config.json') ?? {}
  const names = Object.keys(new GenerationConfig())
  return new GenerationConfig({ ...pick(model, ids), ...pick(own, names) })
}

function pick(json: Readonly<Record<string, unknown>>, names: readonly string[]): GenerationFields {
  return Object.fromEntries(Object.entries(json).filter(([name]) => names.includes(name)))
}

/** What a model brings to a request. */
export interface Bounds {
  readonly max_model_len: number
  /** What the engine stops at by itself. */
  readonly eosTokenIds: readonly number[]
}

/** One prompt's request in latent's own spelling. Every field is stated: no default of the model's comes in. */
export function requestOf(
  config: GenerationConfig,
  promptLength: number,
  row: number,
  { max_model_len, eosTokenIds }: Bounds,
): GenerateOptions & Pick<SamplingFields, 'bad_token_ids'> {
  const n = count(config, 'num_return_sequences', 1) ?? 1
  const least = count(config, 'min_new_tokens', 0) ?? (count(config, 'min_length', 0) ?? 0) - promptLength
  const banned = [...(config.bad_words_ids ?? []), ...(config.suppress_tokens ?? []).map((id) => [id])]
  return {
    ...(config.do_sample === true
      ? sampling(config)
      : { temperature: 0, top_p: 1, top_k: 0, min_p: 0, typical_p: 1 }),
    repetition_penalty: config.repetition_penalty ?? 1,
    n,
    seed: config.seed === null ? null : config.seed + row * n,
    max_tokens: mostTokens(config, promptLength) ?? Math.max(1, max_model_len - promptLength),
    min_tokens: Math.max(0, least),
    stop: config.stop_strings,
    ...(banned.length > 0 && { bad_token_ids: banned }),
    ...ends(idList(config.eos_token_id), eosTokenIds),
  }
}

function sampling(config: GenerationConfig): GenerateOptions {
  return {
    temperature: config.temperature ?? 1,
    top_p: config.top_p ?? 1,
    top_k: config.top_k ?? 0,
    min_p: config.min_p ?? 0,
    typical_p: config.typical_p ?? 1,
  }
}

function mostTokens(config: GenerationConfig, promptLength: number): number | null {
  const most = count(config, 'max_new_tokens', 1)
  if (most !== null) return most
  const whole = count(config, 'max_length', 1)
  if (whole === null) return null
  if (whole > promptLength) return whole - promptLength
  throw new RequestError(
    `max_length is ${whole}, the prompt alone has ${promptLength} tokens; raise it, or use max_new_tokens`,
    'max_length',
  )
}

/** The engine stops at its model's own ends; other ones are stop tokens instead of them. */
function ends(wanted: readonly number[], own: readonly number[]): GenerateOptions {
  const same = wanted.length === own.length && wanted.every((id) => own.includes(id))
  return same || wanted.length === 0 ? {} : { ignore_eos: true, stop_token_ids: wanted }
}

export function idList(ids: number | readonly number[] | null): readonly number[] {
  return ids === null ? [] : typeof ids === 'number' ? [ids] : ids
}

type Count = 'max_new_tokens' | 'max_length' | 'min_new_tokens' | 'min_length' | 'num_return_sequences'

function count(config: GenerationConfig, field: Count, least: number): number | null {
  const value = config[field]
  if (value === null || (Number.isSafeInteger(value) && value >= least)) return value
  throw new RequestError(
    `${field} is ${JSON.stringify(value)}, it must be a whole number from ${least}`,
    field,
  )
}

const sampled = ['temperature', 'top_p', 'top_k', 'min_p', 'typical_p'] as const

/** What a call states and this configuration leaves without effect. */
export function idleFields(given: GenerationFields, config: GenerationConfig): string[] {
  const idle = config.do_sample === true ? [] : sampled.filter((name) => (given[name] ?? null) !== null)
  return [
    ...idle.map((name) => `${name} has no effect: do_sample is not true, so the likeliest token is taken`),
    ...(config.use_cache === false ? ['use_cache false has no effect: latents are always kept'] : []),
  ]
}
