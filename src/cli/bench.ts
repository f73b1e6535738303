// `latent bench`: how fast a model reads prompts and writes answers, as llama-bench measures it.
// Knows what to run and how to print it; the engine is used as any program uses it.
import { setMaxListeners } from 'node:events'
import { cpus } from 'node:os'
import { type Command, Option } from 'commander'
import type { LLM } from '../llm/load.ts'
import { version } from '../llm/version.ts'
import { describeBytes, describeCount } from '../model/fields.ts'
import { countParameters } from '../model/layout.ts'
import { plan } from '../model/plan.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import { createLive } from './live.ts'
import { addEngineOptions, type ModelFlags, openModel } from './model.ts'
import { oneOf, wholeOf, wholesOf } from './parse.ts'
import { bar, rate } from './style.ts'

interface BenchFlags extends Omit<ModelFlags, 'threads'> {
  readonly prompt: readonly number[]
  readonly gen: readonly number[]
  readonly depth: readonly number[]
  readonly threads: readonly number[]
  readonly batch: readonly number[]
  readonly repetitions: number
  readonly warmup: boolean
  readonly output: (typeof outputs)[number]
  readonly json?: boolean
}

/** One line: `prompt` tokens read or `gen` tokens written after `depth` others, by `batch` sequences at a time. */
interface Test {
  readonly name: string
  readonly prompt: number
  readonly gen: number
  readonly depth: number
  readonly batch: number
  /** No two tests share a prompt, lest one finds the other's in the cache. */
  readonly seed: number
}

interface Measured extends Omit<Test, 'seed'> {
  readonly threads: number
  readonly mean: number
  readonly stddev: number
  /** Tokens a second of each repetition, all sequences together. */
  readonly samples: readonly number[]
}

const outputs = ['md', 'csv', 'json'] as const

const examples = `
pp512 reads prompts of 512 random tokens and takes one token of each answer; tg128 writes 128 tokens after a first one.
A batch of 4 does so with four sequences at a time, whose tokens are counted together. At a depth of 4096, "@ d4096",
they come after as many tokens, which are read before and not counted. Several counts of threads load the model anew.

Examples:
  $ latent bench
  $ latent bench ./my-model -p 128,512 -n 32,128 -b 1,4 -r 3
  $ latent bench -p 0 -n 64 -b 1,2,4,8 --output csv
  $ latent bench ./model.gguf -d 0,4096 -t 4,8
  $ latent bench --output json > bench.json`

export function addBench(program: Command, io: Io): void {
  const numbers = (flags: string, help: string, least: number, fallback: number[]): Option =>
    new Option(flags, help)
      .argParser(wholesOf(/--\w+/.exec(flags)?.[0] ?? '', least))
      .default(fallback, fallback.join(','))
  const command = program
    .command('bench')
    .summary('how fast it is')
    .description('Measures how fast prompts are read and answers written.')
    .argument('[model]', 'folder, hub name or `demo`', 'demo')
    .addOption(numbers('-p, --prompt <lengths>', 'lengths of prompts to read; 0 is none', 0, [512]))
    .addOption(numbers('-n, --gen <lengths>', 'lengths of answers to write; 0 is none', 0, [128]))
    .addOption(numbers('-d, --depth <lengths>', 'tokens that are there before', 0, [0]))
    .addOption(numbers('-b, --batch <sizes>', 'sequences at a time', 1, [1]))
    .addOption(
      numbers('-t, --threads <counts>', 'threads of the cpu backend; 0 is one for each core', 0, [0]),
    )
    .addOption(
      new Option('-r, --repetitions <n>', 'times each test is run')
        .argParser(wholeOf('--repetitions', 1))
        .default(5),
    )
    .option('--no-warmup', 'measure the very first run too')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .addOption(
      new Option('-o, --output <format>', outputs.join(', '))
        .argParser(oneOf('--output', outputs))
        .default('md'),
    )
    .option('--json', 'the same as --output json')
  addEngineOptions(command, '--threads').addHelpText('after', examples)
  command.action((model: string, flags: BenchFlags) => bench(io, { ...flags, model }))
}

