// The tokenizers and vectors that the tests share. Only V2's file is stored whole; the others differ from it in
// their added tokens alone, so those are stored and put in its place.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { createTokenizer, type Tokenizer } from './tokenizer.ts'

const root = new URL('../../../', import.meta.url)
const data = new URL('test/data/tokenizer/', root)

export const directory = (name: string): string => fileURLToPath(new URL(name, data))
export const demoDirectory = fileURLToPath(new URL('models/demo', root))

export function readText(name: string): string {
  const bytes = readFileSync(new URL(name, data))
  return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
}

export function readLines(name: string): readonly string[] {
  return readText(name).trimEnd().split('\n')
}

export type Spec = { added_tokens: unknown; pre_tokenizer: unknown; [field: string]: unknown }

const v2 = JSON.parse(readText('deepseek-v2/tokenizer.json.gz')) as Spec
const added = (name: string): unknown => JSON.parse(readText(`${name}/added_tokens.json`))
const config = (name: string): unknown => JSON.parse(readText(`${name}/tokenizer_config.json`))

export const specs = {
  v2,
  v2Chat0628: { ...v2, added_tokens: added('deepseek-v2-chat-0628') },
  deepseekLlm: { ...v2, added_tokens: added('deepseek-llm') },
  demo: JSON.parse(readFileSync(new URL('models/demo/tokenizer.json', root), 'utf8')) as Spec,
}

/** Built on first use: a test file needs one or two of them. */
export const tokenizers = {
  v2: once(() => createTokenizer(specs.v2, config('deepseek-v2'))),
  v2Chat0628: once(() => createTokenizer(specs.v2Chat0628, config('deepseek-v2-chat-0628'))),
  deepseekLlm: once(() => createTokenizer(specs.deepseekLlm, config('deepseek-v2'))),
  demo: once(() => createTokenizer(specs.demo, config('deepseek-v2'))),
}

function once(make: () => Tokenizer): () => Tokenizer {
  let made: Tokenizer | null = null
  return () => (made ??= make())
}

/** The Rust library, as far as the tests ask it. */
export interface Oracle {
  encode(
    text: string,
    pair: null,
    options: { addSpecialTokens: boolean },
  ): Promise<{ getIds(): readonly number[]; getTokens(): readonly string[] }>
  decode(ids: readonly number[], skipSpecialTokens: boolean): Promise<string>
}

export function openOracle(spec: unknown): Oracle {
  const { Tokenizer: Native } = createRequire(import.meta.url)('tokenizers') as {
    Tokenizer: { fromString(json: string): Oracle }
  }
  return Native.fromString(JSON.stringify(spec))
}

export async function oracleIds(oracle: Oracle, text: string): Promise<readonly number[]> {
  return (await oracle.encode(text, null, { addSpecialTokens: false })).getIds()
}

/** A small generator of whole numbers in [0, below), the same in every run. */
export function createDice(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

/** A tokenizer.json with all bytes, a few merges, and whatever a test puts in place of its fields. */
export function smallSpec(fields: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const vocab: Record<string, number> = { aa: 256, ab: 257, abc: 258, Ġa: 259 }
  const prints = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad)
  for (let byte = 0, unused = 0x100; byte < 256; byte++) {
    vocab[String.fromCharCode(prints(byte) ? byte : unused++)] = byte
  }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges: ['a b', 'ab c', 'a a', 'Ġ a'],
    },
    ...fields,
  }
}
