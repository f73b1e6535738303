// A loaded model as transformers shows it: `generate` over rows of ids. Knows rows, padding and when to stop; sampling
// is the engine's. Every row of a batch runs at once and independently, so padding never changes an answer.
import '../tensor/dispose.ts'
import { RequestError } from '../tensor/error.ts'
import { GenerationConfig, type GenerationFields, idList, idleFields, requestOf } from './generation.ts'
import {
  type GenerateInput,
  type IdRows,
  type IdTensor,
  idTensor,
  type PromptRow,
  promptRows,
} from './ids.ts'
import type { LLM } from './load.ts'
import { refuseUnknown, stated, together } from './names.ts'
import { ruledOver, type StoppingRule, type Streamer } from './streamer.ts'

export interface ModelGenerateOptions extends GenerationFields {
  /** Instead of `model.generation_config`; fields beside it go before it. */
  readonly generation_config?: GenerationConfig | undefined
  readonly attention_mask?: IdRows | undefined
  readonly streamer?: Streamer | null | undefined
  readonly stopping_criteria?: StoppingRule | readonly StoppingRule[] | null | undefined
  readonly signal?: AbortSignal | undefined
}

const callNames = ['generation_config', 'attention_mask', 'streamer', 'stopping_criteria', 'signal']

export interface ModelParts {
  readonly llm: LLM
  readonly name: string
  readonly device: string
  readonly config: Readonly<Record<string, unknown>>
  readonly generation: GenerationConfig
  readonly deviceMap: Readonly<Record<string, number | string>>
  readonly warnings: string[]
}

/** What all rows of one call share. */
interface Call {
  readonly config: GenerationConfig
  readonly streamer: Streamer | null
  readonly rules: readonly StoppingRule[]
}

export class PreTrainedModel implements AsyncDisposable {
  generation_config: GenerationConfig
  readonly name_or_path: string
  /** config.json as it is. */
  readonly config: Readonly<Record<string, unknown>>
  readonly device: string
  /** Module -> device: under max_memory as `sequential` fills devices, else all on one. */
  readonly hf_device_map: Readonly<Record<string, number | string>>
  /** Options that were accepted and changed nothing, one sentence each. Nothing is ever printed. */
  readonly warnings: string[]
  /** latent's own object. */
  readonly llm: LLM

  constructor(parts: ModelParts) {
    this.llm = parts.llm
    this.name_or_path = parts.name
    this.config = parts.config
    this.generation_config = parts.generation
    this.device = parts.device
    this.hf_device_map = parts.deviceMap
    this.warnings = parts.warnings
  }

  /**
   * Rows of prompt and answer, num_return_sequences for each prompt in turn; shorter ones are filled on the right with
   * pad_token_id (eos_token_id where there is none).
   */
  async generate(input: GenerateInput, options: ModelGenerateOptions = {}): Promise<IdTensor> {
    const streamer = options.streamer ?? null
    try {
      const rows = await this.#generate(input, options, streamer)
      streamer?.end()
      return rows
    } catch (error) {
      streamer?.end(error)
      throw error
    }
  }

  async #generate(
    input: GenerateInput,
    options: ModelGenerateOptions,
    streamer: Streamer | null,
  ): Promise<IdTensor> {
    const { generation_config, attention_mask, stopping_criteria, signal, streamer: _, ...fields } = options
    const base = generation_config ?? this.generation_config
    refuseUnknown(fields, [...Object.keys(new GenerationConfig()), ...callNames], 'an option of generate')
    const config = new GenerationConfig({ ...base, ...stated(fields) })
    this.#warn(idleFields(fields, config))
    const rows = promptRows(input, attention_mask)
    if (streamer && rows.length * (config.num_return_sequences ?? 1) > 1) {
      throw new RequestError('a streamer shows one answer; give one prompt and one sequence', 'streamer')
    }
    const rules = stopping_criteria ? [stopping_criteria].flat() : []
    const answers = await together(rows, signal, (row, index, cancel) =>
      this.#answer(row, index, { config, streamer, rules }, cancel),
    )
    return this.#padded(answers.flat(), config)
  }

  /** The answers to one prompt, each behind the prompt as it was given. */
  async #answer(
    { given, prompt }: PromptRow,
    row: number,
    { config, streamer, rules }: Call,
    signal: AbortSignal,
  ): Promise<number[][]> {
    const { limits, generation } = this.llm
    const bounds = { max_model_len: limits.max_model_len, eosTokenIds: generation.eosTokenIds }
    const request = requestOf(config, prompt.length, row, bounds)
    const answers = Array.from({ length: request.n ?? 1 }, () => [...given])
    const open = new Set(answers)
    streamer?.put(given)
    for await (const { index, token_ids } of this.llm.complete(prompt, { ...request, signal })) {
      const answer = answers[index]
      if (!open.has(answer)) continue
      answer.push(...token_ids)
      if (token_ids.length > 0) streamer?.put(token_ids)
      if (streamer?.closed || ruledOver(rules, answer)) open.delete(answer)
      if (open.size === 0) break // leaving the loop cancels what the engine still computes
    }
    return answers
  }

  #padded(rows: readonly number[][], config: GenerationConfig): IdTensor {
    const longest = Math.max(...rows.map((row) => row.length))
    const [pad] = [
      ...idList(config.pad_token_id),
      ...idList(config.eos_token_id),
      ...this.llm.generation.eosTokenIds,
    ]
    if (pad === undefined && rows.some((row) => row.length < longest)) {
      throw new RequestError('rows of different lengths need a pad_token_id', 'pad_token_id')
    }
    return idTensor(rows.map((row) => [...row, ...Array.from({ length: longest - row.length }, () => pad)]))
  }

  #warn(sentences: readonly string[]): void {
    for (const sentence of sentences) if (!this.warnings.includes(sentence)) this.warnings.push(sentence)
  }

  /** Frees the weights and the engine. */
  dispose(): Promise<void> {
    return this.llm.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}
