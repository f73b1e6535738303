// latent against its peers on one file, in turns: every figure is a pair taken within seconds of each other, and what
// is reported is the median of the ratios, because machines drift. Engines live in processes of their own (runner.ts).
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { liteConfig } from '../src/index.ts'
import type { GgufType } from '../src/model/convert.ts'
import { writeRandomModel } from './random.ts'
import { type Line, median } from './report.ts'
import type { Order } from './runner.ts'

export interface CpuOptions {
  readonly type: GgufType
  readonly threads: number
  readonly peer: boolean
  readonly rounds: number
  /** Only the tests whose name contains one of these, separated by commas. */
  readonly only: string
  readonly keep: boolean
}

interface Test extends Omit<Order, 'seed'> {
  readonly name: string
}

const prefills = [128, 512, 2048]
const decodes = [
  { context: 16, batch: 1 },
  { context: 2048, batch: 1 },
  { context: 8192, batch: 1 },
  { context: 16, batch: 4 },
  { context: 16, batch: 16 },
]
const tests: readonly Test[] = [
  ...prefills.map((size): Test => ({ name: `prefill ${size}`, test: 'prefill', size, count: 0, batch: 1 })),
  ...decodes.map(
    ({ context, batch }): Test => ({
      name: `decode at ${context}, batch ${batch}`,
      test: 'decode',
      size: context,
      count: 32,
      batch,
    }),
  ),
]

interface Running {
  readonly seconds: number
  run(order: Order): Promise<{ readonly speed: number; readonly memory: number }>
  stop(): void
}

export async function benchCpu(options: CpuOptions): Promise<Line[]> {
  const file = join(tmpdir(), 'latent-bench', `random-lite-${options.type}.gguf`)
  mkdirSync(join(file, '..'), { recursive: true })
  process.stderr.write(`writing ${file} ...\n`)
  await writeRandomModel(file, liteConfig, options.type)
  try {
    return await inTurns(file, options)
  } finally {
    if (!options.keep) rmSync(file, { force: true })
  }
}

async function inTurns(file: string, { threads, peer, rounds, only }: CpuOptions): Promise<Line[]> {
  const latent = await start('latent', file, threads)
  const llama = peer ? await start('llama', file, threads) : null
  const size = statSync(file).size / 1e9
  const lines: Line[] = [
    {
      name: `open ${size.toFixed(1)} GB`,
      value: latent.seconds,
      unit: 's',
      ...ratio(latent.seconds, llama?.seconds),
    },
  ]
  let memory = 0
  for (const { name, ...test } of tests.filter((one) =>
    only.split(',').some((part) => one.name.includes(part)),
  )) {
    const own: number[] = []
    const ratios: number[] = []
    const many = test.size > 4000 ? 1 : rounds
    for (let round = 0; round <= many; round++) {
      const order = { ...test, seed: round * 100 + 1 }
      const mine = await latent.run(order)
      const theirs = await llama?.run(order)
      memory = Math.max(memory, mine.memory)
      if (round === 0 && many > 1) continue // first touch of pages and caches
      own.push(mine.speed)
      if (theirs) ratios.push(mine.speed / theirs.speed)
    }
    const line = { name, value: median(own), unit: 'tok/s' }
    lines.push(ratios.length > 0 ? { ...line, ratio: median(ratios), against: 'llama.cpp' } : line)
    process.stderr.write(
      `${name}: ${line.value.toFixed(1)} tok/s, ratios ${ratios.map((r) => r.toFixed(2))}\n`,
    )
  }
  lines.push({ name: 'peak memory', value: memory / 1e9, unit: 'GB' })
  latent.stop()
  llama?.stop()
  return lines
}

function ratio(mine: number, theirs: number | undefined): Partial<Line> {
  return theirs === undefined ? {} : { ratio: mine / theirs, against: "llama.cpp's time" }
}

async function start(engine: 'latent' | 'llama', file: string, threads: number): Promise<Running> {
  const peers = fileURLToPath(new URL('../../bench/peers/node_modules/node-llama-cpp', import.meta.url))
  if (engine === 'llama' && !existsSync(peers)) {
    throw new Error('the peer is not installed: npm ci --prefix bench/peers')
  }
  const runner = fileURLToPath(new URL('./runner.js', import.meta.url))
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn(
    process.execPath,
    [runner, engine, file, String(threads)],
    { stdio: ['pipe', 'pipe', 'ignore'] },
  )
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<{ seconds: number; speed: number; memory: number }> => {
    const { value, done } = await answers.next()
    if (done) throw new Error(`the ${engine} process ended`)
    return JSON.parse(value)
  }
  const { seconds } = await next()
  return {
    seconds,
    run: (order) => {
      child.stdin.write(`${JSON.stringify(order)}\n`)
      return next()
    },
    stop: () => child.kill(),
  }
}
