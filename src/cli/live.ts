// Lines at the foot of a terminal that are drawn again and again, and plain lines now and then where there is none.
// Knows cursors and clocks, not what the lines say.
import type { Io } from './io.ts'
import { fit } from './style.ts'

export interface Live {
  /** Redraws the lines, at most every tenth of a second; where nothing can be redrawn, `plain` is printed seldom. */
  show(lines: () => readonly string[], plain?: () => string): void
  /** A line that stays, above the others. */
  keep(line: string): void
  clear(): void
}

/** Milliseconds between two drawings, and between two plain lines. */
const frame = 100
const pause = 5000

export function createLive(io: Io, options: { readonly quiet?: boolean } = {}): Live {
  const { stderr } = io
  let drawn = 0
  let last = performance.now() + (io.live ? frame : 0) // what is done at once flashes no bar
  let current: readonly string[] = []

  function erase(): string {
    return drawn === 0 ? '' : `\u001b[${drawn}A\r\u001b[J`
  }

  function draw(lines: readonly string[]): void {
    const width = (stderr.columns || 80) - 1
    stderr.write(erase() + lines.map((line) => `${fit(line, width)}\n`).join(''))
    drawn = lines.length
  }

  function show(lines: () => readonly string[], plain?: () => string): void {
    const now = performance.now()
    if (options.quiet || now - last < (io.live ? frame : pause)) return
    last = now
    if (io.live) {
      current = lines()
      draw(current)
    } else if (plain) io.note(plain())
  }

  function keep(line: string): void {
    if (options.quiet) return
    stderr.write(`${erase()}${line}\n`)
    drawn = 0
    if (io.live) draw(current)
  }

  function clear(): void {
    if (drawn > 0) stderr.write(erase())
    drawn = 0
    current = []
  }

  return { show, keep, clear }
}
