// tokenizer.json and tokenizer_config.json of a GGUF file: its token, type and merge arrays in the shape of the files of
// Hugging Face. Knows how llama.cpp stores a byte-level BPE; splits and encodes nothing.
import type { Value } from './ggufcursor.ts'
import { type GgufParts, refusal } from './ggufparts.ts'
import { preTokenizerNames, preTokenizerOf } from './ggufpre.ts'

type Json = Record<string, unknown>

/** Kinds of tokens by their number (llama.h): also 2 unknown and 6 byte, which are entries like any other. */
export const tokenKinds = { normal: 1, control: 3, user: 4, unused: 5 } as const

/** Rows of the embedding without a token. Old converters marked them as tokens of a user. */
export function isPadding(token: unknown, id: number, kind: unknown): boolean {
  return kind === tokenKinds.unused || (kind !== tokenKinds.normal && token === `[PAD${id}]`)
}

/** tokenizer.json, or null where the file has no vocabulary. */
export function ggufTokenizer(parts: GgufParts): Json | null {
  const tokens = parts.list('tokenizer.ggml.tokens')
  if (tokens === null) return null
  const problems: string[] = []
  const model = parts.metadata.get('tokenizer.ggml.model')
  if (model !== 'gpt2') problems.push(`its tokenizer is '${model}', wanted 'gpt2' (byte-level BPE)`)
  const pre = parts.metadata.get('tokenizer.ggml.pre')
  const preTokenizer = preTokenizerOf(String(pre))
  if (preTokenizer === null) {
    const given = pre === undefined ? 'is missing' : `is '${pre}'`
    problems.push(`tokenizer.ggml.pre ${given}; known are ${preTokenizerNames.join(', ')}`)
  }
  const kinds = parts.list('tokenizer.ggml.token_type') ?? []
  if (kinds.length > 0 && kinds.length !== tokens.length) {
    problems.push(`it has ${tokens.length} tokens, but the types of ${kinds.length}`)
  }
  const merges = parts.list('tokenizer.ggml.merges')
  if (merges === null) problems.push('the key tokenizer.ggml.merges is missing')
  const { vocab, added } = sortTokens(tokens, kinds, problems)
  if (problems.length > 0) throw refusal(parts.path, problems)
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: preTokenizer,
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      ...{ dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null },
      fuse_unk: false,
      vocab: Object.fromEntries(vocab),
      merges,
    },
  }
}

/** Entries of the vocabulary, and those that are looked for in the text itself; ids stay what they are. */
function sortTokens(tokens: readonly Value[], kinds: readonly Value[], problems: string[]) {
  const vocab = new Map<string, number>()
  const added: Json[] = []
  for (const [id, token] of tokens.entries()) {
    const kind = kinds[id] ?? tokenKinds.normal
    if (isPadding(token, id, kind)) continue
    const content = String(token)
    if (kind === tokenKinds.control || kind === tokenKinds.user) {
      const special = kind === tokenKinds.control
      const rules = { single_word: false, lstrip: false, rstrip: false, normalized: true }
      added.push({ id, content, ...rules, special })
      continue
    }
    const owner = vocab.get(content)
    if (owner !== undefined)
      problems.push(`the tokens ${owner} and ${id} are both ${JSON.stringify(content)}`)
    vocab.set(content, id)
  }
  return { vocab, added }
}

/** tokenizer_config.json, or null where the file has no vocabulary. */
export function ggufTokenizerConfig(parts: GgufParts): Json | null {
  const tokens = parts.list('tokenizer.ggml.tokens')
  if (tokens === null) return null
  const value = (key: string): Value | undefined => parts.metadata.get(`tokenizer.ggml.${key}`)
  const token = (role: string, stored: string): Json => {
    const content = tokens[Number(value(`${stored}_token_id`) ?? -1)]
    return typeof content === 'string' ? { [`${role}_token`]: content } : {}
  }
  const template = chatTemplate(parts.metadata)
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    // the published tokenizers of the family begin every text with BOS and do not end it
    add_bos_token: value('add_bos_token') ?? true,
    add_eos_token: value('add_eos_token') ?? false,
    ...token('bos', 'bos'),
    ...token('eos', 'eos'),
    ...token('pad', 'padding'),
    clean_up_tokenization_spaces: false,
    ...(template !== null && { chat_template: template }),
  }
}

/** One template, or a list of them with names, as in a tokenizer_config.json. */
function chatTemplate(metadata: ReadonlyMap<string, Value>): unknown {
  const main = metadata.get('tokenizer.chat_template')
  const prefix = 'tokenizer.chat_template.'
  const named = [...metadata]
    .filter(([key, value]) => key.startsWith(prefix) && typeof value === 'string')
    .map(([key, template]) => ({ name: key.slice(prefix.length), template }))
  if (typeof main !== 'string') return named.length > 0 ? named : null
  return named.length > 0 ? [{ name: 'default', template: main }, ...named] : main
}
