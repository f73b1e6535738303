// From the flags that name a model and size an engine to a model that answers, with its progress on stderr.
// Knows flags and terminals; loading is llm/load.ts, fetching checkpoint/hub.ts.
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import type { DownloadProgress } from '../checkpoint/hub.ts'
import type { LLM, LoadOptions } from '../llm/load.ts'
import { parseBytes, parseCount } from '../model/fields.ts'
import { createDownloadView } from './fetching.ts'
import type { Io } from './io.ts'
import { createLive } from './live.ts'
import { defined, oneOf, readTextFile, wholeOf } from './parse.ts'
import { bar } from './style.ts'

/** As commander hands them over. */
export interface ModelFlags {
  readonly model?: string
  readonly revision?: string
  readonly backend?: string
  readonly threads?: number
  readonly cpuFeatures?: (typeof cpuFeatures)[number]
  readonly maxModelLen?: number
  readonly maxNumSeqs?: number
  readonly maxNumBatchedTokens?: number
  readonly cacheBytes?: number
  readonly kvDtype?: (typeof kvDtypes)[number]
  readonly prefixCaching?: boolean
  readonly chatTemplate?: string
  /** Nothing about fetching and loading; warnings are said. */
  readonly quiet?: boolean
}

const sizes = 'Engine:'
const cpuFeatures = ['scalar', 'avx2', 'avx512', 'avx512bf16', 'amx'] as const
const kvDtypes = ['f32', 'bf16', 'q8'] as const

export function addModelOption(command: Command): Command {
  return command
    .option('-m, --model <model>', 'folder, hub name or `demo` (default: demo)')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
}

/** `without`: an option that the command has in a form of its own. */
export function addEngineOptions(command: Command, without?: '--threads'): Command {
  const option = (flags: string, help: string, parse?: (text: string) => unknown): void => {
    if (without && flags.startsWith(without)) return
    const made = new Option(flags, help).helpGroup(sizes)
    command.addOption(parse ? made.argParser((text: string) => parse(text)) : made)
  }
  option('--backend <name>', 'who computes (default: auto, the fastest that works here)')
  option(
    '--threads <n>',
    'threads of the cpu backend (default: 0, one for each core)',
    wholeOf('--threads', 0),
  )
  option(
    '--cpu-features <set>',
    `the most that the cpu backend may use: ${cpuFeatures.join(', ')}`,
    oneOf('--cpu-features', cpuFeatures),
  )
  option('--max-model-len <tokens>', 'most tokens of prompt and answer together, such as 32k', (text) =>
    parseCount(text, '--max-model-len'),
  )
  option('--max-num-seqs <n>', 'most sequences in one step', wholeOf('--max-num-seqs', 1))
  option('--max-num-batched-tokens <n>', 'most tokens in one step', wholeOf('--max-num-batched-tokens', 1))
  option('--cache-bytes <size>', 'memory of the latent cache, such as 2GiB', (text) =>
    parseBytes(text, '--cache-bytes'),
  )
  option(
    '--kv-dtype <type>',
    'format of the latents: f32, bf16 or q8 (default: f32)',
    oneOf('--kv-dtype', kvDtypes),
  )
  return command
}

/** For commands that answer; bench never caches. */
export function addCachingOption(command: Command): Command {
  const help = 'compute every prompt from its beginning, whatever was computed before'
  return command.addOption(new Option('--no-prefix-caching', help).helpGroup(sizes))
}

export function addTemplateOption(command: Command): Command {
  return command.option('--chat-template <template>', "a built-in one's name, a file, or Jinja itself")
}

/** Loads the model that the flags name. Without a name it is the demo, which is said. */
export async function openModel(io: Io, flags: ModelFlags, more: Partial<LoadOptions> = {}): Promise<LLM> {
  await checkBackend(flags.backend)
  const { load } = await import('../llm/load.ts')
  const view = createLoadView(io, { quiet: flags.quiet ?? false })
  try {
    const options = { ...loadOptions(flags), ...more, env: io.env, signal: io.signal, progress: view.show }
    const llm = await load(flags.model, options)
    view.close()
    for (const warning of llm.warnings) io.note(`${io.err.yellow('warning:')} ${warning}`)
    return llm
  } finally {
    view.close()
  }
}

export function sayDemo(io: Io): void {
  const what = 'demo answers, a tiny model for trying latent out; it knows little.'
  io.note(io.err.dim(`${what} Name another with --model.`))
}

function loadOptions(flags: ModelFlags): LoadOptions {
  const { chatTemplate } = flags
  return defined({
    revision: flags.revision,
    backend: flags.backend,
    threads: flags.threads,
    cpu_features: flags.cpuFeatures,
    max_model_len: flags.maxModelLen,
    max_num_seqs: flags.maxNumSeqs,
    max_num_batched_tokens: flags.maxNumBatchedTokens,
    cache_bytes: flags.cacheBytes,
    kv_dtype: flags.kvDtype,
    enable_prefix_caching: flags.prefixCaching === false ? false : undefined,
    chat_template: chatTemplate === undefined ? undefined : readTemplateFlag(chatTemplate),
  })
}

/** A file's text; names and Jinja are told apart below. */
export function readTemplateFlag(given: string): string {
  return existsSync(given) ? readTextFile(given, 'the chat template') : given
}

/** A wrong name is wrong usage; a backend that cannot be opened here is not, and is refused below. */
export async function checkBackend(name: string | undefined): Promise<void> {
  if (name === undefined) return
  const { backendNames } = await import('../backend/open.ts')
  oneOf<string>('--backend', backendNames)(name)
}

export function createLoadView(io: Io, options: { readonly quiet?: boolean } = {}) {
  const live = createLive(io, options)
  const fetching = createDownloadView(io, options)
  const show: NonNullable<LoadOptions['progress']> = (event) => {
    if (event.status !== 'load') return fetching.show(event)
    fetching.close()
    const { loaded, total } = event
    live.show(
      () => [`${io.err.dim('loading')}  ${bar(loaded / total, 30, io.err)}  ${loaded}/${total} layers`],
      () => `loading: ${loaded} of ${total} layers`,
    )
  }
  return {
    show,
    close: () => {
      fetching.close()
      live.clear()
    },
  }
}

export interface Part {
  readonly revision?: string | undefined
  /** What to fetch when the cache lacks it. */
  readonly include: readonly string[]
  /** What there has to be. */
  readonly needed: readonly string[]
  /** How often a hub that does not answer is asked. */
  readonly attempts?: number
}

/** A folder with some of a model's files, where the weights are not wanted: they are not fetched for this. */
export async function locatePart(io: Io, model: string | undefined, part: Part): Promise<string> {
  const { demoName, locate } = await import('../llm/load.ts')
  if (model === undefined || model === demoName) return locate(demoName)
  if (existsSync(model)) return resolve(model)
  const { findSnapshot, hubSettings, resolveModel } = await import('../checkpoint/hub.ts')
  const settings = hubSettings(io.env, homedir())
  const cached = findSnapshot(model, settings, part.revision)
  if (cached !== null && part.needed.every((name) => existsSync(join(cached, name)))) return cached
  const view = createDownloadView(io)
  const progress = (event: DownloadProgress): void => view.show(event)
  try {
    return await resolveModel(model, settings, {
      revision: part.revision,
      include: part.include,
      signal: io.signal,
      progress,
      ...(part.attempts !== undefined && { timing: { attempts: part.attempts } }),
    })
  } finally {
    view.close()
  }
}

/** What tokenizing and rendering a chat need. */
export const textFiles = {
  include: ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja', 'config.json'],
  needed: ['tokenizer.json'],
}
