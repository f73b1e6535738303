// Conversations and raw text -> prompt ids. Nothing a caller says is lost without a word: a message that the model's
// template leaves out is refused.
import { RequestError } from '../tensor/error.ts'
import type { Message, Template } from '../tokenizer/template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { ChatOptions, CompleteOptions } from './request.ts'

/** A conversation through the template; a string is one user message. */
export function encodeChat(
  messages: string | readonly Message[],
  options: ChatOptions,
  template: Template,
): readonly number[] {
  const list = typeof messages === 'string' ? [{ role: 'user', content: messages }] : messages
  const rules = {
    addGenerationPrompt: options.add_generation_prompt ?? !options.continue_final_message,
    continueFinalMessage: options.continue_final_message ?? false,
    ...(options.tools && { tools: options.tools }),
    ...(options.chat_template_kwargs && { variables: options.chat_template_kwargs }),
  }
  const ids = template.encode(list, { ...rules, parseSpecial: options.parse_special ?? false })
  refuseLost(list, template, rules)
  return ids
}

type Rules = NonNullable<Parameters<Template['render']>[1]>

/** Templates of this family drop roles they do not know (and V2.5 all system messages but the last). */
function refuseLost(list: readonly Message[], template: Template, rules: Rules): void {
  for (const [i, message] of list.entries()) {
    const { role, content } = message
    if (role === 'user' || role === 'assistant' || typeof content !== 'string') continue
    const other = list.with(i, { ...message, content: `${content}?` })
    if (template.render(list, rules) !== template.render(other, rules)) continue
    throw new RequestError(
      `message ${i} (role '${role}') is left out by this model's chat template; put its text into a user message${role === 'system' ? ', or all system messages into one' : ''}`,
      'messages',
    )
  }
}

/** A raw prompt; the beginning-of-sentence token comes first exactly once, written out or not. */
export function encodePrompt(
  prompt: string | readonly number[],
  options: CompleteOptions,
  tokenizer: Tokenizer,
): readonly number[] {
  if (Array.isArray(prompt)) return prompt
  if (typeof prompt !== 'string') {
    throw new RequestError(
      `the prompt must be text or a list of token ids, ${JSON.stringify(prompt)} given`,
      'prompt',
    )
  }
  const parseSpecial = options.parse_special ?? true
  const bare = tokenizer.encode(prompt, { parseSpecial })
  if (options.add_special_tokens === false || (bare.length > 0 && bare[0] === tokenizer.bos)) return bare
  return tokenizer.encode(prompt, { parseSpecial, addSpecialTokens: true })
}

/**
 * What a template writes between its generation prompt and the answer (a space in `Assistant: {answer}`). The model
 * writes it too; cutting it makes the answer, put back as a message, render to the very tokens the model wrote.
 */
export function leadOf(template: Template): string {
  const user = { role: 'user', content: 'q' }
  try {
    const open = template.render([user], { addGenerationPrompt: true })
    const whole = template.render([user, { role: 'assistant', content: 'answer' }])
    const lead = whole.startsWith(open) ? whole.slice(open.length, whole.indexOf('answer', open.length)) : ''
    return lead.trim() === '' ? lead : ''
  } catch {
    return '' // a template that refuses this conversation says so when it is used
  }
}
