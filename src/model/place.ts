// Which device holds which layers: accelerate's `sequential`. Knows modules and devices by their bytes alone.
import type { Device } from './fields.ts'

/** What one device holds. A layer's latents live where the layer is. */
export interface Placement {
  readonly device: string
  /** What it may be filled with. */
  readonly capacity: number
  readonly modules: readonly string[]
  readonly layers: { readonly first: number; readonly last: number } | null
  readonly weightBytes: number
  readonly latentBytes: number
  readonly freeBytes: number
}

/** What is placed as one: the embedding, a layer, the last norm, the head. */
export interface Module {
  readonly name: string
  readonly layer: number | null
  readonly weightBytes: number
}

/** The question a placement answers. */
export interface Demand {
  readonly modules: readonly Module[]
  readonly devices: readonly Device[]
  /** Of one layer. */
  readonly latentBytes: number
}

/**
 * Fills one device after the other in the model's order and never returns to an earlier one. accelerate also holds back
 * one layer's room on its first device, for weights that visit it from elsewhere; here none do.
 */
export function place({ modules, devices, latentBytes }: Demand) {
  const placement: Placement[] = []
  let next = 0
  for (const device of devices) {
    const start = next
    let free = device.bytes
    while (next < modules.length && moduleBytes(modules[next], latentBytes) <= free) {
      free -= moduleBytes(modules[next++], latentBytes)
    }
    placement.push(occupy(device, modules.slice(start, next), latentBytes))
  }
  return { placement, homeless: modules.slice(next) }
}

function occupy(device: Device, modules: readonly Module[], latentBytes: number): Placement {
  const layers = modules.map((module) => module.layer).filter((layer) => layer !== null)
  const weightBytes = total(modules.map((module) => module.weightBytes))
  const latents = latentBytes * layers.length
  return {
    device: device.name,
    capacity: device.bytes,
    modules: modules.map((module) => module.name),
    layers: layers.length === 0 ? null : { first: layers[0], last: layers[layers.length - 1] },
    weightBytes,
    latentBytes: latents,
    freeBytes: device.bytes - weightBytes - latents,
  }
}

export function moduleBytes(module: Module, latentBytes: number): number {
  return module.weightBytes + (module.layer === null ? 0 : latentBytes)
}

export function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0)
}
