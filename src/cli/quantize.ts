// `latent quantize`: a model as one GGUF file of a smaller format. Knows flags, files that may be replaced, and bars;
// model/convert.ts writes.
import { accessSync, constants, statSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import type { ConvertProgress, ConvertSummary } from '../model/convert.ts'
import { type GgufType, mixtures } from '../model/convertmix.ts'
import { describeBytes } from '../model/fields.ts'
import { RequestError } from '../tensor/error.ts'
import { checkRoom, freeBytes } from './disk.ts'
import type { Io } from './io.ts'
import { createLive } from './live.ts'
import { createLoadView } from './model.ts'
import { checkFolder, oneOf, reasonOf, wholeOf } from './parse.ts'
import { bar, clock, plural, rate } from './style.ts'

interface QuantizeFlags {
  readonly type: GgufType
  readonly revision?: string
  readonly threads?: number
  readonly force?: boolean
  readonly quiet?: boolean
  readonly json?: boolean
}

const types = Object.keys(mixtures).toReversed() as readonly GgufType[]

const examples = `
MODEL is a folder, a .gguf file, a name on the hub, or \`demo\`. Types from small to large: q4_0, q4_k_m, q5_k_m, q6_k, q8_0,
then bf16, f16 and f32, which lose nothing or next to nothing. A matrix whose rows the type cannot hold gets the next larger
one that can. From a quantized file no lost digit comes back: begin with the published model where you can.

OUT appears when it is whole; a run that is stopped leaves nothing behind. Memory stays under a gigabyte for any model.
The path is printed on stdout, everything else on stderr.

Examples:
  $ latent quantize deepseek-ai/DeepSeek-V2-Lite-Chat v2-lite-q4_k_m.gguf --type q4_k_m
  $ latent quantize ./my-model my-model-q8_0.gguf --type q8_0 --force
  $ latent quantize demo demo.gguf --type q8_0 && latent chat -m demo.gguf "Who are you?"

With --json the answer is one object: {path, source, type, bytes, tensors, formats: {q8_0: {tensors, bytes}}, seconds}.`

export function addQuantize(program: Command, io: Io): void {
  program
    .command('quantize')
    .summary('a model as one smaller GGUF file')
    .description('Writes a model as a GGUF file that latent and llama.cpp load.')
    .argument('<model>', 'folder, .gguf file, hub name or `demo`')
    .argument('<out>', 'the file to write, ending in .gguf')
    .requiredOption('-t, --type <type>', types.join(', '), (text) =>
      oneOf('--type', types)(text.toLowerCase()),
    )
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option('--threads <n>', 'threads (default: one for each core, at most 16)', wholeOf('--threads', 1))
    .option('-f, --force', 'replace OUT if it is there')
    .option('-q, --quiet', 'no progress')
    .option('--json', 'one JSON object instead of the path')
    .addHelpText('after', examples)
    .action((model: string, out: string, flags: QuantizeFlags) => quantize(io, model, out, flags))
}

async function quantize(io: Io, model: string, out: string, flags: QuantizeFlags): Promise<void> {
  const { type, threads, force = false, quiet = false } = flags
  checkOut(out, force)
  const source = await find(io, model, flags)
  const { convertToGguf } = await import('../model/convert.ts')
  const view = createView(io, quiet)
  const began = performance.now()
  let summary: ConvertSummary
  try {
    summary = await convertToGguf(source, resolve(out), type, {
      signal: io.signal,
      progress: view.show,
      ...(threads !== undefined && { threads }),
      before: (planned) => {
        const folder = dirname(resolve(out))
        checkRoom(planned.bytes, freeBytes(folder), folder)
        if (!quiet) io.note(io.err.dim(`${model} as ${type}: ${describe(planned)}`))
      },
    })
  } finally {
    view.close()
  }
  const seconds = (performance.now() - began) / 1000
  const bytes = statSync(out).size
  const path = resolve(out)
  if (!quiet) {
    const speed = `${rate(bytes / seconds / 1e6)} MB/s`
    io.note(io.err.dim(`${describeBytes(bytes)} written in ${clock(seconds)} (${speed})`))
  }
  const { tensors, formats } = summary
  const answer = { path, source, type, bytes, tensors, formats, seconds: Number(seconds.toFixed(3)) }
  await io.write(`${flags.json ? JSON.stringify(answer) : out}\n`)
}

/** What would only come out after minutes of work. */
function checkOut(out: string, force: boolean): void {
  const refuse = (why: string): RequestError => new RequestError(`cannot write ${out}: ${why}`, 'out')
  const folder = dirname(resolve(out))
  if (!/\.gguf$/i.test(out)) throw refuse('a GGUF file is known by its name; let it end in .gguf')
  if (/-\d{5}-of-\d{5}\.gguf$/i.test(out)) {
    throw refuse(
      `its name says that it is a part of several; call it ${basename(out).replace(/-\d{5}-of-\d{5}/, '')}`,
    )
  }
  checkFolder(out, 'out')
  const there = statSync(out, { throwIfNoEntry: false })
  if (there?.isDirectory()) throw refuse('it is a folder')
  if (there && !force) throw refuse('it exists; --force replaces it')
  try {
    accessSync(folder, constants.W_OK)
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'EACCES' ? 'writing there is not permitted' : null
    throw refuse(`${folder}: ${why ?? reasonOf(error)}`)
  }
}

async function find(io: Io, model: string, { revision, quiet }: QuantizeFlags): Promise<string> {
  const { locate } = await import('../llm/load.ts')
  const view = createLoadView(io)
  try {
    return await locate(model, {
      ...(revision !== undefined && { revision }),
      ...(!quiet && { progress: view.show }),
      env: io.env,
      signal: io.signal,
    })
  } finally {
    view.close()
  }
}

function createView(io: Io, quiet: boolean) {
  const live = createLive(io, { quiet })
  const began = performance.now()

  function show({ tensor, dtype, written, total }: ConvertProgress): void {
    const pace = written / ((performance.now() - began) / 1000)
    const rest = pace > 0 ? clock((total - written) / pace) : '-:--'
    const percent = `${Math.floor((100 * written) / total)}%`.padStart(4)
    const bytes = `${describeBytes(written)} of ${describeBytes(total)}`
    const speed = `${rate(pace / 1e6)} MB/s · ETA ${rest}`
    live.show(
      () => [
        `${bar(written / total, 30, io.err)} ${percent}  ${bytes} · ${speed}`,
        io.err.dim(`${tensor} ${dtype}`),
      ],
      () => `${bytes} (${percent.trim()}) · ${speed} · ${tensor} ${dtype}`,
    )
  }

  return { show, close: live.clear }
}

/** '309 tensors, 9.65 GiB (198 q4_k, 108 f32, 3 q6_k)' */
function describe({ tensors, bytes, formats }: ConvertSummary): string {
  const parts = Object.entries(formats)
    .toSorted(([, a], [, b]) => b.bytes - a.bytes)
    .map(([dtype, sum]) => `${sum.tensors} ${dtype}`)
  return `${plural(tensors, 'tensor')}, ${describeBytes(bytes)} (${parts.join(', ')})`
}
