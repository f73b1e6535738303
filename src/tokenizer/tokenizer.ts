// Text to ids and back, from a checkpoint's tokenizer.json. Knows which tokens may come from plain text and
// which may not; nothing of chats, templates or models.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { readConfigFile } from '../checkpoint/checkpoint.ts'
import { CheckpointError, RequestError } from '../tensor/error.ts'
import { type AddedToken, createFinder, isControl } from './added.ts'
import { bytesOf } from './alphabet.ts'
import { createBpe } from './bpe.ts'
import { isFields, reader, show } from './fields.ts'
import { createPreTokenizer } from './pretokenizer.ts'
import { parseSpec, type Spec } from './spec.ts'

export interface EncodeOptions {
  /** Begin with BOS (and end with EOS) where the checkpoint's config says so. */
  readonly addSpecialTokens?: boolean
  /** Let text that spells a control token become that token. Never for text from outside. */
  readonly parseSpecial?: boolean
  /**
   * Offsets where no control token may begin or end even so: how a template keeps a message from giving
   * orders.
   */
  readonly literal?: ReadonlySet<number>
}

export interface DecodeOptions {
  readonly skipSpecialTokens?: boolean
}

export interface Tokenizer {
  /** Ids 0 to size - 1 exist; an id that the file leaves out in between is an empty piece. */
  readonly size: number
  readonly bos: number | null
  readonly eos: number | null
  readonly pad: number | null
  /** Ids of special added tokens, as the file (or its config) marks them: what `skipSpecialTokens` skips. */
  readonly special: ReadonlySet<number>
  /** Ids that only `parseSpecial` makes: the special ones, and those that look like `<｜...｜>`. */
  readonly control: ReadonlySet<number>
  readonly addedTokens: readonly {
    readonly id: number
    readonly content: string
    readonly special: boolean
  }[]
  encode(text: string, options?: EncodeOptions): number[]
  decode(ids: Iterable<number>, options?: DecodeOptions): string
  /** By an added token's content, or by a vocabulary entry in its byte-level spelling. */
  id(token: string): number | null
  /** Readable text of one token; half a letter shows as U+FFFD. */
  piece(id: number): string
  bytes(id: number): Uint8Array
}

export function openTokenizer(directory: string): Tokenizer {
  const plain = existsSync(join(directory, 'tokenizer.json'))
  const packed = !plain && existsSync(join(directory, 'tokenizer.json.gz'))
  const name = packed ? 'tokenizer.json.gz' : 'tokenizer.json'
  const json = readPart(directory, name)
  if (json === null) {
    throw new CheckpointError(`${directory} has no tokenizer.json; fetch the model's tokenizer files too`)
  }
  return createTokenizer(
    json,
    readPart(directory, 'tokenizer_config.json') ?? undefined,
    join(directory, name),
  )
}

/** A JSON file of a model: in its folder, or out of a GGUF file's metadata. Null where there is none. */
export function readPart(directory: string, name: string): unknown {
  if (directory.endsWith('.gguf')) return readConfigFile(directory, name)
  const path = join(directory, name)
  return existsSync(path) ? readJson(path) : null
}

/** One JSON file, gzipped or not, or a message that names it. */
export function readJson(path: string): unknown {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new CheckpointError(`cannot read ${path}: ${(error as Error).message}`)
  }
  try {
    return JSON.parse(new TextDecoder().decode(path.endsWith('.gz') ? gunzipSync(bytes) : bytes))
  } catch (error) {
    const kind = path.endsWith('.gz') ? 'gzipped JSON' : 'JSON'
    throw new CheckpointError(`${path} is not ${kind}: ${(error as Error).message}`)
  }
}

export function createTokenizer(json: unknown, config: unknown = {}, where = 'tokenizer.json'): Tokenizer {
  const spec = parseSpec(json, where)
  const names = parseConfig(config, where)
  const added = markNamed(spec.added, spec.vocabulary, names)
  const addedIds = new Map(added.map((token) => [token.content, token.id]))
  const id = (token: string): number | null => addedIds.get(token) ?? spec.vocabulary.get(token) ?? null
  const tokens = tokenBytes(spec.vocabulary, added)
  const bytes = (id: number): Uint8Array => tokens[id] ?? empty
  const special = new Set(added.filter((token) => token.special).map((token) => token.id))
  const [bos, eos] = [named('bos', names, id, where), named('eos', names, id, where)]
  const encodeText = createEncoder(spec, added, where)

  return {
    size: tokens.length,
    bos,
    eos,
    // transformers appends a missing pad token as a new id, which the model has no row for.
    pad: names.pad === null ? null : id(names.pad),
    special,
    control: new Set(added.filter(isControl).map((token) => token.id)),
    addedTokens: added.map(({ id, content, special }) => ({ id, content, special })),
    encode(text, options = {}) {
      const ids = options.addSpecialTokens === true && names.addBos && bos !== null ? [bos] : []
      encodeText(text, options, ids)
      if (options.addSpecialTokens === true && names.addEos && eos !== null) ids.push(eos)
      return ids
    },
    decode(list, options = {}) {
      const parts: Uint8Array[] = []
      for (const id of list) {
        checkId(id, tokens.length)
        if (options.skipSpecialTokens !== true || !special.has(id)) parts.push(bytes(id))
      }
      return readable(Buffer.concat(parts))
    },
    id,
    piece: (id) => readable(bytes(id)),
    bytes: (id) => bytes(id).slice(),
  }
}

