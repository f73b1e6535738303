// A model directory -> an engine in this thread: opens the files, loads the weights, sizes and allocates the cache.
import { existsSync, readdirSync } from 'node:fs'
import { freemem } from 'node:os'
import { join } from 'node:path'
import type { Backend, PageShape } from '../backend/backend.ts'
import { type LatentFormat, latentBytes, latentFormats } from '../backend/latents.ts'
import { openBackend } from '../backend/open.ts'
import { openCheckpoint, readConfigFile } from '../checkpoint/checkpoint.ts'
import { isGguf } from '../checkpoint/gguf.ts'
import { type Config, parseConfig } from '../model/config.ts'
import { createModel, type Model, type Weights } from '../model/deepseek2.ts'
import { parseGenerationConfig } from '../model/generation.ts'
import { layoutProblems } from '../model/layout.ts'
import { type LoadProgress, loadWeights } from '../model/load.ts'
import { rotation, softmaxScale } from '../model/yarn.ts'
import { CapacityError, CheckpointError, RequestError } from '../tensor/error.ts'
import type { Engine, EngineLimits } from './engine.ts'
import { createEngine } from './local.ts'

/** Tokens a page of the latent cache holds. */
export const pageSize = 64

export interface EngineOptions {
  /** 'auto' (default), 'cpu' or 'reference'. */
  readonly backend?: string
  /** Threads of the cpu backend; 0 (default) is one for each core. */
  readonly threads?: number
  /** The most advanced instruction set the cpu backend may use: 'scalar', 'avx2', 'avx512', 'avx512bf16', 'amx'; '' (default) is the best. */
  readonly cpu_features?: string
  /** Default: what the config allows, as far as the cache holds it. */
  readonly max_model_len?: number
  readonly max_num_seqs?: number
  readonly max_num_batched_tokens?: number
  /** Default: a quarter of the free memory, at most one sequence of the config's full length. */
  readonly cache_bytes?: number
  /** Format of the latent cache: 'f32' (default), 'bf16', or 'q8', which takes 0.28 of the bytes of f32. */
  readonly kv_dtype?: LatentFormat
  readonly enable_prefix_caching?: boolean
  /** Ids below this are tokens, the embedding's rows above it padding. Default: every row. */
  readonly tokens?: number
}

export interface OpenModel {
  readonly config: Config
  readonly backend: Backend
  readonly model: Model
  /** What a user should know of what was opened. */
  readonly warnings: readonly string[]
  /** The shape of a latent cache of `count` pages. */
  pageShape(count: number, dtype: LatentFormat): PageShape
  close(): void
}

