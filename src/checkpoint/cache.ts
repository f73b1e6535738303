// The Hugging Face cache on disk, shared with the other tools that use it:
//   models--org--name/refs/<revision>        text: the commit it stands for
//   models--org--name/blobs/<etag>           contents; <etag>.incomplete while they come
//   models--org--name/snapshots/<sha>/<file> relative link to ../../blobs/<etag>
//   .locks/models--org--name/<etag>.lock
// Knows the layout; no network.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { copyFile, link, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { readText, staysInside } from './files.ts'
import { isObject, parseObject } from './json.ts'

export interface Folder {
  /** models--org--name */
  readonly path: string
  blob(etag: string): string
  lock(etag: string): string
  snapshot(sha: string): string
}

export function repoFolder(cache: string, repo: string): Folder {
  const name = `models--${repo.replaceAll('/', '--')}`
  const path = join(cache, name)
  return {
    path,
    blob: (etag) => join(path, 'blobs', etag),
    lock: (etag) => join(cache, '.locks', name, `${etag}.lock`),
    snapshot: (sha) => join(path, 'snapshots', sha),
  }
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision)

/** The commit a branch or tag stood for when it was last downloaded. */
export function readRef(folder: Folder, revision: string): string | null {
  if (isCommit(revision)) return revision
  if (!staysInside(revision)) return null
  try {
    const sha = readFileSync(join(folder.path, 'refs', revision), 'utf8').trim()
    return isCommit(sha) ? sha : null
  } catch {
    return null
  }
}

export async function writeRef(folder: Folder, revision: string, sha: string): Promise<void> {
  if (readRef(folder, revision) === sha) return
  const path = join(folder.path, 'refs', revision)
  await inPlace(path, (temporary) => writeFile(temporary, sha))
}

/** The size of a plain file, links followed, or null. */
export function fileSize(path: string): number | null {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat?.isFile() ? stat.size : null
}

/** Ways to make one file stand in two places, the best first; a seam for tests. */
export interface Links {
  readonly symlink: typeof symlink
  readonly link: typeof link
}

/**
 * Lets `pointer` show the contents of `blob`. Where links need rights that we lack (Windows) or the file system has
 * none, a hard link or at last a copy does.
 */
export async function point(pointer: string, blob: string, links: Links = { symlink, link }): Promise<void> {
  await inPlace(pointer, async (temporary) => {
    try {
      await links.symlink(relative(dirname(pointer), blob), temporary)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw error
      await links.link(blob, temporary).catch(() => copyFile(blob, temporary))
    }
  })
}

let made = 0

/** Makes a file under another name and moves it to `path`, so that nobody sees half of it. */
async function inPlace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}.${made++}.tmp`
  try {
    await make(temporary)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** What a snapshot lacks to be run as a model; empty when it is complete. */
export function missingFiles(snapshot: string): string[] {
  const absent = (name: string): boolean => !existsSync(join(snapshot, name))
  const missing = ['config.json', 'tokenizer.json'].filter(absent)
  if (!absent('model.safetensors')) return missing
  const index = readText(join(snapshot, 'model.safetensors.index.json'))
  if (typeof index === 'string') return [...missing, 'model.safetensors (or its index)']
  const parsed = parseObject(index.text)
  const map = typeof parsed === 'string' ? null : parsed.weight_map
  if (!isObject(map)) return [...missing, 'a readable model.safetensors.index.json']
  const shards = new Set(Object.values(map).map(String))
  return [...missing, ...[...shards].sort().filter(absent)]
}
