// What `latent doctor` finds, and how a list of it reads. Knows marks and columns, not what is looked at.
import type { Io } from './io.ts'

export type Mark = 'ok' | 'note' | 'problem'

export interface Finding {
  readonly mark: Mark
  readonly label: string
  readonly text: string
  /** What to do about it. */
  readonly mend?: string
}

/** One part of the report: what people read, and the same as data. */
export interface Section<Data> {
  readonly title: string
  readonly findings: readonly Finding[]
  readonly data: Data
}

export const ok = (label: string, text: string): Finding => ({ mark: 'ok', label, text })
export const note = (label: string, text: string, mend?: string): Finding => found('note', label, text, mend)
export const problem = (label: string, text: string, mend?: string): Finding =>
  found('problem', label, text, mend)

function found(mark: Mark, label: string, text: string, mend?: string): Finding {
  return { mark, label, text, ...(mend !== undefined && { mend }) }
}

export function describeSection({ title, findings }: Section<unknown>, io: Io): string[] {
  const dye = { ok: io.out.green, note: io.out.yellow, problem: io.out.red }
  const width = Math.max(0, ...findings.map(({ label }) => label.length))
  const indent = ' '.repeat(2 + 7 + 2 + width + 2)
  const lines = findings.flatMap(({ mark, label, text, mend }) => {
    const [first, ...more] = text.split('\n')
    const head = `  ${dye[mark](mark.padEnd(7))}  ${label.padEnd(width)}  ${first}`
    return [
      head,
      ...more.map((line) => indent + line),
      ...(mend ? [`${indent}${io.out.cyan('→')} ${mend}`] : []),
    ]
  })
  return [io.out.bold(title), ...lines]
}
