// A conversation at a terminal: asks, answers as it is written, remembers. Knows turns and their undoing; the
// commands that begin with a slash are slash.ts, the keys lines.ts.
import type { LLM } from '../llm/load.ts'
import type { GenerateOptions } from '../llm/request.ts'
import { describeCount, group } from '../model/fields.ts'
import { countParameters } from '../model/layout.ts'
import type { Message } from '../tokenizer/template.ts'
import { describeSpeed, streamAnswer } from './answer.ts'
import type { Io } from './io.ts'
import { openLines } from './lines.ts'
import { type Conversation, runSlash, slashWords } from './slash.ts'

export interface Beginning {
  readonly system: readonly Message[]
  readonly sampling: GenerateOptions
  readonly stats: boolean
}

/** Talks until the person leaves. */
export async function converse(io: Io, llm: LLM, { system, sampling, stats }: Beginning): Promise<void> {
  const talk: Conversation = { llm, messages: [...system], sampling, stats, last: null }
  greet(io, llm)
  const lines = openLines(io, slashWords)
  try {
    for (;;) {
      const text = await lines.ask(io.out.bold(io.out.cyan('› ')))
      if (text === null) break
      if (text.trim() === '') continue
      if (!(await turn(io, talk, text))) return
    }
    io.stdout.write('\n')
  } finally {
    lines.close()
  }
}

function greet(io: Io, { name, config, limits }: LLM): void {
  const { bold, dim } = io.out
  const size = describeCount(countParameters(config).total)
  const about = `${size} parameters, ${group(limits.max_model_len)} tokens of context`
  io.stdout.write(`${bold(name)} ${dim(`· ${about}`)}\n`)
  if (name === 'demo') io.stdout.write(dim('A tiny model for trying latent out; it knows little.\n'))
  io.stdout.write(dim('/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n\n'))
}

/** One input: a command or a message. False when it was the last. */
async function turn(io: Io, talk: Conversation, text: string): Promise<boolean> {
  const before = [...talk.messages]
  try {
    const next = text.startsWith('/') ? await runSlash(io, talk, text.slice(1)) : 'answer'
    if (next === 'leave') return false
    if (next !== 'answer') return true
    if (!text.startsWith('/')) talk.messages.push({ role: 'user', content: text })
    await answer(io, talk)
  } catch (error) {
    talk.messages = before
    io.stdout.write(`${io.out.red('latent:')} ${(error as Error).message}\n\n`)
  }
  return true
}

/** Answers the last message. What was written before Ctrl-C stays in the conversation; `turn` undoes an error. */
async function answer(io: Io, talk: Conversation): Promise<void> {
  const stop = new AbortController()
  const release = io.onInterrupt(() => stop.abort())
  let written = ''
  const completion = talk.llm.chat(talk.messages, { ...talk.sampling, signal: stop.signal })
  const watched = {
    ...completion,
    async *[Symbol.asyncIterator]() {
      for await (const chunk of completion) {
        written += chunk.text
        yield chunk
      }
    },
  }
  try {
    await streamAnswer(io, watched)
    talk.last = await completion.result()
    talk.messages.push({ role: 'assistant', content: written })
    const { finish_reason } = talk.last
    if (finish_reason === 'length') io.stdout.write(io.out.dim('(cut at its length; /set max_tokens N)\n'))
    if (talk.stats) io.stdout.write(io.out.dim(`${describeSpeed(talk.last)}\n`))
  } catch (error) {
    if (!stop.signal.aborted) throw error
    talk.messages.push({ role: 'assistant', content: written })
    io.stdout.write(io.out.dim('(stopped)\n'))
  } finally {
    release()
  }
  io.stdout.write('\n')
}