async function bench(io: Io, flags: BenchFlags & { readonly model: string }): Promise<void> {
  const tests = testsOf(flags)
  if (tests.length === 0) {
    throw new RequestError('--prompt and --gen are both 0: nothing to measure; give one a length', 'prompt')
  }
  const measured: Measured[] = []
  let about: About | null = null
  for (const threads of flags.threads) {
    const caching = tests.some(({ depth }) => depth > 0) // what is there before is computed once
    await using llm = await openModel(io, { ...flags, threads }, { enable_prefix_caching: caching })
    setMaxListeners(0, io.signal) // every sequence of a batch listens
    for (const test of tests) checkRoom(test, llm)
    measured.push(...(await measure(io, llm, tests, threads, flags)))
    about = await aboutRun(llm)
  }
  const print = flags.json || flags.output === 'json' ? asJson : flags.output === 'csv' ? asCsv : asMarkdown
  if (about) await io.write(`${print(about, measured)}\n`)
}

async function measure(
  io: Io,
  llm: LLM,
  tests: readonly Test[],
  threads: number,
  { repetitions, warmup }: BenchFlags,
): Promise<Measured[]> {
  const live = createLive(io)
  const measured: Measured[] = []
  const rounds = tests.length * repetitions
  try {
    for (const test of tests) {
      if (test.depth > 0) await deepen(test, llm, io.signal)
      if (warmup) await run(test, llm, io.signal, 0)
      const samples: number[] = []
      for (let i = 0; i < repetitions; i++) {
        const done = measured.length * repetitions + i
        const label = `${test.name.padEnd(8)} ${io.err.dim(`batch ${test.batch}, ${i + 1} of ${repetitions}`)}`
        live.show(
          () => [`${bar(done / rounds, 24, io.err)}  ${label}`],
          () => `${test.name}, batch ${test.batch}: ${i} of ${repetitions}`,
        )
        samples.push(await run(test, llm, io.signal, i + 1))
      }
      const { seed: _, ...rest } = test
      measured.push({ ...rest, threads: threads || cpus().length, ...spread(samples), samples })
    }
  } finally {
    live.clear()
  }
  return measured
}

function testsOf({ prompt, gen, depth, batch }: BenchFlags): readonly Test[] {
  const tests = batch.flatMap((batch) =>
    depth.flatMap((depth) => {
      const after = depth > 0 ? ` @ d${depth}` : ''
      return [
        ...prompt.map((n) => ({ name: `pp${n}${after}`, prompt: n, gen: 0, depth, batch })),
        ...gen.map((n) => ({ name: `tg${n}${after}`, prompt: 0, gen: n, depth, batch })),
      ]
    }),
  )
  return tests
    .filter(({ prompt, gen }) => prompt + gen > 0)
    .map((test, i) => ({ ...test, seed: (i + 1) * 1_000_003 }))
}

function checkRoom({ name, prompt, gen, depth, batch }: Test, { limits }: LLM): void {
  const length = depth + Math.max(prompt, 1) + gen + 1
  if (length > limits.max_model_len) {
    throw new CapacityError(
      `${name} takes ${length} tokens, max_model_len is ${limits.max_model_len}; raise --max-model-len`,
    )
  }
  if (batch > limits.max_num_seqs) {
    throw new CapacityError(
      `a batch of ${batch} is over max_num_seqs, ${limits.max_num_seqs}; raise --max-num-seqs`,
    )
  }
}

/** What stands before the tokens that are measured, the same in every round: `b` is the place in the batch. */
const before = ({ depth, seed }: Test, llm: LLM, b: number): number[] =>
  randomIds(depth, llm.tokenizer.size, seed + 7919 * 4096 + b)

/** Leaves it in the cache. */
async function deepen(test: Test, llm: LLM, signal: AbortSignal): Promise<void> {
  for (let b = 0; b < test.batch; b++) {
    await llm.complete(before(test, llm, b), { max_tokens: 1, ignore_eos: true, signal }).result()
  }
}

