// Every field a client of a peer may send (OpenAI, vLLM, SGLang, llama.cpp, transformers, DeepSeek): applied, or named in
// the answer's warnings. Nothing is dropped in silence. Knows names and spellings; what a value may be, the sampler says.
import type { ChatOptions, CompleteOptions } from '../llm/request.ts'
import { closest } from '../tensor/closest.ts'
import type { Fields } from './body.ts'
import { Failure } from './failure.ts'

export type Options = ChatOptions & CompleteOptions

/** A field that was accepted and changed nothing, and why. */
export interface Warning {
  readonly field: string
  readonly message: string
}

/** Fields of latent's own request, taken as they are. */
const same = [
  ...(['temperature', 'top_p', 'top_k', 'min_p', 'typical_p', 'repetition_penalty'] as const),
  ...(['presence_penalty', 'frequency_penalty', 'logit_bias', 'seed', 'stop', 'stop_token_ids'] as const),
  ...(['ignore_eos', 'min_tokens', 'max_tokens', 'bad_words', 'bad_token_ids'] as const),
  ...(['allowed_token_ids', 'skip_special_tokens', 'include_stop_str_in_output', 'prompt_logprobs'] as const),
  ...(['n', 'priority', 'cache_salt', 'chat_template_kwargs', 'parse_special'] as const),
  ...(['add_generation_prompt', 'continue_final_message', 'add_special_tokens'] as const),
] as const

type Change = (value: unknown, field: string) => Options

const to =
  (name: keyof Options): Change =>
  (value) => ({ [name]: value })

/** Other spellings of the same. */
const renamed: Readonly<Record<string, Change>> = {
  max_completion_tokens: to('max_tokens'),
  max_new_tokens: to('max_tokens'),
  n_predict: (value) => (value === -1 ? {} : ({ max_tokens: value } as Options)),
  min_new_tokens: to('min_tokens'),
  typ_p: to('typical_p'),
  repeat_penalty: to('repetition_penalty'),
  sampling_seed: to('seed'),
  stop_strings: to('stop'),
  no_stop_trim: to('include_stop_str_in_output'),
  num_return_sequences: to('n'),
  n_cmpl: to('n'),
  suppress_tokens: (value) =>
    ({ bad_token_ids: Array.isArray(value) ? value.map((id: unknown) => [id]) : value }) as Options,
  bad_words_ids: to('bad_token_ids'),
  do_sample: (value, field) => {
    if (typeof value !== 'boolean') throw new Failure(400, `${field} must be true or false`, { param: field })
    return value ? {} : { temperature: 0 }
  },
}

const always = (): boolean => false
const among =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value)
const off = among(0, 1, false, -1, '')

interface Idle {
  readonly why: string
  /** Whether the value asks for nothing that is not done anyway. */
  readonly neutral: (value: unknown) => boolean
}

const sampler = 'this engine has no such step in its sampler'
const idle = (
  why: string,
  neutral: Idle['neutral'],
  names: readonly string[],
): Readonly<Record<string, Idle>> => Object.fromEntries(names.map((name) => [name, { why, neutral }]))

