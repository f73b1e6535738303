// The fields of a request as a person gives them: flags of a command, `/set` of a chat, keys of a JSONL row.
// Knows their names and shapes; what they may hold is the engine's to say (engine/sampling.ts).
import { type Command, Option } from 'commander'
import { type GenerateOptions, readOptions } from '../llm/request.ts'
import { closest } from '../tensor/closest.ts'
import { RequestError } from '../tensor/error.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { collect, defined, jsonOf, numberOf, wholesOf } from './parse.ts'

interface Field {
  /** `off` is a switch that is on unless somebody says no. */
  readonly kind: 'number' | 'switch' | 'off' | 'json' | 'ids' | 'text' | 'texts'
  readonly help: string
}

/** Every field that shapes an answer, under its one spelling (docs/decisions/0001). */
export const fields = {
  temperature: { kind: 'number', help: '0 always takes the likeliest token' },
  top_p: { kind: 'number', help: 'sample from the likeliest tokens that hold this much probability' },
  top_k: { kind: 'number', help: 'sample from so many of the likeliest tokens; 0 is off' },
  min_p: { kind: 'number', help: 'leave out tokens less likely than this share of the likeliest' },
  typical_p: { kind: 'number', help: 'sample from the tokens of typical surprise; 1 is off' },
  repetition_penalty: { kind: 'number', help: 'above 1 makes tokens that stand before less likely' },
  presence_penalty: { kind: 'number', help: 'taken from the logit of every token already written' },
  frequency_penalty: { kind: 'number', help: 'the same for every time that it was written' },
  seed: { kind: 'number', help: 'the same seed gives the same answer' },
  max_tokens: { kind: 'number', help: 'most tokens of the answer' },
  min_tokens: { kind: 'number', help: 'fewest tokens of the answer' },
  stop: { kind: 'texts', help: 'a text that ends the answer (repeatable)' },
  stop_token_ids: { kind: 'ids', help: 'token ids that end the answer, such as 1,2' },
  bad_words: { kind: 'texts', help: 'a text that the answer never contains (repeatable)' },
  allowed_token_ids: { kind: 'ids', help: 'the only token ids that may be written' },
  logit_bias: { kind: 'json', help: 'added to the logits of token ids, such as \'{"42": -100}\'' },
  ignore_eos: { kind: 'switch', help: 'write on past the end-of-sentence token' },
  include_stop_str_in_output: { kind: 'switch', help: 'keep the text that ended the answer' },
  skip_special_tokens: { kind: 'off', help: 'show special tokens in the text' },
  n: { kind: 'number', help: 'answers to each prompt' },
  logprobs: { kind: 'number', help: 'the log-probability of each token, and of so many likelier ones' },
  prompt_logprobs: { kind: 'number', help: 'the same for the tokens of the prompt' },
  priority: { kind: 'number', help: 'lower is served first' },
  cache_salt: { kind: 'text', help: 'share cached prefixes only with requests of the same salt' },
} as const satisfies Readonly<Record<string, Field>>

export type FieldName = keyof typeof fields
export const fieldNames = Object.keys(fields) as readonly FieldName[]

const group = 'Sampling (what is not given is what the model was published with):'

export function addSampling(command: Command): Command {
  for (const name of fieldNames) command.addOption(optionOf(name))
  return command.addOption(
    new Option('--greedy', 'always take the likeliest token (temperature 0)')
      .conflicts('temperature')
      .helpGroup(group),
  )
}

function optionOf(name: FieldName): Option {
  const { kind, help } = fields[name]
  const flag = flagOf(kind === 'off' ? `no_${name}` : name)
  const value = { number: ' <number>', json: ' <json>', ids: ' <ids>', text: ' <text>', texts: ' <text>' }
  if (kind === 'switch' || kind === 'off') return new Option(flag, help).helpGroup(group)
  const option = new Option(flag + value[kind], help).helpGroup(group)
  if (kind === 'texts') return option.argParser<readonly string[]>(collect)
  if (kind === 'text') return option
  return option.argParser((text: string) => parsers[kind](flag)(text))
}

const parsers = { number: numberOf, json: jsonOf, ids: (flag: string) => wholesOf(flag, 0) }

export const flagOf = (name: string): string => `--${name.replaceAll('_', '-')}`
const attributeOf = (name: string): string =>
  name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())

/** The fields among a command's options, checked as far as they can be without a model. */
export function readSampling(options: Readonly<Record<string, unknown>>): GenerateOptions {
  const given = Object.fromEntries(fieldNames.map((name) => [name, givenFor(name, options)]))
  const sampling = defined(options.greedy === true ? { ...given, temperature: 0 } : given) as GenerateOptions
  checkSampling(sampling)
  return sampling
}

/** Commander reads `--no-x` that is not there as x: nobody asked for that. */
function givenFor(name: FieldName, options: Readonly<Record<string, unknown>>): unknown {
  const value = options[attributeOf(name)]
  return fields[name].kind === 'off' && value === true ? undefined : value
}

/** Throws on a field that no model could take; ids and words are checked against a vocabulary later. */
export function checkSampling(sampling: GenerateOptions): void {
  const none = {} as Tokenizer // only words need one
  readOptions({ ...sampling, bad_words: null }, none, 2 ** 31, {})
}

/** Text that is shown as it is written can only be of one answer. */
export function checkSingle({ n }: GenerateOptions, mend: string): void {
  if ((n ?? 1) > 1) throw new RequestError(`n is ${n}, and only one answer can be shown here; ${mend}`, 'n')
}

/** One field as `/set name text` gives it. */
export function parseField(name: string, text: string): unknown {
  if (!isField(name)) {
    const meant = closest(name, fieldNames)
    const mend = meant === null ? `the fields are ${fieldNames.join(', ')}` : `did you mean ${meant}?`
    throw new RequestError(`there is no field '${name}'; ${mend}`, name)
  }
  const { kind } = fields[name]
  if (kind === 'texts') return text.startsWith('[') ? jsonOf(name)(text) : [text]
  if (kind === 'text') return text
  if (kind !== 'switch' && kind !== 'off') return parsers[kind](name)(text)
  if (text === 'true' || text === 'false') return text === 'true'
  throw new RequestError(`${name} is '${text}', wanted true or false`, name)
}

function isField(name: string): name is FieldName {
  return Object.hasOwn(fields, name)
}
