// The commands of a conversation: each changes it or shows something of it. Knows conversations, no keys.
import { existsSync, writeFileSync } from 'node:fs'
import type { Result } from '../llm/completion.ts'
import type { LLM } from '../llm/load.ts'
import type { GenerateOptions } from '../llm/request.ts'
import { group } from '../model/fields.ts'
import { closest } from '../tensor/closest.ts'
import { RequestError } from '../tensor/error.ts'
import { checkMessages } from '../tokenizer/message.ts'
import type { Message } from '../tokenizer/template.ts'
import { describeSpeed } from './answer.ts'
import type { Io } from './io.ts'
import { checkFolder, jsonOf, readTextFile, reasonOf } from './parse.ts'
import { checkSampling, checkSingle, fieldNames, fields, parseField } from './sampling.ts'
import { plural, table } from './style.ts'

/** What is said so far and how to go on; the slash commands change it. */
export interface Conversation {
  readonly llm: LLM
  messages: Message[]
  sampling: GenerateOptions
  stats: boolean
  last: Result | null
}

/** What comes after a command: the next question, an answer to what is there, or the end. */
type Next = 'ask' | 'answer' | 'leave'

interface Slash {
  readonly help: string
  run(io: Io, talk: Conversation, rest: string): Next | Promise<Next>
}

const commands: Readonly<Record<string, Slash>> = {
  system: { help: '/system TEXT      begin anew with this system message', run: system },
  set: {
    help: '/set FIELD VALUE  change a sampling field; VALUE default gives it up; alone: all of them',
    run: set,
  },
  retry: { help: '/retry            answer the last message again', run: retry },
  reset: { help: '/reset            forget the conversation, keep the system message', run: reset },
  save: { help: '/save FILE        write the messages as JSON', run: save },
  load: { help: '/load FILE        go on from messages in a JSON file', run: load },
  stats: { help: '/stats            speed of the last answer, room in the cache', run: stats },
  help: { help: '/help             this list', run: help },
  exit: { help: '/exit             leave (Ctrl-D)', run: () => 'leave' },
}

export const slashWords = Object.keys(commands).map((name) => `/${name}`)

export async function runSlash(io: Io, talk: Conversation, text: string): Promise<Next> {
  const [, name, rest] = /^(\S*)\s*(.*)$/s.exec(text) ?? ['', '', '']
  const found = name === 'quit' || name === 'bye' ? 'exit' : name
  if (Object.hasOwn(commands, found)) return await commands[found].run(io, talk, rest.trim())
  const meant = closest(name, Object.keys(commands))
  const mend = meant === null ? '/help lists the commands' : `did you mean /${meant}?`
  throw new RequestError(`there is no command /${name}; ${mend}`)
}

function say(io: Io, text: string): Next {
  io.stdout.write(`${text}\n\n`)
  return 'ask'
}

function system(io: Io, talk: Conversation, text: string): Next {
  const rest = talk.messages.filter((message) => message.role === 'system')
  if (text === '') return say(io, rest.length === 0 ? 'no system message' : String(rest[0].content))
  talk.messages = [{ role: 'system', content: text }]
  return say(io, io.out.dim('a new conversation with this system message'))
}

function reset(io: Io, talk: Conversation): Next {
  const first = talk.messages[0]
  talk.messages = first?.role === 'system' ? [first] : []
  return say(io, io.out.dim('a new conversation'))
}

function retry(_: Io, talk: Conversation): Next {
  if (talk.messages.at(-1)?.role === 'assistant') talk.messages.pop()
  if (talk.messages.at(-1)?.role === 'user') return 'answer'
  throw new RequestError('there is nothing to answer again')
}

function set(io: Io, talk: Conversation, text: string): Next {
  if (text === '') return say(io, settings(io, talk))
  const [, name, value] = /^(\S+?)(?:\s*=\s*|\s+|$)(.*)$/s.exec(text) ?? ['', text, '']
  if (value === '') throw new RequestError(`/set ${name} wants a value, such as /set temperature 0.7`)
  const parsed = parseField(name, value === 'default' ? defaultText(name) : value)
  const { [name as keyof GenerateOptions]: _, ...others } = talk.sampling
  const next: GenerateOptions = value === 'default' ? others : { ...others, [name]: parsed }
  checkSampling(next)
  checkSingle(next, 'use latent chat --json, or latent generate')
  talk.sampling = next
  return say(io, value === 'default' ? `${name} is what the model was published with` : `${name} = ${value}`)
}

/** Some text that the field's kind can be read from: only its name is checked. */
function defaultText(name: string): string {
  const kind = (fields as Readonly<Record<string, { readonly kind: string }>>)[name]?.kind
  return { switch: 'true', off: 'true', json: '{}', ids: '0' }[kind ?? ''] ?? '1'
}

function settings(io: Io, { sampling, llm }: Conversation): string {
  const published: Readonly<Record<string, unknown>> = {
    ...llm.generation.sampling,
    max_tokens: llm.generation.maxNewTokens ?? undefined,
  }
  const rows = fieldNames.map((name) => {
    const given = sampling[name]
    const value = given ?? published[name]
    const origin = given !== undefined ? 'set here' : value !== undefined ? 'generation_config.json' : ''
    return [name, value === undefined ? '-' : JSON.stringify(value), origin]
  })
  return table(rows)
    .map((row, i) => (sampling[fieldNames[i]] === undefined ? io.out.dim(row) : row))
    .join('\n')
}

function save(io: Io, talk: Conversation, path: string): Next {
  if (path === '') throw new RequestError('/save wants the name of a file')
  const verb = existsSync(path) ? 'replaced' : 'written'
  checkFolder(path)
  try {
    writeFileSync(path, `${JSON.stringify(talk.messages, null, 2)}\n`)
  } catch (error) {
    throw new RequestError(`cannot write ${path}: ${reasonOf(error, 'writing')}`)
  }
  return say(io, `${plural(talk.messages.length, 'message')} ${verb}: ${path}`)
}

function load(io: Io, talk: Conversation, path: string): Next {
  if (path === '') throw new RequestError('/load wants the name of a file')
  const json = jsonOf(path)(readTextFile(path, 'the messages in'))
  const inside = (json as { readonly messages?: unknown } | null)?.messages
  const given = Array.isArray(json) ? json : inside
  checkMessages(given)
  talk.messages = [...(given as readonly Message[])]
  const last = talk.messages.at(-1)
  const hint = last?.role === 'user' ? '; /retry answers the last' : ''
  return say(io, `${plural(talk.messages.length, 'message')} read${hint}`)
}

async function stats(io: Io, { llm, last }: Conversation): Promise<Next> {
  const { backend, limits, pages, prefixHits, prefixQueries } = await llm.stats()
  const hits =
    prefixQueries === 0 ? '' : `, ${Math.round((100 * prefixHits) / prefixQueries)}% of prompts found there`
  const rows = [
    ['last answer', last === null ? 'none yet' : describeSpeed(last)],
    [
      'context',
      `${group(limits.max_model_len)} tokens, ${group(last?.usage.total_tokens ?? 0)} of them used`,
    ],
    ['cache', `${pages.free} of ${pages.total} pages free${hits}`],
    ['backend', backend],
  ]
  return say(io, table(rows.map(([name, value]) => [io.out.dim(name), value])).join('\n'))
}

function help(io: Io): Next {
  const list = Object.values(commands).map((command) => command.help)
  return say(io, [...list, '', '""" begins and ends a message of many lines.'].join('\n'))
}
