// `latent template`: the prompt that a conversation becomes, control tokens and all. Knows how to show it;
// tokenizer/template.ts renders.
import type { Command } from 'commander'
import { RequestError } from '../tensor/error.ts'
import type { Message, Template } from '../tokenizer/template.ts'
import type { Io } from './io.ts'
import {
  addModelOption,
  addTemplateOption,
  locatePart,
  type ModelFlags,
  readTemplateFlag,
  textFiles,
} from './model.ts'
import { readJsonArgument } from './parse.ts'

interface TemplateFlags extends ModelFlags {
  readonly messages?: string
  readonly tools?: string
  readonly generationPrompt: boolean
  readonly continueFinalMessage?: boolean
  readonly ids?: boolean
  readonly source?: boolean
  readonly json?: boolean
}

const examples = `
Examples:
  $ latent template --system "Be brief." --user "Hi" --assistant "Hello." --user "Who are you?"
  $ latent template --messages chat.json --ids
  $ latent template --messages '[{"role": "user", "content": "Hi"}]' --no-generation-prompt
  $ latent template --source -m deepseek-ai/DeepSeek-V2-Lite-Chat
  $ latent template --chat-template deepseek-v2.5 --user "Hi"

With --json the answer is one object: {prompt, ids, messages}, or {source, origin} with --source.`

const sample: readonly Message[] = [
  { role: 'system', content: 'You are a helpful assistant.' },
  { role: 'user', content: 'Hello!' },
  { role: 'assistant', content: 'Hi there.' },
  { role: 'user', content: 'How are you?' },
]

export function addTemplate(program: Command, io: Io): void {
  // one list for all three flags: their order on the command line is the order of the turns
  const turns: Message[] = []
  const turn = (role: string) => (content: string) => void turns.push({ role, content })
  const command = program
    .command('template')
    .summary('what a conversation looks like to the model')
    .description('Renders messages with the chat template of a model. Without messages: a sample of its own.')
    .option('--messages <json>', 'messages as JSON, or a file that holds them')
    .option('-s, --system <text>', 'a system message', turn('system'))
    .option('-u, --user <text>', 'a message of the user (repeatable)', turn('user'))
    .option('-a, --assistant <text>', 'a message of the assistant (repeatable)', turn('assistant'))
    .option('--tools <json>', 'tools as JSON, or a file that holds them')
    .option('--no-generation-prompt', 'end after the last message')
    .option('--continue-final-message', "end inside the last message, an assistant's")
    .option('--ids', 'token ids instead of text')
    .option('--source', 'the template itself, and where it comes from')
    .option('--json', 'one JSON object instead of text')
  addTemplateOption(addModelOption(command)).addHelpText('after', examples)
  command.action((flags: TemplateFlags) => template(io, flags, turns))
}

async function template(io: Io, flags: TemplateFlags, turns: readonly Message[]): Promise<void> {
  const messages = readMessages(io, flags, turns)
  const directory = await locatePart(io, flags.model, { ...textFiles, revision: flags.revision })
  const { openTokenizer } = await import('../tokenizer/tokenizer.ts')
  const { openTemplate } = await import('../tokenizer/template.ts')
  const { chatTemplate } = flags
  const tokenizer = openTokenizer(directory)
  const choice = chatTemplate === undefined ? {} : { template: readTemplateFlag(chatTemplate) }
  const opened = openTemplate(directory, tokenizer, choice)
  if (flags.source) return await showSource(io, opened, flags, directory)
  const options = {
    addGenerationPrompt: flags.generationPrompt && !flags.continueFinalMessage,
    continueFinalMessage: flags.continueFinalMessage ?? false,
    ...(flags.tools !== undefined && { tools: readTools(flags.tools) }),
  }
  const prompt = opened.render(messages, options)
  const ids = flags.ids || flags.json ? opened.encode(messages, options) : []
  if (flags.json) await io.write(`${JSON.stringify({ prompt, ids, messages })}\n`)
  else if (flags.ids) await io.write(`${ids.join(',')}\n`)
  else await io.write(`${prompt.replaceAll(/<｜[^｜<>]*｜>/g, (token) => io.out.cyan(token))}\n`)
}

function readMessages(io: Io, flags: TemplateFlags, turns: readonly Message[]): readonly Message[] {
  if (flags.messages !== undefined && turns.length > 0) {
    throw new RequestError(
      '--messages was given beside --system, --user or --assistant; take one',
      'messages',
    )
  }
  if (flags.messages !== undefined) {
    const json = readJsonArgument(flags.messages, '--messages')
    const inside = (json as { readonly messages?: unknown } | null)?.messages
    return (inside ?? json) as readonly Message[] // the template checks them
  }
  if (turns.length === 0 && !flags.source) {
    io.note(io.err.dim('no messages given: this is a sample (see latent template --help)'))
  }
  return turns.length === 0 ? sample : turns
}

function readTools(given: string): readonly unknown[] {
  const tools = readJsonArgument(given, '--tools')
  if (Array.isArray(tools)) return tools as readonly unknown[]
  throw new RequestError('--tools must be a JSON list of tools', 'tools')
}

async function showSource(
  io: Io,
  { source, origin }: Template,
  flags: TemplateFlags,
  directory: string,
): Promise<void> {
  if (flags.json) return await io.write(`${JSON.stringify({ source, origin })}\n`)
  const told = {
    checkpoint: `from the checkpoint in ${directory}`,
    'built-in': 'built into latent',
    given: 'as given',
  }
  io.note(io.err.dim(told[origin]))
  await io.write(`${source}\n`)
}
