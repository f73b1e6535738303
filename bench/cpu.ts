// latent against its peers on one file, in turns: every figure is one of a pair taken within seconds of each other, with
// the machine's own limit beside it, and what is reported is the median of the ratios, because machines drift. Peers
// come one after the other, so that no more than two copies of the weights are in memory. Engines live in processes of
// their own (engines.ts).
import { closeSync, mkdirSync, openSync, readSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { liteConfig } from '../src/index.ts'
import type { GgufType } from '../src/model/convert.ts'
import { type Engine, type LlamaBench, llamaBench, type Started, start } from './engines.ts'
import { writeRandomModel } from './random.ts'
import { describeLine, type Line, median, type Peer, type Share } from './report.ts'
import type { Order } from './runner.ts'
import { touched } from './touched.ts'

export interface CpuOptions {
  readonly type: GgufType
  readonly threads: number
  /** Run llama.cpp, and `llamaBench` where there is one. */
  readonly peer: boolean
  readonly llamaBench: LlamaBench | null
  readonly rounds: number
  /** Only the tests whose name contains one of these, separated by commas. */
  readonly only: string
  /** Leave the file for the next run. */
  readonly keep: boolean
}

interface Test {
  readonly name: string
  order(seed: number): Order
  /** Its limit, and what of the limit's unit one token takes, in billions. */
  readonly limit: 'read' | 'int8'
  readonly perToken: number
  readonly long: boolean
}

/** One figure of each: ours, and in the same seconds the peer's and the machine's. */
interface Pair {
  readonly own: number
  readonly peer: readonly [name: string, speed: number] | null
  readonly limit: number
}

const prefills = [128, 512, 2048]
const decodes = [
  { context: 16, batch: 1 },
  { context: 2048, batch: 1 },
  { context: 8192, batch: 1 },
  { context: 16, batch: 4 },
  { context: 16, batch: 16 },
]
const count = 32

function testsOf(file: string): readonly Test[] {
  const { stepBytes, promptOperations } = touched(file)
  return [
    ...prefills.map(
      (size): Test => ({
        name: `prefill ${size}`,
        order: (seed) => ({ test: 'prefill', size, seed }),
        limit: 'int8',
        perToken: promptOperations / 1e9,
        long: size > 1000,
      }),
    ),
    ...decodes.map(
      ({ context, batch }): Test => ({
        name: `decode at ${context}, batch ${batch}`,
        order: (seed) => ({ test: 'decode', context, count, batch, seed }),
        limit: 'read',
        perToken: stepBytes(batch, context + count / 2) / batch / 1e9,
        long: context > 1000,
      }),
    ),
  ]
}

export async function benchCpu(options: CpuOptions): Promise<Line[]> {
  const file = join(tmpdir(), 'latent-bench', `random-lite-${options.type}.gguf`)
  mkdirSync(join(file, '..'), { recursive: true })
  process.stderr.write(`writing ${file}, unless it is there ...\n`)
  await writeRandomModel(file, liteConfig, options.type)
  try {
    return await measure(file, options)
  } finally {
    if (!options.keep) rmSync(file, { force: true })
  }
}

async function measure(file: string, options: CpuOptions): Promise<Line[]> {
  const { threads, peer, llamaBench: bench } = options
  const wanted = (name: string): boolean => options.only.split(',').some((part) => name.includes(part))
  const tests = testsOf(file).filter(({ name }) => wanted(name))
  warm(file)
  const lines = wanted('open') ? await openings(file, options) : []
  if (tests.length === 0) return lines
  const peers: (() => Promise<Engine | null>)[] = peer ? [() => start('llama', file, threads)] : []
  if (peer && bench) peers.push(() => llamaBench(bench, file, threads))
  const limits = await openLimits(file, threads)
  const latent = await start('latent', file, threads)
  const pairs = new Map(tests.map((test) => [test, [] as Pair[]]))
  const memory = new Map<string, number>()
  for (const open of peers.length > 0 ? peers : [async () => null]) {
    const other = await open()
    for (const test of tests) {
      pairs.get(test)!.push(...(await takeTurns(test, options.rounds, { latent, other, limits, memory })))
      process.stderr.write(`${describeLine(lineOf(test, pairs.get(test)!, limits), 24)}\n`)
    }
    other?.stop()
  }
  latent.stop()
  limits.stop()
  const measured = tests.map((test) => lineOf(test, pairs.get(test)!, limits))
  return [...lines, ...measured, memoryLine(memory)]
}

interface Limits {
  /** What the machine does at this moment. */
  now(limit: Test['limit']): Promise<number>
  name(limit: Test['limit']): string
  stop(): void
}

async function openLimits(file: string, threads: number): Promise<Limits> {
  const ceilings = await start('ceilings', file, threads)
  const measureNow = async (what: 'read' | 'int8' | 'amx-int8'): Promise<number> =>
    (await ceilings.run({ test: 'ceiling', what })).speed
  const tiles = (await measureNow('amx-int8')) > 0
  return {
    now: (limit) => measureNow(limit === 'int8' && tiles ? 'amx-int8' : limit),
    name: (limit) => (limit === 'read' ? 'reading memory' : tiles ? 'int8 tiles' : 'int8 dot products'),
    stop: ceilings.stop,
  }
}

interface Turns {
  readonly latent: Started
  readonly other: Engine | null
  readonly limits: Limits
  readonly memory: Map<string, number>
}

let seeds = 1

async function takeTurns(test: Test, rounds: number, turns: Turns): Promise<Pair[]> {
  const { latent, other, limits, memory } = turns
  const pairs: Pair[] = []
  const whole = other !== null && other.opened === null // it opens the file, and computes a context, each time
  for (let round = 0; round <= rounds; round++) {
    if (test.limit === 'int8' || round === 0) seeds += 100 // decoding goes on after one context
    const order = test.order(seeds)
    const limit = await limits.now(test.limit)
    const mine = await latent.run(order)
    const theirs = whole && (round === 0 || (test.long && round > 1)) ? null : await other?.run(order)
    memory.set('latent', mine.memory)
    if (other && theirs?.memory) memory.set(other.name, theirs.memory)
    if (round === 0) continue // the first one wakes caches
    pairs.push({ own: mine.speed, peer: theirs ? [other!.name, theirs.speed] : null, limit })
  }
  return pairs
}

function lineOf({ name, limit, perToken }: Test, pairs: readonly Pair[], limits: Limits): Line {
  const names = new Set(pairs.flatMap(({ peer }) => (peer ? [peer[0]] : [])))
  const peers = [...names].map((peer): Peer => {
    const own = pairs.filter((pair) => pair.peer?.[0] === peer)
    const ratio = median(own.map((pair) => pair.own / pair.peer![1]))
    return { name: peer, value: median(own.map((pair) => pair.peer![1])), ratio }
  })
  const share: Share = {
    of: limits.name(limit),
    limit: median(pairs.map((pair) => pair.limit)),
    unit: limit === 'read' ? 'GB/s' : 'GOP/s',
    share: median(pairs.map((pair) => (pair.own * perToken) / pair.limit)),
  }
  return { name, value: median(pairs.map(({ own }) => own)), unit: 'tok/s', peers, share }
}

/** The file's pages in memory before anything is timed. */
function warm(file: string): void {
  const handle = openSync(file, 'r')
  const buffer = new Uint8Array(2 ** 24)
  while (readSync(handle, buffer) > 0);
  closeSync(handle)
}

/**
 * Memory as a process finds it where another has just ended: virtual machines give memory nobody uses back to their
 * host, and getting it again can take longer than all that is to be measured.
 */
async function warmMemory(file: string, threads: number): Promise<void> {
  const filler = await start('filler', file, threads)
  filler.stop()
}

/**
 * From the start of a fresh process until the file is open, and until the first token of an answer is there; the file is
 * in memory, and the memory the weights are copied to has been used before.
 */
async function openings(file: string, { threads, peer, rounds }: CpuOptions): Promise<Line[]> {
  const taken = { latent: [] as number[][], llama: [] as number[][] }
  for (let round = 0; round < rounds; round++) {
    for (const name of peer ? (['latent', 'llama'] as const) : (['latent'] as const)) {
      await warmMemory(file, threads)
      const engine: Started = await start(name, file, threads)
      const first = await engine.run({ test: 'first' })
      engine.stop()
      taken[name].push([engine.opened.seconds, first.seconds])
    }
  }
  const size = (statSync(file).size / 1e9).toFixed(1)
  return [`open ${size} GB`, 'open, to the first token'].map((name, at): Line => {
    const times = taken.latent.map((pair) => pair[at])
    const ratios = taken.llama.map((pair, round) => pair[at] / times[round])
    const value = median(taken.llama.map((pair) => pair[at]))
    const peers = ratios.length > 0 ? [{ name: 'llama.cpp', value, ratio: median(ratios) }] : []
    return { name, value: median(times), unit: 's', peers }
  })
}

function memoryLine(memory: ReadonlyMap<string, number>): Line {
  const own = memory.get('latent') ?? 0
  const peers = [...memory]
    .filter(([name]) => name !== 'latent')
    .map(([name, bytes]): Peer => ({ name, value: bytes / 1e9, ratio: bytes / own }))
  return { name: 'peak memory', value: own / 1e9, unit: 'GB', peers }
}
