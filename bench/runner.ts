// One engine in a process of its own, told what to run by lines on standard input: engines.ts starts one for latent, one
// for a peer, one for the machine's limits, and lets them take turns. Arguments: latent|llama|ceilings|filler FILE THREADS.
import { readFileSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { buildCpu } from '../src/backend/build.ts'
import { type Ceilings, openCeilings } from '../src/backend/native.ts'
import { load } from '../src/index.ts'
import { type LlamaContext, type LlamaSequence, openLlama } from './llama.ts'

/** Prompts of a seed are the same in every engine. */
export type Order =
  | { readonly test: 'prefill'; readonly size: number; readonly seed: number }
  /** After `context` tokens, `count` more for each of `batch` sequences; of one seed the context is computed once. */
  | {
      readonly test: 'decode'
      readonly context: number
      readonly count: number
      readonly batch: number
      readonly seed: number
    }
  /** The first token of an answer to 16. */
  | { readonly test: 'first' }
  | { readonly test: 'ceiling'; readonly what: Parameters<Ceilings['measure']>[0] }

export interface Told {
  /** Tokens a second; of a ceiling what it is counted in. */
  readonly speed: number
  /** Seconds since the process was started. */
  readonly seconds: number
  /** The most memory so far, in bytes. */
  readonly memory: number
}

type Run = (order: Order) => Promise<number>

const longest = 10_240

function randomPrompt(size: number, seed: number): number[] {
  return Array.from({ length: size }, (_, i) => 200 + ((i * 7919 + seed * 104729 + (i % 7) * 31) % 90_000))
}

/** Tokens a second of several writers, counted from when all of them write. */
async function together(count: number, writers: readonly AsyncIterable<unknown>[]): Promise<number> {
  const [started, ended]: [number[], number[]] = [[], []]
  await Promise.all(
    writers.map(async (writer) => {
      let made = 0
      for await (const _ of writer) {
        if (made++ === 0) started.push(performance.now())
        if (made > count) break
      }
      ended.push(performance.now())
    }),
  )
  return ((writers.length * count) / (Math.max(...ended) - Math.max(...started))) * 1000
}

async function startLatent(file: string, threads: number): Promise<Run> {
  const llm = await load(file, {
    backend: 'cpu',
    threads,
    worker: false,
    max_model_len: longest,
    cache_bytes: 2 ** 31,
    kv_dtype: 'bf16',
    max_num_batched_tokens: 2048,
  })
  const answer = (prompt: number[], max_tokens: number) =>
    llm.complete(prompt, { max_tokens, ignore_eos: true, temperature: 0 })
  return async (order) => {
    if (order.test === 'decode') {
      const { context, count, batch, seed } = order
      const writers = Array.from({ length: batch }, (_, b) =>
        answer(randomPrompt(context, seed + b), count + 1),
      )
      return together(count, writers)
    }
    const [size, seed] = order.test === 'prefill' ? [order.size, order.seed] : [16, 0]
    const start = performance.now()
    await answer(randomPrompt(size, seed), 1).result()
    return (size / (performance.now() - start)) * 1000
  }
}

async function startLlama(file: string, threads: number): Promise<Run> {
  const model = await openLlama(file, threads)
  let open: { readonly key: string; readonly context: LlamaContext; readonly all: LlamaSequence[] } | null =
    null
  let held = '' // whose prompts the sequences hold

  async function sequences(batch: number, contextSize: number): Promise<LlamaSequence[]> {
    const key = `${batch} ${contextSize}`
    if (open?.key === key) return open.all
    await open?.context.dispose()
    const options = { contextSize, sequences: batch, batchSize: 512, threads, flashAttention: true }
    const context = await model.createContext(options)
    open = { key, context, all: Array.from({ length: batch }, () => context.getSequence()) }
    held = ''
    return open.all
  }

  /** The last token of a prompt is left to be evaluated: its logits are wanted. */
  async function decode(context: number, count: number, batch: number, seed: number): Promise<number> {
    const all = await sequences(batch, Math.max(512, context + count + 64))
    const prompts = all.map((_, b) => randomPrompt(context, seed + b))
    const known = held === `${context} ${seed}`
    for (const [b, sequence] of all.entries()) {
      if (known) {
        await sequence.eraseContextTokenRanges([{ start: context - 1, end: sequence.nextTokenIndex }])
      } else {
        await sequence.clearHistory()
        await sequence.evaluateWithoutGeneratingNewTokens(prompts[b].slice(0, -1))
      }
    }
    held = `${context} ${seed}`
    const options = { temperature: 0, yieldEogToken: true }
    return together(
      count,
      all.map((sequence, b) => sequence.evaluate(prompts[b].slice(-1), options)),
    )
  }

  return async (order) => {
    if (order.test === 'decode') return decode(order.context, order.count, order.batch, order.seed)
    if (order.test !== 'prefill') return decode(16, 0, 1, 0)
    const [sequence] = await sequences(1, 2304)
    held = ''
    await sequence.clearHistory()
    const start = performance.now()
    await sequence.evaluateWithoutGeneratingNewTokens(randomPrompt(order.size, order.seed))
    return (order.size / (performance.now() - start)) * 1000
  }
}

async function startCeilings(_: string, threads: number): Promise<Run> {
  const built = await buildCpu()
  if (built.path === null) throw new Error(built.reason)
  const ceilings = openCeilings(built.path, threads)
  return async (order) => (order.test === 'ceiling' ? ceilings.measure(order.what) : 0)
}

/** Touches as much memory as the file has bytes and leaves it to the next process. */
async function startFiller(file: string): Promise<Run> {
  const piece = 2 ** 28
  const touched = Array.from({ length: Math.ceil(statSync(file).size / piece) }, () => Buffer.alloc(piece, 1))
  return async () => touched.length
}

/** The most that was resident, mapped files with it; where the system does not say, what the process itself counts. */
function peakMemory(): number {
  try {
    return Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024
  } catch {
    return process.resourceUsage().maxRSS * 1024
  }
}

const engines: Readonly<Record<string, (file: string, threads: number) => Promise<Run>>> = {
  latent: startLatent,
  llama: startLlama,
  ceilings: startCeilings,
  filler: startFiller,
}
const [engine, file, threads] = process.argv.slice(2)
const run = await engines[engine](file, Number(threads))
const say = (speed: number): void => {
  const told: Told = { speed, seconds: performance.now() / 1000, memory: peakMemory() }
  process.stdout.write(`${JSON.stringify(told)}\n`)
}
say(0) // it is open
for await (const line of createInterface({ input: process.stdin })) say(await run(JSON.parse(line) as Order))
process.exit(0)
