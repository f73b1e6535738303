// Block scales of fp8 matrices: `X.weight` goes with `X.weight_scale_inv` (a multiplier, despite its name).
// Knows how they pair; applying them is tensor/ and the backends.
import type { DType } from '../tensor/dtype.ts'
import { scaleBlock } from '../tensor/tensor.ts'

export function scaleName(name: string): string {
  return `${name}_scale_inv`
}

interface Described {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly file: string
}

/**
 * Gives each fp8 matrix its scales and takes the scales out of the list. `declared` names that could not be read are
 * reported elsewhere, so they do not count as missing here.
 */
export function pairScales<T extends Described>(
  tensors: ReadonlyMap<string, T>,
  declared: (name: string) => boolean,
  problems: string[],
): Map<string, T & { readonly scales?: T }> {
  const paired = new Map<string, T & { readonly scales?: T }>()
  for (const [name, info] of tensors) {
    if (name.endsWith('_scale_inv')) {
      const owner = name.slice(0, -'_scale_inv'.length)
      const kind = tensors.get(owner)?.dtype
      if (kind === 'f8_e4m3' || (kind === undefined && declared(owner))) continue
      problems.push(`${info.file}: '${name}' scales '${owner}', which is ${kind ?? 'missing'}, not f8_e4m3`)
    } else if (info.dtype === 'f8_e4m3') {
      const scales = tensors.get(scaleName(name))
      if (scales === undefined && !declared(scaleName(name))) problems.push(missing(info, tensors))
      if (scales !== undefined) problems.push(...misshapen(info, scales))
      paired.set(name, scales === undefined ? info : { ...info, scales })
    } else {
      paired.set(name, info)
    }
  }
  return paired
}

function missing(info: Described, tensors: ReadonlyMap<string, Described>): string {
  const perTensor = tensors.has(`${info.name}_scale`)
  const hint = perTensor ? ' (one scale for a whole tensor is not supported; dequantize to bf16 first)' : ''
  return `${info.file}: '${info.name}' is F8_E4M3 but its scales '${scaleName(info.name)}' are missing${hint}`
}

function misshapen(info: Described, scales: Described): string[] {
  if (info.shape.length !== 2) {
    return [`${info.file}: '${info.name}' is F8_E4M3 [${info.shape.join(' ')}], wanted a matrix`]
  }
  const wanted = info.shape.map((d) => Math.ceil(d / scaleBlock)).join(' ')
  if (scales.dtype === 'f32' && scales.shape.join(' ') === wanted) return []
  const given = `${scales.dtype} [${scales.shape.join(' ')}]`
  return [
    `${scales.file}: '${scales.name}' is ${given}, wanted f32 [${wanted}] for [${info.shape.join(' ')}]`,
  ]
}
