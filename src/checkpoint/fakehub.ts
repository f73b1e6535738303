// A hub on this machine for the tests: an API host and a storage host on another port, with every vice on request.
// Tests only.
import '../tensor/dispose.ts'
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Timing } from './http.ts'
import type { HubSettings } from './settings.ts'

/** What to do wrong with one answer. */
export interface Vice {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly dropAfter?: number
  readonly stallAfter?: number
  /** Milliseconds between the tenths of the body. */
  readonly trickle?: number
  readonly ignoreRange?: boolean
  readonly corrupt?: boolean
}

export interface Asked {
  readonly host: 'hub' | 'storage'
  readonly method: string
  readonly path: string
  readonly authorization: string | undefined
  readonly range: string | undefined
}

export interface FakeHub {
  readonly endpoint: string
  readonly asked: Asked[]
  /** Called for every request, `nth` counting those of this host, method and path from 0. */
  vice: (asked: Asked, nth: number) => Vice | undefined
  settings(cache: string, more?: Partial<HubSettings>): HubSettings
  gets(part: string): Asked[]
  [Symbol.asyncDispose](): Promise<void>
}

export const sha = (digit: string): string => digit.repeat(40)
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
export const gitHash = (bytes: Uint8Array): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')

export const fast: Partial<Timing> = {
  stall: 300,
  backoff: 5,
  longest: 20,
  attempts: 4,
  poll: 10,
  interval: 0,
}

/** Files over 1000 bytes are kept on the storage host, as LFS files are. */
export const isLarge = (bytes: Uint8Array): boolean => bytes.length > 1000
export const etagOf = (bytes: Uint8Array): string => (isLarge(bytes) ? sha256(bytes) : gitHash(bytes))

export async function fakeHub(
  repo: string,
  revisions: Readonly<Record<string, string>>,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<FakeHub> {
  const asked: Asked[] = []
  const counts = new Map<string, number>()
  const servers: Server[] = []
  let storage = ''

  function answer(host: Asked['host'], request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname)
    const { authorization, range } = request.headers
    const question: Asked = { host, method: request.method ?? '', path, authorization, range }
    asked.push(question)
    const key = `${host} ${question.method} ${path}`
    const nth = counts.get(key) ?? 0
    counts.set(key, nth + 1)
    const vice = hub.vice(question, nth) ?? {}
    if (vice.status !== undefined) response.writeHead(vice.status, vice.headers).end('no')
    else if (path.startsWith(`/api/models/${repo}/revision/`)) describe(path, response)
    else give(question, vice, response)
  }

  function describe(path: string, response: ServerResponse): void {
    const revision = path.slice(`/api/models/${repo}/revision/`.length)
    const commit = revisions[revision] ?? Object.values(revisions).find((known) => known === revision)
    if (commit === undefined)
      return void response.writeHead(404, { 'x-error-code': 'RevisionNotFound' }).end()
    const siblings = Object.entries(files).map(([rfilename, bytes]) => ({
      rfilename,
      size: bytes.length,
      ...(isLarge(bytes)
        ? { lfs: { sha256: sha256(bytes), size: bytes.length } }
        : { blobId: gitHash(bytes) }),
    }))
    response.end(JSON.stringify({ id: repo, sha: commit, siblings }))
  }

  function give(question: Asked, vice: Vice, response: ServerResponse): void {
    const [, commit, name] = /\/resolve\/([^/]+)\/(.*)$/.exec(question.path) ?? []
    const bytes = name === undefined ? undefined : files[name]
    if (bytes === undefined) return void response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end()
    if (isLarge(bytes) && question.host === 'hub') {
      const location = `${storage}/resolve/${commit}/${name}`
      const linked = { 'x-linked-etag': `"${sha256(bytes)}"`, 'x-linked-size': String(bytes.length) }
      return void response.writeHead(302, { location, 'x-repo-commit': commit, ...linked }).end('elsewhere')
    }
    send(question, vice, bytes, response)
  }

  const hub: FakeHub = {
    endpoint: '',
    asked,
    vice: () => undefined,
    settings: (cache, more) => ({ cache, endpoint: hub.endpoint, token: null, offline: false, ...more }),
    gets: (part) => asked.filter(({ method, path }) => method === 'GET' && path.includes(part)),
    async [Symbol.asyncDispose]() {
      for (const server of servers) {
        server.closeAllConnections()
        await new Promise((done) => server.close(done))
      }
    },
  }
  storage = await listen(servers, (request, response) => answer('storage', request, response))
  const endpoint = await listen(servers, (request, response) => answer('hub', request, response))
  return Object.assign(hub, { endpoint })
}

function send(question: Asked, vice: Vice, bytes: Uint8Array, response: ServerResponse): void {
  const from = vice.ignoreRange ? 0 : Number(/^bytes=(\d+)-$/.exec(question.range ?? '')?.[1] ?? 0)
  if (from >= bytes.length && from > 0) return void response.writeHead(416).end()
  let body = Buffer.from(bytes.subarray(from))
  if (vice.corrupt) body = body.map((byte) => byte ^ 1) as Buffer<ArrayBuffer>
  const headers: Record<string, string> = {
    etag: `"${etagOf(bytes)}"`,
    'content-length': String(body.length),
  }
  if (from > 0) headers['content-range'] = `bytes ${from}-${bytes.length - 1}/${bytes.length}`
  response.writeHead(from > 0 ? 206 : 200, headers)
  if (question.method === 'HEAD') return void response.end()
  if (vice.trickle !== undefined) return void trickle(body, vice.trickle, response)
  const cut = vice.dropAfter ?? vice.stallAfter
  if (cut === undefined) return void response.end(body)
  response.write(body.subarray(0, cut), () => {
    if (vice.dropAfter !== undefined) setTimeout(() => response.destroy(), 10)
  })
}

function trickle(body: Buffer, pause: number, response: ServerResponse): void {
  const step = Math.ceil(body.length / 10)
  const next = (at: number): void => {
    if (at >= body.length) response.end()
    else response.write(body.subarray(at, at + step), () => setTimeout(next, pause, at + step))
  }
  next(0)
}

async function listen(
  servers: Server[],
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer)
  servers.push(server)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
