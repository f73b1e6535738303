// The public API of `latent`, and the only barrel. Shapes of other ecosystems live at latent/transformers and latent/vllm.
import './tensor/dispose.ts'

export {
  type DownloadOptions,
  type DownloadProgress,
  download,
  type HubSettings,
  hubSettings,
  resolveModel,
} from './checkpoint/hub.ts'
export type { EngineLimits, EngineStats } from './engine/engine.ts'
export type { Choice } from './engine/logprobs.ts'
export type { StructuralTag, StructuredOutputs, TagStructure } from './grammar/structured.ts'
export type { Answer, Chunk, Completion, Result, Timings, Usage } from './llm/completion.ts'
export { type LLM, type LoadOptions, load, locate } from './llm/load.ts'
export type { ChatOptions, CompleteOptions, GenerateOptions } from './llm/request.ts'
export { type ScoreOptions, type Scores, score } from './llm/score.ts'
export { type Config, parseConfig } from './model/config.ts'
export { chat0628Config, liteConfig } from './model/examples.ts'
export { describePlan, type Plan, type PlanOptions, plan } from './model/plan.ts'
export { CapacityError, CheckpointError, KernelError, RequestError, ShapeError } from './tensor/error.ts'
export type { Message, Template } from './tokenizer/template.ts'
export { openTemplate } from './tokenizer/template.ts'
export { openTokenizer, type Tokenizer } from './tokenizer/tokenizer.ts'
