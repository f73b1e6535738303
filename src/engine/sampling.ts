// The fields of a request that shape sampling: their type, their defaults and what they may hold.
// Spelled as vLLM and OpenAI spell them, from the wire to the sampler. Knows no text, logits or engine.
import { inspect } from 'node:util'
import { closest } from '../tensor/closest.ts'
import { RequestError } from '../tensor/error.ts'

/** Complete and valid: every field is present, so nobody below asks what a missing one means. */
export interface SamplingParams {
  /** 0 always takes the likeliest token. */
  readonly temperature: number
  readonly top_p: number
  /** 0 is off. */
  readonly top_k: number
  readonly min_p: number
  /** 1 is off. */
  readonly typical_p: number
  readonly repetition_penalty: number
  readonly presence_penalty: number
  readonly frequency_penalty: number
  readonly logit_bias: Readonly<Record<number, number>>
  /** null: the engine picks one. */
  readonly seed: number | null
  readonly stop_token_ids: readonly number[]
  readonly ignore_eos: boolean
  readonly min_tokens: number
  /** null: as many as the model's length allows. */
  readonly max_tokens: number | null
  /** Sequences of ids that the output never completes: `bad_words`, encoded. */
  readonly bad_token_ids: readonly (readonly number[])[]
  readonly allowed_token_ids: readonly number[] | null
  /** How many of the likeliest tokens to report beside the chosen one; 0 is that one only, null is off. */
  readonly logprobs: number | null
  readonly prompt_logprobs: number | null
}

/** What a caller may send: any of the fields; null is the same as not sending one. */
export type SamplingFields = { readonly [K in keyof SamplingParams]?: SamplingParams[K] | null | undefined }

export interface Vocabulary {
  readonly size: number
}

/** Turns what was sent into what the field holds, or throws. `path` is the value's name for the message. */
type Read<T> = (value: unknown, path: string, vocab: Vocabulary) => T

interface Field<T> {
  readonly fallback: T
  readonly read: Read<T>
}

const penalty = number('a number from -2 to 2', (n) => n >= -2 && n <= 2)
const bias = number('a number from -100 to 100', (n) => n >= -100 && n <= 100)
const ids = list('token ids', tokenId)

const fields: { readonly [K in keyof SamplingParams]: Field<SamplingParams[K]> } = {
  temperature: {
    fallback: 1,
    read: number('a finite number, 0 or more (0 takes the likeliest token)', (n) => n >= 0 && n < Infinity),
  },
  top_p: { fallback: 1, read: number('a number above 0 and at most 1 (1 is off)', (n) => n > 0 && n <= 1) },
  top_k: { fallback: 0, read: topK },
  min_p: { fallback: 0, read: number('a number from 0 (off) to 1', (n) => n >= 0 && n <= 1) },
  typical_p: {
    fallback: 1,
    read: number('a number above 0 and at most 1 (1 is off)', (n) => n > 0 && n <= 1),
  },
  repetition_penalty: {
    fallback: 1,
    read: number('a finite number above 0 (1 is off)', (n) => n > 0 && n < Infinity),
  },
  presence_penalty: { fallback: 0, read: penalty },
  frequency_penalty: { fallback: 0, read: penalty },
  logit_bias: { fallback: {}, read: logitBias },
  seed: { fallback: null, read: number('an integer of at most 53 bits', Number.isSafeInteger) },
  stop_token_ids: { fallback: [], read: ids },
  ignore_eos: { fallback: false, read: boolean },
  min_tokens: { fallback: 0, read: count },
  max_tokens: { fallback: null, read: count },
  bad_token_ids: { fallback: [], read: list('lists of token ids', filled(ids)) },
  allowed_token_ids: { fallback: null, read: filled(ids) },
  logprobs: { fallback: null, read: logprobCount },
  prompt_logprobs: { fallback: null, read: logprobCount },
}

/**
 * The params of a request: what it sends, else `defaults` (a model's generation_config, say), else off.
 * Throws RequestError, its `field` set, on a field that does not exist or cannot hold what it was given.
 */
