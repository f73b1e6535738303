// `latent chat`: one answer to what was asked on the command line or piped in, or a conversation at a terminal.
// Knows which of the two it is; answer.ts writes answers, conversation.ts talks.
import type { Command } from 'commander'
import type { Answer, Result } from '../llm/completion.ts'
import type { GenerateOptions } from '../llm/request.ts'
import { RequestError } from '../tensor/error.ts'
import type { Message } from '../tokenizer/template.ts'
import { describeSpeed, streamAnswer } from './answer.ts'
import { isPiped, readStdin } from './input.ts'
import type { Io } from './io.ts'
import {
  addCachingOption,
  addEngineOptions,
  addModelOption,
  addTemplateOption,
  type ModelFlags,
  openModel,
  sayDemo,
} from './model.ts'
import { addSampling, checkSingle, readSampling } from './sampling.ts'

interface ChatFlags extends ModelFlags {
  readonly system?: string
  readonly json?: boolean
  readonly stats?: boolean
}

const examples = `
Examples:
  $ latent chat                                          a conversation (/help lists its commands)
  $ latent chat "What is the capital of Ecuador?" --greedy
  $ latent chat "Read the text and answer." < text.txt
  $ latent chat --model deepseek-ai/DeepSeek-V2-Lite-Chat --system "Answer in one sentence."
  $ latent chat "Who are you?" --json | jq .usage

With --json the answer is one object: {model, text, finish_reason, stop_reason, usage, timings}. It has \`answers\`
where --n asks for several, and logprobs and prompt_logprobs where they are asked for.`

export function addChat(program: Command, io: Io): void {
  const command = program
    .command('chat')
    .summary('ask once, or have a conversation')
    .description('Asks a model: once when a prompt is given or piped in, else in a conversation.')
    .argument('[prompt...]', 'what to ask; text that is piped in follows it')
    .option('-s, --system <text>', 'a system message that goes first')
    .option('--json', 'one JSON object instead of text')
    .option('--stats', 'say how fast it was, on stderr')
  addTemplateOption(addModelOption(command))
  addCachingOption(addEngineOptions(addSampling(command)))
  command.addHelpText('after', examples)
  command.action((prompt: readonly string[], flags: ChatFlags) => chat(io, prompt, flags))
}

async function chat(io: Io, words: readonly string[], flags: ChatFlags): Promise<void> {
  const sampling = readSampling({ ...flags })
  if (!flags.json) checkSingle(sampling, 'add --json')
  const system: readonly Message[] =
    flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  if (words.length === 0 && io.stdin.isTTY && !flags.json) {
    const { converse } = await import('./conversation.ts')
    await using llm = await openModel(io, flags)
    return await converse(io, llm, { system, sampling, stats: flags.stats ?? false })
  }
  const prompt = await readPrompt(io, words)
  await using llm = await openModel(io, flags)
  const messages = [...system, { role: 'user', content: prompt }]
  const options: GenerateOptions = { ...sampling, signal: io.signal }
  const completion = llm.chat(messages, options)
  if (flags.model === undefined && !flags.json) sayDemo(io)
  if (!flags.json) await streamAnswer(io, completion)
  const result = await completion.result()
  if (flags.json) await io.write(`${JSON.stringify(asJson(llm.name, result))}\n`)
  if (flags.stats) io.note(io.err.dim(describeSpeed(result)))
}

function asJson(model: string, result: Result): object {
  const { answers, usage, timings, prompt_logprobs } = result
  return {
    model,
    ...given(result),
    ...(answers.length > 1 && { answers: answers.map(given) }),
    ...(prompt_logprobs && { prompt_logprobs }),
    usage,
    timings,
  }
}

/** An answer as JSON, without what was not asked for. */
function given({ text, finish_reason, stop_reason, logprobs }: Answer): object {
  return { text, finish_reason, stop_reason, ...(logprobs && { logprobs }) }
}

async function readPrompt(io: Io, words: readonly string[]): Promise<string> {
  const asked = words.join(' ')
  const waiting = 'waiting for the text that is piped in (none? add </dev/null)'
  const piped = isPiped(io) ? (await readStdin(io, waiting)).replace(/\r?\n$/, '') : ''
  const prompt = [asked, piped].filter((text) => text !== '').join('\n\n')
  if (prompt.trim() !== '') return prompt
  throw new RequestError('the prompt is empty; write it after `latent chat`, or pipe it in', 'prompt')
}
