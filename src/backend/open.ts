// Backends by name. Knows which exist, not what they compute.
import { KernelError } from '../tensor/error.ts'
import type { Backend } from './backend.ts'
import { buildCpu } from './build.ts'
import { type NativeOptions, openNative } from './native.ts'
import { openReference } from './reference/reference.ts'

export interface BackendOptions extends NativeOptions {
  /** Told once when `auto` has to fall back, and why. */
  readonly warn?: (message: string) => void
}

const openers: Readonly<Record<string, (options: BackendOptions) => Promise<Backend>>> = {
  reference: async () => openReference(),
  cpu: openCpu,
  auto: openFastest,
}

export const backendNames: readonly string[] = ['auto', 'cpu', 'reference']

/** Opens a backend; `auto` takes the fastest that works here. */
export async function openBackend(name: string = 'auto', options: BackendOptions = {}): Promise<Backend> {
  const open = Object.hasOwn(openers, name) ? openers[name] : undefined
  if (!open) throw new KernelError(`there is no backend '${name}'; choose one of ${backendNames.join(', ')}`)
  return open(options)
}

async function openCpu(options: BackendOptions): Promise<Backend> {
  const built = await buildCpu()
  if (built.path === null) throw new KernelError(`the cpu backend is not here: ${built.reason}`)
  return openNative('cpu', built.path, options)
}

async function openFastest(options: BackendOptions): Promise<Backend> {
  try {
    return await openCpu(options)
  } catch (error) {
    options.warn?.(`${error instanceof Error ? error.message : error}; using the slow reference backend`)
    return openReference()
  }
}
