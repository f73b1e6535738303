// Chats to prompts, by the checkpoint's own Jinja template: it is the authority, whatever it says.
// Knows where templates are kept and how Hugging Face renders them; nothing of models or requests.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Template as Jinja } from '@huggingface/jinja'
import { closest } from '../tensor/closest.ts'
import { CheckpointError, RequestError } from '../tensor/error.ts'
import { builtInTemplates } from './builtin.ts'
import { isFields, show } from './fields.ts'
import { createMask, type Mask } from './mask.ts'
import { checkMessages, type Message } from './message.ts'
import { readPart, type Tokenizer } from './tokenizer.ts'

export { builtInTemplates, type Message }

export interface RenderOptions {
  /** End with what makes the model answer. */
  readonly addGenerationPrompt?: boolean
  /** End inside the last message, an assistant's, for the model to go on with it. */
  readonly continueFinalMessage?: boolean
  readonly tools?: readonly unknown[]
  /** Further names that the template may ask for, such as `documents`. */
  readonly variables?: Readonly<Record<string, unknown>>
}

export interface Template {
  readonly source: string
  readonly origin: 'checkpoint' | 'built-in' | 'given'
  render(messages: readonly Message[], options?: RenderOptions): string
  /**
   * Control tokens come from the template only; what a message spells stays text, unless `parseSpecial` is
   * set.
   */
  encode(
    messages: readonly Message[],
    options?: RenderOptions & { readonly parseSpecial?: boolean },
  ): number[]
}

interface Source {
  readonly origin: Template['origin']
  readonly text: string
  /** Some checkpoints have a second template for requests with tools. */
  readonly withTools: string | null
  readonly where: string
}

export function openTemplate(
  directory: string,
  tokenizer: Tokenizer,
  choice: { readonly template?: string } = {},
): Template {
  const source =
    (choice.template === undefined ? null : chosen(choice.template)) ??
    published(directory) ??
    fitting(tokenizer)
  const { origin, text, withTools } = source
  const main = parse(text, source)
  const tooled = withTools === null ? main : parse(withTools, source)
  const controls = tokenizer.addedTokens
    .filter(({ id }) => tokenizer.control.has(id))
    .map(({ content }) => content)
  const names = namedTokens(tokenizer)
  const opening = tokenizer.encode('', { addSpecialTokens: true })

  const renderHidden = (messages: readonly Message[], options: RenderOptions, trusted: boolean) => {
    const data = {
      messages: checkMessages(messages),
      tools: options.tools ?? null,
      variables: options.variables ?? {},
    }
    const mask = createMask(trusted ? [] : controls, data, text + (withTools ?? ''))
    const jinja = options.tools !== undefined && options.tools.length > 0 ? tooled : main
    return mask.reveal(renderOnce(jinja, mask.hide(data) as typeof data, names, options, mask))
  }
  return {
    source: text,
    origin,
    render: (messages, options = {}) => renderHidden(messages, options, false).text,
    encode(messages, options = {}) {
      const { text, literal } = renderHidden(messages, options, options.parseSpecial === true)
      const ids = tokenizer.encode(text, { parseSpecial: true, literal })
      const { bos } = tokenizer
      // A template that leaves BOS out is written for tokenizers that add it.
      return bos !== null && opening.includes(bos) && !ids.includes(bos) ? [bos, ...ids] : ids
    },
  }
}

function parse(text: string, { origin, where }: Source): Jinja {
  try {
    // It sets trim_blocks and lstrip_blocks itself, as transformers does.
    return new Jinja(text)
  } catch (error) {
    const reason = `${where} is not a Jinja template: ${(error as Error).message}`
    throw origin === 'given' ? new RequestError(reason, 'chat_template') : new CheckpointError(reason)
  }
}

interface Data {
  readonly messages: readonly Readonly<Record<string, unknown>>[]
  readonly tools: readonly unknown[] | null
  readonly variables: Readonly<Record<string, unknown>>
}

function renderOnce(
  jinja: Jinja,
  data: Data,
  names: Readonly<Record<string, string>>,
  options: RenderOptions,
  mask: Mask,
): string {
  const goesOn = options.continueFinalMessage === true
  if (goesOn && options.addGenerationPrompt === true) {
    throw new RequestError(
      'addGenerationPrompt and continueFinalMessage are both set, wanted one: a new answer or the old one',
      'add_generation_prompt',
    )
  }
  const rendered = run(jinja, {
    documents: null,
    ...names,
    ...data.variables,
    messages: goesOn ? markEnd(data.messages, mask.spare) : data.messages,
    tools: data.tools,
    add_generation_prompt: options.addGenerationPrompt ?? false,
  })
  if (!goesOn) return rendered
  const end = rendered.lastIndexOf(mask.spare)
  if (end !== -1) return rendered.slice(0, end)
  throw new RequestError(
    'the chat template leaves the last message out, so it cannot be continued',
    'messages',
  )
}

