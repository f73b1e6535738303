// Models by name: from the Hugging Face cache, or downloaded into it.
// Knows the order of things; layout, requests and bytes are cache.ts, api.ts and fetcher.ts.
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { CheckpointError } from '../tensor/error.ts'
import { type Repository, type RepositoryFile, remoteFile, repository } from './api.ts'
import { type Folder, fileSize, missingFiles, point, readRef, repoFolder, writeRef } from './cache.ts'
import { fetchBlob } from './fetcher.ts'
import { staysInside } from './files.ts'
import { defaultTiming, type Net, type Timing } from './http.ts'
import { locked } from './lock.ts'
import { type DownloadProgress, type Tally, tally } from './progress.ts'
import { selectFiles } from './select.ts'
import type { HubSettings } from './settings.ts'

export type { DownloadProgress } from './progress.ts'
export { type HubSettings, hubSettings } from './settings.ts'

export interface DownloadOptions {
  /** Branch, tag or commit; `main` when it is not given. */
  readonly revision?: string | undefined
  /** Globs, `*` crosses folders. Without them: what a model needs. */
  readonly include?: readonly string[] | undefined
  readonly exclude?: readonly string[] | undefined
  readonly signal?: AbortSignal | undefined
  /** Files at a time (4). */
  readonly parallel?: number | undefined
  readonly progress?: ((event: DownloadProgress) => void) | undefined
  /** For tests. */
  readonly timing?: Partial<Timing>
}

/** Brings the wanted files of a repository into the cache and returns the folder of the snapshot. */
export async function download(
  repo: string,
  settings: HubSettings,
  options: DownloadOptions = {},
): Promise<string> {
  const revision = options.revision ?? 'main'
  if (!isRepo(repo)) throw new CheckpointError(`'${repo}' is not a repository name, wanted org/name`)
  if (!staysInside(revision)) throw new CheckpointError(`'${revision}' is not a branch, tag or commit`)
  if (!URL.canParse(settings.endpoint)) {
    throw new CheckpointError(
      `HF_ENDPOINT is '${settings.endpoint}', wanted an address such as https://huggingface.co`,
    )
  }
  if (settings.offline) {
    throw new CheckpointError(`cannot download ${repo}: HF_HUB_OFFLINE forbids the network`)
  }
  // the first file that fails stops the others
  const stop = new AbortController()
  const cancelled = (): void => stop.abort(options.signal?.reason)
  options.signal?.addEventListener('abort', cancelled)
  if (options.signal?.aborted) cancelled()
  const net: Net = { ...settings, signal: stop.signal, timing: { ...defaultTiming, ...options.timing } }
  try {
    return await bring(repo, revision, settings, options, net, stop)
  } catch (error) {
    stop.abort()
    throw options.signal?.aborted ? options.signal.reason : explain(error, settings)
  } finally {
    options.signal?.removeEventListener('abort', cancelled)
  }
}

async function bring(
  repo: string,
  revision: string,
  settings: HubSettings,
  options: DownloadOptions,
  net: Net,
  stop: AbortController,
): Promise<string> {
  const found = await repository(repo, revision, net)
  const files = wantedFiles(repo, found, options)
  const folder = repoFolder(settings.cache, repo)
  const sizes = new Map(files.map((file) => [file.name, file.size ?? 0]))
  const counter = tally(sizes, options.progress, net.timing.interval)
  await inParallel(files, options.parallel ?? 4, stop, (file) =>
    bringFile(repo, found.sha, file, folder, counter, net),
  )
  // last, so that a branch never stands for a snapshot that is still coming
  await writeRef(folder, revision, found.sha)
  return folder.snapshot(found.sha)
}

function wantedFiles(repo: string, found: Repository, options: DownloadOptions): RepositoryFile[] {
  const names = found.files.map((file) => file.name)
  const chosen = new Set(selectFiles(names, options.include, options.exclude))
  const bad = [...chosen].filter((name) => !staysInside(name))
  if (bad.length > 0) {
    throw new CheckpointError(
      `${repo} has file names that leave their folder`,
      bad.map((name) => `'${name}'`),
    )
  }
  if (chosen.size === 0) {
    const wanted = options.include?.join(', ') ?? 'a safetensors model'
    throw new CheckpointError(
      `${repo} has no file to download (wanted ${wanted}, it has ${names.length} others)`,
    )
  }
  return found.files.filter((file) => chosen.delete(file.name))
}

