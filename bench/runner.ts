// One engine in a process of its own, told what to run by lines on standard input: `bench/cpu.ts` starts one for latent
// and one for each peer, and lets them take turns. Arguments: latent|llama FILE THREADS.
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { load } from '../src/index.ts'

/** What an engine can be asked; each answers tokens a second. */
export interface Runner {
  prefill(size: number, seed: number): Promise<number>
  /** Answers of `count` tokens after `context` tokens, `batch` sequences at once. */
  decode(context: number, count: number, batch: number, seed: number): Promise<number>
}

export interface Order {
  readonly test: 'prefill' | 'decode'
  readonly size: number
  readonly count: number
  readonly batch: number
  readonly seed: number
}

const longest = 10_240

export function randomPrompt(size: number, seed: number): number[] {
  return Array.from({ length: size }, (_, i) => 200 + ((i * 7919 + seed * 104729 + (i % 7) * 31) % 90_000))
}

async function openLatent(file: string, threads: number): Promise<Runner> {
  const llm = await load(file, {
    backend: 'cpu',
    threads,
    worker: false,
    enable_prefix_caching: false,
    max_model_len: longest,
    cache_bytes: 2 ** 31,
    kv_dtype: 'bf16',
    max_num_batched_tokens: 2048,
  })
  return {
    async prefill(size, seed) {
      const start = performance.now()
      await llm
        .complete(randomPrompt(size, seed), { max_tokens: 1, ignore_eos: true, temperature: 0 })
        .result()
      return (size / (performance.now() - start)) * 1000
    },
    async decode(context, count, batch, seed) {
      const options = { max_tokens: count + 1, ignore_eos: true, temperature: 0 }
      const started: number[] = []
      const ended: number[] = []
      await Promise.all(
        Array.from({ length: batch }, async (_, b) => {
          let first = true
          for await (const _ of llm.complete(randomPrompt(context, seed + b), options)) {
            if (first) started.push(performance.now())
            first = false
          }
          ended.push(performance.now())
        }),
      )
      return ((batch * count) / (Math.max(...ended) - Math.max(...started))) * 1000
    },
  }
}

/** The parts of node-llama-cpp that are used here: it is installed apart, so its own types are not at hand. */
interface LlamaSequence {
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>
  evaluate(tokens: number[], options: { temperature: number }): AsyncGenerator<number>
  clearHistory(): Promise<void>
}
interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}
interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
}

async function openLlama(file: string, threads: number): Promise<Runner> {
  const entry = new URL('../../bench/peers/node_modules/node-llama-cpp/dist/index.js', import.meta.url)
  const { getLlama } = await import(pathToFileURL(decodeURIComponent(entry.pathname)).href)
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, progressLogs: false })
  const model = (await llama.loadModel({ modelPath: file, defaultContextFlashAttention: true })) as LlamaModel
  let open: {
    readonly key: string
    readonly context: LlamaContext
    readonly sequences: LlamaSequence[]
  } | null = null

  async function sequences(batch: number, contextSize: number): Promise<LlamaSequence[]> {
    const key = `${batch} ${contextSize}`
    if (open?.key !== key) {
      await open?.context.dispose()
      const options = { contextSize, sequences: batch, batchSize: 512, threads, flashAttention: true }
      const context = await model.createContext(options)
      open = { key, context, sequences: Array.from({ length: batch }, () => context.getSequence()) }
    }
    for (const sequence of open.sequences) await sequence.clearHistory()
    return open.sequences
  }

  return {
    async prefill(size, seed) {
      const [sequence] = await sequences(1, 2304)
      const start = performance.now()
      await sequence.evaluateWithoutGeneratingNewTokens(randomPrompt(size, seed))
      return (size / (performance.now() - start)) * 1000
    },
    async decode(context, count, batch, seed) {
      const all = await sequences(batch, Math.max(512, context + count + 64))
      const prompts = all.map((_, b) => randomPrompt(context, seed + b))
      for (const [b, sequence] of all.entries()) {
        if (context > 1) await sequence.evaluateWithoutGeneratingNewTokens(prompts[b].slice(0, -1))
      }
      const started: number[] = []
      const ended: number[] = []
      await Promise.all(
        all.map(async (sequence, b) => {
          let made = 0
          for await (const _ of sequence.evaluate(prompts[b].slice(-1), { temperature: 0 })) {
            if (made++ === 0) started.push(performance.now())
            if (made > count) break
          }
          ended.push(performance.now())
        }),
      )
      return ((batch * count) / (Math.max(...ended) - Math.max(...started))) * 1000
    },
  }
}

const [engine, file, threads] = process.argv.slice(2)
const openers: Readonly<Record<string, (file: string, threads: number) => Promise<Runner>>> = {
  latent: openLatent,
  llama: openLlama,
}
const begun = performance.now()
const runner = await openers[engine](file, Number(threads))
const say = (line: object): boolean => process.stdout.write(`${JSON.stringify(line)}\n`)
say({ ready: true, seconds: (performance.now() - begun) / 1000 })
for await (const line of createInterface({ input: process.stdin })) {
  const { test, size, count, batch, seed } = JSON.parse(line) as Order
  const speed =
    test === 'prefill' ? await runner.prefill(size, seed) : await runner.decode(size, count, batch, seed)
  say({ speed, memory: process.memoryUsage.rss() })
}
process.exit(0)
