// Will it fit? Bytes of every part, and which device holds which layers, from a configuration or a checkpoint's headers
// alone: nothing is loaded. Knows no hardware but the bytes it is told.
import { type LatentFormat, latentBytes, latentFormats } from '../backend/latents.ts'
import { RequestError } from '../tensor/error.ts'
import { scaleBlock, size } from '../tensor/tensor.ts'
import { type CardNeeds, cardNeeds, describeCard } from './card.ts'
import type { Config } from './config.ts'
import { type Device, describeBytes, describeCount, group, type MaxMemory } from './fields.ts'
import {
  countParameters,
  layout,
  type ParameterCount,
  type Part,
  partLabels,
  partOf,
  parts,
  sumByPart,
} from './layout.ts'
import { type Demand, type Module, moduleBytes, type Placement, place, total } from './place.ts'

export type WeightFormat = 'f32' | 'bf16' | 'f16' | 'fp8' | 'q8_0' | 'q4_k_m' | 'q4_0'

export interface PlanOptions {
  /** Format of the weights; what config.json says when absent. */
  readonly weightDtype?: WeightFormat
  /** Bytes of each tensor as the headers of a real checkpoint state them. */
  readonly tensorBytes?: ReadonlyMap<string, number>
  readonly devices?: readonly Device[]
  /** Alone, it stands for devices of just these sizes. */
  readonly maxMemory?: MaxMemory
  /** Tokens of each sequence; all positions of the model when absent. */
  readonly context?: number
  readonly sequences?: number
  /** Format of the latents. */
  readonly kvDtype?: LatentFormat
  /** Bytes of every device that are kept free for activations; an estimate when absent. max_memory is not reduced by it. */
  readonly reserve?: number
}

export interface Plan {
  readonly parameters: ParameterCount
  readonly weightDtype: WeightFormat
  /** Weight bytes are those of the files, in whatever formats they hold. */
  readonly stored: boolean
  readonly kvDtype: LatentFormat
  readonly context: number
  readonly sequences: number
  readonly bytesByPart: Readonly<Record<Part, number>>
  readonly weightBytes: number
  readonly latentBytesPerToken: number
  readonly latentBytes: number
  /** Empty when no devices were given. */
  readonly placement: readonly Placement[]
  /** Modules that found no device. */
  readonly homeless: readonly string[]
  readonly fits: boolean
  /** Bytes of the modules that found no device. */
  readonly shortfall: number
  /** What would make it fit, one sentence each, with its numbers. */
  readonly advice: readonly string[]
  /** What the model card's own code needs, for comparison. */
  readonly card: CardNeeds
}

/** Bytes of a block of elements, and what the tensors take that a format leaves alone: norms and routers. */
interface Packing {
  readonly block: number
  readonly bytes: number
  readonly plain: number
  readonly keeps: readonly Part[]
}

export const weightFormats: Readonly<Record<WeightFormat, Packing>> = {
  f32: { block: 1, bytes: 4, plain: 4, keeps: [] },
  bf16: { block: 1, bytes: 2, plain: 2, keeps: [] },
  f16: { block: 1, bytes: 2, plain: 2, keeps: [] },
  // one f32 scale for 128 x 128 (added below); embedding and head are left in bf16
  fp8: { block: 1, bytes: 1, plain: 2, keeps: ['norm', 'router', 'embedding', 'head'] },
  q8_0: { block: 32, bytes: 34, plain: 4, keeps: ['norm', 'router'] },
  // a mixture of formats: 4.85 bits a weight is what published files of the large model come to
  q4_k_m: { block: 1, bytes: 4.85 / 8, plain: 4, keeps: ['norm', 'router'] },
  q4_0: { block: 32, bytes: 18, plain: 4, keeps: ['norm', 'router'] },
}

type Settled = PlanOptions & Required<Pick<PlanOptions, 'weightDtype' | 'kvDtype' | 'context' | 'sequences'>>

