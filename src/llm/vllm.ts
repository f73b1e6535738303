// `latent/vllm`: the names, fields and defaults of vLLM's offline LLM class over latent's own engine. Knows vLLM's shapes;
// load.ts answers. Loading begins with the first call, and what is wrong with the model is thrown there.
import '../tensor/dispose.ts'
import { RequestError } from '../tensor/error.ts'
import { type Message, openTemplate } from '../tokenizer/template.ts'
import { loadingOptions } from './hub.ts'
import { type LLM as Latent, type LoadOptions, load } from './load.ts'
import { effectless, refuseUnknown, together } from './names.ts'
import { type RequestOutput, requestOutput } from './output.ts'
import { SamplingParams } from './params.ts'
import { PreTrainedTokenizer } from './pretrained.ts'
import { argumentsOf, type GenerateArguments, type Params, type Prompt, type PromptInput } from './prompts.ts'
import type { GenerateOptions } from './request.ts'

export type { CompletionOutput, Logprob, RequestOutput } from './output.ts'
export { SamplingParams, type SamplingParamsFields } from './params.ts'
export type { GenerateArguments, PromptInput } from './prompts.ts'

export interface LLMOptions {
  /** A directory, a hub name or 'demo'. */
  readonly model: string
  readonly revision?: string | undefined
  /** Only the model's own. */
  readonly tokenizer?: string | undefined
  readonly hf_token?: string | undefined
  /** Instead of the Hugging Face cache. */
  readonly download_dir?: string | undefined
  readonly max_model_len?: number | undefined
  readonly max_num_seqs?: number | undefined
  readonly max_num_batched_tokens?: number | undefined
  readonly enable_prefix_caching?: boolean | undefined
  /** Format of the latents; default 'auto'. */
  readonly kv_cache_dtype?: 'auto' | 'float32' | 'bfloat16' | 'int8' | undefined
  /** Bytes of the latent cache. */
  readonly kv_cache_memory_bytes?: number | undefined
  /** Requests that state no seed draw from this one on, in the order they are made. */
  readonly seed?: number | undefined
  /** latent's: which of its backends computes. */
  readonly backend?: string | undefined
  /** Ends loading; a call takes a signal of its own. */
  readonly signal?: AbortSignal | undefined
  readonly trust_remote_code?: boolean | undefined
  readonly tensor_parallel_size?: number | undefined
  readonly pipeline_parallel_size?: number | undefined
  readonly enforce_eager?: boolean | undefined
  readonly dtype?: 'auto' | 'bfloat16' | 'float16' | 'half' | 'float32' | 'float' | undefined
  readonly gpu_memory_utilization?: number | undefined
  readonly swap_space?: number | undefined
  readonly cpu_offload_gb?: number | undefined
  readonly enable_chunked_prefill?: boolean | undefined
  readonly disable_custom_all_reduce?: boolean | undefined
  readonly disable_log_stats?: boolean | undefined
  readonly load_format?: string | undefined
  readonly block_size?: number | undefined
}

const cacheFormats: Readonly<Record<string, Pick<LoadOptions, 'kv_dtype'>>> = {
  auto: {},
  float32: { kv_dtype: 'f32' },
  bfloat16: { kv_dtype: 'bf16' },
  int8: { kv_dtype: 'q8' },
}

const effective = [
  'model',
  'revision',
  'tokenizer',
  'hf_token',
  'download_dir',
  'max_model_len',
  'max_num_seqs',
  'max_num_batched_tokens',
  'enable_prefix_caching',
  'kv_cache_dtype',
  'kv_cache_memory_bytes',
  'seed',
  'backend',
  'signal',
] as const

const reasons = {
  trust_remote_code: 'no code of a checkpoint is ever run',
  tensor_parallel_size: 'the backend has one device, which holds everything',
  pipeline_parallel_size: 'the backend has one device, which holds everything',
  enforce_eager: 'every step is computed eagerly',
  dtype: 'weights are used in the format they are stored in',
  gpu_memory_utilization: 'kv_cache_memory_bytes sizes the latent cache',
  swap_space: 'a sequence that loses its latents computes them again',
  cpu_offload_gb: 'weights stay where the backend has them',
  enable_chunked_prefill: 'prompts are always computed in chunks of max_num_batched_tokens',
  disable_custom_all_reduce: 'one device has nothing to reduce',
  disable_log_stats: 'nothing is ever logged',
  load_format: 'the format is told by the files',
  block_size: 'a page of the latent cache always holds 64 tokens',
} as const

/** Values that ask for what latent does anyway. */
const plain: Readonly<Record<string, unknown>> = {
  trust_remote_code: false,
  tensor_parallel_size: 1,
  pipeline_parallel_size: 1,
  enforce_eager: true,
  dtype: 'auto',
  cpu_offload_gb: 0,
  enable_chunked_prefill: true,
  load_format: 'auto',
  block_size: 64,
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}

export interface ChatCallOptions extends CallOptions {
  readonly add_generation_prompt?: boolean
  readonly continue_final_message?: boolean
  readonly chat_template?: string | null
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null
  readonly tools?: readonly unknown[] | null
}

const chatNames = [
  'signal',
  'add_generation_prompt',
  'continue_final_message',
  'chat_template',
  'chat_template_kwargs',
  'tools',
]

export class LLM implements AsyncDisposable {
  /** Options that were accepted and change nothing, one sentence each. Nothing is ever printed. */
  readonly warnings: readonly string[]
  readonly #options: LLMOptions
  #loading: Promise<Latent> | null = null
  #tokenizer: PreTrainedTokenizer | null = null
  #closed = false
  #requests = 0
  #answers = 0