function named(
  role: 'bos' | 'eos',
  names: Names,
  id: (token: string) => number | null,
  where: string,
): number | null {
  const name = names[role]
  if (name === null) return null
  const found = id(name)
  if (found !== null) return found
  throw new CheckpointError(`${where}: ${role}_token ${show(name)} of its config is not in it`)
}

/** Bytes that are no letter become U+FFFD; a byte-order mark is a letter like any other. */
function readable(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
}

const empty = new Uint8Array(0)

/** Padding rows of the embedding have no text, so an id from there is a mistake somewhere above. */
export function checkId(id: number, size: number): void {
  if (Number.isInteger(id) && id >= 0 && id < size) return
  throw new RequestError(
    `token id ${String(id)} is not in the vocabulary, wanted a whole number from 0 to ${size - 1}`,
  )
}

function createEncoder(
  spec: Spec,
  added: readonly AddedToken[],
  where: string,
): (text: string, options: EncodeOptions, ids: number[]) => void {
  const bpe = createBpe({ ...withoutControl(spec, added), where })
  const find = createFinder(added)
  const split = createPreTokenizer(spec.preTokenizer)
  return (text, { parseSpecial, literal }, ids) => {
    if (typeof text !== 'string') throw new RequestError(`cannot encode ${show(text)}, wanted a string`)
    const wellFormed = text.toWellFormed()
    const allowed = (start: number, end: number): boolean =>
      parseSpecial === true && !(literal?.has(start) ?? false) && !(literal?.has(end - 1) ?? false)
    const encodePiece = (piece: string): void => bpe.encode(piece, ids)
    for (const { start, end, id } of find(wellFormed, allowed)) {
      if (id !== null) ids.push(id)
      else split(wellFormed.slice(start, end), encodePiece)
    }
  }
}

/** Merges must not build a control token either, should its spelling be an entry of the vocabulary. */
function withoutControl(spec: Spec, added: readonly AddedToken[]): Spec {
  const barred = new Set(added.filter(isControl).map((token) => token.content))
  for (const content of barred) {
    if (content.length < 2 || !spec.vocabulary.has(content)) barred.delete(content)
  }
  if (barred.size === 0) return spec
  return {
    ...spec,
    vocabulary: new Map([...spec.vocabulary].filter(([entry]) => !barred.has(entry))),
    merges: spec.merges.filter(([a, b]) => !barred.has(a) && !barred.has(b) && !barred.has(a + b)),
  }
}

function tokenBytes(
  vocabulary: ReadonlyMap<string, number>,
  added: readonly AddedToken[],
): readonly Uint8Array[] {
  let size = 0
  for (const id of vocabulary.values()) size = Math.max(size, id + 1)
  for (const { id } of added) size = Math.max(size, id + 1)
  const tokens: Uint8Array[] = new Array(size).fill(empty)
  for (const [entry, id] of vocabulary) tokens[id] = bytesOf(entry)
  // An added token is its own text. Hugging Face reads it in the byte alphabet, and so loses DeepSeek-LLM's
  // umlauts.
  for (const { id, content } of added) tokens[id] = new TextEncoder().encode(content)
  return tokens
}

interface Names {
  readonly bos: string | null
  readonly eos: string | null
  readonly pad: string | null
  readonly addBos: boolean
  readonly addEos: boolean
}

function parseConfig(config: unknown, where: string): Names {
  const fields = reader(config, `the config of ${where}`)
  const name = (key: string): string | null => {
    const value = fields.raw[key] ?? null
    if (value === null || typeof value === 'string') return value
    if (isFields(value) && typeof value.content === 'string') return value.content
    throw new CheckpointError(`${fields.where}: ${key} is ${show(value)}, wanted a token or null`)
  }
  return {
    bos: name('bos_token'),
    eos: name('eos_token'),
    pad: name('pad_token'),
    addBos: fields.flag('add_bos_token', false),
    addEos: fields.flag('add_eos_token', false),
  }
}

/** The config's BOS, EOS and padding are special even where the file does not say so, as in transformers. */
function markNamed(
  added: readonly AddedToken[],
  vocabulary: ReadonlyMap<string, number>,
  names: Names,
): readonly AddedToken[] {
  const contents = new Set([names.bos, names.eos, names.pad].filter((name) => name !== null))
  const marked = added.map((token) => (contents.has(token.content) ? { ...token, special: true } : token))
  for (const { content } of added) contents.delete(content)
  const rules = { special: true, lstrip: false, rstrip: false, singleWord: false, normalized: false }
  for (const content of contents) {
    const id = vocabulary.get(content)
    if (id !== undefined) marked.push({ id, content, ...rules })
  }
  return marked
}
