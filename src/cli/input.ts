// What is piped in. Knows stdin.
import { fstatSync } from 'node:fs'
import type { Io } from './io.ts'

/** All of stdin as text. `waiting` is what to say when nothing comes for a while. */
export async function readStdin(io: Io, waiting?: string): Promise<string> {
  const timer = waiting === undefined ? null : setTimeout(() => io.note(io.err.dim(waiting)), 3000)
  const stop = (): void => void io.stdin.destroy()
  io.signal.addEventListener('abort', stop)
  try {
    const pieces: Buffer[] = []
    for await (const piece of io.stdin) {
      if (timer) clearTimeout(timer)
      pieces.push(Buffer.from(piece as Uint8Array))
    }
    io.signal.throwIfAborted()
    return Buffer.concat(pieces)
      .toString('utf8')
      .replace(/^\uFEFF/, '')
  } finally {
    if (timer) clearTimeout(timer)
    io.signal.removeEventListener('abort', stop)
  }
}

/** Whether somebody may have piped or redirected something in: a terminal, /dev/null or no stdin at all is nobody. */
export function isPiped(io: Io): boolean {
  if (io.stdin.isTTY) return false
  try {
    return !fstatSync(0).isCharacterDevice()
  } catch {
    return false
  }
}
