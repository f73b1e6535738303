// Where a model's small files are, for the faces: `from_pretrained` options -> a directory. Knows the spelling of
// transformers for what the hub's settings are; asks for weights only where they are wanted.
import { homedir } from 'node:os'
import { hubSettings, resolveModel } from '../checkpoint/hub.ts'
import { demoName, environment, type LoadOptions, locate } from './load.ts'

/** Options that say where files come from, as transformers spells them. */
export interface HubOptions {
  /** Branch, tag or commit. */
  readonly revision?: string | undefined
  /** Instead of the Hugging Face cache; the same layout inside. */
  readonly cache_dir?: string | null | undefined
  readonly token?: string | null | undefined
  /** Never ask the hub. */
  readonly local_files_only?: boolean | undefined
  /** Accepted: what a checkpoint's own code does, latent does itself. */
  readonly trust_remote_code?: boolean | undefined
}

export const hubNames = ['revision', 'cache_dir', 'token', 'local_files_only', 'trust_remote_code'] as const

/** The same as options of `load`. */
export function loadingOptions(options: HubOptions): Pick<LoadOptions, 'revision' | 'env'> {
  const { revision, cache_dir, token, local_files_only } = options
  const env = {
    ...environment(),
    ...(typeof cache_dir === 'string' && { HF_HUB_CACHE: cache_dir }),
    ...(typeof token === 'string' && { HF_TOKEN: token }),
    ...(local_files_only && { HF_HUB_OFFLINE: '1' }),
  }
  return { env, ...(revision !== undefined && { revision }) }
}

/** A directory with the files beside the weights; they alone are fetched where the cache lacks the model. */
export async function locateFiles(name: string, options: HubOptions): Promise<string> {
  const { revision, env = {} } = loadingOptions(options)
  if (name === demoName) return locate(name)
  const include = ['*.json', '*.jinja', '*.json.gz']
  return resolveModel(name, hubSettings(env, homedir()), { revision, include })
}
