// The rows of a JSONL input: read, checked, and told apart from what cannot be meant. Knows fields and lines;
// who runs them is generate.ts.
import type { LLM } from '../llm/load.ts'
import { encodeChat, encodePrompt } from '../llm/prompt.ts'
import { type ChatOptions, type CompleteOptions, promptFields } from '../llm/request.ts'
import { closest } from '../tensor/closest.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import { checkMessages } from '../tokenizer/message.ts'
import type { Message } from '../tokenizer/template.ts'
import { fieldNames } from './sampling.ts'

export type RowOptions = ChatOptions & CompleteOptions

export interface Row {
  /** Among the rows, from 0. */
  readonly index: number
  /** In the file, from 1. */
  readonly line: number
  readonly prompt: string | readonly number[] | { readonly messages: readonly Message[] }
  readonly options: RowOptions
  /** What goes to the output row as it came. */
  readonly carried: { readonly id?: unknown; readonly metadata?: unknown }
}

export interface BadRow {
  readonly index: number
  readonly line: number
  readonly error: string
  readonly carried: Row['carried']
}

type Fields = Readonly<Record<string, unknown>>

const prompts = ['messages', 'prompt', 'prompt_ids'] as const
const carried = ['id', 'metadata'] as const
const others = ['bad_token_ids', ...promptFields] as const
const known: readonly string[] = [...prompts, ...carried, ...fieldNames, ...others]

/** Every line that is not blank, as a row or as what is wrong with it. */
export function readRows(text: string): (Row | BadRow)[] {
  const lines = text.split('\n').map((content, i) => ({ content: content.trim(), line: i + 1 }))
  return lines
    .filter(({ content }) => content !== '')
    .map(({ content, line }, index) => {
      let json: Fields = {}
      try {
        json = parseLine(content)
        return { index, line, ...readRow(json) }
      } catch (error) {
        return { index, line, error: (error as Error).message, carried: pick(json, carried) }
      }
    })
}

export function isBad(row: Row | BadRow): row is BadRow {
  return 'error' in row
}

function parseLine(content: string): Fields {
  let json: unknown
  try {
    json = JSON.parse(content)
  } catch (error) {
    throw new RequestError(`not JSON: ${(error as Error).message}`)
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Fields
  throw new RequestError('wanted a JSON object such as {"prompt": "..."}')
}

function readRow(json: Fields): Pick<Row, 'prompt' | 'options' | 'carried'> {
  for (const name of Object.keys(json)) {
    if (known.includes(name)) continue
    const meant = closest(name, known)
    const mend = meant === null ? `a row holds ${known.join(', ')}` : `did you mean '${meant}'?`
    throw new RequestError(`'${name}' is not a field of a row; ${mend}`, name)
  }
  const given = Object.keys(json).filter((name) => json[name] !== null)
  const named = prompts.filter((name) => given.includes(name))
  if (named.length !== 1) {
    const found = named.length === 0 ? 'none of them' : named.join(' and ')
    throw new RequestError(`wanted one of messages, prompt and prompt_ids; the row has ${found}`)
  }
  const options = given.filter((name) => ![...prompts, ...carried].some((other) => other === name))
  return {
    prompt: readPrompt(named[0], json[named[0]]),
    options: pick(json, options) as RowOptions,
    carried: pick(json, carried),
  }
}

function readPrompt(name: (typeof prompts)[number], value: unknown): Row['prompt'] {
  if (name === 'messages') {
    checkMessages(value)
    return { messages: value as readonly Message[] }
  }
  if (name === 'prompt') {
    if (typeof value === 'string') return value
    throw new RequestError(`prompt must be text, ${JSON.stringify(value)} given`, name)
  }
  if (Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id))) {
    return value as readonly number[]
  }
  throw new RequestError('prompt_ids must be a list of at least one token id', name)
}

function pick(json: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(names.filter((name) => name in json).map((name) => [name, json[name]]))
}

/** The request of a row. Throws what is wrong with its fields. */
export function startRow(llm: LLM, { prompt, options }: Row, defaults: RowOptions) {
  const all: RowOptions = { ...defaults, ...options }
  if (typeof prompt === 'string' || !('messages' in prompt)) return llm.complete(prompt, all)
  return llm.chat(prompt.messages, all)
}

/** Throws what would make the row fail once it runs: fields, ids, templates, length. */
export function checkRow(llm: LLM, row: Row, defaults: RowOptions): void {
  startRow(llm, row, defaults)
  const ids = idsOf(llm, row, { ...defaults, ...row.options })
  const { vocabSize } = llm.config
  const odd = ids.find((id) => id < 0 || id >= vocabSize)
  if (odd !== undefined)
    throw new RequestError(`token id ${odd} is outside 0 .. ${vocabSize - 1}`, 'prompt_ids')
  if (ids.length === 0) throw new RequestError('the prompt has no tokens')
  const most = llm.limits.max_model_len
  if (ids.length <= most) return
  throw new CapacityError(
    `the prompt has ${ids.length} tokens, max_model_len is ${most}; raise --max-model-len`,
  )
}

function idsOf({ template, tokenizer }: LLM, { prompt }: Row, options: RowOptions): readonly number[] {
  if (typeof prompt === 'string' || !('messages' in prompt)) return encodePrompt(prompt, options, tokenizer)
  return encodeChat(prompt.messages, options, template)
}
