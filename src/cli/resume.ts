// The output of `generate`: rows in input order, some of them perhaps from an earlier run that was cut short.
// Knows files and lines; not how a row is computed.
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { RequestError } from '../tensor/error.ts'
import type { Io } from './io.ts'
import { reasonOf } from './parse.ts'

export interface Output {
  /** Lines of an earlier run by index: they are finished and need not be written again, only passed to `write`. */
  readonly kept: ReadonlyMap<number, string>
  /** Whether an earlier run was cut off in the middle of a line. */
  readonly torn: boolean
  /** How many rows an earlier run finished from another input or under other options. */
  readonly stale: number
  /** Called once for each index in order. */
  write(index: number, line: string): Promise<void>
  /** Leaves a file that a later run can go on from, whether all was written or not. */
  close(): void
}

export function toStdout(io: Io): Output {
  const write = (_: number, line: string): Promise<void> => io.write(`${line}\n`)
  return { kept: new Map(), torn: false, stale: 0, write, close: () => undefined }
}

/**
 * Opens `path` for one row a key, keeping those that an earlier run finished. A row that carries another key than the
 * one at its index answers something else and is not kept; one without a key is.
 */
export function toFile(path: string, keys: readonly (string | null)[], overwrite: boolean): Output {
  try {
    const before = overwrite || !isFile(path) ? null : readEarlier(path, keys)
    if (before === null) return fileOutput(path, path, openSync(path, 'w'), fresh)
    if (before.gaps) return fileOutput(path, `${path}.partial`, openSync(`${path}.partial`, 'w'), before)
    truncateSync(path, before.bytes)
    return fileOutput(path, path, openSync(path, 'a'), before)
  } catch (error) {
    if (error instanceof RequestError) throw error
    throw new RequestError(`cannot write ${path}: ${reasonOf(error, 'writing')}`, 'output')
  }
}

/** A pipe has nothing to go on from, and reading it would wait for what only this run writes. */
function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile()
}

/** Where the target is another file, everything is written anew there and takes the place of `path` at the end. */
function fileOutput(path: string, target: string, fd: number, { kept, torn, stale }: Earlier): Output {
  const anew = target !== path
  const rest = new Map(kept)
  let open = true

  async function write(index: number, line: string): Promise<void> {
    if (!open) return
    if (anew || !kept.has(index)) writeSync(fd, `${line}\n`)
    rest.delete(index)
  }

  function close(): void {
    if (!open) return
    open = false
    if (anew) for (const line of rest.values()) writeSync(fd, `${line}\n`)
    fsyncIfFile(fd)
    closeSync(fd)
    if (anew) renameSync(target, path)
  }

  return { kept, torn, stale, write, close }
}

/** /dev/stdout and pipes cannot be synced. */
function fsyncIfFile(fd: number): void {
  try {
    fsyncSync(fd)
  } catch {
    // nothing is lost: they have no disk behind them
  }
}

interface Earlier {
  readonly kept: Map<number, string>
  readonly torn: boolean
  readonly stale: number
  /** How much of the file may stay. */
  readonly bytes: number
  /** Whether the finished rows are other than the first few in order. */
  readonly gaps: boolean
}

const fresh: Earlier = { kept: new Map(), torn: false, stale: 0, bytes: 0, gaps: false }

function readEarlier(path: string, keys: readonly (string | null)[]): Earlier {
  const count = keys.length
  const lines = readFileSync(path, 'utf8').split('\n')
  const last = lines.pop() ?? ''
  const kept = new Map<number, string>()
  let failed = false
  let stale = 0
  for (const [i, line] of lines.entries()) {
    const row = readFinished(line)
    if (row === null || row.index >= count || kept.has(row.index)) throw foreign(path, i + 1, count)
    if (row.error) failed = true
    else if (row.key !== null && row.key !== keys[row.index]) stale++
    else kept.set(row.index, line)
  }
  const sorted = new Map([...kept].sort(([a], [b]) => a - b))
  const bytes = Buffer.byteLength(lines.map((line) => `${line}\n`).join(''))
  const inOrder = [...kept.keys()].every((index, i) => index === i)
  return { kept: sorted, torn: last !== '', stale, bytes, gaps: failed || stale > 0 || !inOrder }
}

interface Finished {
  readonly index: number
  /** A row that failed is run again. */
  readonly error: boolean
  /** Null in files that older versions wrote. */
  readonly key: string | null
}

function readFinished(line: string): Finished | null {
  try {
    const row = JSON.parse(line) as { readonly index?: unknown; readonly key?: unknown } | null
    if (typeof row !== 'object' || row === null || !Number.isInteger(row.index)) return null
    return {
      index: Number(row.index),
      error: 'error' in row,
      key: typeof row.key === 'string' ? row.key : null,
    }
  } catch {
    return null
  }
}

function foreign(path: string, line: number, count: number): RequestError {
  const rows = `one of the ${count} rows of this input`
  return new RequestError(
    `line ${line} of ${path} is not the answer to ${rows}; name another file with -o, or start anew with --overwrite`,
    'output',
  )
}
