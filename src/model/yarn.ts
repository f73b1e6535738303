// YaRN: how fast each pair of a rope head turns, and what attention scores are divided by. Plain RoPE is the case without.
// Computed from the configuration alone; reads mscale from it, since the published models do not agree on one.
import type { Rotation } from '../backend/backend.ts'
import type { Config } from './config.ts'

/** The frequencies apply at every length, also below the original context: so does every implementation but one. */
export function rotation(config: Config): Rotation {
  const { qkRopeHeadDim: dim, ropeTheta, ropeScaling: scaling } = config
  const frequencies = Float64Array.from({ length: dim / 2 }, (_, i) => ropeTheta ** ((-2 * i) / dim))
  if (scaling === null) return { frequencies, factor: 1 }
  const { factor, mscale, mscaleAllDim } = scaling
  const { low, high } = correctionRange(config)
  for (let i = 0; i < frequencies.length; i++) {
    // fast pairs keep their speed, slow ones are stretched over the longer context, a ramp lies between
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1)
    frequencies[i] *= 1 - ramp + ramp / factor
  }
  return { frequencies, factor: magnitude(factor, mscale) / magnitude(factor, mscaleAllDim) }
}

/** What a score q.k is multiplied by: (nope + rope)^-1/2, also in the absorbed form, times the square of YaRN's magnitude. */
export function softmaxScale(config: Config): number {
  const scale = (config.qkNopeHeadDim + config.qkRopeHeadDim) ** -0.5
  const scaling = config.ropeScaling
  return scaling === null ? scale : scale * magnitude(scaling.factor, scaling.mscaleAllDim) ** 2
}

/** The pairs between which the ramp rises; [0, R) and open at no end. */
export function correctionRange(config: Config): { readonly low: number; readonly high: number } {
  const { qkRopeHeadDim: dim, ropeTheta, ropeScaling: scaling } = config
  if (scaling === null) return { low: dim, high: dim + 1 }
  /** The pair that turns `turns` times over the original context. */
  const pair = (turns: number) =>
    (dim * Math.log(scaling.originalMaxPositionEmbeddings / (2 * Math.PI * turns))) /
    (2 * Math.log(ropeTheta))
  const low = Math.max(Math.floor(pair(scaling.betaFast)), 0)
  const high = Math.min(Math.ceil(pair(scaling.betaSlow)), dim - 1)
  return { low, high: low === high ? high + 0.001 : high }
}

/** Entropy correction of a context stretched `factor` times. A weight of 0 means none. */
function magnitude(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1
}
