// Lock files between processes: one download of a blob at a time.
// Knows pids and clocks. Other tools lock the same files by flock and leave them behind empty: an empty lock counts
// while it, or what it guards, was touched lately.
import { statSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface LockTimes {
  /** Milliseconds between looks at a lock that is taken. */
  readonly poll: number
  /** Milliseconds after which a lock that nobody touches counts as left behind. */
  readonly stale: number
}

let taken = 0

/** Runs `action` while holding the lock at `path`; `guarded` is the file that the holder keeps writing. */
export async function locked<T>(
  path: string,
  guarded: string,
  times: LockTimes,
  signal: AbortSignal | undefined,
  action: () => Promise<T>,
): Promise<T> {
  const mark = `${process.pid} ${hostname()} ${Date.now()}.${taken++}`
  await mkdir(dirname(path), { recursive: true })
  while (!(await create(path, mark))) {
    signal?.throwIfAborted()
    const seen = await readFile(path, 'utf8').catch(() => null)
    if (seen !== null && isStale(path, guarded, seen, times.stale)) await remove(path, seen)
    else if (seen !== null) await sleep(times.poll)
  }
  const beat = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => {}), times.stale / 4)
  beat.unref()
  try {
    return await action()
  } finally {
    clearInterval(beat)
    await remove(path, mark)
  }
}

async function create(path: string, mark: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx')
    await file.writeFile(mark).finally(() => file.close())
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function isStale(path: string, guarded: string, mark: string, stale: number): boolean {
  const [pid, host] = mark.split(' ')
  const quiet = Date.now() - Math.max(touched(path), mark === '' ? touched(guarded) : 0)
  if (host === hostname() && /^\d+$/.test(pid)) {
    // a living process that only sleeps keeps its lock; the waits are for a pid that was given out anew
    return !isAlive(Number(pid)) || quiet > (Number(pid) === process.pid ? stale : stale * 10)
  }
  return quiet > stale
}

function touched(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Removes the lock if it is still the one we saw: two waiters may judge the same lock, and the first makes a new one. */
async function remove(path: string, mark: string): Promise<void> {
  const aside = `${path}.${process.pid}.${taken++}`
  try {
    await rename(path, aside)
    if ((await readFile(aside, 'utf8')) === mark) await rm(aside, { force: true })
    else await rename(aside, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
