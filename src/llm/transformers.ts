// `latent/transformers`: the names, options and defaults of Hugging Face transformers over latent's own engine, so that
// a model card's program can be ported line by line. Knows no computing: load.ts and the engine do that.
//
// Where it deviates on purpose: the class defaults top_k 50 and max_length 20 are not applied (generation.ts); message
// contents never become control tokens (pretrained.ts); an option without effect is listed in `model.warnings`; an
// unknown one is refused.
import { backendNames } from '../backend/open.ts'
import { readConfigFile } from '../checkpoint/checkpoint.ts'
import type { DownloadProgress } from '../checkpoint/hub.ts'
import { type EngineOptions, readConfig } from '../engine/open.ts'
import type { Config } from '../model/config.ts'
import { parseMaxMemory } from '../model/fields.ts'
import { describePlan, plan } from '../model/plan.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import { readGenerationConfig } from './generation.ts'
import { type HubOptions, hubNames, loadingOptions, locateFiles } from './hub.ts'
import { type LoadOptions, load, locate } from './load.ts'
import { PreTrainedModel } from './model.ts'
import { effectless, refuseUnknown } from './names.ts'
import { PreTrainedTokenizer } from './pretrained.ts'

export { GenerationConfig, type GenerationFields } from './generation.ts'
export { BatchEncoding, type GenerateInput, type IdRows, IdTensor, idTensor } from './ids.ts'
export { type ModelGenerateOptions, PreTrainedModel } from './model.ts'
export {
  type ChatTemplateOptions,
  PreTrainedTokenizer,
  type TokenDecodeOptions,
  type TokenizeOptions,
} from './pretrained.ts'
export {
  InterruptableStoppingCriteria,
  type StoppingCriterion,
  type StoppingRule,
  type Streamer,
  type StreamerOptions,
  TextIteratorStreamer,
  TextStreamer,
} from './streamer.ts'

/** transformers.js's events, and `load` while weights are read (loaded of total layers). */
export type ProgressInfo =
  | { readonly status: 'initiate' | 'download' | 'done'; readonly name: string; readonly file: string }
  | {
      readonly status: 'progress'
      readonly name: string
      readonly file: string
      /** Percent. */
      readonly progress: number
      readonly loaded: number
      readonly total: number
    }
  | {
      readonly status: 'load'
      readonly name: string
      readonly progress: number
      readonly loaded: number
      readonly total: number
    }
  | { readonly status: 'ready'; readonly task: 'text-generation'; readonly model: string }

const deviceMaps = ['auto', 'sequential', 'balanced', 'balanced_low_0', 'cpu', 'cuda', 'cuda:0'] as const
const dtypes = ['auto', 'bfloat16', 'float16', 'float32'] as const
type DtypeName = (typeof dtypes)[number]

export interface ModelOptions
  extends HubOptions,
    Pick<
      EngineOptions,
      'backend' | 'max_model_len' | 'max_num_seqs' | 'max_num_batched_tokens' | 'cache_bytes' | 'kv_dtype'
    > {
  readonly device_map?: (typeof deviceMaps)[number] | null | undefined
  /** What each device may be filled with: { 0: '75GB', cpu: '200GB' }. A model that does not fit is refused. */
  readonly max_memory?: Readonly<Record<string | number, string | number>> | null | undefined
  readonly torch_dtype?: DtypeName | `torch.${DtypeName}` | null | undefined
  readonly dtype?: DtypeName | `torch.${DtypeName}` | null | undefined
  readonly attn_implementation?: string | null | undefined
  readonly low_cpu_mem_usage?: boolean | undefined
  readonly use_cache?: boolean | undefined
  readonly use_safetensors?: boolean | undefined
  readonly progress_callback?: ((event: ProgressInfo) => void) | null | undefined
  readonly signal?: AbortSignal | undefined
}

const engineNames = [
  'backend',
  'max_model_len',
  'max_num_seqs',
  'max_num_batched_tokens',
  'cache_bytes',
  'kv_dtype',
] as const
const modelNames: readonly string[] = [
  ...hubNames,
  ...engineNames,
  'device_map',
  'max_memory',
  'torch_dtype',
  'dtype',
  'attn_implementation',
  'low_cpu_mem_usage',
  'use_cache',
  'use_safetensors',
  'progress_callback',
  'signal',
]

const tokenizerNames: readonly string[] = [...hubNames, 'use_fast', 'padding_side']

export interface TokenizerOptions extends HubOptions {
  /** Accepted: there is one tokenizer, and it is fast. */
  readonly use_fast?: boolean | undefined
  readonly padding_side?: 'left' | 'right' | undefined
}

export const AutoTokenizer = {
  /** A directory, a hub name (only the files beside the weights are fetched), or 'demo'. */
  async from_pretrained(name: string, options: TokenizerOptions = {}): Promise<PreTrainedTokenizer> {
    refuseUnknown(options, tokenizerNames, 'an option of AutoTokenizer.from_pretrained')
    const tokenizer = new PreTrainedTokenizer(await locateFiles(name, options), name)
    if (options.padding_side !== undefined) tokenizer.padding_side = options.padding_side
    return tokenizer
  },
}

