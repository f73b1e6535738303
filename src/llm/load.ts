// The library's door: a model's name -> something that answers. The one place below `cli` that looks at the environment
// (where the Hugging Face cache is, which token to use), because a library has no other door to be told it at.
import '../tensor/dispose.ts'
import { homedir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { readConfigFile } from '../checkpoint/checkpoint.ts'
import { type DownloadProgress, hubSettings, resolveModel } from '../checkpoint/hub.ts'
import type { Engine, EngineLimits, EngineStats } from '../engine/engine.ts'
import { type EngineOptions, openEngine, readConfig } from '../engine/open.ts'
import { openWorkerEngine } from '../engine/worker.ts'
import type { Config } from '../model/config.ts'
import { type GenerationConfig, parseGenerationConfig } from '../model/generation.ts'
import type { LoadProgress } from '../model/load.ts'
import { CheckpointError, RequestError } from '../tensor/error.ts'
import { type Message, openTemplate, type Template } from '../tokenizer/template.ts'
import { openTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'
import { type Completion, createCompletion } from './completion.ts'
import { refuseUnknown } from './names.ts'
import { encodeChat, encodePrompt, leadOf } from './prompt.ts'
import { type ChatOptions, type CompleteOptions, readOptions } from './request.ts'
import { createVocabulary } from './vocabulary.ts'

export interface LoadOptions extends Omit<EngineOptions, 'tokens'> {
  /** Branch, tag or commit of a hub model. */
  readonly revision?: string
  /** A Jinja chat template, or the name of a built-in one, instead of the checkpoint's own. */
  readonly chat_template?: string
  /** Run the engine in a thread of its own; default true. */
  readonly worker?: boolean
  /** Files being fetched, then layers being loaded. */
  readonly progress?: (event: DownloadProgress | ({ readonly status: 'load' } & LoadProgress)) => void
  readonly signal?: AbortSignal
  /** Where the cache, endpoint and token of the hub are looked up; default process.env. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

export interface LLM extends AsyncDisposable {
  readonly name: string
  readonly directory: string
  readonly config: Config
  readonly generation: GenerationConfig
  readonly tokenizer: Tokenizer
  readonly template: Template
  readonly limits: EngineLimits
  /** What a user should know of how it was opened (a slower backend than wished, say). */
  readonly warnings: readonly string[]
  /** A string is one user message. */
  chat(messages: string | readonly Message[], options?: ChatOptions): Completion
  complete(prompt: string | readonly number[], options?: CompleteOptions): Completion
  stats(): Promise<EngineStats>
  close(): Promise<void>
}

/** The environment that `load` looks at unless it is given another. */
export const environment = (): NonNullable<LoadOptions['env']> => process.env

/** The name under which the embedded model is known. */
export const demoName = 'demo'

/**
 * The directory of a model: the embedded one for 'demo' or nothing, a path, or a hub name (`org/name`), which is
 * downloaded into the Hugging Face cache when it is not there. Throws a CheckpointError that says what to do.
 */
export async function locate(model: string = demoName, options: LoadOptions = {}): Promise<string> {
  if (model === demoName) return fileURLToPath(new URL('../../../models/demo', import.meta.url))
  const { revision, progress, signal } = options
  return resolveModel(model, hubSettings(options.env ?? environment(), homedir()), {
    ...(revision !== undefined && { revision }),
    ...(progress && { progress }),
    ...(signal && { signal }),
  })
}

/** Loads a model; without a name, the embedded demo model. */
export async function load(model: string = demoName, options: LoadOptions = {}): Promise<LLM> {
  checkOptions(model, options)
  const directory = await locate(model, options)
  const config = readConfig(directory)
  const generation = readGeneration(directory, config)
  const tokenizer = openTokenizer(directory)
  if (tokenizer.size > config.vocabSize) {
    throw new CheckpointError(
      `${directory}: the tokenizer has ${tokenizer.size} tokens, the model embeds ${config.vocabSize} (vocab_size); the files are of different models`,
    )
  }
  const choice = options.chat_template === undefined ? {} : { template: options.chat_template }
  const template = openTemplate(directory, tokenizer, choice)
  const engine = await open(directory, options, tokenizer.size)
  return createLLM({ name: model, directory, config, generation, tokenizer, template, engine })
}

const loadFields: readonly (keyof LoadOptions)[] = [
  ...([
    'backend',
    'threads',
    'cpu_features',
    'max_model_len',
    'max_num_seqs',
    'max_num_batched_tokens',
  ] as const),
  ...(['cache_bytes', 'kv_dtype', 'enable_prefix_caching', 'revision', 'chat_template', 'worker'] as const),
  ...(['progress', 'signal', 'env'] as const),
]

function checkOptions(model: unknown, options: LoadOptions): void {
  if (typeof model !== 'string' || model === '') {
    throw new RequestError(`the model must be a name or a path, ${JSON.stringify(model)} given`, 'model')
  }
  refuseUnknown(options, loadFields, 'an option of load()')
  const { chat_template, signal } = options
  if (chat_template !== undefined && typeof chat_template !== 'string') {
    throw new RequestError(
      'chat_template must be a Jinja template or the name of a built-in one',
      'chat_template',
    )
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new RequestError('signal must be an AbortSignal', 'signal')
  }
}

export function readGeneration(directory: string, config: Config): GenerationConfig {
  const file = 'generation_config.json'
  return parseGenerationConfig(readConfigFile(directory, file), config, `${directory}/${file}`)
}

function open(directory: string, options: LoadOptions, tokens: number): Promise<Engine> {
  const { revision, chat_template, worker = true, progress, signal, env, ...rest } = options
  const start = worker ? openWorkerEngine : openEngine
  return start(directory, { ...rest, tokens }, (at) => progress?.({ status: 'load', ...at }), signal)
}

interface Parts extends Pick<LLM, 'name' | 'directory' | 'config' | 'generation' | 'tokenizer' | 'template'> {
  readonly engine: Engine
}

function createLLM({ engine, ...parts }: Parts): LLM {
  const { config, generation, tokenizer, template } = parts
  const lead = leadOf(template)
  const vocabulary = createVocabulary(tokenizer)
  const defaults = { ...generation.sampling, max_tokens: generation.maxNewTokens }

  function run(
    prompt: () => readonly number[],
    options: ChatOptions & CompleteOptions,
    leading: string,
  ): Completion {
    return createCompletion({
      engine,
      tokenizer,
      prompt,
      options: readOptions(options, tokenizer, config.vocabSize, defaults),
      signal: options.signal,
      lead: leading,
      vocabulary,
    })
  }

  function chat(messages: string | readonly Message[], options: ChatOptions = {}): Completion {
    return run(
      () => encodeChat(messages, options, template),
      options,
      options.continue_final_message ? '' : lead,
    )
  }

  function complete(prompt: string | readonly number[], options: CompleteOptions = {}): Completion {
    return run(() => encodePrompt(prompt, options, tokenizer), options, '')
  }

  const close = (): Promise<void> => engine.close()
  return {
    ...parts,
    limits: engine.limits,
    warnings: engine.warnings,
    chat,
    complete,
    stats: () => engine.stats(),
    close,
    [Symbol.asyncDispose]: close,
  }
}
