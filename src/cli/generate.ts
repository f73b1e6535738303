// `latent generate`: many prompts from a JSONL file, answered at once, written in order. Knows rows and who is next;
// their fields are rows.ts, the file they go to resume.ts.
import { createHash } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { statSync } from 'node:fs'
import type { Command } from 'commander'
import type { Answer, Result } from '../llm/completion.ts'
import type { LLM } from '../llm/load.ts'
import type { GenerateOptions } from '../llm/request.ts'
import { CapacityError, KernelError, RequestError } from '../tensor/error.ts'
import { readStdin } from './input.ts'
import type { Io } from './io.ts'
import { createLive } from './live.ts'
import {
  addCachingOption,
  addEngineOptions,
  addModelOption,
  addTemplateOption,
  type ModelFlags,
  openModel,
  sayDemo,
} from './model.ts'
import { checkFolder, readTextFile, wholeOf } from './parse.ts'
import { type Output, toFile, toStdout } from './resume.ts'
import type { BadRow, Row } from './rows.ts'
import { addSampling, readSampling } from './sampling.ts'
import { bar, clock, plural, rate } from './style.ts'

interface GenerateFlags extends ModelFlags {
  readonly output: string
  readonly concurrency?: number
  readonly overwrite?: boolean
  readonly skipBad?: boolean
  readonly quiet?: boolean
}

const examples = `
Each input row is an object with one of
  messages     a conversation: [{"role": "user", "content": "Hi"}]
  prompt       text to go on from
  prompt_ids   token ids to go on from
and any field of a request (temperature, top_p, max_tokens, stop, seed, n, tools ...); sampling flags stand in where a
row says nothing. \`id\` and \`metadata\` are copied to the output row; any other field is refused.

Output rows come in input order: {index, id?, metadata?, output_ids, text, finish_reason, usage, key}. output_ids hold
the end-of-sentence id where the model wrote it. With n above 1 a row has \`outputs\`, a list of {output_ids, text,
finish_reason}. A row that asks for logprobs or prompt_logprobs gets them.

Where OUTPUT exists, its finished rows are kept and only the missing ones run: after Ctrl-C, run the same command again.
\`key\` stands for the row, the sampling and the model; rows for which one of them has changed are run again too.

Examples:
  $ latent generate prompts.jsonl -o answers.jsonl --max-tokens 256 --greedy
  $ latent generate prompts.jsonl -m deepseek-ai/DeepSeek-V2-Lite-Chat -o answers.jsonl --concurrency 32
  $ jq -c '{prompt: .question}' questions.json | latent generate - --seed 1 > answers.jsonl`

export function addGenerate(program: Command, io: Io): void {
  const command = program
    .command('generate')
    .summary('answer the rows of a JSONL file')
    .description('Answers many prompts at once: rows of JSONL in, rows of JSONL out, in the same order.')
    .argument('<input>', 'JSONL file, or - for stdin')
    .option('-o, --output <file>', 'JSONL file, or - for stdout', '-')
    .option(
      '--concurrency <n>',
      "rows at a time (default: the engine's --max-num-seqs)",
      wholeOf('--concurrency', 1),
    )
    .option('--overwrite', 'start anew where OUTPUT exists')
    .option('--skip-bad', 'write {index, error} for rows that cannot be run, instead of stopping at them')
    .option('-q, --quiet', 'no progress')
  addTemplateOption(addModelOption(command))
  addCachingOption(addEngineOptions(addSampling(command))).addHelpText('after', examples)
  command.action((input: string, flags: GenerateFlags) => generate(io, input, flags))
}

