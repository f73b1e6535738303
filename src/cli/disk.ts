// Room on disks. Knows folders that may not be there yet.
import { existsSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { describeBytes } from '../model/fields.ts'
import { CapacityError } from '../tensor/error.ts'

/** Bytes that this user may still write to the disk of `path`; null where the file system does not say. */
export function freeBytes(path: string): number | null {
  let folder = resolve(path)
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder)
  try {
    const { bavail, bsize, blocks } = statfsSync(folder)
    return blocks > 0 ? bavail * bsize : null
  } catch {
    return null
  }
}

/** Throws where `wanted` bytes would not go into `free`. */
export function checkRoom(wanted: number, free: number | null, folder: string): void {
  if (free === null || wanted <= free) return
  const [needed, there, short] = [wanted, free, wanted - free].map(describeBytes)
  throw new CapacityError(
    `the file takes ${needed}, the disk of ${folder} has ${there} left; free ${short}, name another folder or a smaller --type`,
  )
}
