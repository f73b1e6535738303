// What the hub says about a repository: the commit behind a revision, the files in it, and the etag and size of each.
// Knows the hub's API; writes nothing.
import { CheckpointError } from '../tensor/error.ts'
import { isCommit } from './cache.ts'
import { type Net, patiently, type Reply, refuse, request } from './http.ts'
import { isObject, parseObject } from './json.ts'

export interface Repository {
  readonly sha: string
  readonly files: readonly RepositoryFile[]
}

export interface RepositoryFile {
  readonly name: string
  readonly size: number | null
  /** sha256 of a large file, git's own hash of a small one. */
  readonly hash: string | null
}

export interface RemoteFile {
  readonly name: string
  readonly url: string
  /** Names the blob; where it is 64 or 40 hex digits it is also the hash of the contents. */
  readonly etag: string
  readonly size: number | null
}

const questions = (net: Net): number => Math.min(3, net.timing.attempts)

export async function repository(repo: string, revision: string, net: Net): Promise<Repository> {
  const url = `${net.endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`
  const what = `cannot look up ${repo} at revision ${revision}`
  const text = await patiently(what, questions(net), net, async () => {
    const reply = await request(url, { method: 'GET', follow: () => true }, net)
    refuse(reply, what, net)
    try {
      return await reply.response.text().catch(reply.explain)
    } finally {
      reply.end()
    }
  })
  const body = parseObject(text)
  const sha = typeof body === 'string' ? null : body.sha
  if (
    typeof body === 'string' ||
    typeof sha !== 'string' ||
    !isCommit(sha) ||
    !Array.isArray(body.siblings)
  ) {
    throw new CheckpointError(`${what}: ${net.endpoint} does not answer like a Hugging Face hub`)
  }
  return { sha, files: body.siblings.flatMap(sibling) }
}

function sibling(value: unknown): RepositoryFile[] {
  if (!isObject(value) || typeof value.rfilename !== 'string') return []
  const hash = isObject(value.lfs) ? value.lfs.sha256 : value.blobId
  const size = isObject(value.lfs) ? value.lfs.size : value.size
  return [{ name: value.rfilename, size: count(size), hash: typeof hash === 'string' ? hash : null }]
}

function count(value: unknown): number | null {
  return Number.isSafeInteger(value) && Number(value) >= 0 ? Number(value) : null
}

/** Asks for a file's etag and size without fetching it; where it is stored elsewhere, the redirect itself says so. */
export async function remoteFile(
  repo: string,
  sha: string,
  file: RepositoryFile,
  net: Net,
): Promise<RemoteFile> {
  const path = file.name.split('/').map(encodeURIComponent).join('/')
  const url = `${net.endpoint}/${repo}/resolve/${sha}/${path}`
  const what = `cannot look up ${file.name} of ${repo}`
  return patiently(what, questions(net), net, async () => {
    const follow = (response: Response, sameOrigin: boolean): boolean =>
      sameOrigin && !response.headers.has('x-linked-etag')
    const reply = await request(url, { method: 'HEAD', follow }, net)
    refuse(reply, what, net)
    reply.end()
    const etag = readEtag(reply) ?? file.hash
    if (etag !== null && /^\w[\w.-]*$/.test(etag)) {
      return { name: file.name, url, etag, size: readSize(reply) ?? file.size }
    }
    throw new CheckpointError(`${what}: the server gives it no usable ETag (${etag ?? 'none'})`)
  })
}

function readEtag(reply: Reply): string | null {
  const { headers } = reply.response
  return (
    (headers.get('x-linked-etag') ?? headers.get('etag'))?.replace(/^W\//, '').replaceAll('"', '') || null
  )
}

function readSize(reply: Reply): number | null {
  const { headers, status } = reply.response
  // the length of a redirect is that of its own body
  const length = headers.get('x-linked-size') ?? (status < 300 ? headers.get('content-length') : null)
  return length !== null && /^\d+$/.test(length) ? count(Number(length)) : null
}