async function generate(io: Io, input: string, flags: GenerateFlags): Promise<void> {
  const sampling = readSampling({ ...flags })
  const piped = flags.output === '-' || flags.output === '/dev/stdout'
  if (!piped) checkOutput(input, flags.output)
  const { checkRow, isBad, readRows } = await import('./rows.ts')
  const text = input === '-' ? await readStdin(io) : readTextFile(input, 'the rows in')
  const read = readRows(text.replace(/^\uFEFF/, ''))
  const where = input === '-' ? 'stdin' : input
  if (read.length === 0) throw new RequestError(`${where} has no rows`, 'input')
  if (!flags.skipBad) refuse(where, read.filter(isBad))
  await using llm = await openModel(io, flags)
  const rows = read.map((row): Row | BadRow => {
    if (isBad(row)) return row
    try {
      checkRow(llm, row, sampling)
      return row
    } catch (error) {
      return { index: row.index, line: row.line, error: (error as Error).message, carried: row.carried }
    }
  })
  if (!flags.skipBad) refuse(where, rows.filter(isBad))
  if (flags.model === undefined && !flags.quiet) sayDemo(io)
  const keys = keysOf(rows, llm, sampling)
  const output = piped ? toStdout(io) : toFile(flags.output, keys, flags.overwrite ?? false)
  if (!flags.quiet) sayKept(io, output, rows.length)
  const { skipBad = false, quiet = false } = flags
  const work: Work = { io, llm, sampling, output, rows, keys, where, skipBad, quiet }
  try {
    await runAll(work, flags.concurrency ?? llm.limits.max_num_seqs)
  } catch (error) {
    if (io.signal.aborted && !piped) io.note(`the same command goes on from here: ${flags.output}`)
    throw error
  } finally {
    output.close()
  }
}

/** What would destroy the input, or only come out once the model is there. */
function checkOutput(input: string, output: string): void {
  checkFolder(output, 'output')
  const there = statSync(output, { throwIfNoEntry: false })
  const source = input === '-' ? undefined : statSync(input, { throwIfNoEntry: false })
  if (!there?.isFile() || there.dev !== source?.dev || there.ino !== source.ino) return
  throw new RequestError(`${output} is the input itself; name another file with -o`, 'output')
}

/** What an answer depends on, in short, so that a later run can tell whether it still holds. Null for bad rows. */
function keysOf(rows: readonly (Row | BadRow)[], llm: LLM, given: GenerateOptions): (string | null)[] {
  const { sampling, maxNewTokens } = llm.generation
  const common = [llm.name, llm.template.source, { ...sampling, max_tokens: maxNewTokens, ...given }]
  return rows.map((row) => {
    if ('error' in row) return null
    const { prompt, options, carried } = row
    const text = JSON.stringify([prompt, options, carried, ...common])
    return createHash('sha256').update(text).digest('hex').slice(0, 16)
  })
}

function refuse(where: string, bad: readonly BadRow[]): void {
  if (bad.length === 0) return
  const shown = bad.slice(0, 10).map(({ line, error }) => `  - line ${line}: ${error}`)
  const more = bad.length > 10 ? [`  - and ${bad.length - 10} more`] : []
  const count = bad.length === 1 ? 'a row that cannot be run' : `${bad.length} rows that cannot be run`
  const message = [`${where} has ${count} (--skip-bad passes over them):`, ...shown, ...more].join('\n')
  throw new RequestError(message, 'input')
}

function sayKept(io: Io, { kept, torn, stale }: Output, rows: number): void {
  if (kept.size > 0) io.note(io.err.dim(`${kept.size} of ${plural(rows, 'row')} are there already`))
  if (stale > 0) {
    const changed = 'run again: the input or the options changed since'
    io.note(io.err.dim(`${plural(stale, 'row')} ${stale === 1 ? 'is' : 'are'} ${changed}`))
  }
  if (torn) io.note(io.err.dim('an earlier run was cut off in the last line, which is left out'))
}

interface Work {
  readonly io: Io
  readonly llm: LLM
  readonly sampling: GenerateOptions
  readonly output: Output
  readonly rows: readonly (Row | BadRow)[]
  readonly keys: readonly (string | null)[]
  /** What the input is called. */
  readonly where: string
  readonly skipBad: boolean
  readonly quiet: boolean
}

