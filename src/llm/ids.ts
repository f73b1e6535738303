// Token ids the way programs of transformers hold them: rows of one length with a shape, an attention mask, `.to()`.
// Knows no text and no devices: ids stay in this program's memory, wherever the model computes.
import { RequestError } from '../tensor/error.ts'

/** Rows of ids, all of one length. An array of rows, so that `ids[0].slice(n)` reads as in Python. */
export class IdTensor extends Array<number[]> {
  /** What map, filter and slice make of the rows is a plain array. */
  static override get [Symbol.species](): ArrayConstructor {
    return Array
  }

  get shape(): readonly [rows: number, columns: number] {
    return [this.length, this[0]?.length ?? 0]
  }

  /** transformers.js's name for the shape. */
  get dims(): readonly [rows: number, columns: number] {
    return this.shape
  }

  /** The tensor itself: there is nowhere to move it to. Here so that a ported line reads the same. */
  to(_device: unknown): this {
    return this
  }

  tolist(): number[][] {
    return Array.from(this, (row) => [...row])
  }
}

export function idTensor(rows: readonly (readonly number[])[]): IdTensor {
  const odd = rows.find((row) => row.length !== rows[0].length)
  if (odd !== undefined) {
    throw new RequestError(
      `rows of ${rows[0].length} and of ${odd.length} tokens make no tensor; ask for padding: true`,
      'return_tensors',
    )
  }
  const tensor = new IdTensor()
  for (const row of rows) tensor.push([...row])
  return tensor
}

/** What calling a tokenizer gives: a list, lists, or tensors of ids, and which of them are not padding. */
export class BatchEncoding<Ids = number[]> {
  readonly input_ids: Ids
  readonly attention_mask: Ids

  constructor(input_ids: Ids, attention_mask: Ids) {
    this.input_ids = input_ids
    this.attention_mask = attention_mask
  }

  to(_device: unknown): this {
    return this
  }
}

export type IdRows = readonly number[] | readonly (readonly number[])[]

/** A prompt, prompts, or what a tokenizer returned. */
export type GenerateInput =
  | IdRows
  | { readonly input_ids: IdRows; readonly attention_mask?: IdRows | undefined }

/** A row as it was given, and the same without its padding. */
export interface PromptRow {
  readonly given: readonly number[]
  readonly prompt: readonly number[]
}

export function promptRows(input: GenerateInput, mask: IdRows | undefined): readonly PromptRow[] {
  if (isEncoded(input)) return promptRows(input.input_ids, mask ?? input.attention_mask)
  const rows = rowsOf(input, 'input_ids')
  if (mask === undefined) return rows.map((given) => ({ given, prompt: given }))
  const masks = rowsOf(mask, 'attention_mask')
  if (masks.length !== rows.length || masks.some((row, i) => row.length !== rows[i].length)) {
    throw new RequestError('attention_mask must have the shape of input_ids', 'attention_mask')
  }
  return rows.map((given, r) => ({ given, prompt: given.filter((_, i) => masks[r][i] !== 0) }))
}

function isEncoded(input: GenerateInput): input is Exclude<GenerateInput, IdRows> {
  return typeof input === 'object' && input !== null && 'input_ids' in input
}

function rowsOf(input: IdRows, field: string): readonly (readonly number[])[] {
  if (!Array.isArray(input) || input.length === 0) {
    throw new RequestError(`${field} must be token ids or rows of them, at least one`, field)
  }
  const rows = input as readonly unknown[]
  const numbers = (row: unknown): row is readonly number[] =>
    Array.isArray(row) && row.every((id) => typeof id === 'number')
  if (numbers(rows)) return [rows]
  if (rows.every(numbers)) return rows
  throw new RequestError(`${field} must be token ids or rows of them; text goes through a tokenizer`, field)
}