/** Throws a RequestError on options that cannot be meant; a model that does not fit is an answer, not an error. */
export function plan(config: Config, options: PlanOptions = {}): Plan {
  const settled = settle(config, options)
  const { weightDtype, kvDtype, context, sequences } = settled
  const { tensorBytes: _, ...unread } = settled
  const bytesByPart = sumByPart(layout(config), weigher(settled))
  const demand = demandOf(config, settled)
  const { placement, homeless } = place(demand)
  const asked = demand.devices.length > 0 || settled.maxMemory !== undefined
  const fits = !asked || homeless.length === 0
  return {
    parameters: countParameters(config),
    weightDtype,
    stored: options.tensorBytes !== undefined,
    kvDtype,
    context,
    sequences,
    bytesByPart,
    weightBytes: total(parts.map((part) => bytesByPart[part])),
    latentBytesPerToken: rowBytes(config, kvDtype) * config.numHiddenLayers,
    latentBytes: demand.latentBytes * config.numHiddenLayers,
    placement,
    homeless: fits ? [] : homeless.map((module) => module.name),
    fits,
    shortfall: fits ? 0 : total(homeless.map((module) => moduleBytes(module, demand.latentBytes))),
    advice: fits ? [] : advise(config, settled, demand),
    card: cardNeeds(config, {
      modules: demandOf(config, { ...unread, weightDtype: 'bf16' }).modules,
      latentBytes: demand.latentBytes,
      reserve: settled.reserve ?? activationBytes(config),
    }),
  }
}

function settle(config: Config, options: PlanOptions): Settled {
  const { context = config.maxPositionEmbeddings, sequences = 1, kvDtype = 'bf16', reserve = 0 } = options
  const { weightDtype = ownFormat(config) } = options
  const most = config.maxPositionEmbeddings
  if (!(Number.isInteger(context) && context >= 1 && context <= most)) {
    throw refusal('context', context, `1 to ${most}, the positions of this model`)
  }
  if (!(Number.isInteger(sequences) && sequences >= 1)) {
    throw refusal('sequences', sequences, 'a whole number above 0')
  }
  if (!(reserve >= 0)) throw refusal('reserve', reserve, 'bytes, 0 or more')
  for (const [field, given, known] of [
    ['weightDtype', weightDtype, Object.keys(weightFormats)],
    ['kvDtype', kvDtype, latentFormats],
  ] as const) {
    if (!known.some((name) => name === given)) throw refusal(field, given, `one of ${known.join(', ')}`)
  }
  return { ...options, weightDtype, kvDtype, context, sequences }
}

function refusal(field: string, given: string | number, wanted: string): RequestError {
  return new RequestError(`${field} is ${given}; wanted ${wanted}`, field)
}

function ownFormat({ fp8Block, torchDtype }: Config): WeightFormat {
  if (fp8Block !== null) return 'fp8'
  return torchDtype === 'f32' || torchDtype === 'f16' ? torchDtype : 'bf16'
}

function demandOf(config: Config, settled: Settled): Demand {
  const modules = new Map<string, Module>()
  const weigh = weigher(settled)
  for (const [tensor, shape] of layout(config)) {
    const layer = /^model\.layers\.(\d+)/.exec(tensor)
    const name = layer?.[0] ?? tensor.slice(0, -'.weight'.length)
    const bytes = (modules.get(name)?.weightBytes ?? 0) + weigh(tensor, shape)
    modules.set(name, { name, layer: layer === null ? null : Number(layer[1]), weightBytes: bytes })
  }
  return {
    modules: [...modules.values()],
    devices: usable(config, settled),
    latentBytes: rowBytes(config, settled.kvDtype) * settled.context * settled.sequences,
  }
}

function weigher({ tensorBytes, weightDtype }: Settled): (name: string, shape: readonly number[]) => number {
  return (name, shape) => tensorBytes?.get(name) ?? packedBytes(name, shape, weightDtype)
}

function packedBytes(name: string, shape: readonly number[], dtype: WeightFormat): number {
  const { block, bytes, plain, keeps } = weightFormats[dtype]
  const [rows, columns] = shape
  if (shape.length === 1 || keeps.includes(partOf(name))) return size(shape) * plain
  const scales = dtype === 'fp8' ? 4 * Math.ceil(rows / scaleBlock) * Math.ceil(columns / scaleBlock) : 0
  return Math.ceil(rows * Math.ceil(columns / block) * bytes) + scales
}