/**
 * The messages with a private letter at the end of the last one: whatever the template adds comes after it.
 */
function markEnd(messages: Data['messages'], letter: string): Data['messages'] {
  const last = messages[messages.length - 1]
  if (last.role !== 'assistant' || typeof last.content !== 'string') {
    const given = `a message of role ${show(last.role)} with content ${show(last.content)}`
    throw new RequestError(`the last message is ${given}, wanted an assistant's text to continue`, 'messages')
  }
  return [...messages.slice(0, -1), { ...last, content: last.content + letter }]
}

function run(jinja: Jinja, variables: Record<string, unknown>): string {
  try {
    return jinja.render(variables)
  } catch (error) {
    const reason = error instanceof Error && error.message !== '' ? error.message : String(error)
    throw new RequestError(`the chat template cannot take these messages: ${reason}`, 'messages')
  }
}

/** `bos_token` and its like; a token that the checkpoint lacks stays undefined, as in transformers. */
function namedTokens(tokenizer: Tokenizer): Readonly<Record<string, string>> {
  const content = (id: number | null) => tokenizer.addedTokens.find((token) => token.id === id)?.content
  const names = {
    bos_token: content(tokenizer.bos),
    eos_token: content(tokenizer.eos),
    pad_token: content(tokenizer.pad),
  }
  return Object.fromEntries(
    Object.entries(names).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}

function chosen(template: string): Source {
  if (Object.hasOwn(builtInTemplates, template)) return builtIn(template as keyof typeof builtInTemplates)
  if (/\{[{%#]/.test(template))
    return { origin: 'given', text: template, withTools: null, where: 'the given template' }
  const known = Object.keys(builtInTemplates)
  const near = closest(template, known)
  const hint = near === null ? `wanted Jinja or one of ${known.join(', ')}` : `did you mean ${near}?`
  throw new RequestError(`there is no chat template ${show(template)}, ${hint}`, 'chat_template')
}

function builtIn(name: keyof typeof builtInTemplates): Source {
  return {
    origin: 'built-in',
    text: builtInTemplates[name],
    withTools: null,
    where: `the built-in template ${name}`,
  }
}

/** The checkpoint's own template: a file of its own before a field of the config, as in transformers. */
function published(directory: string): Source | null {
  const file = join(directory, 'chat_template.jinja')
  if (existsSync(file)) {
    return { origin: 'checkpoint', text: readFileSync(file, 'utf8'), withTools: null, where: file }
  }
  const where = join(directory, 'tokenizer_config.json')
  const config = readPart(directory, 'tokenizer_config.json')
  const template = (isFields(config) ? config.chat_template : null) ?? null
  if (template === null) return null
  if (typeof template === 'string') return { origin: 'checkpoint', text: template, withTools: null, where }
  const named = (name: string): string | null => {
    const entry = Array.isArray(template)
      ? template.find((item) => isFields(item) && item.name === name)
      : undefined
    return isFields(entry) && typeof entry.template === 'string' ? entry.template : null
  }
  const text = named('default')
  if (text !== null) return { origin: 'checkpoint', text, withTools: named('tool_use'), where }
  throw new CheckpointError(
    `${where}: chat_template is ${show(template)}, wanted a string or a list with a template named "default"`,
  )
}

/**
 * The built-in template that the vocabulary speaks for. `<｜User｜>` and `<｜Assistant｜>` as tokens mean
 * V2-Chat-0628 or V2.5, which no token tells apart: 0628's is taken, since the two agree wherever there is no
 * system message and no tool. Coder-V2 has those tokens too but writes `User: `; its checkpoints carry their
 * template.
 */
function fitting(tokenizer: Tokenizer): Source {
  const turns = ['<｜User｜>', '<｜Assistant｜>'].every((token) => {
    const id = tokenizer.id(token)
    return id !== null && tokenizer.control.has(id)
  })
  return builtIn(turns ? 'deepseek-v2-chat-0628' : 'deepseek-v2-chat')
}
