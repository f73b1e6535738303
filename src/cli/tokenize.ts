// `latent tokenize`: text to ids and back. Knows how to show them; tokenizer/ does the work.
import type { Command } from 'commander'
import { RequestError } from '../tensor/error.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { readStdin } from './input.ts'
import type { Io } from './io.ts'
import { addModelOption, locatePart, type ModelFlags, textFiles } from './model.ts'
import { wholesOf } from './parse.ts'
import { table } from './style.ts'

interface TokenizeFlags extends ModelFlags {
  readonly pieces?: boolean
  readonly count?: boolean
  readonly decode?: readonly number[]
  readonly special?: boolean
  readonly bos?: boolean
  readonly json?: boolean
}

const examples = `
Text is taken as it is: \`echo\` adds a line end, \`printf\` does not.

Examples:
  $ latent tokenize "What is YaRN?"
  $ latent tokenize "What is YaRN?" --pieces
  $ latent tokenize --decode 1471,272,225,29,20
  $ latent tokenize --count -m deepseek-ai/DeepSeek-V2-Lite < book.txt
  $ latent tokenize --special '<｜User｜>hi<｜Assistant｜>' --bos --json

With --json the answer is one object: {model, text, ids, pieces, count}.`

export function addTokenize(program: Command, io: Io): void {
  const command = program
    .command('tokenize')
    .summary('text to token ids, and back')
    .description('Shows the token ids of a text (given, or piped in), or the text of token ids.')
    .argument('[text...]', 'the text; without it stdin')
    .option('--pieces', 'a table with the text of every token')
    .option('--count', 'only how many there are')
    .option('--decode <ids>', 'the other way: ids such as 1,2,3 to text', wholesOf('--decode', 0))
    .option('--special', 'read text that spells a control token as that token')
    .option('--bos', 'begin with the beginning-of-sentence token')
    .option('--json', 'one JSON object instead of text')
  addModelOption(command).addHelpText('after', examples)
  command.action((words: readonly string[], flags: TokenizeFlags) => tokenize(io, words, flags))
}

async function tokenize(io: Io, words: readonly string[], flags: TokenizeFlags): Promise<void> {
  if (flags.decode !== undefined && words.length > 0) {
    throw new RequestError('--decode takes ids, and a text was given too; leave one of them out', 'decode')
  }
  const directory = await locatePart(io, flags.model, { ...textFiles, revision: flags.revision })
  const { openTokenizer } = await import('../tokenizer/tokenizer.ts')
  const tokenizer = openTokenizer(directory)
  const ids = flags.decode ?? encode(await readText(io, words), flags, tokenizer)
  await io.write(`${show(ids, flags, tokenizer, io)}\n`)
}

async function readText(io: Io, words: readonly string[]): Promise<string> {
  if (words.length > 0) return words.join(' ')
  const piped = io.stdin.isTTY ? '' : await readStdin(io)
  if (piped !== '') return piped
  throw new RequestError('there is no text; write it after `latent tokenize`, or pipe it in', 'text')
}

function encode(text: string, { special = false, bos = false }: TokenizeFlags, tokenizer: Tokenizer) {
  const ids = tokenizer.encode(text, { parseSpecial: special })
  if (!bos || (ids.length > 0 && ids[0] === tokenizer.bos)) return ids
  if (tokenizer.bos === null) throw new RequestError('--bos: this tokenizer has no such token', 'bos')
  return [tokenizer.bos, ...ids]
}

function show(ids: readonly number[], flags: TokenizeFlags, tokenizer: Tokenizer, io: Io): string {
  const text = tokenizer.decode(ids)
  if (flags.json) {
    const pieces = ids.map((id) => tokenizer.piece(id))
    return JSON.stringify({ model: flags.model ?? 'demo', text, ids, pieces, count: ids.length })
  }
  if (flags.count) return String(ids.length)
  if (flags.pieces) return pieceTable(ids, tokenizer, io)
  return flags.decode === undefined ? ids.join(',') : text
}

function pieceTable(ids: readonly number[], tokenizer: Tokenizer, io: Io): string {
  const rows = ids.map((id, i) => {
    const bytes = Buffer.from(tokenizer.bytes(id))
      .toString('hex')
      .replaceAll(/(..)(?=.)/g, '$1 ')
    const note = tokenizer.control.has(id) ? 'control' : bytes.length > 47 ? `${bytes.slice(0, 47)}…` : bytes
    return [String(i), String(id), JSON.stringify(tokenizer.piece(id)), note]
  })
  const [head, ...body] = table([['at', 'id', 'piece', 'bytes'], ...rows], [0, 1])
  return [io.out.dim(head), ...body].join('\n')
}
