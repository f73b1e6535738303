// The files of one GGUF model: a single one, or the parts name-00001-of-00003.gguf. Any part names the model.
// Knows names and counts; the inside of a file is ggufheader.ts.
import { basename, dirname, join } from 'node:path'
import { CheckpointError } from '../tensor/error.ts'
import type { Value } from './ggufcursor.ts'
import { type GgufHeader, readGgufHeader, readGgufList } from './ggufheader.ts'
import type { Entry } from './header.ts'

export interface GgufParts {
  readonly path: string
  readonly folder: string
  /** The metadata of the first part: the others repeat none of it. */
  readonly metadata: ReadonlyMap<string, Value>
  /** Every tensor under its own name, with its file. */
  readonly entries: readonly (Entry & { readonly file: string })[]
  /** The elements of a metadata array, read when asked for; null where there is none. */
  list(key: string): readonly Value[] | null
}

/** Opens every part, or throws one CheckpointError that lists what is wrong with any of them. */
export function openParts(path: string): GgufParts {
  const folder = dirname(path)
  const files = partNames(basename(path))
  const headers = new Map<string, GgufHeader>()
  const problems: string[] = []
  for (const file of files) {
    const header = readGgufHeader(join(folder, file))
    if (typeof header === 'string') problems.push(`${file}: ${header}`)
    else {
      headers.set(file, header)
      problems.push(...header.problems.map((problem) => `${file}: ${problem}`))
    }
  }
  problems.push(...splitProblems(files, headers))
  if (problems.length > 0) throw refusal(path, problems)
  const entries = files.flatMap((file) =>
    (headers.get(file)?.entries ?? []).map((entry) => ({ ...entry, file })),
  )
  const first = headers.get(files[0])
  return {
    path,
    folder,
    metadata: first?.metadata ?? new Map(),
    entries,
    list: (key) => (first === undefined ? null : readGgufList(join(folder, files[0]), first, key)),
  }
}

export function refusal(path: string, problems: readonly string[]): CheckpointError {
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`
  return new CheckpointError(`cannot open the GGUF model ${path}: ${count}`, problems)
}

function partNames(name: string): readonly string[] {
  const match = /^(.*)-(\d{5})-of-(\d{5})(\.gguf)$/i.exec(name)
  if (match === null) return [name]
  const [, stem, , total, extension] = match
  const count = Number(total)
  if (count < 1) return [name]
  return Array.from(
    { length: count },
    (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${total}${extension}`,
  )
}

/** Where names, split.* keys and the parts themselves tell different stories. */
function splitProblems(files: readonly string[], headers: ReadonlyMap<string, GgufHeader>): string[] {
  const problems: string[] = []
  const owners = new Map<string, string>()
  let tensors = 0
  for (const [i, file] of files.entries()) {
    const header = headers.get(file)
    if (header === undefined) continue
    tensors += header.count
    for (const { name } of header.entries) {
      const owner = owners.get(name)
      if (owner !== undefined && owner !== file)
        problems.push(`${file}: holds '${name}', which ${owner} holds too`)
      owners.set(name, file)
    }
    const count = header.metadata.get('split.count') ?? 1
    const number = header.metadata.get('split.no') ?? 0
    if (count === 0 || (count === files.length && number === i)) continue
    const said = `${file}: says it is part ${Number(number) + 1} of ${count}`
    problems.push(
      files.length === 1
        ? `${said}; open it under its name ...-00001-of-0000n.gguf, beside the other parts`
        : `${said}, its name says ${i + 1} of ${files.length}`,
    )
  }
  const wanted = headers.get(files[0])?.metadata.get('split.tensors.count')
  if (wanted !== undefined && headers.size === files.length && wanted !== tensors) {
    problems.push(`${files[0]}: says the model has ${wanted} tensors, its parts hold ${tensors}`)
  }
  return problems
}
