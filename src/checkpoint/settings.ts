// Where the hub's cache is, which hub, and who asks: read once from an environment that is handed in.
// Knows the variables of the Hugging Face tools and their order.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface HubSettings {
  /** The folder that holds models--org--name. */
  readonly cache: string
  readonly endpoint: string
  readonly token: string | null
  readonly offline: boolean
}

type Environment = Readonly<Record<string, string | undefined>>

export function hubSettings(env: Environment, home: string): HubSettings {
  const path = (name: string): string | null => {
    const value = env[name]?.trim()
    if (value === undefined || value === '') return null
    return value === '~' || value.startsWith('~/') ? join(home, value.slice(1)) : value
  }
  const root = path('HF_HOME') ?? join(path('XDG_CACHE_HOME') ?? join(home, '.cache'), 'huggingface')
  const endpoint = env.HF_ENDPOINT?.trim() || 'https://huggingface.co'
  return {
    cache: path('HF_HUB_CACHE') ?? path('HUGGINGFACE_HUB_CACHE') ?? join(root, 'hub'),
    endpoint: endpoint.replace(/\/+$/, ''),
    token:
      clean(env.HF_TOKEN) ??
      clean(env.HUGGING_FACE_HUB_TOKEN) ??
      stored(path('HF_TOKEN_PATH') ?? join(root, 'token')),
    offline: truthy(env.HF_HUB_OFFLINE) || truthy(env.TRANSFORMERS_OFFLINE),
  }
}

function clean(value: string | undefined): string | null {
  return value?.replaceAll(/[\r\n]/g, '').trim() || null
}

function stored(path: string): string | null {
  try {
    return clean(readFileSync(path, 'utf8'))
  } catch {
    return null
  }
}

function truthy(value: string | undefined): boolean {
  return ['1', 'true', 'yes', 'on'].includes(value?.trim().toLowerCase() ?? '')
}
