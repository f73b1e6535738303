// What the model card's own two programs need, beside what latent needs: their code keeps the keys and values of every
// head, and a table of scores for the whole prompt. Computed from the configuration; docs/decisions/0007 says which of
// it makes the card's answer. Knows no checkpoint and no other engine's later versions.
import type { Config } from './config.ts'
import { describeBytes, group } from './fields.ts'
import { type Demand, place, total } from './place.ts'

/** The card's words: devices of 80 GB, `max_memory` of 75GB each for transformers, `max_model_len` of 8192 for vLLM. */
const deviceBytes = 80e9
const maxMemory = 75e9
const maxModelLen = 8192

const bf16 = 2
/** Bytes of one score of eager attention at its peak: in bf16, its softmax in f32, and that in bf16 again. */
const scoreBytes = 2 + 4 + 2

export interface CardNeeds {
  readonly deviceBytes: number
  /** What transformers may put on one device; the rest is for its cache and its activations. */
  readonly maxMemory: number
  /** In bf16. */
  readonly weightBytes: number
  /** Keys and values of every head in bf16, as the card's code caches them. */
  readonly expandedBytesPerToken: number
  readonly heads: number
  readonly layered: {
    /** Devices that device_map "sequential" fills under max_memory; null where a layer alone is too large. */
    readonly devices: number | null
    /** Tokens of the longest prompt whose cache and eager scores fit beside those weights. */
    readonly longestPrompt: number
  }
  readonly split: {
    /** The fewest devices that heads can be shared between evenly and that hold it; null where there is none. */
    readonly devices: number | null
    /** Each device's share of the weights, and of the cache of `context` tokens. */
    readonly bytes: number
    readonly context: number
  }
  /** The fewest on which both of the card's programs run. */
  readonly devices: number
  /** As many such devices latent fills, with the latents of the whole plan and room for its activations. */
  readonly latentDevices: number | null
}

/** What latent itself would put on devices, in the card's bf16. */
interface Own extends Pick<Demand, 'modules' | 'latentBytes'> {
  readonly reserve: number
}

export function cardNeeds(config: Config, { modules, latentBytes, reserve }: Own): CardNeeds {
  const { numAttentionHeads: heads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = config
  const expandedLayer = heads * (qkNopeHeadDim + qkRopeHeadDim + vHeadDim) * bf16
  const expandedBytesPerToken = expandedLayer * config.numHiddenLayers
  const weightBytes = total(modules.map((module) => module.weightBytes))
  const layered = layerByLayer(modules, expandedLayer, heads)
  const context = Math.min(maxModelLen, config.maxPositionEmbeddings)
  const split = evenShare(weightBytes + expandedBytesPerToken * context, heads)
  return {
    deviceBytes,
    maxMemory,
    weightBytes,
    expandedBytesPerToken,
    heads,
    layered,
    split: { ...split, context },
    devices: Math.max(layered.devices ?? 0, split.devices ?? 0),
    latentDevices: filled({ modules, latentBytes }, deviceBytes - reserve)?.length ?? null,
  }
}

/** The rows of devices of this room that are not empty; null where something finds no place. */
function filled(demand: Pick<Demand, 'modules' | 'latentBytes'>, room: number) {
  const devices = demand.modules.map((_, i) => ({ name: `device ${i}`, bytes: room }))
  const { placement, homeless } = place({ ...demand, devices })
  return homeless.length > 0 ? null : placement.filter((row) => row.modules.length > 0)
}

function layerByLayer(
  modules: Demand['modules'],
  expandedLayer: number,
  heads: number,
): CardNeeds['layered'] {
  const rows = filled({ modules, latentBytes: 0 }, maxMemory)
  if (rows === null) return { devices: null, longestPrompt: 0 }
  // t tokens take scoreBytes * heads * t^2 while a layer computes, and a t-th of its cache in each layer of the device
  const longest = rows.map(({ weightBytes, layers }) => {
    const perToken = layers === null ? 0 : expandedLayer * (layers.last - layers.first + 1)
    const square = scoreBytes * heads
    const free = deviceBytes - weightBytes
    return Math.floor((Math.sqrt(perToken ** 2 + 4 * square * free) - perToken) / (2 * square))
  })
  return { devices: rows.length, longestPrompt: Math.min(...longest) }
}

/** Tensor parallel: every device holds the same share of every layer, and whole heads. */
function evenShare(bytes: number, heads: number): { devices: number | null; bytes: number } {
  for (let devices = 1; devices <= heads; devices++) {
    if (heads % devices === 0 && bytes / devices <= maxMemory) return { devices, bytes: bytes / devices }
  }
  return { devices: null, bytes: bytes / heads }
}

/** The comparison in words, at most 100 columns wide. */
export function describeCard(
  card: CardNeeds,
  latentBytesPerToken: number,
  tokens: string,
): readonly string[] {
  const { expandedBytesPerToken, heads, layered, split, devices, latentDevices } = card
  const times = (expandedBytesPerToken / latentBytesPerToken).toFixed(1)
  const size = describeBytes(card.deviceBytes).replace('.00', '')
  const most = describeBytes(card.maxMemory).replace('.00', '')
  const lines = [
    `The model card's own code, in bf16, on devices of ${size} filled up to ${most} (its max_memory):`,
    `  - keys and values of all heads: ${group(expandedBytesPerToken)} bytes a token, ${times} times the latents`,
  ]
  if (layered.devices !== null) {
    lines.push(
      `  - layer after layer (sequential): the weights fill ${layered.devices}; beside them, eager attention's`,
      `    ${heads} x tokens x tokens scores and that cache leave room for a prompt of ${group(layered.longestPrompt)} tokens`,
    )
  }
  if (split.devices !== null) {
    const all = describeBytes(split.bytes * split.devices)
    lines.push(
      `  - split by heads (tensor parallel): ${all} with ${group(split.context)} tokens; ${split.devices} is the fewest that`,
      `    ${heads} heads divide into and that hold it, ${describeBytes(split.bytes)} each`,
    )
  }
  lines.push(`  Both of its programs run on ${devices} x ${size}, and on no fewer.`)
  if (latentDevices !== null) {
    lines.push(
      `  latent needs ${latentDevices} of them for ${tokens}: it keeps ${group(latentBytesPerToken)} bytes a token, and`,
      '  neither that cache nor those scores; any number of devices will do.',
    )
  }
  return lines
}
