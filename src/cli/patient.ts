// One model under examination: does it open, what are its formats, and do weights and latents fit this machine's memory?
// Nothing is loaded or downloaded.
import { existsSync } from 'node:fs'
import { freemem, homedir } from 'node:os'
import { resolve } from 'node:path'
import { missingFiles } from '../checkpoint/cache.ts'
import { findSnapshot, hubSettings } from '../checkpoint/hub.ts'
import { demoName, locate } from '../llm/load.ts'
import type { Config } from '../model/config.ts'
import { describeBytes, describeCount, group } from '../model/fields.ts'
import { plan } from '../model/plan.ts'
import { openTemplate } from '../tokenizer/template.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import { findConfiguration, type Headers } from './configuration.ts'
import { type Finding, note, ok, problem, type Section } from './finding.ts'
import type { Io } from './io.ts'
import { memoryLimit } from './machine.ts'
import { plural, table } from './style.ts'

interface Fit {
  readonly parameters: number
  readonly weight_bytes: number
  readonly latent_bytes_per_token: number
  readonly positions: number
  /** The longest sequence that fits beside the weights; 0 where they do not fit themselves. */
  readonly longest: number
  readonly fits: boolean
}

interface Examined {
  readonly model: string
  readonly path: string | null
  readonly opens: boolean
  readonly dtypes: Headers['dtypes'] | null
  readonly fit: Fit | null
}

export async function examineModel(io: Io, model: string, revision?: string): Promise<Section<Examined>> {
  const title = `Model ${model}`
  const none = { model, path: null, opens: false, dtypes: null, fit: null }
  const found = await find(io, model, revision)
  if (typeof found !== 'string') return { title, findings: [found], data: none }
  const findings: Finding[] = [ok('path', found)]
  const data = { ...none, path: found }
  try {
    const { config, headers } = await findConfiguration(io, found)
    if (headers === null) {
      findings.push(problem('weights', 'there are none here', 'the folder should hold *.safetensors files'))
      return { title, findings, data }
    }
    findings.push(ok('formats', describeFormats(headers)), ...examineText(found))
    const fit = fitOf(config, headers)
    findings.push(...describeFit(fit))
    const opens = findings.every(({ mark, label }) => mark !== 'problem' || label === 'memory')
    return { title, findings, data: { ...data, opens, dtypes: headers.dtypes, fit } }
  } catch (error) {
    return { title, findings: [...findings, problem('files', messageOf(error))], data }
  }
}

async function find(io: Io, model: string, revision?: string): Promise<string | Finding> {
  if (model === demoName) return locate(demoName)
  if (existsSync(model)) return resolve(model)
  if (!/^[\w.-]+\/[\w.-]+$/.test(model)) {
    return problem('path', 'there is no such path', 'a model on the hub is named org/name')
  }
  const snapshot = findSnapshot(model, hubSettings(io.env, homedir()), revision)
  const mend = `latent download ${model}${revision === undefined ? '' : ` --revision ${revision}`}`
  if (snapshot === null) return problem('path', 'it is not in the cache', mend)
  const missing = missingFiles(snapshot)
  return missing.length === 0 ? snapshot : problem('path', `${snapshot} lacks ${missing.join(', ')}`, mend)
}

function describeFormats({ files, dtypes }: Headers): string {
  const kinds = Object.entries(dtypes).toSorted(([, a], [, b]) => b.bytes - a.bytes)
  const rows = kinds.map(([dtype, { tensors, bytes }]) => [
    dtype,
    plural(tensors, 'tensor'),
    describeBytes(bytes),
  ])
  return [`every tensor is there, in ${plural(files, 'file')}:`, ...table(rows, [1, 2])].join('\n')
}

function examineText(path: string): Finding[] {
  try {
    const tokenizer = openTokenizer(path)
    const { origin } = openTemplate(path, tokenizer, {})
    const template = origin === 'checkpoint' ? 'a chat template of its own' : 'a chat template of latent'
    return [ok('text', `${group(tokenizer.size)} tokens, ${template}`)]
  } catch (error) {
    return [problem('text', messageOf(error))]
  }
}

function fitOf(config: Config, { bytes }: Headers): Fit {
  const devices = [{ name: 'memory', bytes: memoryLimit() }]
  // latents are f32 unless --kv-dtype says otherwise
  const planned = (context: number) => plan(config, { devices, tensorBytes: bytes, kvDtype: 'f32', context })
  const positions = config.maxPositionEmbeddings
  const whole = planned(positions)
  let longest = whole.fits ? positions : 0
  for (let step = 2 ** 20; !whole.fits && step >= 1; step /= 2) {
    if (longest + step < positions && planned(longest + step).fits) longest += step
  }
  return {
    parameters: whole.parameters.total,
    weight_bytes: whole.weightBytes,
    latent_bytes_per_token: whole.latentBytesPerToken,
    positions,
    longest,
    fits: longest > 0,
  }
}

function describeFit(fit: Fit): Finding[] {
  const { parameters, weight_bytes, latent_bytes_per_token, positions, longest } = fit
  const memory = memoryLimit()
  const weights = `${describeBytes(weight_bytes)} of weights`
  const size = ok('size', `${describeCount(parameters)} parameters, ${weights}`)
  const room = `${describeBytes(memory)} of memory`
  if (longest === 0) {
    const mend = 'latent quantize makes it smaller; latent inspect MODEL --weights q4_k_m shows how much'
    return [size, problem('memory', `${weights} and their room to work do not fit in ${room}`, mend)]
  }
  const latents = describeBytes(latent_bytes_per_token * longest)
  const said = `${weights} and ${latents} of latents (f32) for ${group(longest)} tokens fit in ${room}`
  const fits =
    longest < positions
      ? note(
          'memory',
          `${said}; the model was made for ${group(positions)}`,
          '--kv-dtype bf16 holds twice the tokens, q8 3.5 times',
        )
      : ok('memory', said)
  if (freemem() >= weight_bytes) return [size, fits]
  return [
    size,
    fits,
    note('free', `only ${describeBytes(freemem())} are free now`, 'end other programs first'),
  ]
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
