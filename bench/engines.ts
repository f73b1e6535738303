// Who can be measured, each in a process of its own: latent, llama.cpp by node-llama-cpp, any llama-bench, the machine.
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { hasLlama, installPeers } from './llama.ts'
import type { Order, Told } from './runner.ts'

export interface Engine {
  readonly name: string
  /** What it said when the file was open; null of a program that opens it anew for each order. */
  readonly opened: Told | null
  /** Null: it has no such test. */
  run(order: Order): Promise<Told | null>
  stop(): void
}

/** An engine that keeps the file open. */
export interface Started extends Engine {
  readonly opened: Told
  run(order: Order): Promise<Told>
}

export async function start(
  engine: 'latent' | 'llama' | 'ceilings' | 'filler',
  file: string,
  threads: number,
): Promise<Started> {
  if (engine === 'llama' && !hasLlama()) throw new Error(`the peer is not installed: ${installPeers}`)
  const runner = fileURLToPath(new URL('./runner.js', import.meta.url))
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn(
    process.execPath,
    [runner, engine, file, String(threads)],
    { stdio: ['pipe', 'pipe', 'ignore'] },
  )
  const ended = new Promise<string>((resolve) =>
    child.on('exit', (code, signal) =>
      resolve(
        signal === 'SIGKILL' ? 'was killed: is there memory for two copies of the file?' : `ended (${code})`,
      ),
    ),
  )
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<Told> => {
    const { value, done } = await answers.next()
    if (done) throw new Error(`the ${engine} process ${await ended}`)
    return JSON.parse(value) as Told
  }
  return {
    name: engine === 'llama' ? 'llama.cpp' : engine,
    opened: await next(),
    run: (order) => {
      child.stdin.write(`${JSON.stringify(order)}\n`)
      return next()
    },
    stop: () => void child.kill(),
  }
}

/** Where a llama-bench is and how it is called: bench/main.ts reads it from LATENT_PEER_BENCH and its companions. */
export interface LlamaBench {
  readonly path: string
  readonly args: readonly string[]
  readonly name: string | undefined
}

/**
 * A llama-bench of llama.cpp or ik_llama.cpp. It opens the file for each order, warms up, and says its own speed; it has
 * no batches of sequences.
 */
export async function llamaBench(peer: LlamaBench, file: string, threads: number): Promise<Engine> {
  const run = promisify(execFile)
  const help = await run(peer.path, ['--help']).then(({ stdout, stderr }) => stdout + stderr)
  const fixed = ['-m', file, '-t', String(threads), '-r', '1', '-o', 'json', ...peer.args]
  return {
    name: peer.name ?? `${peer.path.split('/').at(-1)}`,
    opened: null,
    async run(order) {
      const args = argumentsOf(order, /^\s*-gp /m.test(help))
      if (args === null) return null
      const { stdout } = await run(peer.path, [...fixed, ...args], { maxBuffer: 2 ** 24 })
      return { speed: readLlamaBench(stdout), seconds: 0, memory: 0 }
    },
    stop: () => undefined,
  }
}

/** ik_llama.cpp generates after a prompt with -gp, llama.cpp at a depth with -d. */
export function argumentsOf(order: Order, hasGp: boolean): readonly string[] | null {
  if (order.test === 'prefill') return ['-p', String(order.size), '-n', '0']
  if (order.test !== 'decode' || order.batch > 1) return null
  const [context, count] = [order.context, order.count].map(String)
  if (order.context <= 16) return ['-p', '0', '-n', count]
  return hasGp
    ? ['-p', '0', '-n', '0', '-gp', `${context},${count}`]
    : ['-p', '0', '-n', count, '-d', context]
}

/** Tokens a second of the one test in llama-bench's JSON; some builds print lines of their own before it. */
export function readLlamaBench(output: string): number {
  const from = output.search(/^\[\s*(\{|$)/m)
  const tests = from < 0 ? [] : (JSON.parse(output.slice(from, output.lastIndexOf(']') + 1)) as unknown)
  const speed = (tests as readonly { readonly avg_ts?: unknown }[]).at(-1)?.avg_ts
  if (typeof speed !== 'number') throw new Error(`this is not what llama-bench says: ${output.slice(0, 200)}`)
  return speed
}
