// `latent score`: how likely a model holds each token of a text, for checking latent against other implementations.
// Knows how to ask and show; llm/score.ts computes.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Choice } from '../engine/logprobs.ts'
import type { Scores } from '../llm/score.ts'
import { RequestError } from '../tensor/error.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Io } from './io.ts'
import { checkBackend, createLoadView } from './model.ts'
import { checkFolder, wholeOf, wholesOf } from './parse.ts'
import { table } from './style.ts'

interface ScoreFlags {
  readonly ids?: readonly number[]
  readonly text?: string
  readonly bos: boolean
  readonly top?: number
  readonly logits?: string
  readonly backend?: string
  readonly revision?: string
  readonly json?: boolean
}

const examples = `
Examples:
  $ latent score --text "The capital of Ecuador is Quito." --top 3
  $ latent score ./my-model --ids 0,476,426,475 --json
  $ latent score ./my-model --ids 0,476,426,475 --logits logits.safetensors

--logits writes one f32 tensor named \`logits\` of shape [ids, vocabulary]: row i holds what comes after ids 0 to i.
With --ids no tokenizer is needed. With --json the answer is one object: {model, ids, logprobs: [null, -1.2, ...],
total, perplexity, tokens: [{id, piece, logprob, top: [{id, piece, logprob}]}]}; pieces are null without a tokenizer.`

export function addScore(program: Command, io: Io): void {
  program
    .command('score')
    .summary('log-probabilities of given tokens')
    .description('The log-probability of each given token after the ones before it.')
    .argument('[model]', 'folder, hub name or `demo`', 'demo')
    .option('--ids <ids>', 'token ids such as 1,2,3', wholesOf('--ids', 0))
    .option('--text <text>', 'text instead; control tokens that it spells are read as such')
    .option('--no-bos', 'do not begin the text with the beginning-of-sentence token')
    .option('--top <n>', 'also the likeliest tokens at each place', wholeOf('--top', 0))
    .option('--logits <file>', 'write all logits to a safetensors file')
    .option('--backend <name>', 'who computes (default: auto)')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option('--json', 'one JSON object instead of a table')
    .addHelpText('after', examples)
    .action((model: string, flags: ScoreFlags) => scoreTokens(io, model, flags))
}

async function scoreTokens(io: Io, model: string, flags: ScoreFlags): Promise<void> {
  const { text, top = 0, backend, revision } = flags
  if ((flags.ids === undefined) === (text === undefined)) {
    const both = text === undefined ? '' : ', not both'
    throw new RequestError(`give --ids or --text${both}`, 'ids')
  }
  if (flags.logits !== undefined) checkFolder(flags.logits, 'logits')
  await checkBackend(backend)
  const { locate } = await import('../llm/load.ts')
  const { encodePrompt } = await import('../llm/prompt.ts')
  const { score } = await import('../llm/score.ts')
  const view = createLoadView(io)
  const common = {
    env: io.env,
    signal: io.signal,
    progress: view.show,
    ...(revision !== undefined && { revision }),
  }
  try {
    const directory = await locate(model, common)
    const tokenizer = await openPieces(directory, text !== undefined)
    const ids =
      flags.ids ?? (tokenizer ? encodePrompt(text ?? '', { add_special_tokens: flags.bos }, tokenizer) : [])
    const logits = flags.logits !== undefined
    const scores = await score(directory, ids, {
      ...common,
      top,
      logits,
      ...(backend !== undefined && { backend }),
    })
    view.close()
    if (flags.logits !== undefined) await writeLogits(flags.logits, scores)
    await io.write(flags.json ? asJson(model, ids, scores, tokenizer) : asTable(io, ids, scores, tokenizer))
  } finally {
    view.close()
  }
}

async function openPieces(directory: string, required: boolean): Promise<Tokenizer | null> {
  const there = ['tokenizer.json', 'tokenizer.json.gz'].some((name) => existsSync(join(directory, name)))
  if (!there && !required) return null
  const { openTokenizer } = await import('../tokenizer/tokenizer.ts')
  return openTokenizer(directory)
}

async function writeLogits(path: string, { logits, vocabSize }: Scores): Promise<void> {
  if (logits === null) return
  const { writeSafetensors } = await import('../checkpoint/safetensors.ts')
  const { fromFloats } = await import('../tensor/tensor.ts')
  writeSafetensors(path, [
    { name: 'logits', tensor: fromFloats([logits.length / vocabSize, vocabSize], logits) },
  ])
}

/** Rows of the embedding beyond the tokenizer are padding and have no text. */
function pieceOf(id: number, tokenizer: Tokenizer | null): string | null {
  return tokenizer === null || id >= tokenizer.size ? null : tokenizer.piece(id)
}

function topOf(choice: Choice | null, tokenizer: Tokenizer | null) {
  const top = choice?.top ?? []
  return top.map(({ token, logprob }) => ({ id: token, piece: pieceOf(token, tokenizer), logprob }))
}

function asJson(model: string, ids: readonly number[], scores: Scores, tokenizer: Tokenizer | null): string {
  const { total, perplexity } = scores
  const logprobs = scores.tokens.map((choice) => choice?.logprob ?? null)
  const tokens = ids.map((id, i) => {
    const top = topOf(scores.tokens[i], tokenizer)
    return { id, piece: pieceOf(id, tokenizer), logprob: logprobs[i], top }
  })
  return `${JSON.stringify({ model, ids, logprobs, total, perplexity, tokens })}\n`
}

function asTable(io: Io, ids: readonly number[], scores: Scores, tokenizer: Tokenizer | null): string {
  const name = (id: number): string => {
    const piece = pieceOf(id, tokenizer)
    return piece === null ? String(id) : JSON.stringify(piece)
  }
  const rows = ids.map((id, i) => {
    const logprob = scores.tokens[i]?.logprob ?? null
    const share = logprob === null ? '' : `${(100 * Math.exp(logprob)).toFixed(2)}%`
    const top = scores.tokens[i]?.top ?? []
    const likeliest = top.map((rival) => `${name(rival.token)} ${rival.logprob.toFixed(2)}`).join('  ')
    return [String(i), String(id), name(id), logprob?.toFixed(4) ?? '', share, likeliest]
  })
  const rivals = scores.tokens.some((choice) => choice?.top?.length) ? 'likeliest' : ''
  const heads = ['at', 'id', 'piece', 'logprob', 'share', rivals]
  const [head, ...body] = table([heads, ...rows], [0, 1, 3, 4])
  const perplexity = scores.perplexity === null ? '' : `, perplexity ${scores.perplexity.toFixed(4)}`
  return [io.out.dim(head), ...body, '', `total ${scores.total.toFixed(4)}${perplexity}`, ''].join('\n')
}
