// What a tokenizer.json says, checked and made typed. Knows the file's format and what of it this room
// supports; anything else is refused by name, because a tokenizer that is nearly right is wrong in silence.

import { CheckpointError } from '../tensor/error.ts'
import type { AddedToken } from './added.ts'
import { isFields, isId, reader, show } from './fields.ts'
import type { Behavior, PreTokenizer, Split } from './pretokenizer.ts'
import { asRun, compile, literally } from './regex.ts'

export interface Spec {
  readonly vocabulary: ReadonlyMap<string, number>
  readonly merges: readonly (readonly [string, string])[]
  readonly ignoreMerges: boolean
  readonly added: readonly AddedToken[]
  readonly preTokenizer: PreTokenizer
}

export function parseSpec(json: unknown, where: string): Spec {
  const file = reader(json, where)
  const model = reader(file.fields('model'), `${where}: model`)
  // Early files leave the type out; only BPE has merges.
  const type = model.raw.type ?? ('merges' in model.raw ? 'BPE' : null)
  if (type !== 'BPE') throw new CheckpointError(`${where}: the model's type is ${show(type)}, wanted "BPE"`)
  for (const name of ['continuing_subword_prefix', 'end_of_word_suffix', 'dropout']) {
    const value = model.raw[name] ?? null
    if (value !== null && value !== '' && value !== 0) {
      throw new CheckpointError(
        `${model.where}: ${name} is ${show(value)}, wanted null (it is not supported)`,
      )
    }
  }
  refuseNormalizer(file.raw.normalizer ?? null, where)
  refuseDecoder(file.raw.decoder ?? null, where)
  const vocabulary = parseVocabulary(model.fields('vocab'), where)
  return {
    vocabulary: vocabulary.vocabulary,
    merges: model.list('merges').map((merge, rank) => parseMerge(merge, rank, where)),
    ignoreMerges: model.flag('ignore_merges', false),
    added: parseAdded('added_tokens' in file.raw ? file.list('added_tokens') : [], vocabulary, where),
    preTokenizer: parsePreTokenizer(file.raw.pre_tokenizer ?? null, where),
  }
}

interface Vocabulary {
  readonly vocabulary: ReadonlyMap<string, number>
  /** The entry of each id. */
  readonly owners: ReadonlyMap<number, string>
}

function parseVocabulary(vocab: Readonly<Record<string, unknown>>, where: string): Vocabulary {
  const vocabulary = new Map<string, number>()
  const owners = new Map<number, string>()
  for (const [entry, id] of Object.entries(vocab)) {
    if (!isId(id)) {
      throw new CheckpointError(
        `${where}: the id of ${show(entry)} is ${show(id)}, wanted a whole number from 0`,
      )
    }
    const owner = owners.get(id)
    if (owner !== undefined) {
      throw new CheckpointError(
        `${where}: ${show(owner)} and ${show(entry)} have the same id ${id}, wanted one each`,
      )
    }
    owners.set(id, entry)
    vocabulary.set(entry, id)
  }
  return { vocabulary, owners }
}

/** Two spellings of the same list: ['a', 'b'] and, in older files, 'a b'. */
function parseMerge(merge: unknown, rank: number, where: string): readonly [string, string] {
  const pair = typeof merge === 'string' ? merge.split(' ') : merge
  if (Array.isArray(pair) && pair.length === 2 && pair.every((side) => typeof side === 'string')) {
    return [pair[0], pair[1]]
  }
  throw new CheckpointError(`${where}: merge ${rank} is ${show(merge)}, wanted two pieces`)
}

function parseAdded(
  list: readonly unknown[],
  { vocabulary, owners }: Vocabulary,
  where: string,
): readonly AddedToken[] {
  const contents = new Map<number, string>()
  return list.map((item, index) => {
    const token = reader(item, `${where}: added token ${index}`)
    const id = token.id('id')
    const content = token.string('content')
    const known = contents.get(id) ?? owners.get(id) ?? content
    if (known !== content || (vocabulary.get(content) ?? id) !== id) {
      const other =
        known !== content ? `${show(known)} has that id` : `its id is ${vocabulary.get(content)} elsewhere`
      throw new CheckpointError(`${token.where}: ${show(content)} has id ${id}, but ${other}`)
    }
    contents.set(id, content)
    const special = token.flag('special', false)
    return {
      id,
      content,
      special,
      lstrip: token.flag('lstrip', false),
      rstrip: token.flag('rstrip', false),
      singleWord: token.flag('single_word', false),
      normalized: token.flag('normalized', !special),
    }
  })
}

