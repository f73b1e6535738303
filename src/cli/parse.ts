// What a flag's text may mean: numbers, lists, JSON, files. Knows spellings, not what any flag is for.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { closest } from '../tensor/closest.ts'
import { RequestError } from '../tensor/error.ts'

type Parse<T> = (text: string) => T

export function numberOf(flag: string): Parse<number> {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (Number.isFinite(value)) return value
    throw new RequestError(`${flag} is '${text}', wanted a number`, field(flag))
  }
}

export function wholeOf(flag: string, least: number): Parse<number> {
  return (text) => {
    const value = /^\s*\d+\s*$/.test(text) ? Number(text) : Number.NaN
    if (Number.isSafeInteger(value) && value >= least) return value
    throw new RequestError(`${flag} is '${text}', wanted a whole number from ${least}`, field(flag))
  }
}

/** '1,2,3', '1 2 3' or '[1, 2, 3]' */
export function wholesOf(flag: string, least: number): Parse<number[]> {
  return (text) => {
    const parts = text
      .replace(/^\s*\[(.*)\]\s*$/s, '$1')
      .split(/[\s,]+/)
      .filter((part) => part !== '')
    if (parts.length > 0 && parts.every((part) => /^\d+$/.test(part) && Number(part) >= least)) {
      return parts.map(Number)
    }
    throw new RequestError(
      `${flag} is '${text}', wanted whole numbers from ${least} such as 1,2,3`,
      field(flag),
    )
  }
}

export function jsonOf(flag: string): Parse<unknown> {
  return (text) => {
    try {
      return JSON.parse(text) as unknown
    } catch (error) {
      throw new RequestError(`${flag} is not JSON: ${(error as Error).message}`, field(flag))
    }
  }
}

export function oneOf<T extends string>(flag: string, known: readonly T[]): Parse<T> {
  return (text) => {
    const found = known.find((name) => name === text)
    if (found !== undefined) return found
    const begun = known.filter((name) => text !== '' && name.startsWith(text))
    const meant = begun.length === 1 ? begun[0] : (closest(text, known) ?? begun[0] ?? null)
    const mend = meant === null ? '' : `; did you mean ${meant}?`
    throw new RequestError(`${flag} is '${text}', wanted one of ${known.join(', ')}${mend}`, field(flag))
  }
}

/** For flags that may be given several times. */
export function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text]
}

function field(flag: string): string {
  return flag.replace(/^--/, '').replaceAll('-', '_')
}

/** A text file, or a RequestError that says what could not be read. */
export function readTextFile(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new RequestError(`cannot read ${what} ${path}: ${reasonOf(error)}`)
  }
}

export function reasonOf(error: unknown, doing: 'reading' | 'writing' = 'reading'): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EISDIR') return 'it is a folder'
  if (code === 'EACCES') return `${doing} it is not permitted`
  return message
}

/** For a file that is written only after the work is done: no file comes to be where there is no folder. */
export function checkFolder(path: string, field: string | null = null): void {
  const folder = dirname(resolve(path))
  if (existsSync(folder) && statSync(folder).isDirectory()) return
  throw new RequestError(`cannot write ${path}: there is no folder ${folder}; make it first`, field)
}

/** JSON itself, or the name of a file that holds it. */
export function readJsonArgument(given: string, flag: string): unknown {
  const inline = /^\s*[[{]/.test(given)
  return jsonOf(inline ? flag : `${flag} (${given})`)(inline ? given : readTextFile(given, flag))
}

/** The fields that were given: exact optional types know no `undefined`. */
export function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> }
}
