// `latent serve` under many streaming clients at once, against what the same engine does with as many sequences and no
// HTTP (before and after, because machines drift). Server, clients and engine are processes of their own.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Line, median } from './report.ts'

export interface ServeOptions {
  readonly model: string
  readonly backend: string
  readonly clients: number
  readonly seconds: number
}

/** What bench/clients.ts says of its run. */
export interface ClientReport {
  readonly tokens: number
  readonly seconds: number
  readonly answers: number
  readonly errors: readonly string[]
  /** Milliseconds: to the first token, and between tokens. */
  readonly first: { readonly median: number; readonly p99: number }
  readonly gap: { readonly median: number; readonly p99: number }
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

export async function benchServe(options: ServeOptions): Promise<Line[]> {
  const { model, backend, clients, seconds } = options
  const alone: number[] = [await engineRate(options)]
  const args = [
    ...[here('../src/cli/main.js'), 'serve', '--model', model, '--port', '0', '--backend', backend],
    ...['--max-num-seqs', String(clients), '--max-model-len', '2048', '--cache-bytes', String(2 ** 30)],
  ]
  // its log goes nowhere: a pipe that nobody reads would stop it
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  const url = await firstUrl(server)
  const memory = watchMemory(server.pid ?? 0)
  const report = (await ask('./clients.js', ['http', url, String(clients), String(seconds)])) as ClientReport
  const { slope, peak } = memory.stop()
  server.kill('SIGTERM')
  await once(server, 'exit')
  alone.push(await engineRate(options))
  if (report.errors.length > 0)
    throw new Error(`${report.errors.length} requests failed: ${report.errors[0]}`)
  const own = median(alone)
  const rate = report.tokens / report.seconds
  return [
    {
      name: `${clients} streams for ${seconds} s`,
      value: rate,
      unit: 'tok/s',
      share: { of: 'the engine alone', limit: own, unit: 'tok/s', share: rate / own },
    },
    { name: 'answers, none failed', value: report.answers, unit: 'answers' },
    { name: 'gap between tokens, median', value: report.gap.median, unit: 'ms' },
    { name: 'gap between tokens, p99', value: report.gap.p99, unit: 'ms' },
    { name: 'to the first token, median', value: report.first.median, unit: 'ms' },
    { name: 'to the first token, p99', value: report.first.p99, unit: 'ms' },
    { name: 'memory of the server, slope', value: slope / 2 ** 20, unit: 'MiB/min' },
    { name: 'memory of the server, peak', value: peak / 2 ** 20, unit: 'MiB' },
  ]
}

/** Tokens a second of as many sequences in the same engine, told by a process that has nothing else to do. */
async function engineRate({ model, backend, clients }: ServeOptions): Promise<number> {
  const report = (await ask('./clients.js', [
    'engine',
    `${model} ${backend}`,
    String(clients),
    '15',
  ])) as ClientReport
  return report.tokens / report.seconds
}

async function ask(script: string, args: readonly string[]): Promise<unknown> {
  const child = spawn(process.execPath, [here(script), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  for await (const piece of child.stdout) text += String(piece)
  return JSON.parse(text)
}

async function firstUrl(server: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: server.stdout! })) {
    const found = /https?:\/\/[^/\s]+/.exec(line)
    if (found) return found[0]
  }
  throw new Error('the server ended before it said where it listens')
}

/** Resident bytes every second: the peak, and the slope in bytes a minute over all but the first quarter. */
function watchMemory(pid: number) {
  const samples: { readonly at: number; readonly bytes: number }[] = []
  const timer = setInterval(() => {
    try {
      const kib = Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
      samples.push({ at: performance.now() / 60_000, bytes: kib * 1024 })
    } catch {
      clearInterval(timer) // no /proc here, or the process has gone
    }
  }, 1000)
  return {
    stop() {
      clearInterval(timer)
      const late = samples.slice(Math.floor(samples.length / 4))
      const mean = (pick: (sample: (typeof samples)[number]) => number): number =>
        late.reduce((sum, sample) => sum + pick(sample), 0) / late.length
      const [at, bytes] = [mean((sample) => sample.at), mean((sample) => sample.bytes)]
      const above = late.reduce((sum, sample) => sum + (sample.at - at) * (sample.bytes - bytes), 0)
      const below = late.reduce((sum, sample) => sum + (sample.at - at) ** 2, 0)
      return { slope: above / below, peak: Math.max(...samples.map((sample) => sample.bytes)) }
    },
  }
}
