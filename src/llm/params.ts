// SamplingParams as vLLM spells it: every field present, vLLM's defaults, checked when made. Knows no model: ids are
// compared with its vocabulary when a request is made.
import { type SamplingFields, samplingParams } from '../engine/sampling.ts'
import { checkOutputs, type StructuredOutputs } from '../grammar/structured.ts'
import { RequestError } from '../tensor/error.ts'
import { refuseUnknown, stated } from './names.ts'
import type { GenerateOptions } from './request.ts'

export type SamplingParamsFields = {
  readonly [K in keyof Omit<SamplingParams, 'options'>]?: SamplingParams[K] | null | undefined
}

/** Fields of text and counting, which the sampler never sees. */
const textNames = [
  ...['n', 'stop', 'bad_words', 'include_stop_str_in_output', 'skip_special_tokens', 'priority'],
  'structured_outputs',
]

/** Wider than any model's: an id that is too large for one is found when it is used. */
const widest = { size: 2 ** 22 }

export class SamplingParams {
  readonly n: number = 1
  readonly temperature: number = 1
  readonly top_p: number = 1
  /** 0 and -1 are off. */
  readonly top_k: number = 0
  readonly min_p: number = 0
  /** Not vLLM's; 1 is off. */
  readonly typical_p: number = 1
  readonly presence_penalty: number = 0
  readonly frequency_penalty: number = 0
  readonly repetition_penalty: number = 1
  readonly seed: number | null = null
  readonly stop: string | readonly string[] = []
  readonly stop_token_ids: readonly number[] = []
  readonly bad_words: readonly string[] = []
  readonly include_stop_str_in_output: boolean = false
  readonly ignore_eos: boolean = false
  /** null: as many as the model's length allows. */
  readonly max_tokens: number | null = 16
  readonly min_tokens: number = 0
  readonly logprobs: number | null = null
  readonly prompt_logprobs: number | null = null
  readonly logit_bias: Readonly<Record<number, number>> = {}
  readonly allowed_token_ids: readonly number[] | null = null
  readonly skip_special_tokens: boolean = true
  readonly structured_outputs: StructuredOutputs | null = null
  /** Not vLLM's: lower is served first. */
  readonly priority: number = 0

  constructor(fields: SamplingParamsFields = {}) {
    const names = Object.keys(this)
    refuseUnknown(fields, names, 'a field of SamplingParams')
    // null is a value only where it says "no limit" or "off"; elsewhere it is vLLM's default, as if left out
    const nullable = names
      .filter((name) => this[name as keyof SamplingParamsFields] === null)
      .concat('max_tokens')
    const given = Object.entries(stated(fields)).filter(
      ([name, value]) => value !== null || nullable.includes(name),
    )
    Object.assign(this, Object.fromEntries(given))
    samplingParams(this.#sampler(), widest)
    this.#checkText()
  }

  /** The same as options of one of latent's requests, with nothing left to a model's defaults. */
  options(): GenerateOptions {
    return { ...this, max_tokens: this.max_tokens ?? Number.MAX_SAFE_INTEGER }
  }

  #sampler(): SamplingFields {
    return Object.fromEntries(Object.entries(this).filter(([name]) => !textNames.includes(name)))
  }

  #checkText(): void {
    const refuse = (field: 'n' | 'stop' | 'bad_words' | 'skip_special_tokens', wanted: string): never => {
      throw new RequestError(`${field} is ${JSON.stringify(this[field])}, it must be ${wanted}`, field)
    }
    const isText = (value: unknown) => typeof value === 'string' && value !== ''
    const isTexts = (value: unknown) => Array.isArray(value) && value.every(isText)
    if (!Number.isSafeInteger(this.n) || this.n < 1) refuse('n', 'a whole number from 1')
    if (!isText(this.stop) && !isTexts(this.stop)) refuse('stop', 'a non-empty string or a list of them')
    if (!isTexts(this.bad_words)) refuse('bad_words', 'a list of non-empty strings')
    if (this.structured_outputs !== null) checkOutputs(this.structured_outputs)
    if (typeof this.skip_special_tokens !== 'boolean') refuse('skip_special_tokens', 'true or false')
  }
}
