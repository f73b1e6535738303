// Files on disk: reading ranges of any size, names that stay inside a folder, and what a file is when it is not what
// its name says. Knows no format's inside.
import { closeSync, fstatSync, lstatSync, openSync, readSync } from 'node:fs'

/** One readSync takes less than 2 GiB; pieces of this size keep the copies inside Node small, too. */
const piece = 256 * 1024 * 1024

/** Fills `target` from byte `position` on and returns how many bytes there were. */
export function readFully(fd: number, target: Uint8Array, position: number): number {
  let done = 0
  while (done < target.length) {
    const got = readSync(fd, target, done, Math.min(piece, target.length - done), position + done)
    if (got === 0) break
    done += got
  }
  return done
}

/** True for a relative path that cannot leave its folder on any system. */
export function staysInside(name: string): boolean {
  if (name === '' || name.includes('\0') || name.includes('\\') || /^[a-z]:/i.test(name)) return false
  return name.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}

/** Opens a plain file that is not empty, or says why there is none. */
export function openFile(path: string): { readonly fd: number; readonly size: number } | string {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    return whyNot(path, error)
  }
  const stat = fstatSync(fd)
  if (stat.isFile() && stat.size > 0) return { fd, size: stat.size }
  closeSync(fd)
  return stat.isFile() ? 'is empty (0 bytes); download it again' : 'is a directory, not a file'
}

/** The text of a small file, or why it cannot be had. */
export function readText(path: string): { readonly text: string } | string {
  const opened = openFile(path)
  if (typeof opened === 'string') return opened
  try {
    const bytes = new Uint8Array(opened.size)
    const got = readFully(opened.fd, bytes, 0)
    const other = disguise(bytes.subarray(0, got))
    return other ?? { text: new TextDecoder().decode(bytes.subarray(0, got)) }
  } catch (error) {
    return whyNot(path, error)
  } finally {
    closeSync(opened.fd)
  }
}

const disguises: readonly (readonly [string, string])[] = [
  [
    'version https://git-lfs',
    'is a Git LFS pointer, not the file itself; run `git lfs pull` or download it again',
  ],
  ['GGUF', 'is a GGUF file under another name'],
  ['PK\u0003\u0004', 'is a zip archive (a PyTorch .bin?) under another name; convert it to safetensors'],
  ['<!DOCTYPE', 'is a web page, not the file; download it again'],
  ['<html', 'is a web page, not the file; download it again'],
]

/** What a file really is, when its first bytes say that it is none of ours. */
export function disguise(bytes: Uint8Array): string | null {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64)).toString('latin1')
  return disguises.find(([start]) => head.startsWith(start))?.[1] ?? null
}

function whyNot(path: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code !== 'ENOENT') return `cannot be opened (${code ?? message})`
  const link = lstatSync(path, { throwIfNoEntry: false })
  return link === undefined ? 'is missing' : 'is a link to a file that is missing; download it again'
}