export function samplingParams(
  given: SamplingFields,
  vocab: Vocabulary,
  defaults: SamplingFields = {},
): SamplingParams {
  refuseUnknown(given)
  refuseUnknown(defaults)
  const read = <K extends keyof SamplingParams>(key: K): SamplingParams[K] => {
    const value = given[key] ?? defaults[key]
    return value === undefined || value === null ? fields[key].fallback : fields[key].read(value, key, vocab)
  }
  const names = Object.keys(fields) as (keyof SamplingParams)[]
  // The table above has every key with its own type; fromEntries cannot say so.
  const params = Object.fromEntries(names.map((key) => [key, read(key)])) as unknown as SamplingParams
  if (params.max_tokens !== null && params.min_tokens > params.max_tokens) {
    const { min_tokens, max_tokens } = params
    throw new RequestError(
      `min_tokens is ${min_tokens}, above max_tokens, which is ${max_tokens}; ` +
        'lower min_tokens or raise max_tokens',
      'min_tokens',
    )
  }
  return params
}

function refuseUnknown(given: SamplingFields): void {
  for (const key of Object.keys(given)) {
    if (Object.hasOwn(fields, key)) continue
    const meant = closest(key, Object.keys(fields))
    const mend =
      meant === null ? `the fields are ${Object.keys(fields).join(', ')}` : `did you mean '${meant}'?`
    throw new RequestError(`'${key}' is not a sampling field; ${mend}`, key)
  }
}

/**
 * Throws: what was given, what was wanted, and the mend where it is plain. The field is the head of the path.
 */
function refuse(path: string, value: unknown, wanted: string): never {
  const shown = inspect(value, { depth: 1, maxArrayLength: 4, maxStringLength: 40, breakLength: Infinity })
  const unquoted = typeof value === 'string' && /^(-?\d+(\.\d+)?|true|false)$/.test(value)
  const mend = unquoted ? `; send ${value} without quotes` : ''
  throw new RequestError(`${path} is ${shown}, it must be ${wanted}${mend}`, path.split('[')[0])
}

function number(wanted: string, fits: (n: number) => boolean): Read<number> {
  return (value, path) => (typeof value === 'number' && fits(value) ? value : refuse(path, value, wanted))
}

/** An integer from `least` to `most`. */
function integer(value: unknown, path: string, least: number, most: number, wanted: string): number {
  const fits = typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most
  return fits ? value : refuse(path, value, wanted)
}

function count(value: unknown, path: string): number {
  return integer(value, path, 0, Infinity, 'an integer, 0 or more')
}

function topK(value: unknown, path: string): number {
  return Math.max(0, integer(value, path, -1, Infinity, 'an integer, 1 or more (0 or -1 is off)'))
}

function tokenId(value: unknown, path: string, { size }: Vocabulary): number {
  return integer(value, path, 0, size - 1, `a token id, an integer from 0 to ${size - 1}`)
}

function logprobCount(value: unknown, path: string, { size }: Vocabulary): number {
  const n = integer(value, path, -1, size, `an integer from 0 to ${size} (or -1, the whole vocabulary)`)
  return n === -1 ? size : n
}

function boolean(value: unknown, path: string): boolean {
  return typeof value === 'boolean' ? value : refuse(path, value, 'true or false')
}

function list<T>(of: string, read: Read<T>): Read<readonly T[]> {
  return (value, path, vocab) => {
    if (!Array.isArray(value)) return refuse(path, value, `a list of ${of}`)
    return value.map((item: unknown, i) => read(item, `${path}[${i}]`, vocab))
  }
}

/** The same list, but an empty one would mean nothing or forbid everything. */
function filled<T>(read: Read<readonly T[]>): Read<readonly T[]> {
  return (value, path, vocab) => {
    const items = read(value, path, vocab)
    return items.length > 0
      ? items
      : refuse(path, value, 'a list of at least one token id; leave it out instead')
  }
}

/** JSON can only write the ids as strings; they stay keys, so both spellings come out the same. */
function logitBias(value: unknown, path: string, vocab: Vocabulary): Readonly<Record<number, number>> {
  const wanted = 'an object from token id to bias'
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(path, value, wanted)
  const entries = Object.entries(value).map(([key, amount]: [string, unknown]) => {
    if (!/^\d+$/.test(key) || Number(key) >= vocab.size) {
      throw new RequestError(
        `${path} has the key '${key}', its keys must be token ids from 0 to ${vocab.size - 1}`,
        path,
      )
    }
    return [Number(key), bias(amount, `${path}[${key}]`, vocab)] as const
  })
  return Object.fromEntries(entries)
}
