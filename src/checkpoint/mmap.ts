// A file's bytes as memory: nothing is read until somebody looks, and then the system's cache is what they see. Knows
// the system's calls, not what files hold. Where there are none (Windows, runtimes that forbid foreign memory), the
// answer is null and the caller reads.
import { closeSync } from 'node:fs'
import koffi from 'koffi'
import type { Piece } from '../tensor/tensor.ts'

export interface Mapping {
  /** Bytes [start, end) of the file, aligned for typed views; null where they cannot be given as they lie. */
  view(start: number, end: number): Piece | null
}

interface Calls {
  readonly mmap: (...args: readonly number[]) => number
  readonly munmap: (address: number, length: number) => number
}

/** No view is longer: runtimes differ in what they take beyond 4 GiB, up to ending the process. */
const longest = 2 ** 32 - 1
/** Views of a file share buffers of this many bytes: each counts as memory that presses the garbage collector. */
const window = 3 * 2 ** 30
const readWrite = 3 // written pages, which nobody means to have, become the process's own
const privately = process.platform === 'darwin' ? 0x42 : 0x4002 // without reserving memory for them

let calls: Calls | null | undefined

function systemCalls(): Calls | null {
  if (process.platform !== 'linux' && process.platform !== 'darwin') return null
  try {
    const system = koffi.load(null)
    return {
      mmap: system.func(
        'int64_t mmap(size_t address, size_t length, int protection, int flags, int fd, int64_t offset)',
      ),
      munmap: system.func('int munmap(size_t address, size_t length)'),
    }
  } catch {
    return null
  }
}

/** Keeps a mapping for as long as any buffer over it: the garbage collector decides when nobody can look any more. */
const owners = new WeakMap<ArrayBufferLike, object>()
const abandoned = new FinalizationRegistry<Readonly<Record<'address' | 'length' | 'fd', number>>>((pages) => {
  calls?.munmap(pages.address, pages.length)
  closeSync(pages.fd)
})

/** Maps `length` bytes of an open file and owns its descriptor from then on; null, and no owner, where that fails. */
export function mapFile(fd: number, length: number): Mapping | null {
  calls ??= systemCalls()
  if (calls === null || length === 0) return null
  const address = calls.mmap(0, length, readWrite, privately, fd, 0)
  if (address === -1) return null
  const owner = {}
  abandoned.register(owner, { address, length, fd })
  const windows = new Map<number, ArrayBuffer>()

  function buffer(start: number, bytes: number): ArrayBuffer {
    const made = koffi.view(address + start, bytes)
    owners.set(made, owner)
    return made
  }

  function shared(index: number): ArrayBuffer {
    const known = windows.get(index)
    if (known) return known
    const made = buffer(index * window, Math.min(window, length - index * window))
    windows.set(index, made)
    return made
  }

  function view(start: number, end: number): Piece | null {
    if (start % 4 !== 0 || end <= start || end > length || end - start > longest) return null
    const index = Math.floor(start / window)
    try {
      const bytes =
        end > (index + 1) * window
          ? new Uint8Array(buffer(start, end - start))
          : new Uint8Array(shared(index), start - index * window, end - start)
      return { bytes, fd, offset: start }
    } catch {
      return null // a runtime without foreign buffers
    }
  }

  return { view }
}
