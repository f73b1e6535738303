// The configuration of a model by any name it goes by, and what the headers of its weights say, if they are here.
// Knows where such things are found; reads no weights.
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { openCheckpoint, readConfigFile } from '../checkpoint/checkpoint.ts'
import { readConfig } from '../engine/open.ts'
import type { Config } from '../model/config.ts'
import { parseConfig } from '../model/config.ts'
import { chat0628Config, liteConfig } from '../model/examples.ts'
import type { Json } from '../model/fields.ts'
import { layoutProblems } from '../model/layout.ts'
import { CheckpointError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import { locatePart } from './model.ts'
import { reasonOf } from './parse.ts'

export interface Headers {
  readonly files: number
  /** Bytes of each tensor, its scales included. */
  readonly bytes: ReadonlyMap<string, number>
  readonly dtypes: Readonly<Record<string, { readonly tensors: number; readonly bytes: number }>>
}

export interface Found {
  readonly config: Config
  /** Where it was read; null for latent's own copy. */
  readonly source: string | null
  /** Null where the weights are not there. */
  readonly headers: Headers | null
}

const large = ['', '-Chat', '-Chat-0628'].map((end) => `DeepSeek-V2${end}`)
const coder = ['Base', 'Instruct', 'Instruct-0724'].map((end) => `DeepSeek-Coder-V2-${end}`)
const lite = ['DeepSeek-V2-Lite', 'DeepSeek-V2-Lite-Chat'].concat(
  ['Base', 'Instruct'].map((end) => `DeepSeek-Coder-V2-Lite-${end}`),
)
const published: ReadonlyMap<string, Json> = new Map([
  ...[...large, ...coder, 'DeepSeek-V2.5', 'DeepSeek-V2.5-1210'].map(
    (name) => [name, chat0628Config] as const,
  ),
  ...lite.map((name) => [name, liteConfig] as const),
])

export async function findConfiguration(io: Io, model: string, revision?: string): Promise<Found> {
  if (existsSync(model) && statSync(model).isFile()) return fromFile(model)
  const base = /^(?:deepseek-ai\/)?([^/]+)$/.exec(model)?.[1]
  const known = base === undefined ? undefined : published.get(base)
  if (known === undefined || existsSync(model)) return fromFolder(await locateConfig(io, model, revision))
  try {
    // asked once: whoever is offline should not wait for what latent knows anyway
    return fromFolder(await locateConfig(io, `deepseek-ai/${base}`, revision, 1))
  } catch (error) {
    if (io.signal.aborted || !(error instanceof CheckpointError)) throw error
    io.note(
      io.err.dim(
        `${base} is not in the cache and the hub cannot be asked; this is latent's own copy of its shape`,
      ),
    )
    return { config: parseConfig(known, base ?? model), source: null, headers: null }
  }
}

function locateConfig(io: Io, model: string, revision?: string, attempts?: number): Promise<string> {
  const part = { include: ['config.json'], needed: ['config.json'], revision }
  return locatePart(io, model, { ...part, ...(attempts !== undefined && { attempts }) })
}

function fromFile(path: string): Found {
  if (path.endsWith('.safetensors')) return fromFolder(dirname(path))
  if (path.endsWith('.gguf')) {
    const config = readConfig(path)
    return { config, source: path, headers: readHeaders(path, config) }
  }
  const json = readConfigFile(dirname(path), basename(path))
  if (json === null) throw new CheckpointError(`${path} is gone`)
  return { config: parseConfig(json, path), source: path, headers: null }
}

function fromFolder(directory: string): Found {
  const config = readConfig(directory)
  const path = join(directory, 'config.json')
  return { config, source: path, headers: hasWeights(directory) ? readHeaders(directory, config) : null }
}

function hasWeights(directory: string): boolean {
  try {
    return readdirSync(directory).some((name) => name.endsWith('.safetensors'))
  } catch (error) {
    throw new CheckpointError(`cannot read ${directory}: ${reasonOf(error)}`)
  }
}

/** Throws where the tensors are not those that the configuration describes. */
function readHeaders(directory: string, config: Config): Headers {
  const checkpoint = openCheckpoint(directory, (tensors, unread) => layoutProblems(config, tensors, unread))
  try {
    const bytes = new Map<string, number>()
    const dtypes: Record<string, { tensors: number; bytes: number }> = {}
    for (const { name, dtype, start, end, scales } of checkpoint.tensors.values()) {
      const stored = end - start + (scales ? scales.end - scales.start : 0)
      for (const [part, share] of asLaidOut(name, config))
        bytes.set(part, (bytes.get(part) ?? 0) + stored * share)
      dtypes[dtype] ??= { tensors: 0, bytes: 0 }
      const sum = dtypes[dtype]
      sum.tensors++
      sum.bytes += stored
    }
    const files = new Set([...checkpoint.tensors.values()].map((tensor) => tensor.file)).size
    return { files, bytes, dtypes }
  } finally {
    checkpoint.close()
  }
}

/** The names of the layout that a tensor stands for, and its share in each: GGUF stacks experts and splits kv_b. */
function asLaidOut(name: string, config: Config): (readonly [string, number])[] {
  const half = name.replace(/\.[kv]_b_proj\./, '.kv_b_proj.')
  const E = config.nRoutedExperts ?? 0
  if (!/\.experts\.[a-z]/.test(name)) return [[half, 1]]
  return Array.from({ length: E }, (_, e) => [name.replace('.experts.', `.experts.${e}.`), 1 / E])
}