/** Latent and rope key of one token in one layer. */
function rowBytes(config: Config, format: LatentFormat): number {
  return latentBytes(format, config.kvLoraRank, config.qkRopeHeadDim)
}

/** The devices with what may really be put on them: under max_memory if given, with the reserve left free. */
function usable(
  config: Config,
  { devices, maxMemory, reserve = activationBytes(config) }: PlanOptions,
): Device[] {
  const limits = maxMemory?.devices
  const host = maxMemory?.cpu ? [{ name: 'cpu', bytes: maxMemory.cpu }] : []
  if (devices === undefined) {
    const numbered = [...(limits ?? [])].sort(([a], [b]) => a - b)
    return [...numbered.map(([i, bytes]) => ({ name: `device ${i}`, bytes })), ...host]
  }
  const stranger = [...(limits?.keys() ?? [])].find((i) => i >= devices.length)
  if (stranger !== undefined) {
    const message = `max_memory names device ${stranger}; there are ${devices.length}, counted from 0`
    throw new RequestError(message, 'max_memory')
  }
  const limited = devices.map(({ name, bytes }, i) => {
    return { name, bytes: Math.min(limits?.get(i) ?? Infinity, Math.max(0, bytes - reserve)) }
  })
  return [...limited.filter((_, i) => limits?.has(i) ?? true), ...host]
}

/** An estimate of what 2,048 rows of one step take at their widest: queries, latents, experts and the residual in f32. */
function activationBytes(config: Config): number {
  const { qkNopeHeadDim, qkRopeHeadDim, kvLoraRank, vHeadDim, hiddenSize } = config
  const head = qkNopeHeadDim + qkRopeHeadDim + 2 * kvLoraRank + vHeadDim
  const experts = config.numExpertsPerTok + (config.nSharedExperts ?? 0)
  const wide = Math.max(3 * config.intermediateSize, 3 * experts * config.moeIntermediateSize)
  return 2048 * 4 * (config.numAttentionHeads * head + wide + 4 * hiddenSize)
}

const holds = (demand: Demand) => place(demand).homeless.length === 0

/** One change at a time, each tried by placing the model again. */
function advise(config: Config, settled: Settled, demand: Demand): readonly string[] {
  const { maxMemory, ...freely } = settled
  const { context, sequences } = settled
  const advice = adviseDevices(demand)
  if (maxMemory && settled.devices && holds({ ...demand, devices: usable(config, freely) })) {
    advice.push('no max_memory: the same devices hold it when filled up to the room for activations')
  }
  const { latentBytes } = demand
  const few = largest(sequences, (n) => holds({ ...demand, latentBytes: (latentBytes / sequences) * n }))
  if (few > 0) advice.push(`${group(few)} instead of ${group(sequences)} sequences of that length`)
  const short = largest(context, (n) => holds({ ...demand, latentBytes: (latentBytes / context) * n }))
  if (short > 0) advice.push(`a context of ${group(short)} instead of ${group(context)} tokens`)
  return [...advice, ...adviseFormats(config, settled)]
}

function adviseDevices(demand: Demand): string[] {
  const model = demand.devices.findLast((device) => device.name !== 'cpu') ?? demand.devices[0]
  const more = model === undefined ? 0 : fewestMore(demand, model)
  if (more === 0) {
    const need = Math.max(...demand.modules.map((module) => moduleBytes(module, demand.latentBytes)))
    return [`larger devices: one layer with its latents alone takes ${describeBytes(need)}`]
  }
  const count = demand.devices.length + more
  const what = `${more} more ${more === 1 ? 'device' : 'devices'} with room for ${describeBytes(model.bytes)}`
  return [`${what}: ${count} hold it`]
}

/** How many more such devices it takes; 0 when one of them cannot even hold a layer. */
function fewestMore(demand: Demand, model: Device): number {
  for (let more = 1; more <= demand.modules.length; more++) {
    const devices = [...demand.devices, ...Array.from({ length: more }, () => model)]
    if (holds({ ...demand, devices })) return more
  }
  return 0
}

