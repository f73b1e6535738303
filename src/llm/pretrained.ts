// The tokenizer as transformers shows it: callable, snake_case, ids as lists or tensors. Knows text, ids and templates;
// no model. Two defaults are kept from Python: text may spell control tokens, and the answer's are decoded unless told
// otherwise. Messages are safer than there: their contents never become control tokens.
import { readConfigFile } from '../checkpoint/checkpoint.ts'
import { CheckpointError, RequestError } from '../tensor/error.ts'
import { type Message, openTemplate, type Template } from '../tokenizer/template.ts'
import { openTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'
import { BatchEncoding, type IdTensor, idTensor } from './ids.ts'
import { refuseUnknown } from './names.ts'

export interface TokenizeOptions {
  readonly add_special_tokens?: boolean | undefined
  /** true or 'longest': to the longest text; 'max_length': to max_length. */
  readonly padding?: boolean | 'longest' | 'max_length' | 'do_not_pad' | undefined
  readonly truncation?: boolean | undefined
  readonly max_length?: number | undefined
  readonly return_tensors?: 'pt' | undefined
}

export interface ChatTemplateOptions {
  /** The answer's beginning goes at the end; default false. */
  readonly add_generation_prompt?: boolean | undefined
  readonly continue_final_message?: boolean | undefined
  /** Default true; false gives the text. */
  readonly tokenize?: boolean | undefined
  readonly return_tensors?: 'pt' | undefined
  readonly return_dict?: boolean | undefined
  readonly tools?: readonly unknown[] | null | undefined
  /** A Jinja template, or the name of a built-in one, instead of the checkpoint's own. */
  readonly chat_template?: string | null | undefined
  /** Further variables of the template. */
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | undefined
}

export interface TokenDecodeOptions {
  /** Default false, as in transformers. */
  readonly skip_special_tokens?: boolean | undefined
  /** Only false: text is what the model wrote. */
  readonly clean_up_tokenization_spaces?: false | undefined
}

const tokenizeNames = ['add_special_tokens', 'padding', 'truncation', 'max_length', 'return_tensors']
const templateNames = [
  'add_generation_prompt',
  'continue_final_message',
  'tokenize',
  'return_tensors',
  'return_dict',
  'tools',
  'chat_template',
  'chat_template_kwargs',
]
const decodeNames = ['skip_special_tokens', 'clean_up_tokenization_spaces']

type Tensors = { readonly return_tensors: 'pt' }

/** Instances are functions: the object that `new` gives is the one handed up, under this class's prototype. */
class Callable {
  constructor(call: object) {
    // biome-ignore lint/correctness/noConstructorReturn: the way to make instances that can be called
    return Object.setPrototypeOf(call, new.target.prototype)
  }
}

export interface PreTrainedTokenizer {
  (text: string | readonly string[], options: TokenizeOptions & Tensors): BatchEncoding<IdTensor>
  (text: string, options?: TokenizeOptions): BatchEncoding<number[]>
  (text: readonly string[], options?: TokenizeOptions): BatchEncoding<number[][]>
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: Callable makes the instances callable
export class PreTrainedTokenizer extends Callable {
  /** latent's own tokenizer. */
  readonly inner: Tokenizer
  readonly name_or_path: string
  /** Every id, added tokens included: Python's len(tokenizer). */
  readonly vocab_size: number
  readonly model_max_length: number
  /** Where padding goes; 'left', so that a batch can be continued, unless tokenizer_config.json says otherwise. */
  padding_side: 'left' | 'right'
  pad_token: string | null
  readonly #directory: string
  readonly #templates = new Map<string, Template>()

  constructor(directory: string, name: string = directory) {
    const call = (text: string | readonly string[], options: TokenizeOptions = {}) =>
      this._call(text, options)
    super(call)
    const inner = openTokenizer(directory)
    const config = readConfigFile(directory, 'tokenizer_config.json') ?? {}
    this.inner = inner
    this.name_or_path = name
    this.vocab_size = inner.size
    const longest = config.model_max_length
    this.model_max_length = typeof longest === 'number' ? longest : Number.MAX_SAFE_INTEGER
    this.padding_side = config.padding_side === 'right' ? 'right' : 'left'
    this.pad_token = inner.pad === null ? null : inner.piece(inner.pad)
    this.#directory = directory
  }

  get bos_token_id(): number | null {
    return this.inner.bos
  }

  /** Never null, so that programs read as in Python: a tokenizer without one cannot serve them. */
  get eos_token_id(): number {
    if (this.inner.eos !== null) return this.inner.eos
    throw new CheckpointError(`the tokenizer of ${this.name_or_path} names no eos_token`)
  }

  /** Follows `pad_token`, which may be set: `tokenizer.pad_token = tokenizer.eos_token`. */
  get pad_token_id(): number | null {
    return this.pad_token === null ? null : this.inner.id(this.pad_token)
  }

  get bos_token(): string | null {
    return this.inner.bos === null ? null : this.inner.piece(this.inner.bos)
  }

  get eos_token(): string {
    return this.inner.piece(this.eos_token_id)
  }

  get all_special_ids(): number[] {
    return [...this.inner.special]
  }

  /** The checkpoint's own chat template. */
  get chat_template(): string {
    return this.#template(null).source
  }

  _call(text: string | readonly string[], options: TokenizeOptions = {}): BatchEncoding<unknown> {
    refuseUnknown(options, tokenizeNames, 'an option of a tokenizer')
    const rows = (typeof text === 'string' ? [text] : text).map((item) => this.encode(item, options))
    const { ids, mask } = this.#pad(rows, options)
    if (options.return_tensors === 'pt') return new BatchEncoding(idTensor(ids), idTensor(mask))
    return typeof text === 'string' ? new BatchEncoding(ids[0], mask[0]) : new BatchEncoding(ids, mask)
  }

  encode(text: string, options: TokenizeOptions = {}): number[] {
    refuseUnknown(options, tokenizeNames, 'an option of encode')
    const { add_special_tokens: addSpecialTokens = true, truncation, max_length } = options
    const ids = this.inner.encode(text, { addSpecialTokens, parseSpecial: true })
    return truncation ? ids.slice(0, max_length ?? this.model_max_length) : ids
  }

  decode(ids: Iterable<number> | number, options: TokenDecodeOptions = {}): string {
    refuseUnknown(options, decodeNames, 'an option of decode')
    const list = typeof ids === 'number' ? [ids] : ids
    return this.inner.decode(list, { skipSpecialTokens: options.skip_special_tokens ?? false })
  }

  batch_decode(rows: Iterable<Iterable<number>>, options: TokenDecodeOptions = {}): string[] {
    return Array.from(rows, (ids) => this.decode(ids, options))
  }

  /** null for what is no token. */
  convert_tokens_to_ids(token: string): number | null
  convert_tokens_to_ids(tokens: readonly string[]): (number | null)[]
  convert_tokens_to_ids(tokens: string | readonly string[]): number | null | (number | null)[] {
    if (typeof tokens === 'string') return this.inner.id(tokens)
    return tokens.map((token) => this.inner.id(token))
  }

  /** Readable text, where Python shows the byte alphabet ('Ġword'). */
  convert_ids_to_tokens(id: number): string
  convert_ids_to_tokens(ids: readonly number[]): string[]
  convert_ids_to_tokens(ids: number | readonly number[]): string | string[] {
    return typeof ids === 'number' ? this.inner.piece(ids) : ids.map((id) => this.inner.piece(id))
  }

  apply_chat_template(
    messages: readonly Message[],
    options: ChatTemplateOptions & { tokenize: false },
  ): string
  apply_chat_template(
    messages: readonly Message[],
    options: ChatTemplateOptions & Tensors & { return_dict: true },
  ): BatchEncoding<IdTensor>
  apply_chat_template(messages: readonly Message[], options: ChatTemplateOptions & Tensors): IdTensor
  apply_chat_template(
    messages: readonly Message[],
    options: ChatTemplateOptions & { return_dict: true },
  ): BatchEncoding<number[]>
  apply_chat_template(messages: readonly Message[], options?: ChatTemplateOptions): number[]
  apply_chat_template(messages: readonly Message[], options: ChatTemplateOptions = {}): unknown {
    refuseUnknown(options, templateNames, 'an option of apply_chat_template')
    const template = this.#template(options.chat_template ?? null)
    const rendering = {
      addGenerationPrompt: options.add_generation_prompt ?? false,
      continueFinalMessage: options.continue_final_message ?? false,
      ...(options.tools && { tools: options.tools }),
      ...(options.chat_template_kwargs && { variables: options.chat_template_kwargs }),
    }
    if (options.tokenize === false) return template.render(messages, rendering)
    const ids = [...template.encode(messages, rendering)]
    const mask = ids.map(() => 1)
    if (options.return_tensors !== 'pt') return options.return_dict ? new BatchEncoding(ids, mask) : ids
    const tensor = idTensor([ids])
    return options.return_dict ? new BatchEncoding(tensor, idTensor([mask])) : tensor
  }

  #template(choice: string | null): Template {
    const known = this.#templates.get(choice ?? '')
    if (known) return known
    const opened = openTemplate(this.#directory, this.inner, choice === null ? {} : { template: choice })
    this.#templates.set(choice ?? '', opened)
    return opened
  }

  #pad(
    rows: readonly number[][],
    options: TokenizeOptions,
  ): { ids: readonly number[][]; mask: readonly number[][] } {
    const ones = rows.map((row) => row.map(() => 1))
    const { padding = false, max_length } = options
    if (padding === false || padding === 'do_not_pad') return { ids: rows, mask: ones }
    const pad = this.pad_token_id
    if (pad === null) {
      throw new RequestError(
        'this tokenizer has no padding token; set tokenizer.pad_token = tokenizer.eos_token',
        'padding',
      )
    }
    const longest = Math.max(...rows.map((row) => row.length))
    const width = padding === 'max_length' ? (max_length ?? this.model_max_length) : longest
    const fill = (row: readonly number[], value: number): number[] => {
      const filler = Array.from({ length: Math.max(0, width - row.length) }, () => value)
      return this.padding_side === 'left' ? [...filler, ...row] : [...row, ...filler]
    }
    return { ids: rows.map((row) => fill(row, pad)), mask: ones.map((row) => fill(row, 0)) }
  }
}