/** Tokens a second of one run. */
async function run(test: Test, llm: LLM, signal: AbortSignal, round: number): Promise<number> {
  const options = { max_tokens: test.gen + 1, ignore_eos: true, temperature: 0, signal }
  const answers = Array.from({ length: test.batch }, (_, b) => {
    const fresh = randomIds(Math.max(test.prompt, 1), llm.tokenizer.size, test.seed + round * 7919 + b)
    return llm.complete([...before(test, llm, b), ...fresh], options)
  })
  if (test.gen > 0) return writing(answers, test.gen)
  const began = performance.now()
  const results = await Promise.all(answers.map((answer) => answer.result()))
  const seconds = (performance.now() - began) / 1000
  // the cache knows whole pages: the rest of what stands before is computed too, and counts
  const read = results.map(({ usage }) => usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens)
  return read.reduce((sum, count) => sum + count, 0) / seconds
}

/** Counted from when every answer has its first token. */
async function writing(answers: readonly AsyncIterable<unknown>[], count: number): Promise<number> {
  const [started, ended]: [number[], number[]] = [[], []]
  await Promise.all(
    answers.map(async (answer) => {
      let first = true
      for await (const _ of answer) {
        if (first) started.push(performance.now())
        first = false
      }
      ended.push(performance.now())
    }),
  )
  return ((answers.length * count) / (Math.max(...ended) - Math.max(...started))) * 1000
}

/** The same ids in every run of the program: a linear congruential generator is random enough for a prompt. */
function randomIds(count: number, size: number, seed: number): number[] {
  let state = (seed * 2654435761 + 12345) >>> 0
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * size)
  })
}

function spread(samples: readonly number[]): { readonly mean: number; readonly stddev: number } {
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length
  const squares = samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0)
  return { mean, stddev: samples.length > 1 ? Math.sqrt(squares / (samples.length - 1)) : 0 }
}

type About = Awaited<ReturnType<typeof aboutRun>>

async function aboutRun(llm: LLM) {
  const { backend, limits } = await llm.stats()
  return {
    model: llm.name,
    parameters: countParameters(llm.config).total,
    weight_bytes: plan(llm.config).weightBytes,
    backend,
    limits,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    platform: `${process.platform}-${process.arch}`,
    versions: { latent: version(), node: process.versions.node },
    date: new Date().toISOString(),
  }
}

function asJson(about: About, results: readonly Measured[]): string {
  return JSON.stringify({ ...about, results }, null, 2)
}

function asCsv({ model, backend }: About, results: readonly Measured[]): string {
  const rows = results.map(({ name, threads, batch, mean, stddev }) =>
    [JSON.stringify(model), backend, threads, batch, name, mean.toFixed(3), stddev.toFixed(3)].join(','),
  )
  return ['model,backend,threads,batch,test,tokens_per_second,stddev', ...rows].join('\n')
}

function asMarkdown(about: About, results: readonly Measured[]): string {
  const { model, parameters, weight_bytes, backend } = about
  const same = [model, describeBytes(weight_bytes), describeCount(parameters), backend]
  const heads = ['model', 'size', 'parameters', 'backend', 'threads', 'batch', 'test', 'tok/s']
  const right = [1, 2, 4, 5, 7]
  const cells = results.map(({ name, threads, batch, mean, stddev }) => {
    return [...same, String(threads), String(batch), name, `${rate(mean)} ± ${rate(stddev)}`]
  })
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map((row) => row[i].length)))
  const rule = widths.map((width, i) => (right.includes(i) ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)))
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join(' | ')} |`
  const { cpu, cores, versions } = about
  const where = `${cpu}, ${cores} cores · latent ${versions.latent}, Node ${versions.node} · ${about.date.slice(0, 10)}`
  return [...[heads, rule, ...cells].map(line), '', where].join('\n')
}
