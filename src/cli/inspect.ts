// `latent inspect`: what a model is made of and what it needs, from its config.json or its headers; nothing is loaded.
// Knows how to ask and show; configuration.ts finds the model, model/plan.ts counts.
import type { Command } from 'commander'
import { type Config, isMoeLayer } from '../model/config.ts'
import {
  describeBytes,
  group,
  parseBytes,
  parseCount,
  parseDevices,
  parseMaxMemory,
} from '../model/fields.ts'
import { describePlan, type Plan, type PlanOptions, plan } from '../model/plan.ts'
import type { Headers } from './configuration.ts'
import { exitCodes } from './failure.ts'
import type { Io } from './io.ts'
import { defined, jsonOf, oneOf, wholeOf } from './parse.ts'
import { plural, table } from './style.ts'

interface InspectFlags {
  readonly revision?: string
  readonly devices?: PlanOptions['devices']
  readonly maxMemory?: PlanOptions['maxMemory']
  readonly reserve?: number
  readonly context?: number
  readonly sequences?: number
  readonly kvDtype?: PlanOptions['kvDtype']
  readonly weights?: PlanOptions['weightDtype']
  readonly json?: boolean
}

const weightFormats = ['f32', 'bf16', 'f16', 'fp8', 'q8_0', 'q4_k_m', 'q4_0'] as const
const cacheFormats = ['f32', 'bf16', 'q8'] as const

const examples = `
MODEL may also be a config.json, or the name of a published model: only its config.json is fetched, and where the hub
cannot be reached latent's own copy of the two published shapes is used.

Examples:
  $ latent inspect DeepSeek-V2-Chat-0628 --devices 8x80GiB --context 32k
  $ latent inspect deepseek-ai/DeepSeek-V2-Lite-Chat --weights q4_k_m --devices 24GiB
  $ latent inspect ./my-model --max-memory '0=75GB,1=75GB,cpu=200GB' --sequences 8
  $ latent inspect demo --json

With --json the answer is one object: the model, its configuration, and the plan (src/model/plan.ts) as it is.

Where the model does not fit the devices that were named, the plan is printed all the same and the exit code is 4.`

export function addInspect(program: Command, io: Io): void {
  program
    .command('inspect')
    .summary('what a model holds, and whether it fits')
    .description(
      'Parameters, bytes and latents of a model, and which device would hold what. Nothing is loaded.',
    )
    .argument('[model]', 'folder, config.json, hub name or `demo`', 'demo')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option('--devices <list>', 'devices to place it on, such as 8x80GiB', (text) =>
      parseDevices(text, '--devices'),
    )
    .option('--max-memory <list>', "most bytes of each device, such as '0=75GB,cpu=200GB'", readMaxMemory)
    .option(
      '--reserve <size>',
      'bytes of each device to keep for activations (default: an estimate)',
      (text) => parseBytes(text, '--reserve'),
    )
    .option('--context <tokens>', 'length of each sequence, such as 32k (default: all positions)', (text) =>
      parseCount(text, '--context'),
    )
    .option('--sequences <n>', 'sequences at a time (default: 1)', wholeOf('--sequences', 1))
    .option(
      '--kv-dtype <type>',
      `latents: ${cacheFormats.join(', ')} (default: bf16)`,
      oneOf('--kv-dtype', cacheFormats),
    )
    .option(
      '--weights <type>',
      `weights: ${weightFormats.join(', ')} (default: as published)`,
      oneOf('--weights', weightFormats),
    )
    .option('--json', 'one JSON object instead of text')
    .addHelpText('after', examples)
    .action((model: string, flags: InspectFlags) => inspect(io, model, flags))
}

/** '0=75GB,1=75GB,cpu=200GB', or JSON as accelerate takes it. */
function readMaxMemory(text: string): PlanOptions['maxMemory'] {
  if (text.trim().startsWith('{')) return parseMaxMemory(jsonOf('--max-memory')(text), '--max-memory')
  const pairs = text.split(',').map((pair) => {
    const [name, size] = pair.split('=')
    return [name.trim(), size ?? '']
  })
  return parseMaxMemory(Object.fromEntries(pairs), '--max-memory')
}

async function inspect(io: Io, model: string, flags: InspectFlags): Promise<void> {
  const { findConfiguration } = await import('./configuration.ts')
  const found = await findConfiguration(io, model, flags.revision)
  const { config, headers } = found
  const planned = plan(config, {
    ...defined({
      devices: flags.devices,
      maxMemory: flags.maxMemory,
      reserve: flags.reserve,
      context: flags.context,
      sequences: flags.sequences,
      kvDtype: flags.kvDtype,
      weightDtype: flags.weights,
    }),
    ...(headers && flags.weights === undefined && { tensorBytes: headers.bytes }),
  })
  if (!planned.fits) io.leave(exitCodes.capacity)
  if (flags.json) {
    const dtypes = headers && { files: headers.files, dtypes: headers.dtypes }
    await io.write(
      `${JSON.stringify({ model, source: found.source, config, headers: dtypes, ...planned })}\n`,
    )
    return
  }
  const exact = group(planned.parameters.total)
  const described = describePlan(planned).replace(/^\S+ [BM](?= parameters)/, exact)
  const lines = [
    io.out.bold(model),
    ...describeShape(config).map((line) => io.out.dim(line)),
    '',
    colour(io, described, planned),
    ...(headers ? ['', ...describeHeaders(headers)] : []),
  ]
  await io.write(`${lines.join('\n')}\n`)
}

function describeShape(config: Config): string[] {
  const { numHiddenLayers, nRoutedExperts, nSharedExperts, numExpertsPerTok } = config
  const moe = Array.from({ length: numHiddenLayers }, (_, i) => isMoeLayer(config, i)).filter(Boolean).length
  const shared = nSharedExperts === null ? '' : ` and ${nSharedExperts} shared`
  const experts =
    moe === 0
      ? ''
      : `, ${moe} of them with ${nRoutedExperts} routed${shared} experts (${numExpertsPerTok} a token)`
  const { numAttentionHeads: heads, kvLoraRank, qkRopeHeadDim, hiddenSize, maxPositionEmbeddings } = config
  return [
    `${plural(numHiddenLayers, 'layer')}${experts}`,
    [
      `width ${group(hiddenSize)}`,
      `${heads} heads over a latent of ${kvLoraRank} + ${qkRopeHeadDim}`,
      `${group(maxPositionEmbeddings)} positions`,
    ].join(', '),
  ]
}

function describeHeaders({ files, dtypes }: Headers): string[] {
  const rows = Object.entries(dtypes).map(([dtype, { tensors, bytes }]) => {
    return [dtype, plural(tensors, 'tensor'), describeBytes(bytes)]
  })
  const said = `in ${plural(files, 'file')}, every tensor of the layout present:`
  return [said, ...table(rows, [1, 2]).map((row) => `  ${row}`)]
}

/** The plan's headings dim, its verdict in colour. */
function colour(io: Io, text: string, { placement, fits }: Plan): string {
  const { dim, red, green } = io.out
  const lines = text.split('\n').map((line) => {
    if (/^ +(parameters|room) /.test(line)) return dim(line)
    return line.startsWith('Does not fit') || line.startsWith('no place') ? red(line) : line
  })
  if (placement.length === 0 || !fits) return lines.join('\n')
  const used = placement.filter(({ modules }) => modules.length > 0).length
  const are = used === 1 ? 'is' : 'are'
  const spare = used < placement.length ? `; ${used} of the ${placement.length} devices ${are} enough` : ''
  return [...lines, '', green(`It fits${spare}.`)].join('\n')
}