function refuseNormalizer(value: unknown, where: string): void {
  if (value === null) return
  const normalizer = reader(value, `${where}: normalizer`)
  if (normalizer.raw.type === 'Sequence') {
    for (const part of normalizer.list('normalizers')) refuseNormalizer(part, where)
    return
  }
  const given = show(normalizer.raw.type)
  throw new CheckpointError(
    `${where}: the normalizer ${given} is not supported, wanted null or an empty Sequence`,
  )
}

function refuseDecoder(value: unknown, where: string): void {
  const type = isFields(value) ? value.type : value
  if (type === null || type === 'ByteLevel') return
  throw new CheckpointError(`${where}: the decoder ${show(type)} is not supported, wanted "ByteLevel"`)
}

function parsePreTokenizer(value: unknown, where: string): PreTokenizer {
  const steps = flatten(value, where)
  const last = steps.at(-1)
  if (last?.raw.type !== 'ByteLevel') {
    const given = show(last?.raw.type ?? null)
    throw new CheckpointError(
      `${where}: the pre-tokenizer ends with ${given}, wanted "ByteLevel" (byte-level BPE)`,
    )
  }
  // Each set of letters takes one bit of a mark.
  if (steps.length > 30)
    throw new CheckpointError(`${where}: ${steps.length} pre-tokenizers, wanted 30 at most`)
  return {
    splits: steps.slice(0, -1).map((step) => parseSplit(step)),
    addPrefixSpace: last.flag('add_prefix_space', true),
    gpt2: last.flag('use_regex', true),
  }
}

function flatten(value: unknown, where: string): readonly ReturnType<typeof reader>[] {
  if (value === null) return []
  const step = reader(value, `${where}: pre-tokenizer`)
  if (step.raw.type !== 'Sequence') return [step]
  return step.list('pretokenizers').flatMap((part) => flatten(part, where))
}

const behaviors: readonly Behavior[] = [
  'Removed',
  'Isolated',
  'MergedWithPrevious',
  'MergedWithNext',
  'Contiguous',
]

function parseSplit(step: ReturnType<typeof reader>): Split {
  const type = step.raw.type
  if (type === 'Digits') {
    // Rust's is_numeric: every N* letter, so ½ and Ⅷ too.
    const many = !step.flag('individual_digits', false)
    return { kind: 'run', run: { set: '\\p{N}', led: false, many, last: false } }
  }
  if (type === 'ByteLevel') {
    throw new CheckpointError(`${step.where}: ByteLevel stands before another step, wanted it last`)
  }
  if (type !== 'Split') throw new CheckpointError(`${step.where} ${show(type)} is not supported`)
  const behavior = behaviors.find((name) => name === step.raw.behavior)
  if (behavior === undefined) {
    const given = show(step.raw.behavior)
    throw new CheckpointError(
      `${step.where}: behavior ${given} is not supported, wanted ${behaviors.join(', ')}`,
    )
  }
  const invert = step.flag('invert', false)
  const pattern = reader(step.raw.pattern, `${step.where}: pattern`)
  if ('String' in pattern.raw) {
    const literal = literally(pattern.string('String'))
    return { kind: 'pattern', pattern: new RegExp(literal, 'gu'), behavior, invert }
  }
  const source = pattern.string('Regex')
  // Isolated keeps both what matches and what does not, so inverting changes nothing.
  const run = behavior === 'Isolated' ? asRun(source, step.where) : null
  const compiled = compile(source, step.where)
  return run === null ? { kind: 'pattern', pattern: compiled, behavior, invert } : { kind: 'run', run }
}