async function bringFile(
  repo: string,
  sha: string,
  file: RepositoryFile,
  folder: Folder,
  counter: Tally,
  net: Net,
): Promise<void> {
  const pointer = join(folder.snapshot(sha), file.name)
  const there = fileSize(pointer)
  if (there !== null && (file.size === null || there === file.size)) {
    counter.report('cached', file.name, there, there)
    return
  }
  const remote = await remoteFile(repo, sha, file, net)
  const blob = folder.blob(remote.etag)
  const isWhole = (size: number | null): size is number =>
    size !== null && (remote.size === null || size === remote.size)
  await locked(folder.lock(remote.etag), `${blob}.incomplete`, net.timing, net.signal, async () => {
    const cached = fileSize(blob)
    if (isWhole(cached)) {
      await point(pointer, blob)
      counter.report('cached', file.name, cached, cached)
      return
    }
    await rm(blob, { force: true })
    counter.report('start', file.name, fileSize(`${blob}.incomplete`) ?? 0, remote.size ?? 0)
    await fetchBlob(remote, blob, net, (loaded, total) =>
      counter.report('progress', file.name, loaded, total),
    )
    await point(pointer, blob)
    const size = fileSize(blob) ?? 0
    counter.report('done', file.name, size, size)
  })
}

/** Throws what went wrong first, after all have let go of their files and locks. */
async function inParallel<T>(
  items: readonly T[],
  width: number,
  stop: AbortController,
  action: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values()
  const failures: unknown[] = []
  const work = async (): Promise<void> => {
    try {
      for (const item of queue) {
        if (stop.signal.aborted) throw stop.signal.reason
        await action(item)
      }
    } catch (error) {
      failures.push(error)
      stop.abort()
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, Math.min(width, items.length)) }, work))
  if (failures.length > 0) throw failures[0]
}

function explain(error: unknown, settings: HubSettings): unknown {
  if (!(error instanceof Error) || error instanceof CheckpointError || !('syscall' in error)) return error
  return new CheckpointError(`cannot write to the cache at ${settings.cache}: ${error.message}`)
}

/** The snapshot that the cache holds, whole or not, or null. */
export function findSnapshot(repo: string, settings: HubSettings, revision = 'main'): string | null {
  if (!isRepo(repo)) return null
  const folder = repoFolder(settings.cache, repo)
  const sha = readRef(folder, revision)
  const path = sha === null ? null : folder.snapshot(sha)
  return path !== null && existsSync(path) ? path : null
}

/** The folder of a model: an existing path wins, then the cache when it holds a complete one, then the hub. */
export async function resolveModel(
  name: string,
  settings: HubSettings,
  options: DownloadOptions = {},
): Promise<string> {
  if (existsSync(name)) return resolve(name)
  if (!isRepo(name)) {
    throw new CheckpointError(
      `no model at '${name}': there is no such path, and a model on the hub is named org/name`,
    )
  }
  const revision = options.revision ?? 'main'
  const cached = findSnapshot(name, settings, revision)
  const lacking = cached === null ? [] : missingFiles(cached)
  if (cached !== null && lacking.length === 0) return cached
  if (cached !== null && settings.offline && options.include !== undefined) return cached // some files were asked for
  if (settings.offline) {
    const state = cached === null ? 'is not' : 'is not whole'
    throw new CheckpointError(
      `${name} (${revision}) ${state} in the cache at ${settings.cache}, and HF_HUB_OFFLINE forbids the network; run \`latent download ${name}\` without it`,
      lacking.map((file) => `${file} is missing`),
    )
  }
  const path = await download(name, settings, options)
  const missing = options.include === undefined ? missingFiles(path) : []
  if (missing.length === 0) return path
  throw new CheckpointError(
    `${name} (${revision}) is not a model that latent can run`,
    missing.map((file) => `it has no ${file}`),
  )
}

/** org/name as the hub allows it; `--` would be ambiguous in the cache. */
function isRepo(name: string): boolean {
  return /^\w[\w.-]*\/\w[\w.-]*$/.test(name) && !/--|\.\./.test(name)
}