/** Fields that peers have and latent accepts without effect. */
const unapplied: Readonly<Record<string, Idle>> = {
  ...idle('it is not stored or sent anywhere', always, ['user', 'metadata', 'safety_identifier', 'user_id']),
  ...idle('there is one tier', among('auto', 'default'), ['service_tier']),
  ...idle('chat completions are not stored', among(false), ['store']),
  ...idle('these models do not reason apart from the answer', among('none'), [
    'reasoning_effort',
    'reasoning',
    'thinking',
    'verbosity',
  ]),
  ...idle('these models do not reason apart from the answer', off, [
    'thinking_token_budget',
    'include_reasoning',
    'separate_reasoning',
    'enable_thinking',
    'reasoning_format',
  ]),
  ...idle('the models write text only', always, ['modalities', 'audio', 'web_search_options']),
  ...idle('nothing is predicted ahead', always, ['prediction', 'prompt_lookup_num_tokens']),
  ...idle('every answer is its own; ask for more with n', among(1), ['best_of']),
  ...idle('there is no beam search', among(false, 1), ['use_beam_search', 'num_beams', 'early_stopping']),
  ...idle('there is no beam search', among(1, 0), ['length_penalty']),
  ...idle(sampler, off, [
    'mirostat',
    'xtc_probability',
    'dry_multiplier',
    'dynatemp_range',
    'top_n_sigma',
    'epsilon_cutoff',
  ]),
  ...idle(sampler, off, [
    'eta_cutoff',
    'top_h',
    'no_repeat_ngram_size',
    'encoder_repetition_penalty',
    'guidance_scale',
    'adaptive_target',
  ]),
  ...idle(sampler, always, [
    'mirostat_tau',
    'mirostat_eta',
    'xtc_threshold',
    'dry_base',
    'dry_allowed_length',
    'dry_penalty_last_n',
  ]),
  ...idle(sampler, always, [
    'dry_sequence_breakers',
    'dynatemp_exponent',
    'adaptive_decay',
    'repetition_detection',
    'custom_logit_processor',
  ]),
  ...idle(sampler, always, [
    'force_words_ids',
    'sequence_bias',
    'forced_bos_token_id',
    'forced_eos_token_id',
    'exponential_decay_length_penalty',
    'dola_layers',
  ]),
  ...idle('penalties look at the whole text', among(-1), ['repeat_last_n']),
  ...idle('the order of the sampler is fixed', always, ['samplers', 'sampler_seq']),
  ...idle('at least one candidate always stays', among(0, 1), ['min_keep']),
  ...idle('the text is decoded as it is', among(true), [
    'spaces_between_special_tokens',
    'clean_up_tokenization_spaces',
  ]),
  ...idle('log-probabilities are those of the raw logits', among(false), [
    'post_sampling_probs',
    'renormalize_logits',
    'return_hidden_states',
  ]),
  ...idle('ask for the likeliest ones with top_logprobs', always, ['logprob_token_ids', 'logprob_start_len']),
  ...idle('every token is sent as it comes', among(1), ['stream_interval']),
  ...idle('the cache is always used where it is on', among(true), ['cache_prompt', 'use_cache']),
  ...idle('the cache is always used where it is on', among(false), ['skip_reading_prefix_cache']),
  ...idle('sequences have no slots', among(-1), ['id_slot', 'slot_id']),
  ...idle('the server has one timeout for all (--request-timeout)', always, [
    't_max_predict_ms',
    'max_time',
    'timeout',
  ]),
  ...idle('the answer is never cut to fit; a prompt that is too long is refused', among(0), [
    'n_keep',
    'n_discard',
    'truncate_prompt_tokens',
  ]),
  ...idle('the template is chosen when the server starts (--chat-template)', always, ['chat_template']),
  ...idle('messages name who speaks', always, ['bot_id', 'character_card']),
}

/** The table for readers: each field that is applied (as what), and each that is not (why). */
export function fieldTable(): {
  readonly applied: readonly { readonly field: string; readonly as: string }[]
  readonly ignored: readonly { readonly field: string; readonly why: string }[]
} {
  const other = Object.entries(renamed).map(([field, change]) => ({
    field,
    as: Object.keys(change(false, field))[0] ?? field,
  }))
  return {
    applied: [...same.map((field) => ({ field, as: field })), ...other],
    ignored: Object.entries(unapplied).map(([field, { why }]) => ({ field, why })),
  }
}

/** What remains of a request's fields once they are read. */
export interface Read {
  readonly options: Options
  readonly warnings: readonly Warning[]
}

/** Where several spellings of one thing are given, OpenAI's newest wins. */
export function readFields(fields: Fields, own: readonly string[], strict: boolean): Read {
  const warnings: Warning[] = []
  const options: Record<string, unknown> = {}
  const known: readonly string[] = [...own, ...same, ...Object.keys(renamed), ...Object.keys(unapplied)]
  for (const [field, value] of Object.entries(fields)) {
    if (own.includes(field) || value === undefined || value === null) continue
    if ((same as readonly string[]).includes(field)) options[field] ??= value
    else if (Object.hasOwn(renamed, field)) continue
    else if (Object.hasOwn(unapplied, field)) {
      const { why, neutral } = unapplied[field]
      if (!neutral(value)) warnings.push({ field, message: `${field} has no effect: ${why}` })
    } else warnings.push(unknown(field, known, strict))
  }
  for (const [field, change] of Object.entries(renamed)) {
    const value = fields[field]
    if (value === undefined || value === null || own.includes(field)) continue
    for (const [name, changed] of Object.entries(change(value, field))) {
      const clash = options[name] !== undefined && options[name] !== changed
      if (clash) warnings.push({ field: name, message: `${name} has no effect: ${field} says it too` })
      options[name] = changed
    }
  }
  return { options: options as Options, warnings }
}

function unknown(field: string, known: readonly string[], strict: boolean): Warning {
  const meant = closest(field, known)
  const message = `${field} has no effect: no field of this name is known${meant === null ? '' : `; did you mean '${meant}'?`}`
  if (strict) throw new Failure(400, message, { param: field, code: 'unknown_parameter' })
  return { field, message }
}

/** Names only: what a header may hold. */
export function warningHeader(warnings: readonly Warning[]): Readonly<Record<string, string>> {
  if (warnings.length === 0) return {}
  const names = warnings.map(({ field }) => field.replace(/[^\x21-\x2b\x2d-\x7e]/g, '?').slice(0, 64))
  return { 'x-latent-warnings': [...new Set(names)].join(', ').slice(0, 2000) }
}