function adviseFormats(config: Config, settled: Settled): readonly string[] {
  const { tensorBytes: _, ...given } = settled
  const advice: string[] = []
  const now = rowBytes(config, settled.kvDtype)
  for (const kvDtype of ['bf16', 'q8'] as const) {
    const then = rowBytes(config, kvDtype)
    if (then >= now || !holds(demandOf(config, { ...settled, kvDtype }))) continue
    const [less, more] = [then, now].map((bytes) => group(bytes * config.numHiddenLayers))
    advice.push(`latents in ${kvDtype}: ${less} instead of ${more} bytes a token`)
    break
  }
  const bytes = (demand: Demand) => total(demand.modules.map((module) => module.weightBytes))
  const before = bytes(demandOf(config, settled))
  for (const weightDtype of ['bf16', 'fp8', 'q8_0', 'q4_k_m', 'q4_0'] as const) {
    const demand = demandOf(config, { ...given, weightDtype })
    if (bytes(demand) >= before) continue
    const change = `weights in ${weightDtype}, ${describeBytes(bytes(demand))}`
    if (holds(demand)) return [...advice, `${change} instead of ${describeBytes(before)}`]
    if (weightDtype === 'q4_0') advice.push(...adviseDevices(demand).map((more) => `${change}; and ${more}`))
  }
  return advice
}

/** The largest n below `end` that holds, by halving: what holds for one length holds for every shorter one. */
function largest(end: number, fits: (n: number) => boolean): number {
  let low = 0
  let high = end
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle
  }
  return low
}

/** The plan as plain text, at most 100 columns wide. */
export function describePlan(plan: Plan): string {
  const { parameters, bytesByPart, sequences } = plan
  const row = (label: string, count: number, bytes: number) =>
    `${label.padEnd(16)}${describeCount(count).padStart(12)}${describeBytes(bytes).padStart(14)}`
  const tokens = `${group(plan.context)} tokens${sequences === 1 ? '' : ` x ${group(sequences)} sequences`}`
  const perToken = group(plan.latentBytesPerToken)
  const lines = [
    `${describeCount(parameters.total)} parameters, ${describeCount(parameters.active)} of them active for each token`,
    '',
    `${'parameters'.padStart(28)}${`in ${plan.stored ? 'the files' : plan.weightDtype}`.padStart(14)}`,
    ...parts
      .filter((part) => parameters.byPart[part] > 0)
      .map((part) => row(partLabels[part], parameters.byPart[part], bytesByPart[part])),
    row('all weights', parameters.total, plan.weightBytes),
    '',
    `latents: ${describeBytes(plan.latentBytes)} for ${tokens}, ${perToken} bytes a token in ${plan.kvDtype}`,
  ]
  if (plan.card.devices > 1) lines.push('', ...describeCard(plan.card, plan.latentBytesPerToken, tokens))
  if (plan.placement.length > 0) lines.push('', ...describePlacement(plan))
  if (plan.fits) return lines.join('\n')
  const shortfall = `Does not fit: ${describeBytes(plan.shortfall)} have no place. Each of these would help:`
  return [...lines, '', shortfall, ...plan.advice.map((line) => `  - ${line}`)].join('\n')
}

function describePlacement({ placement, homeless, fits }: Plan): readonly string[] {
  const row = (device: string, numbers: readonly string[], modules: string) =>
    `${device.slice(0, 11).padEnd(12)}${numbers.map((cell) => cell.padStart(11)).join('')}  ${modules}`
  const rows = placement.map(({ device, capacity, weightBytes, latentBytes, freeBytes, modules }) => {
    const bytes = [capacity, weightBytes, latentBytes, freeBytes]
    return row(device, bytes.map(describeBytes), summary(modules))
  })
  const rest = fits ? [] : [row('no place', ['', '', '', ''], summary(homeless))]
  return [row('', ['room', 'weights', 'latents', 'free'], 'holds'), ...rows, ...rest]
}

/** 'embed_tokens, layers 0-8' of module names. */
function summary(modules: readonly string[]): string {
  const layers = modules.filter((name) => name.startsWith('model.layers.')).map((name) => name.split('.')[2])
  const span = layers.length > 1 ? `layers ${layers[0]}-${layers[layers.length - 1]}` : `layer ${layers[0]}`
  const names = modules.map((name) => (name.startsWith('model.layers.') ? span : name.replace('model.', '')))
  return [...new Set(names)].join(', ') || 'nothing'
}