/** Runs `width` rows at a time; each is written as soon as all before it are. The first that fails stops the others. */
async function runAll(work: Work, width: number): Promise<void> {
  const { io, output, rows } = work
  const { startRow, isBad } = await import('./rows.ts')
  const stop = new AbortController() // and not AbortSignal.any, which Node has from 20.3 on
  const { signal } = stop
  const interrupt = (): void => halt(stop, io.signal.reason)
  io.signal.addEventListener('abort', interrupt)
  if (io.signal.aborted) interrupt()
  setMaxListeners(0, signal) // every row in flight listens
  const progress = createProgress(work)
  const ready = new Map(output.kept)
  const queue = rows.filter((row) => !ready.has(row.index)).values()
  let next = 0
  let writing = Promise.resolve()

  async function flush(): Promise<void> {
    for (let line = ready.get(next); line !== undefined; line = ready.get(next)) {
      ready.delete(next)
      await output.write(next++, line)
    }
  }

  async function lane(): Promise<void> {
    for (const row of queue) {
      signal.throwIfAborted()
      ready.set(row.index, JSON.stringify(isBad(row) ? badRow(row) : await answerRow(row)))
      progress.finish()
      writing = writing.then(flush)
      await writing
    }
  }

  async function answerRow(row: Row): Promise<object> {
    try {
      return await runRow(row)
    } catch (error) {
      if (signal.aborted || !isOfRow(error)) throw error
      if (work.skipBad) return badRow({ ...row, error: error.message })
      error.message = `${work.where}, line ${row.line}: ${error.message} (--skip-bad passes over such rows)`
      throw error
    }
  }

  async function runRow(row: Row): Promise<object> {
    const completion = startRow(work.llm, row, { ...work.sampling, signal })
    for await (const { token_ids } of completion) progress.count(token_ids.length)
    return { ...goodRow(row, await completion.result()), key: work.keys[row.index] }
  }

  try {
    await flush()
    const lanes = Array.from({ length: Math.min(width, rows.length) }, () => lane())
    await Promise.all(lanes.map((running) => running.catch((error: unknown) => halt(stop, error))))
    if (signal.aborted) throw signal.reason
  } finally {
    io.signal.removeEventListener('abort', interrupt)
    progress.close()
  }
}

function halt(stop: AbortController, error: unknown): void {
  if (!stop.signal.aborted) stop.abort(error)
}

/** Errors that one row met, where others may still be answered. */
function isOfRow(error: unknown): error is Error {
  return [RequestError, CapacityError, KernelError].some((kind) => error instanceof kind)
}

function badRow({ index, carried, error }: BadRow): object {
  return { index, ...carried, error }
}

function goodRow({ index, carried }: Row, { answers, usage, prompt_logprobs }: Result): object {
  const outputs = answers.map(({ token_ids, text, finish_reason, logprobs }: Answer) => ({
    output_ids: token_ids,
    text,
    finish_reason,
    ...(logprobs && { logprobs }),
  }))
  const answer = outputs.length === 1 ? outputs[0] : { outputs }
  return { index, ...carried, ...answer, usage, ...(prompt_logprobs && { prompt_logprobs }) }
}

/** Rows and tokens so far, drawn on stderr. */
function createProgress({ io, rows, output, quiet }: Work) {
  const live = createLive(io, { quiet })
  const total = rows.length
  const todo = total - output.kept.size
  const began = performance.now()
  let done = 0
  let tokens = 0
  const seconds = (): number => (performance.now() - began) / 1000
  const state = (): string => {
    const rest = done > 0 ? (seconds() / done) * (todo - done) : Number.NaN
    const there = output.kept.size + done
    return `${there}/${plural(total, 'row')} · ${rate(tokens / seconds())} tok/s · ETA ${clock(rest)}`
  }
  const show = (): void => {
    live.show(() => [`${bar((total - todo + done) / total, 30, io.err)}  ${state()}`], state)
  }
  return {
    count: (n: number): void => {
      tokens += n
      show()
    },
    finish: (): void => {
      done++
      show()
    },
    close: (): void => {
      live.clear()
      const spent = seconds()
      const speed = `${tokens.toLocaleString('en-US')} tokens in ${clock(spent)}, ${rate(tokens / spent)} tok/s`
      if (!quiet && todo > 0) io.note(io.err.dim(`${done} of ${plural(todo, 'row')} done · ${speed}`))
    },
  }
}
