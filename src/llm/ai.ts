// A loaded model for the AI SDK (ai-sdk.dev), in this process, without a server: `generateText({ model: latent(llm) })`.
// Knows the SDK's shapes, taken structurally, so that latent does not depend on it. Versions 3 (`ai` 6) and 4 (`ai` 7) of
// its specification agree in everything a model of text says; 4 adds `reasoning` and more kinds of parts to requests.
import { randomUUID } from 'node:crypto'
import '../tensor/dispose.ts'
import { RequestError } from '../tensor/error.ts'
import type { Message } from '../tokenizer/template.ts'
import type { Completion, Result } from './completion.ts'
import type { LLM } from './load.ts'
import type { ChatOptions } from './request.ts'

type Fields = Readonly<Record<string, unknown>>

/** What `doGenerate` and `doStream` are given: members of both versions that this model looks at. */
export interface CallOptions {
  readonly prompt: readonly PromptMessage[]
  readonly maxOutputTokens?: number | undefined
  readonly temperature?: number | undefined
  readonly stopSequences?: readonly string[] | undefined
  readonly topP?: number | undefined
  readonly topK?: number | undefined
  readonly presencePenalty?: number | undefined
  readonly frequencyPenalty?: number | undefined
  readonly responseFormat?: { readonly type: 'text' } | JsonFormat | undefined
  readonly seed?: number | undefined
  readonly tools?: readonly unknown[] | undefined
  readonly toolChoice?: unknown
  readonly includeRawChunks?: boolean | undefined
  readonly abortSignal?: AbortSignal | undefined
  readonly headers?: Readonly<Record<string, string | undefined>> | undefined
  /** Version 4. */
  readonly reasoning?: string | undefined
  /** `latent` may hold any option of latent's own requests. */
  readonly providerOptions?: Readonly<Record<string, Fields>> | undefined
}

interface JsonFormat {
  readonly type: 'json'
  readonly schema?: unknown
}

interface PromptMessage {
  readonly role: string
  readonly content: string | readonly { readonly type: string }[]
}

export type CallWarning =
  | { readonly type: 'unsupported'; readonly feature: string; readonly details?: string }
  | { readonly type: 'other'; readonly message: string }

export interface CallFinish {
  readonly unified: 'stop' | 'length'
  readonly raw: string | undefined
}

/** Not readonly where the SDK's own types are not. */
export interface CallUsage {
  inputTokens: { total: number; noCache: number; cacheRead: number; cacheWrite: number | undefined }
  outputTokens: { total: number; text: number; reasoning: number | undefined }
}

export type StreamPart =
  | { type: 'stream-start'; warnings: CallWarning[] }
  | { type: 'response-metadata'; id: string; timestamp: Date; modelId: string }
  | { type: 'text-start'; id: string }
  | { type: 'text-delta'; id: string; delta: string }
  | { type: 'text-end'; id: string }
  | { type: 'raw'; rawValue: unknown }
  | { type: 'finish'; usage: CallUsage; finishReason: CallFinish }
  | { type: 'error'; error: unknown }

export interface LanguageModel<Version extends 'v3' | 'v4'> {
  readonly specificationVersion: Version
  readonly provider: string
  readonly modelId: string
  readonly supportedUrls: Record<string, RegExp[]>
  doGenerate(options: CallOptions): Promise<{
    content: { type: 'text'; text: string }[]
    finishReason: CallFinish
    usage: CallUsage
    warnings: CallWarning[]
    response: { id: string; timestamp: Date; modelId: string }
  }>
  doStream(options: CallOptions): Promise<{ stream: ReadableStream<StreamPart> }>
}

export interface Provider<Version extends 'v3' | 'v4'> {
  (modelId?: string): LanguageModel<Version>
  readonly specificationVersion: Version
  languageModel(modelId: string): LanguageModel<Version>
  embeddingModel(modelId: string): never
  imageModel(modelId: string): never
}

export interface AiOptions<Version extends 'v3' | 'v4'> {
  /** Of the AI SDK's specification: 'v4' (default) for `ai` 7, 'v3' for `ai` 6. */
  readonly specification?: Version
}

/** The model as the AI SDK takes it. */
export function latent<Version extends 'v3' | 'v4' = 'v4'>(
  llm: LLM,
  options: AiOptions<Version> = {},
): LanguageModel<Version> {
  return {
    specificationVersion: options.specification ?? ('v4' as Version),
    provider: 'latent',
    modelId: llm.name,
    supportedUrls: {},
    doGenerate: (asked) => generate(llm, asked),
    doStream: (asked) => stream(llm, asked),
  }
}

/** A provider of one model, for registries and for code that is given a provider; it answers to the model's name. */
export function createLatent<Version extends 'v3' | 'v4' = 'v4'>(
  llm: LLM,
  options: AiOptions<Version> = {},
): Provider<Version> {
  const languageModel = (modelId: string = llm.name): LanguageModel<Version> => {
    if (modelId === llm.name) return latent(llm, options)
    throw new RequestError(`this provider has the model '${llm.name}', '${modelId}' was asked for`, 'modelId')
  }
  const none =
    (kind: string) =>
    (_modelId: string): never => {
      throw new RequestError(`DeepSeek-V2 models generate text; there is no ${kind} model`, 'modelId')
    }
  return Object.assign((modelId?: string) => languageModel(modelId), {
    specificationVersion: options.specification ?? ('v4' as Version),
    languageModel,
    embeddingModel: none('embedding'),
    imageModel: none('image'),
  })
}

