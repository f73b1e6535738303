// What a caller may ask for, in one spelling (docs/decisions/0001), and its way down to the engine's ids.
// Knows text and tokens; not who asks (a program, a socket, a terminal).
import { type SamplingFields, type SamplingParams, samplingParams } from '../engine/sampling.ts'
import { checkOutputs, type StructuredOutputs } from '../grammar/structured.ts'
import { RequestError } from '../tensor/error.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

/** Every field of a generation request. A field left out takes the model's generation_config, then "off". */
export interface GenerateOptions extends SamplingFields {
  /** Texts that end the answer; held back while they may still come. */
  readonly stop?: string | readonly string[] | null
  readonly include_stop_str_in_output?: boolean | null
  /** Texts that the answer never contains, as whole tokenizations of the word with and without a space before it. */
  readonly bad_words?: readonly string[] | null
  /** How many answers. */
  readonly n?: number | null
  /** Lower is served first. */
  readonly priority?: number | null
  /** Cached prefixes are shared only with requests of the same salt. */
  readonly cache_salt?: string | null
  /** What the answer must be: JSON of a schema, any JSON object, a regex, one of several texts, a grammar. */
  readonly structured_outputs?: StructuredOutputs | null
  /** Leave special tokens out of the text; default true. */
  readonly skip_special_tokens?: boolean | null
  /** Chunks without text say how far the prompt is; default false. */
  readonly return_progress?: boolean | null
  readonly signal?: AbortSignal | undefined
}

export interface ChatOptions extends GenerateOptions {
  readonly add_generation_prompt?: boolean | null
  /** The last message is the beginning of the answer. */
  readonly continue_final_message?: boolean | null
  readonly tools?: readonly unknown[] | null
  /** Further variables of the template. */
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null
  /** Read text inside messages that spells a control token as that token; default false. */
  readonly parse_special?: boolean | null
}

export interface CompleteOptions extends GenerateOptions {
  /** Put the beginning-of-sentence token before a text prompt that lacks it; default what the tokenizer's config says. */
  readonly add_special_tokens?: boolean | null
  /** Read control tokens spelled in a raw prompt; default true, as every peer does. */
  readonly parse_special?: boolean | null
}

export interface TextRules {
  readonly stop: readonly string[]
  readonly includeStop: boolean
  readonly skipSpecialTokens: boolean
}

export interface ReadOptions {
  readonly params: SamplingParams
  readonly text: TextRules
  readonly n: number
  readonly priority: number
  readonly cacheSalt: string
  readonly progress: boolean
  /** `structured_outputs` as JSON: what it says is worked out in another thread. */
  readonly outputs: string | null
}

const textFields = [
  'stop',
  'include_stop_str_in_output',
  'bad_words',
  'n',
  'priority',
  'cache_salt',
  'skip_special_tokens',
  'structured_outputs',
  'return_progress',
  'signal',
] as const
/** Fields that shape the prompt rather than the answer. */
export const promptFields = [
  'add_generation_prompt',
  'continue_final_message',
  'tools',
  'chat_template_kwargs',
  'parse_special',
  'add_special_tokens',
] as const

/** Validates a request's options; the fields of prompts (template, special tokens) are left to whoever renders them. */
export function readOptions(
  options: ChatOptions & CompleteOptions,
  tokenizer: Tokenizer,
  vocabSize: number,
  defaults: SamplingFields,
): ReadOptions {
  checkPromptFields(options)
  const rest: Record<string, unknown> = { ...options }
  for (const field of [...textFields, ...promptFields]) delete rest[field]
  const words = strings(options.bad_words ?? [], 'bad_words')
  const fields =
    words.length > 0
      ? { ...rest, bad_token_ids: [...(options.bad_token_ids ?? []), ...encodeWords(words, tokenizer)] }
      : rest
  return {
    params: samplingParams(fields, { size: vocabSize }, defaults),
    text: {
      stop: strings(options.stop ?? [], 'stop'),
      includeStop: flag(options.include_stop_str_in_output, 'include_stop_str_in_output') ?? false,
      skipSpecialTokens: flag(options.skip_special_tokens, 'skip_special_tokens') ?? true,
    },
    n: whole(options.n ?? 1, 'n', 1, 16384),
    priority: whole(options.priority ?? 0, 'priority', -(2 ** 31), 2 ** 31),
    cacheSalt: text(options.cache_salt ?? '', 'cache_salt'),
    progress: flag(options.return_progress, 'return_progress') ?? false,
    outputs: outputs(options.structured_outputs),
  }
}

const flags = [
  'add_generation_prompt',
  'continue_final_message',
  'parse_special',
  'add_special_tokens',
] as const

function checkPromptFields(options: ChatOptions & CompleteOptions): void {
  if (typeof options !== 'object' || options === null) {
    throw new RequestError(`the options must be an object, ${JSON.stringify(options)} given`)
  }
  for (const field of flags) flag(options[field], field)
  const { tools, chat_template_kwargs, signal } = options
  if (tools !== undefined && tools !== null && !Array.isArray(tools)) {
    throw new RequestError(`tools must be a list, ${JSON.stringify(tools)} given`, 'tools')
  }
  if (typeof (chat_template_kwargs ?? {}) !== 'object' || Array.isArray(chat_template_kwargs)) {
    throw new RequestError(
      `chat_template_kwargs must be an object, ${JSON.stringify(chat_template_kwargs)} given`,
      'chat_template_kwargs',
    )
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new RequestError('signal must be an AbortSignal', 'signal')
  }
}

function flag(value: unknown, field: string): boolean | null {
  if (value === undefined || value === null) return null
  if (typeof value === 'boolean') return value
  throw new RequestError(`${field} must be true or false, ${JSON.stringify(value)} given`, field)
}

function strings(value: unknown, field: string): readonly string[] {
  const list = typeof value === 'string' ? [value] : value
  if (!Array.isArray(list) || list.some((item) => typeof item !== 'string' || item === '')) {
    throw new RequestError(
      `${field} must be a non-empty string or a list of them, ${JSON.stringify(value)} given`,
      field,
    )
  }
  return list
}

function text(value: unknown, field: string): string {
  if (typeof value === 'string') return value
  throw new RequestError(`${field} must be a string, ${JSON.stringify(value)} given`, field)
}

function outputs(value: unknown): string | null {
  return value === undefined || value === null ? null : JSON.stringify(checkOutputs(value))
}

function whole(value: unknown, field: string, least: number, most: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most)
    return value
  throw new RequestError(
    `${field} must be a whole number from ${least} to ${most}, ${JSON.stringify(value)} given`,
    field,
  )
}

/** A word begins a text or follows a space: both tokenizations are banned, as vLLM bans them. */
function encodeWords(words: readonly string[], tokenizer: Tokenizer): number[][] {
  return words.flatMap((word) => [tokenizer.encode(word), tokenizer.encode(` ${word.trimStart()}`)])
}
