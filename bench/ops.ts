// Every operation by itself: builds native/bench.cc, runs it, and reads its lines. Nothing is measured here.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { buildBench } from '../src/backend/build.ts'
import { describeLine, type Line } from './report.ts'

export interface OpsOptions {
  readonly threads: number
  /** The most advanced instruction set to use; '' for the best there is. */
  readonly features: string
  readonly only: string
}

/** A line of native/bench.cc. */
type Told =
  | { readonly name: string; readonly skipped: string }
  | {
      readonly name: string
      readonly seconds: number
      readonly value: number
      readonly unit: string
      readonly limit: string
      readonly ceiling: number
      readonly share: number
    }

export async function benchOps({ threads, features, only }: OpsOptions): Promise<Line[]> {
  const args = ['--json', '--threads', String(threads), '--features', features, '--only', only]
  const child = spawn(await buildBench(), args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const lines: Line[] = []
  for await (const text of createInterface({ input: child.stdout })) {
    const told = JSON.parse(text) as Told
    if ('skipped' in told) {
      process.stderr.write(`${told.name}: skipped, ${told.skipped}\n`)
      continue
    }
    const { name, seconds, value, unit, limit, ceiling, share } = told
    const of = limit === 'read' ? 'reading memory' : `${limit} arithmetic`
    const line: Line = {
      name: `${name}: ${(seconds * 1e6).toFixed(1)} us`,
      value,
      unit,
      share: { of, limit: ceiling, unit, share },
    }
    lines.push(line)
    process.stderr.write(`${describeLine(line, 60)}\n`)
  }
  const code = await ended
  if (code !== 0) throw new Error(`native/bench.cc ended with ${code}`)
  return lines
}