interface Call {
  readonly completion: Completion
  readonly warnings: CallWarning[]
  readonly response: { readonly id: string; readonly timestamp: Date; readonly modelId: string }
}

function open(llm: LLM, asked: CallOptions): Call {
  const warnings: CallWarning[] = []
  const completion = llm.chat(messagesOf(asked.prompt, warnings), readCall(asked, warnings))
  const response = { id: `latent-${randomUUID()}`, timestamp: new Date(), modelId: llm.name }
  return { completion, warnings, response }
}

async function generate(llm: LLM, asked: CallOptions) {
  const { completion, warnings, response } = open(llm, asked)
  const result = await completion.result()
  return {
    content: result.text === '' ? [] : [{ type: 'text' as const, text: result.text }],
    finishReason: finishOf(result),
    usage: usageOf(result),
    warnings,
    response,
  }
}

async function stream(llm: LLM, asked: CallOptions): Promise<{ stream: ReadableStream<StreamPart> }> {
  const call = open(llm, asked)
  call.completion.prompt() // what is wrong with the prompt is thrown, not streamed
  const parts = partsOf(call, asked.includeRawChunks === true)
  return {
    stream: new ReadableStream<StreamPart>({
      async pull(controller) {
        const { done, value } = await parts.next()
        if (done) controller.close()
        else controller.enqueue(value)
      },
      async cancel() {
        await parts.return(undefined) // leaving the loop is the abort
      },
    }),
  }
}

async function* partsOf(
  { completion, warnings, response }: Call,
  raw: boolean,
): AsyncGenerator<StreamPart, void, undefined> {
  const id = '0'
  let started = false
  yield { type: 'stream-start', warnings }
  yield { type: 'response-metadata', ...response }
  try {
    for await (const chunk of completion) {
      if (raw) yield { type: 'raw', rawValue: chunk }
      if (chunk.text === '') continue
      if (!started) yield { type: 'text-start', id }
      started = true
      yield { type: 'text-delta', id, delta: chunk.text }
    }
    if (started) yield { type: 'text-end', id }
    const result = await completion.result()
    yield { type: 'finish', usage: usageOf(result), finishReason: finishOf(result) }
  } catch (error) {
    yield { type: 'error', error }
  }
}

const finishOf = ({ finish_reason }: Result): CallFinish => ({
  unified: finish_reason === 'length' ? 'length' : 'stop',
  raw: finish_reason ?? undefined,
})

function usageOf({ usage }: Result): CallUsage {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = usage
  const cached = prompt_tokens_details.cached_tokens
  return {
    inputTokens: {
      total: prompt_tokens,
      noCache: prompt_tokens - cached,
      cacheRead: cached,
      cacheWrite: undefined,
    },
    outputTokens: { total: completion_tokens, text: completion_tokens, reasoning: undefined },
  }
}

/** Settings as latent spells them; what it has no equal for becomes a warning, as the SDK wants it. */
function readCall(asked: CallOptions, warnings: CallWarning[]): ChatOptions {
  const { tools = [], reasoning = 'provider-default', abortSignal, responseFormat } = asked
  const unsupported = (feature: string, details: string): void => {
    warnings.push({ type: 'unsupported', feature, details })
  }
  if (tools.length > 0) unsupported('tools', 'the model is not told of them; use the server for tools')
  if (!['provider-default', 'none'].includes(reasoning)) {
    unsupported('reasoning', 'these models do not reason apart from the answer')
  }
  const options = {
    max_tokens: asked.maxOutputTokens,
    temperature: asked.temperature,
    stop: asked.stopSequences?.filter((text) => text !== ''),
    top_p: asked.topP,
    top_k: asked.topK,
    presence_penalty: asked.presencePenalty,
    frequency_penalty: asked.frequencyPenalty,
    seed: asked.seed,
    signal: abortSignal,
    ...asked.providerOptions?.latent,
    ...structureOf(responseFormat),
  }
  const stated = Object.entries(options).filter(([, value]) => value !== undefined && value !== null)
  return Object.fromEntries(stated) as ChatOptions
}

function structureOf(format: CallOptions['responseFormat']): Fields {
  if (format?.type !== 'json') return {}
  return { structured_outputs: format.schema === undefined ? { json_object: true } : { json: format.schema } }
}

function messagesOf(prompt: readonly PromptMessage[], warnings: CallWarning[]): readonly Message[] {
  return prompt.map(({ role, content }): Message => {
    if (typeof content === 'string') return { role, content }
    const texts = content.flatMap((part) => textOf(part, role, warnings))
    // the templates know no role for tools' results; as a user's message the model at least reads them
    return { role: role === 'tool' ? 'user' : role, content: texts.join('') }
  })
}

function textOf(part: { readonly type: string }, role: string, warnings: CallWarning[]): readonly string[] {
  const { text, toolName, output, input, mediaType } = part as Fields & { readonly type: string }
  if (part.type === 'text') return [String(text)]
  if (part.type === 'tool-call') return [JSON.stringify({ tool: toolName, arguments: input })]
  if (part.type === 'tool-result') return [JSON.stringify({ tool: toolName, result: output })]
  if (part.type === 'file') {
    throw new RequestError(
      `a message holds a file (${String(mediaType)}); these models read text only, put its text into the message`,
      'prompt',
    )
  }
  const message = `a part of kind '${part.type}' of a message of '${role}' was left out`
  warnings.push({ type: 'other', message })
  return []
}
