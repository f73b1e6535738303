// The hub as it is set up here, and the models that its cache holds. Knows folders; asks no network and tells no token.
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileSize, missingFiles, readRef, repoFolder } from '../checkpoint/cache.ts'
import { readConfigFile } from '../checkpoint/checkpoint.ts'
import { type HubSettings, hubSettings } from '../checkpoint/hub.ts'
import { describeBytes } from '../model/fields.ts'
import { freeBytes } from './disk.ts'
import { type Finding, note, ok, type Section } from './finding.ts'
import type { Io } from './io.ts'
import { plural } from './style.ts'

export interface CachedModel {
  readonly name: string
  readonly bytes: number
  /** model_type of its config.json; null where it has none. */
  readonly family: string | null
  readonly complete: boolean
  readonly missing: readonly string[]
  /** GGUF files are opened one by one. */
  readonly gguf: readonly string[]
}

/** DeepSeek-V2-Lite as it is published. */
const usual = 31.4e9

export function examineHub(io: Io) {
  const settings = hubSettings(io.env, homedir())
  const { cache, offline } = settings
  const free = freeBytes(cache)
  const endpoint = withoutLogin(settings.endpoint)
  const findings: Finding[] = [ok('cache', `${cache}${existsSync(cache) ? '' : ' (not there yet)'}`)]
  if (free !== null) {
    const said = `${describeBytes(free)} free`
    findings.push(
      free < usual
        ? note(
            'disk',
            `${said}; DeepSeek-V2-Lite takes ${describeBytes(usual)} as published`,
            'HF_HOME moves the cache',
          )
        : ok('disk', said),
    )
  }
  findings.push(
    URL.canParse(settings.endpoint)
      ? ok('endpoint', endpoint)
      : note(
          'endpoint',
          `HF_ENDPOINT is '${endpoint}', which is no address`,
          'such as https://huggingface.co',
        ),
    ok('token', tokenOrigin(io, settings)),
    offline
      ? note(
          'offline',
          'yes: nothing is downloaded',
          'unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to download',
        )
      : ok('offline', 'no'),
  )
  const data = { cache, free, endpoint, token: settings.token !== null, offline }
  return { title: 'Hugging Face', findings, data } satisfies Section<unknown>
}

function tokenOrigin({ env }: Io, { token }: HubSettings): string {
  if (token === null) return 'none; only models behind a login want one'
  const variable = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'].find((name) => env[name]?.trim())
  return `set, by ${variable ?? 'the file that a login left'}`
}

function withoutLogin(endpoint: string): string {
  return endpoint.replace(/^(\w+:\/\/)[^/@]*@/, '$1')
}

export function examineCache(io: Io) {
  const data = cachedModels(hubSettings(io.env, homedir()))
  const findings = data.map((model) => {
    const { name, bytes, family, complete, missing, gguf } = model
    const size = describeBytes(bytes)
    if (gguf.length > 0) return ok(name, `${size}, ${plural(gguf.length, 'GGUF file')}: ${gguf.join(', ')}`)
    if (family !== null && family !== 'deepseek_v2') return ok(name, `${size}, ${family}: not of this family`)
    if (complete) return ok(name, `${size}, complete`)
    const lacks = missing.length > 3 ? `${missing.slice(0, 3).join(', ')}, ...` : missing.join(', ')
    return note(name, `${size}, not whole: lacks ${lacks}`, `latent download ${name}`)
  })
  const none = ok('none', 'the cache holds no models; latent download fetches them')
  return {
    title: 'Models in the cache',
    findings: findings.length > 0 ? findings : [none],
    data,
  } satisfies Section<unknown>
}

function cachedModels({ cache }: HubSettings): readonly CachedModel[] {
  return list(cache)
    .map((folder) => /^models--([^-].*?)--(.+)$/.exec(folder))
    .filter((match) => match !== null)
    .map(([, org, name]) => look(cache, `${org}/${name}`))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

function look(cache: string, name: string): CachedModel {
  const folder = repoFolder(cache, name)
  const sum = (path: string): number =>
    list(path).reduce((bytes, file) => bytes + (fileSize(join(path, file)) ?? 0), 0)
  const snapshots = list(join(folder.path, 'snapshots'))
  const sha = readRef(folder, 'main') ?? snapshots[0]
  const snapshot = sha === undefined ? null : folder.snapshot(sha)
  const bytes = sum(join(folder.path, 'blobs')) || (snapshot === null ? 0 : sum(snapshot))
  const missing = snapshot === null ? ['every file'] : missingFiles(snapshot)
  const gguf = snapshot === null ? [] : list(snapshot).filter((file) => file.endsWith('.gguf'))
  return { name, bytes, family: familyOf(snapshot), complete: missing.length === 0, missing, gguf }
}

function familyOf(snapshot: string | null): string | null {
  try {
    const family = snapshot === null ? null : readConfigFile(snapshot, 'config.json')?.model_type
    return typeof family === 'string' ? family : null
  } catch {
    return null // a damaged file is told when the model is opened
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
