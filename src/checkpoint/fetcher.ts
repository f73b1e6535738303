// Brings one blob to disk: resumes, survives dropped connections, and believes nothing that its hash does not confirm.
// Knows bytes, ranges and hashes; which blobs are wanted and where they are shown is hub.ts.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CheckpointError } from '../tensor/error.ts'
import type { RemoteFile } from './api.ts'
import { fileSize } from './cache.ts'
import { type Net, passing, patiently, type Reply, refuse, request } from './http.ts'

/** Fetches into `<blob>.incomplete` and moves it to `blob` when it is whole. One call at a time per blob (lock.ts). */
export async function fetchBlob(
  file: RemoteFile,
  blob: string,
  net: Net,
  onLoaded: (loaded: number, total: number) => void,
): Promise<void> {
  const incomplete = `${blob}.incomplete`
  await mkdir(dirname(blob), { recursive: true })
  const handle = await open(incomplete, 'a').then((made) => made.close().then(() => open(incomplete, 'r+')))
  try {
    for (let fresh = false; ; fresh = true) {
      await fill(file, handle, net, onLoaded)
      const wrong = await wrongHash(incomplete, file.etag, net.signal)
      if (wrong === null) break
      await handle.truncate(0)
      if (fresh) {
        await rm(incomplete, { force: true })
        throw new CheckpointError(
          `${file.name} came corrupt twice (${wrong}); it was removed, try again later`,
        )
      }
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(incomplete, blob)
}

/** Appends until the file is as long as the server says. */
async function fill(
  file: RemoteFile,
  handle: FileHandle,
  net: Net,
  onLoaded: (loaded: number, total: number) => void,
): Promise<void> {
  let have = (await handle.stat()).size
  let most = have // starting again from zero is no progress
  const grow = (loaded: number): void => {
    have = loaded
    most = Math.max(most, loaded)
    onLoaded(loaded, file.size ?? 0)
  }
  const attempt = async (): Promise<void> => {
    if (file.size !== null && have > file.size) {
      await handle.truncate(0)
      have = 0
    }
    // without a size, only a whole answer tells where the file ends
    if (have !== file.size) await pour(file, handle, file.size === null ? 0 : have, net, grow)
  }
  await patiently(`cannot download ${file.name}`, net.timing.attempts, net, attempt, () => most)
}

async function pour(
  file: RemoteFile,
  handle: FileHandle,
  have: number,
  net: Net,
  grow: (loaded: number) => void,
): Promise<void> {
  const headers: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {}
  const reply = await request(file.url, { method: 'GET', headers, follow: () => true }, net)
  try {
    if (reply.response.status === 416) {
      // what we have is not the beginning of what there is
      await handle.truncate(0)
      grow(0)
      throw passing('the server refuses the range', 0)
    }
    refuse(reply, `cannot download ${file.name}`, net)
    const at = startOf(reply.response, have)
    if (at === null) throw passing('the server sent another range than it was asked for')
    if (at < have) await handle.truncate(at)
    grow(at)
    const end = await copy(reply, handle, at, file.size, grow).catch(reply.explain)
    if (file.size !== null && end !== file.size)
      throw passing(`the connection ended at byte ${end} of ${file.size}`)
  } finally {
    reply.end()
  }
}

/** Where in the file an answer begins: a server that ignores ranges begins at zero. */
function startOf(response: Response, have: number): number | null {
  if (response.status !== 206) return response.status === 200 ? 0 : null
  const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1]
  return Number(start) === have ? have : null
}

async function copy(
  reply: Reply,
  handle: FileHandle,
  start: number,
  size: number | null,
  grow: (loaded: number) => void,
): Promise<number> {
  let at = start
  for await (const chunk of reply.response.body ?? []) {
    const bytes: Uint8Array = chunk
    if (size !== null && at + bytes.length > size) {
      await handle.truncate(0)
      grow(0)
      throw passing('the server sent more than it announced')
    }
    await write(handle, bytes, at)
    at += bytes.length
    grow(at)
    reply.touch()
  }
  return at
}

async function write(handle: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  try {
    for (let done = 0; done < bytes.length; ) {
      done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten
    }
  } catch (error) {
    throw new CheckpointError(`cannot write the download: ${(error as Error).message}`)
  }
}

/** Says how the contents differ from what their etag promises, or null. Other etags than hashes promise nothing. */
export async function wrongHash(path: string, etag: string, signal?: AbortSignal): Promise<string | null> {
  const large = /^[0-9a-f]{64}$/.test(etag)
  if (!large && !/^[0-9a-f]{40}$/.test(etag)) return null
  const hash = createHash(large ? 'sha256' : 'sha1')
  if (!large) hash.update(`blob ${fileSize(path) ?? 0}\0`) // git hashes a small file with its length before it
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, ...(signal && { signal }) }))
    hash.update(chunk)
  const found = hash.digest('hex')
  return found === etag ? null : `${large ? 'sha256' : 'git hash'} ${found}, wanted ${etag}`
}
