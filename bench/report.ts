// What every benchmark gives: a table for people, and one JSON file that can be committed and cited.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'

export interface Line {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** Against what was measured in the same run (a peer, a hardware limit); null where there is nothing to compare. */
  readonly ratio?: number
  readonly against?: string
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
  process.stdout.write(`\n${benchmark} on ${backend}\n`)
  for (const { name, value, unit, ratio, against } of lines) {
    const compared = ratio === undefined ? '' : `  ${ratio.toFixed(2)} x ${against}`
    process.stdout.write(
      `  ${name.padEnd(width)}  ${value.toFixed(1).padStart(10)} ${unit.padEnd(8)}${compared}\n`,
    )
  }
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
    `${folder}${report.benchmark}-${report.backend}.json`,
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
