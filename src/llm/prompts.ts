// The ways to call vLLM's `generate` -> prompts and parameters. Knows shapes only: what a prompt holds is checked below.
import { RequestError } from '../tensor/error.ts'
import { refuseUnknown } from './names.ts'
import type { SamplingParams } from './params.ts'

/** One prompt: text, or its ids. */
export type PromptInput =
  | string
  | { readonly prompt: string }
  | { readonly prompt_token_ids: readonly number[]; readonly prompt?: string | undefined }

export type Params = SamplingParams | readonly SamplingParams[] | null | undefined

/** The keyword form: `generate({ prompt_token_ids, sampling_params })`. */
export interface GenerateArguments {
  readonly prompts?: PromptInput | readonly PromptInput[]
  readonly prompt_token_ids?: readonly number[] | readonly (readonly number[])[]
  readonly sampling_params?: Params
  readonly signal?: AbortSignal | undefined
}

/** A prompt on its way: what is shown as `prompt`, and what is computed. */
export interface Prompt {
  readonly text: string | null
  readonly input: string | readonly number[]
}

export interface Arguments {
  readonly prompts: readonly Prompt[]
  readonly params: Params
  readonly signal: AbortSignal | undefined
}

const argumentNames = ['prompts', 'prompt_token_ids', 'sampling_params', 'signal', 'prompt']

/** Both ways to call: prompts and parameters in turn, or one object with their names. */
export function argumentsOf(
  first: PromptInput | readonly PromptInput[] | GenerateArguments,
  params: Params,
): Arguments {
  if (typeof first === 'string' || isList(first))
    return { prompts: promptsOf(first), params, signal: undefined }
  if (typeof first !== 'object' || first === null) {
    throw new RequestError(
      'prompts must be text, { prompt }, { prompt_token_ids } or a list of them',
      'prompts',
    )
  }
  refuseUnknown(first, argumentNames, 'an argument of generate')
  if ('prompt' in first) return { prompts: promptsOf(first), params, signal: undefined }
  const { prompts, prompt_token_ids: ids, sampling_params = params, signal } = first as GenerateArguments
  if ((prompts === undefined) === (ids === undefined)) {
    throw new RequestError('give either prompts or prompt_token_ids', 'prompts')
  }
  if (ids === undefined) return { prompts: promptsOf(prompts ?? []), params: sampling_params, signal }
  const rows = (Array.isArray(ids[0]) ? ids : [ids]) as readonly (readonly number[])[]
  return { prompts: rows.map((input) => ({ text: null, input })), params: sampling_params, signal }
}

function isList<T>(value: T | readonly T[] | object): value is readonly T[] {
  return Array.isArray(value)
}

function promptsOf(given: PromptInput | readonly PromptInput[]): readonly Prompt[] {
  return (isList<PromptInput>(given) ? given : [given]).map((prompt) => {
    if (typeof prompt === 'string') return { text: prompt, input: prompt }
    if (typeof prompt === 'object' && prompt !== null && 'prompt_token_ids' in prompt) {
      return { text: prompt.prompt ?? null, input: prompt.prompt_token_ids }
    }
    if (typeof prompt?.prompt === 'string') return { text: prompt.prompt, input: prompt.prompt }
    throw new RequestError('a prompt must be text, { prompt } or { prompt_token_ids }', 'prompts')
  })
}