export const AutoModelForCausalLM = {
  async from_pretrained(name: string, options: ModelOptions = {}): Promise<PreTrainedModel> {
    refuseUnknown(options, modelNames, 'an option of AutoModelForCausalLM.from_pretrained')
    checkChoices(options)
    const backend = options.backend ?? backendOf(options.device_map ?? 'auto')
    const { progress_callback: report, signal } = options
    const loading: LoadOptions = {
      ...loadingOptions(options),
      ...Object.fromEntries(
        engineNames.map((key) => [key, options[key]]).filter(([, value]) => value !== undefined),
      ),
      ...(backend !== undefined && { backend }),
      ...(report && { progress: (event) => translate(event, name).forEach((info) => report(info)) }),
      ...(signal && { signal }),
    }
    const directory = await locate(name, loading)
    const config = readConfig(directory)
    const placed = placement(config, options) // before the weights: what cannot fit should not cost minutes
    const llm = await load(directory, loading)
    const device = (await llm.stats()).backend === 'cuda' ? 'cuda:0' : 'cpu'
    report?.({ status: 'ready', task: 'text-generation', model: name })
    return new PreTrainedModel({
      llm,
      name,
      device,
      config: readConfigFile(directory, 'config.json') ?? {},
      generation: readGenerationConfig(directory),
      deviceMap: placed ?? { '': device === 'cpu' ? 'cpu' : 0 },
      warnings: warningsOf(options, config, device),
    })
  },
}

function checkChoices(options: ModelOptions): void {
  const torch = (name: string) => name.replace(/^torch\./, '')
  for (const [field, value, known] of [
    ['device_map', options.device_map, deviceMaps],
    ['torch_dtype', options.torch_dtype && torch(options.torch_dtype), dtypes],
    ['dtype', options.dtype && torch(options.dtype), dtypes],
  ] as const) {
    if (value === undefined || value === null || known.some((name) => name === value)) continue
    throw new RequestError(`${field} is ${JSON.stringify(value)}; wanted one of ${known.join(', ')}`, field)
  }
}

/** The strategies leave the choice to latent; a device's name is that device. */
function backendOf(map: (typeof deviceMaps)[number]): string | undefined {
  if (map === 'cuda' || map === 'cuda:0') return 'cuda'
  if (map !== 'cpu') return undefined
  const names: readonly string[] = backendNames
  return names.includes('cpu') ? 'cpu' : 'reference'
}

/** Module -> device under max_memory, one device filled after the other; null where nothing limits one device. */
function placement(config: Config, options: ModelOptions): Record<string, number | string> | null {
  if (!options.max_memory) return null
  const context = options.max_model_len
  const maxMemory = parseMaxMemory(options.max_memory)
  const placed = plan(config, { maxMemory, ...(context !== undefined && { context }) })
  if (!placed.fits) throw new CapacityError(`the model does not fit in max_memory\n${describePlan(placed)}`)
  return Object.fromEntries(
    placed.placement.flatMap(({ device, modules }) => {
      const number = /^device (\d+)$/.exec(device)?.[1]
      return modules.map((module) => [module, number === undefined ? device : Number(number)] as const)
    }),
  )
}

function warningsOf(options: ModelOptions, config: Config, device: string): string[] {
  const { trust_remote_code, torch_dtype, dtype = torch_dtype, device_map, ...rest } = options
  const own = { bf16: 'bfloat16', f16: 'float16', f32: 'float32' } as const
  const stored = config.torchDtype
  const asked = dtype?.replace(/^torch\./, '') ?? 'auto'
  const kept = asked === 'auto' || asked === (stored in own ? own[stored as keyof typeof own] : stored)
  const spread = device_map && !device_map.startsWith('c') && device_map !== 'auto'
  return effectless(
    {
      trust_remote_code: trust_remote_code || undefined,
      torch_dtype: kept ? undefined : dtype,
      device_map: spread ? device_map : undefined,
      attn_implementation: rest.attn_implementation,
      low_cpu_mem_usage: rest.low_cpu_mem_usage,
      use_cache: rest.use_cache === false ? false : undefined,
      use_safetensors: rest.use_safetensors === false ? false : undefined,
      max_memory: rest.max_memory ?? undefined,
    },
    {
      trust_remote_code: 'no code of a checkpoint is ever run',
      torch_dtype: `weights are used in the format they are stored in (${stored})`,
      device_map: `this backend has one device (${device}), which holds everything`,
      attn_implementation: 'attention is always absorbed MLA over paged latents',
      low_cpu_mem_usage: 'weights are always read a layer at a time',
      use_cache: 'latents are always kept',
      use_safetensors: 'checkpoints are always read from safetensors',
      max_memory: `hf_device_map shows the placement; this backend has one device (${device})`,
    },
  )
}

/** One event of ours as those that transformers.js would send. */
function translate(
  event: DownloadProgress | { readonly status: 'load'; readonly loaded: number; readonly total: number },
  name: string,
): ProgressInfo[] {
  const { loaded, total } = event
  const progress = total > 0 ? (100 * loaded) / total : 0
  if (event.status === 'load') return [{ status: 'load', name, progress, loaded, total }]
  const { file } = event
  if (event.status === 'progress') return [{ status: 'progress', name, file, progress, loaded, total }]
  if (event.status === 'done') return [{ status: 'done', name, file }]
  const initiate = { status: 'initiate', name, file } as const
  return [initiate, { status: event.status === 'cached' ? 'done' : 'download', name, file }]
}
