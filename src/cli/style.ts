// Colours, bars, tables and durations as text. Knows letters and widths, no streams.

type Dye = (text: string) => string

/** Each wraps a text in a colour, or leaves it alone. */
export interface Paint {
  readonly on: boolean
  readonly bold: Dye
  readonly dim: Dye
  readonly red: Dye
  readonly green: Dye
  readonly yellow: Dye
  readonly cyan: Dye
}

type Environment = Readonly<Record<string, string | undefined>>

/** FORCE_COLOR beats NO_COLOR beats TERM=dumb beats whether it is a terminal (no-color.org, Node's own order). */
export function wantsColour(terminal: boolean | undefined, env: Environment): boolean {
  const { FORCE_COLOR: force, NO_COLOR: none, TERM: term } = env
  if (force !== undefined) return force !== '0' && force !== 'false'
  if (none !== undefined && none !== '') return false
  return term !== 'dumb' && terminal === true
}

export function paintFor(terminal: boolean | undefined, env: Environment): Paint {
  const on = wantsColour(terminal, env)
  const dye = (open: number, close: number): Dye => {
    return (text) => (on && text !== '' ? `\u001b[${open}m${text}\u001b[${close}m` : text)
  }
  return {
    on,
    bold: dye(1, 22),
    dim: dye(2, 22),
    red: dye(31, 39),
    green: dye(32, 39),
    yellow: dye(33, 39),
    cyan: dye(36, 39),
  }
}

/** A bar of `width` columns, a fraction of it filled. */
export function bar(fraction: number, width: number, paint: Paint): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * width)
  return paint.cyan('━'.repeat(filled)) + paint.dim('─'.repeat(width - filled))
}

/** '0:07', '3:25', '1:02:09' */
export function clock(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-:--'
  const whole = Math.max(0, Math.round(seconds))
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const tail = `${String(rest).padStart(2, '0')}`
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${tail}` : `${minutes}:${tail}`
}

/** Three figures of a rate: '7.25', '81.3', '1,204'. */
export function rate(n: number): string {
  if (n >= 1000) return Math.round(n).toLocaleString('en-US')
  return n.toFixed(n >= 100 ? 0 : n >= 10 ? 1 : 2)
}

export function plural(count: number, one: string): string {
  return `${count.toLocaleString('en-US')} ${one}${count === 1 ? '' : 's'}`
}

/** Columns padded to their widest cell, two spaces apart; columns named in `right` are aligned to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths = (rows[0] ?? []).map((_, i) => rows.reduce((most, row) => Math.max(most, row[i].length), 0))
  return rows.map((row) =>
    row
      .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd(),
  )
}

const escapes = /\u001b\[[0-9;]*m/g

/** Cuts a text that may hold colours to `width` columns. */
export function fit(text: string, width: number): string {
  if (text.replaceAll(escapes, '').length <= width) return text
  return `${text.replaceAll(escapes, '').slice(0, Math.max(0, width - 1))}…`
}