  constructor(options: LLMOptions) {
    refuseUnknown(options, [...effective, ...Object.keys(reasons)], 'an option of LLM')
    const { model, tokenizer, kv_cache_dtype: cache } = options
    if (typeof model !== 'string') throw new RequestError('model must be a name or a directory', 'model')
    if (tokenizer !== undefined && tokenizer !== model) {
      throw new RequestError(
        `tokenizer must be the model's own; leave it out or give '${model}'`,
        'tokenizer',
      )
    }
    if (cache !== undefined && !Object.hasOwn(cacheFormats, cache)) {
      throw new RequestError(
        `kv_cache_dtype is '${cache}'; wanted auto, float32, bfloat16 or int8`,
        'kv_cache_dtype',
      )
    }
    this.#options = options
    const asked = Object.entries(options).filter(([name, value]) => plain[name] !== value)
    this.warnings = effectless(Object.fromEntries(asked), reasons)
  }

  /** Answers to all prompts, in their order; they are computed together. Without parameters: the model's own. */
  async generate(
    prompts: PromptInput | readonly PromptInput[] | GenerateArguments,
    sampling_params?: Params,
    options: CallOptions = {},
  ): Promise<RequestOutput[]> {
    const { signal, ...call } = argumentsOf(prompts, sampling_params)
    return this.#run(await this.#open(), call.prompts, call.params, signal ?? options.signal)
  }

  /** The same for conversations, one or several, through the model's chat template. */
  async chat(
    messages: readonly Message[] | readonly (readonly Message[])[],
    sampling_params?: Params,
    options: ChatCallOptions = {},
  ): Promise<RequestOutput[]> {
    refuseUnknown(options, chatNames, 'an option of chat')
    const latent = await this.#open()
    const { chat_template: source, tools, chat_template_kwargs: variables } = options
    const template = source
      ? openTemplate(latent.directory, latent.tokenizer, { template: source })
      : latent.template
    const rendering = {
      addGenerationPrompt: options.add_generation_prompt ?? !options.continue_final_message,
      continueFinalMessage: options.continue_final_message ?? false,
      ...(tools && { tools }),
      ...(variables && { variables }),
    }
    const conversations = (
      Array.isArray(messages[0]) ? messages : [messages]
    ) as readonly (readonly Message[])[]
    const prompts = conversations.map((conversation) => ({
      text: template.render(conversation, rendering),
      input: template.encode(conversation, rendering),
    }))
    return this.#run(latent, prompts, sampling_params, options.signal)
  }

  async get_tokenizer(): Promise<PreTrainedTokenizer> {
    const { directory } = await this.#open()
    this.#tokenizer ??= new PreTrainedTokenizer(directory, this.#options.model)
    return this.#tokenizer
  }

  /** What is used where no SamplingParams are given: generation_config.json over vLLM's defaults. */
  async get_default_sampling_params(): Promise<SamplingParams> {
    const { generation } = await this.#open()
    const { maxNewTokens, sampling } = generation
    return new SamplingParams({ ...sampling, ...(maxNewTokens !== null && { max_tokens: maxNewTokens }) })
  }

  /** Frees the weights and the engine. */
  async shutdown(): Promise<void> {
    this.#closed = true
    const loading = this.#loading
    this.#loading = null
    const latent = await loading?.catch(() => null)
    await latent?.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown()
  }

  async #run(
    latent: Latent,
    prompts: readonly Prompt[],
    given: Params,
    signal: AbortSignal | undefined,
  ): Promise<RequestOutput[]> {
    const params = given ?? (await this.get_default_sampling_params())
    if (Array.isArray(params) && params.length !== prompts.length) {
      const counts = `${params.length} sampling_params for ${prompts.length} prompts`
      throw new RequestError(`${counts}; give one for each, or one for all`, 'sampling_params')
    }
    const requests = prompts.map((prompt, i) => {
      const own: SamplingParams = Array.isArray(params) ? params[i] : params
      if (!(own instanceof SamplingParams)) {
        throw new RequestError(
          'sampling_params must be a SamplingParams or a list of them',
          'sampling_params',
        )
      }
      return { prompt, id: String(this.#requests++), options: this.#seeded(own.options()) }
    })
    return together(requests, signal, async ({ prompt, id, options }, _, cancel) => {
      const result = await latent.complete(prompt.input, { ...options, signal: cancel }).result()
      return requestOutput(id, prompt.text, result, latent.tokenizer)
    })
  }

  #seeded(options: GenerateOptions): GenerateOptions {
    const first = this.#answers
    this.#answers += options.n ?? 1
    const { seed } = this.#options
    return seed === undefined || (options.seed ?? null) !== null
      ? options
      : { ...options, seed: seed + first }
  }

  async #open(): Promise<Latent> {
    if (this.#closed) throw new RequestError('this LLM was shut down; make a new one')
    this.#loading ??= load(this.#options.model, this.#loadOptions())
    return this.#loading
  }

  #loadOptions(): LoadOptions {
    const { revision, hf_token, download_dir, kv_cache_dtype: cache, kv_cache_memory_bytes } = this.#options
    const same = [
      'max_model_len',
      'max_num_seqs',
      'max_num_batched_tokens',
      'enable_prefix_caching',
      'backend',
    ] as const
    const engine = [...same, 'signal' as const].map((name) => [name, this.#options[name]] as const)
    return {
      ...loadingOptions({ revision, token: hf_token, cache_dir: download_dir }),
      ...Object.fromEntries(engine.filter(([, value]) => value !== undefined)),
      ...(kv_cache_memory_bytes !== undefined && { cache_bytes: kv_cache_memory_bytes }),
      ...(cache !== undefined && cacheFormats[cache]),
    }
  }
}
