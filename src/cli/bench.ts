// `latent bench`: how fast a model reads prompts and writes answers, as llama-bench measures it.
// Knows what to run and how to print it; the engine is used as any program uses it.
import { setMaxListeners } from 'node:events'
import { cpus } from 'node:os'
import { type Command, Option } from 'commander'
import type { LLM } from '../llm/load.ts'
import { describeBytes, describeCount } from '../model/fields.ts'
import { countParameters } from '../model/layout.ts'
import { plan } from '../model/plan.ts'
import { CapacityError, RequestError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import { createLive } from './live.ts'
import { addEngineOptions, type ModelFlags, openModel } from './model.ts'
import { oneOf, wholeOf, wholesOf } from './parse.ts'
import { bar, rate } from './style.ts'
import { version } from './version.ts'

interface BenchFlags extends ModelFlags {
  readonly prompt: readonly number[]
  readonly gen: readonly number[]
  readonly batch: readonly number[]
  readonly repetitions: number
  readonly warmup: boolean
  readonly output: (typeof outputs)[number]
  readonly json?: boolean
}

/** One line of the table: `prompt` tokens read or `gen` tokens written, by `batch` sequences at a time. */
interface Test {
  readonly name: string
  readonly prompt: number
  readonly gen: number
  readonly batch: number
}

interface Measured extends Test {
  readonly mean: number
  readonly stddev: number
  /** Tokens a second of each repetition, all sequences together. */
  readonly samples: readonly number[]
}

const outputs = ['md', 'csv', 'json'] as const

const examples = `
pp512 reads prompts of 512 random tokens and takes one token of each answer; tg128 writes 128 tokens after a prompt of
one. A batch of 4 does so with four sequences at a time, whose tokens are counted together. Cached prefixes are off.

Examples:
  $ latent bench
  $ latent bench ./my-model -p 128,512 -n 32,128 -b 1,4 -r 3
  $ latent bench -p 0 -n 64 -b 1,2,4,8 --output csv
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
    .addOption(numbers('-b, --batch <sizes>', 'sequences at a time', 1, [1]))
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
  addEngineOptions(command).addHelpText('after', examples)
  command.action((model: string, flags: BenchFlags) => bench(io, { ...flags, model }))
}

async function bench(io: Io, flags: BenchFlags & { readonly model: string }): Promise<void> {
  const tests = testsOf(flags)
  if (tests.length === 0) {
    throw new RequestError('--prompt and --gen are both 0: nothing to measure; give one a length', 'prompt')
  }
  await using llm = await openModel(io, flags, { enable_prefix_caching: false })
  setMaxListeners(0, io.signal) // every sequence of a batch listens
  for (const test of tests) checkRoom(test, llm)
  const live = createLive(io)
  const measured: Measured[] = []
  const rounds = tests.length * flags.repetitions
  try {
    for (const test of tests) {
      if (flags.warmup) await run(test, llm, io.signal, 0)
      const samples: number[] = []
      for (let i = 0; i < flags.repetitions; i++) {
        const done = measured.length * flags.repetitions + i
        const label = `${test.name.padEnd(8)} ${io.err.dim(`batch ${test.batch}, ${i + 1} of ${flags.repetitions}`)}`
        live.show(
          () => [`${bar(done / rounds, 24, io.err)}  ${label}`],
          () => `${test.name}, batch ${test.batch}: ${i} of ${flags.repetitions}`,
        )
        samples.push(await run(test, llm, io.signal, i + 1))
      }
      measured.push({ ...test, ...spread(samples), samples })
    }
  } finally {
    live.clear()
  }
  const print = flags.json || flags.output === 'json' ? asJson : flags.output === 'csv' ? asCsv : asMarkdown
  await io.write(`${print(await aboutRun(llm), measured)}\n`)
}

function testsOf({ prompt, gen, batch }: BenchFlags): readonly Test[] {
  return batch.flatMap((size) => [
    ...prompt.filter((n) => n > 0).map((n) => ({ name: `pp${n}`, prompt: n, gen: 0, batch: size })),
    ...gen.filter((n) => n > 0).map((n) => ({ name: `tg${n}`, prompt: 0, gen: n, batch: size })),
  ])
}

function checkRoom({ name, prompt, gen, batch }: Test, { limits }: LLM): void {
  const length = Math.max(prompt, 1) + Math.max(gen, 1)
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

/** Tokens a second of one run. */
async function run(test: Test, llm: LLM, signal: AbortSignal, round: number): Promise<number> {
  const tokens = Math.max(test.gen, 1)
  const options = { max_tokens: tokens, ignore_eos: true, temperature: 0, signal }
  const prompts = Array.from({ length: test.batch }, (_, i) =>
    randomIds(Math.max(test.prompt, 1), llm.tokenizer.size, round * 7919 + i),
  )
  const began = performance.now()
  await Promise.all(prompts.map((prompt) => llm.complete(prompt, options).result()))
  const seconds = (performance.now() - began) / 1000
  return (test.batch * (test.gen > 0 ? test.gen : test.prompt)) / seconds
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
  const rows = results.map(({ name, batch, mean, stddev }) =>
    [JSON.stringify(model), backend, batch, name, mean.toFixed(3), stddev.toFixed(3)].join(','),
  )
  return ['model,backend,batch,test,tokens_per_second,stddev', ...rows].join('\n')
}

function asMarkdown(about: About, results: readonly Measured[]): string {
  const { model, parameters, weight_bytes, backend } = about
  const same = [model, describeBytes(weight_bytes), describeCount(parameters), backend]
  const heads = ['model', 'size', 'parameters', 'backend', 'batch', 'test', 'tok/s']
  const right = [1, 2, 4, 6]
  const cells = results.map(({ name, batch, mean, stddev }) => {
    return [...same, String(batch), name, `${rate(mean)} ± ${rate(stddev)}`]
  })
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map((row) => row[i].length)))
  const rule = widths.map((width, i) => (right.includes(i) ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)))
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join(' | ')} |`
  const { cpu, cores, versions } = about
  const where = `${cpu}, ${cores} cores · latent ${versions.latent}, Node ${versions.node} · ${about.date.slice(0, 10)}`
  return [...[heads, rule, ...cells].map(line), '', where].join('\n')
}