/** Loads the weights of a model directory onto a backend. */
export async function openModel(
  directory: string,
  options: Pick<EngineOptions, 'backend' | 'threads' | 'cpu_features'> = {},
  progress?: (at: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<OpenModel> {
  const config = readConfig(directory)
  const checkpoint = openCheckpoint(directory, (tensors, unread) => layoutProblems(config, tensors, unread))
  try {
    const warnings: string[] = []
    const backend = await openBackend(options.backend, {
      threads: options.threads ?? 0,
      features: options.cpu_features ?? '',
      warn: (message) => warnings.push(message),
    })
    return await orClose(backend, async () => {
      const weights = await loadWeights(checkpoint, config, backend, progress, signal)
      return assemble(config, backend, weights, warnings)
    })
  } finally {
    checkpoint.close()
  }
}

function assemble(
  config: Config,
  backend: Backend,
  weights: Weights,
  warnings: readonly string[],
): OpenModel {
  const constants = {
    heads: config.numAttentionHeads,
    eps: config.rmsNormEps,
    rotation: rotation(config),
    scale: softmaxScale(config),
  }
  return {
    config,
    backend,
    model: createModel(weights, constants, backend),
    warnings,
    pageShape: (count, dtype) => ({
      layers: config.numHiddenLayers,
      pages: count,
      pageSize,
      latent: config.kvLoraRank,
      key: config.qkRopeHeadDim,
      dtype,
    }),
    close: () => backend.close(),
  }
}

/** What fails half-way must not leave a backend's threads and memory behind. */
async function orClose<Result>(backend: Backend, body: () => Promise<Result>): Promise<Result> {
  try {
    return await body()
  } catch (error) {
    backend.close()
    throw error
  }
}

export function readConfig(directory: string): Config {
  const json = readConfigFile(directory, 'config.json')
  if (!json) throw new CheckpointError(`${directory} has no config.json; ${wantedInstead(directory)}`)
  return parseConfig(json, `${directory}/config.json`)
}

function wantedInstead(directory: string): string {
  const gguf = existsSync(directory) ? readdirSync(directory).filter((name) => isGguf(name)) : []
  if (gguf.length === 0) {
    return 'give a Hugging Face model directory, or a name such as deepseek-ai/DeepSeek-V2-Lite-Chat'
  }
  const file = join(directory, gguf.sort()[0])
  return `a GGUF is not opened by its folder, name the file itself: ${file}`
}

export async function openEngine(
  directory: string,
  options: EngineOptions = {},
  progress?: (at: LoadProgress) => void,
  signal?: AbortSignal,
): Promise<Engine> {
  checkOptions(options)
  const config = readConfig(directory)
  const generation = readConfigFile(directory, 'generation_config.json')
  const { eosTokenIds } = parseGenerationConfig(generation, config, `${directory}/generation_config.json`)
  const dtype = options.kv_dtype ?? 'f32'
  const { limits, count } = sizes(config, options, dtype) // before loading: a bad size should not cost minutes
  const { model, backend, pageShape, warnings } = await openModel(directory, options, progress, signal)
  return createEngine({
    model,
    backend,
    pages: await orClose(backend, async () => backend.pages(pageShape(count, dtype))),
    limits,
    eosTokenIds,
    vocabSize: config.vocabSize,
    tokens: options.tokens ?? config.vocabSize,
    prefixCaching: options.enable_prefix_caching ?? true,
    warnings,
  })
}

/** How many pages, and what they allow. */
function sizes(
  config: Config,
  options: EngineOptions,
  dtype: LatentFormat,
): { limits: EngineLimits; count: number } {
  const row = latentBytes(dtype, config.kvLoraRank, config.qkRopeHeadDim)
  const pageBytes = config.numHiddenLayers * pageSize * row
  const longest = options.max_model_len ?? config.maxPositionEmbeddings
  if (longest > config.maxPositionEmbeddings) {
    throw new CapacityError(
      `max_model_len is ${longest}, the model was made for at most ${config.maxPositionEmbeddings} (max_position_embeddings)`,
    )
  }
  const wanted = Math.ceil(longest / pageSize) * pageBytes
  const bytes = options.cache_bytes ?? Math.min(wanted, Math.max(freemem() / 4, pageBytes))
  const count = Math.floor(bytes / pageBytes)
  if (count < 1) {
    throw new CapacityError(
      `cache_bytes is ${options.cache_bytes}, one page of ${pageSize} tokens takes ${pageBytes}; give at least that`,
    )
  }
  const held = count * pageSize
  if (options.max_model_len !== undefined && held < options.max_model_len) {
    throw new CapacityError(
      `a latent cache of ${Math.floor(bytes)} bytes holds ${held} tokens, max_model_len is ${options.max_model_len}; raise cache_bytes to ${wanted} or lower max_model_len to ${held}`,
    )
  }
  return {
    limits: {
      max_model_len: Math.min(longest, held),
      max_num_seqs: options.max_num_seqs ?? 64,
      max_num_batched_tokens: options.max_num_batched_tokens ?? 512,
      cache_bytes: count * pageBytes,
      cache_tokens: held,
    },
    count,
  }
}

function checkOptions(options: EngineOptions): void {
  const whole = ['max_model_len', 'max_num_seqs', 'max_num_batched_tokens', 'cache_bytes', 'tokens'] as const
  for (const name of whole) {
    const value = options[name]
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 1)) {
      throw new RequestError(`${name} must be a whole number from 1, ${value} given`, name)
    }
  }
  const { kv_dtype } = options
  const { threads } = options
  if (threads !== undefined && (!Number.isSafeInteger(threads) || threads < 0)) {
    throw new RequestError(`threads must be a whole number, 0 for one a core; ${threads} given`, 'threads')
  }
  if (kv_dtype !== undefined && !latentFormats.includes(kv_dtype)) {
    throw new RequestError(`kv_dtype must be f32, bf16 or q8, '${kv_dtype}' given`, 'kv_dtype')
  }
}
