// What every benchmark gives: a table for people, and one JSON file that can be committed and cited.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'

export interface Line {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** Each peer that ran in turns with it. */
  readonly peers?: readonly Peer[]
  /** The part it is of a limit that was measured in turns with it. */
  readonly share?: Share
}

export interface Peer {
  readonly name: string
  readonly value: number
  /** How many times as good ours is: above 1 ours is faster or smaller. The median of the pairs. */
  readonly ratio: number
}

export interface Share {
  readonly of: string
  readonly limit: number
  readonly unit: string
  readonly share: number
}

export interface Report {
  readonly benchmark: string
  readonly backend: string
  readonly lines: readonly Line[]
}

/** The middle value: these machines are shared, so means lie. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

export function print({ benchmark, backend, lines }: Report): void {
  const width = Math.max(...lines.map(({ name }) => name.length))
  process.stdout.write(`\n${benchmark}${backend === '' ? '' : ` on ${backend}`}\n`)
  for (const line of lines) process.stdout.write(`  ${describeLine(line, width)}\n`)
}

export function describeLine({ name, value, unit, peers = [], share }: Line, width = 0): string {
  const compared = peers.map((peer) => `  ${peer.ratio.toFixed(2)} x ${peer.name}`).join('')
  const part = share
    ? `  ${(share.share * 100).toFixed(0).padStart(3)}% of ${share.limit.toFixed(1)} ${share.unit}, ${share.of}`
    : ''
  return `${name.padEnd(width)}  ${value.toFixed(1).padStart(10)} ${unit.padEnd(8)}${compared}${part}`
}

/** Writes bench/results/<benchmark>-<backend>.json and prints the same as one line. */
export function save(report: Report): void {
  const document = {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, node: process.versions.node },
    ...report,
  }
  const folder = fileURLToPath(new URL('../../bench/results/', import.meta.url))
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    `${folder}${[report.benchmark, report.backend].filter(Boolean).join('-')}.json`,
    `${JSON.stringify(document, null, 2)}\n`,
  )
  process.stdout.write(`${JSON.stringify(document)}\n`)
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  } catch {
    return 'unknown'
  }
}
