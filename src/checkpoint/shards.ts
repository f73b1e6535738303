// Which files of a folder make the checkpoint, and whether the index and its shards tell the same story.
// Knows names; the inside of a file is safetensors.ts.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { CheckpointError } from '../tensor/error.ts'
import { readText, staysInside } from './files.ts'
import { type Header, isIgnorable } from './header.ts'
import { duplicateKeys, isObject, parseObject } from './json.ts'

export interface Shards {
  readonly files: readonly string[]
  /** Tensor -> file, as an index says; null for a single file. */
  readonly index: { readonly name: string; readonly weights: ReadonlyMap<string, string> } | null
  readonly problems: readonly string[]
}

/** Finds the files, or throws when there are none to read. */
export function findShards(directory: string): Shards {
  const names = list(directory)
  if (names.includes('model.safetensors')) {
    return { files: ['model.safetensors'], index: null, problems: [] }
  }
  const indexes = names.filter((name) => name.endsWith('.safetensors.index.json'))
  const index = indexes.includes('model.safetensors.index.json') ? 'model.safetensors.index.json' : indexes[0]
  if (index !== undefined) return readIndex(directory, index)
  const files = names.filter((name) => name.endsWith('.safetensors'))
  if (files.length === 1) return { files, index: null, problems: [] }
  throw new CheckpointError(files.length === 0 ? nothing(directory, names) : several(directory, files))
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'does not exist' : code === 'ENOTDIR' ? 'is not a directory' : message
    throw new CheckpointError(`cannot open the checkpoint: ${directory} ${why}`)
  }
}

function nothing(directory: string, names: readonly string[]): string {
  const shown = names.slice(0, 20).join(', ') + (names.length > 20 ? ` and ${names.length - 20} more` : '')
  let hint = 'wanted model.safetensors, or model.safetensors.index.json and its shards'
  if (names.some((name) => name.endsWith('.bin') || name.endsWith('.pth') || name.endsWith('.pt'))) {
    hint += '; *.bin (pytorch_model.bin) is not read, convert it to safetensors first'
  }
  if (names.some((name) => name.endsWith('.gguf'))) {
    hint += '; a GGUF is not opened by its folder, name the file itself'
  }
  return `${directory} holds no safetensors checkpoint (${names.length === 0 ? 'it is empty' : `found ${shown}`}): ${hint}`
}

function several(directory: string, files: readonly string[]): string {
  const which = `${files.slice(0, 5).join(', ')}${files.length > 5 ? ', ...' : ''}`
  return `${directory} holds ${files.length} safetensors files (${which}) but no model.safetensors.index.json to say which belong together`
}

function readIndex(directory: string, name: string): Shards {
  const weights = new Map<string, string>()
  const index = { name, weights }
  const file = readText(join(directory, name))
  if (typeof file === 'string') return { files: [], index, problems: [`${name}: ${file}`] }
  const parsed = parseObject(file.text)
  if (typeof parsed === 'string') return { files: [], index, problems: [`${name}: ${parsed}`] }
  const map = parsed.weight_map
  if (!isObject(map) || Object.keys(map).length === 0) {
    return { files: [], index, problems: [`${name}: has no weight_map of tensors to files`] }
  }
  const problems = duplicateKeys(file.text).map((path) => `${name}: has '${path}' twice`)
  const refused = new Set<unknown>()
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard === 'string' && staysInside(shard)) weights.set(tensor, shard)
    else if (!refused.has(shard)) {
      refused.add(shard)
      problems.push(
        `${name}: places '${tensor}' in ${JSON.stringify(shard)}, wanted a file inside the directory`,
      )
    }
  }
  return { files: [...new Set(weights.values())].sort(), index, problems }
}

/** Whether a tensor stands in a header, or may stand in one that could not be read. */
export function mayHold(
  { files, index }: Shards,
  headers: ReadonlyMap<string, Header>,
  tensor: string,
): boolean {
  if ([...headers.values()].some(({ names }) => names.has(tensor))) return true
  if (index === null) return headers.size < files.length
  const file = index.weights.get(tensor)
  return file === undefined ? index.weights.size === 0 : !headers.has(file)
}

/** Where index and shards disagree. `headers` holds the files whose header could be read. */
export function indexProblems(shards: Shards, headers: ReadonlyMap<string, Header>): string[] {
  const places = new Map<string, string[]>()
  for (const [file, header] of headers) {
    for (const name of header.names) {
      if (isIgnorable(name)) continue
      const known = places.get(name)
      if (known === undefined) places.set(name, [file])
      else known.push(file)
    }
  }
  const problems: string[] = []
  for (const [name, files] of places) {
    if (files.length > 1) problems.push(`${files[1]}: holds '${name}', which ${files[0]} holds too`)
  }
  if (shards.index === null) return problems
  const { name: index, weights } = shards.index
  for (const [name, file] of weights) {
    if (isIgnorable(name) || !headers.has(file) || places.get(name)?.includes(file)) continue
    const found = places.get(name)
    const where = found === undefined ? '' : `; it stands in ${found.join(' and ')}`
    problems.push(`${file}: lacks '${name}', which ${index} places there${where}`)
  }
  for (const [name, [file]] of places) {
    if (!weights.has(name)) problems.push(`${file}: holds '${name}', which ${index} does not list`)
  }
  return problems
}
