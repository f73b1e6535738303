// The machine and what latent makes of it: Node, processor, memory, compiler, native kernels, the backend that `auto` is.
// Knows where to look; builds the kernels where they are not built yet, as the first run of any model would.
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, freemem, release, totalmem } from 'node:os'
import { type Build, buildCpu, type Compiler, describeLibrary, findCompiler } from '../backend/build.ts'
import { openBackend } from '../backend/open.ts'
import { version } from '../llm/version.ts'
import { describeBytes } from '../model/fields.ts'
import { type Finding, note, ok, problem, type Section } from './finding.ts'
import type { Io } from './io.ts'
import { plural } from './style.ts'

const leastNode = 20

export function examineSystem() {
  const { node } = process.versions
  const platform = `${process.platform}-${process.arch}`
  const cores = availableParallelism()
  const quota = coreQuota()
  const cpu = cpus()[0]?.model.trim() || 'unknown'
  const memory = memoryLimit()
  const free = Math.min(memory, freemem())
  const findings: Finding[] = [
    ok('latent', version()),
    Number.parseInt(node, 10) >= leastNode
      ? ok('Node', node)
      : problem('Node', node, `latent wants Node ${leastNode} or newer`),
    ok('system', `${platform}, ${release()}`),
    ok('processor', `${cpu}, ${plural(cores, 'core')}`),
  ]
  if (quota !== null && quota < cores) {
    const threads = Math.max(1, Math.floor(quota))
    findings.push(note('container', `may use ${quota} of ${cores} cores`, `run with --threads ${threads}`))
  }
  const limited = memory < totalmem() ? ` (the machine has ${describeBytes(totalmem())})` : ''
  findings.push(ok('memory', `${describeBytes(memory)}${limited}, ${describeBytes(free)} of it free now`))
  const data = { latent: version(), node, platform, cpu, cores, core_quota: quota, memory, free_memory: free }
  return { title: 'System', findings, data } satisfies Section<unknown>
}

/** Bytes that this process may use: those of the machine, or of its container. */
export function memoryLimit(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

/** Cores that a container grants, or null where it sets no limit. */
function coreQuota(): number | null {
  try {
    const [most, period] = readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').trim().split(' ').map(Number)
    return most > 0 && period > 0 ? Math.round((most / period) * 10) / 10 : null
  } catch {
    return null
  }
}

const installing: Readonly<Record<string, string>> = {
  linux: 'apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora) or apk add g++ (Alpine)',
  darwin: 'xcode-select --install',
}

export async function examineBackend(io: Io) {
  const compiler = await findCompiler()
  const built = await buildCpu({
    building: () => io.note(io.err.dim('building the native kernels, once; this takes some minutes at most')),
  })
  const { path } = built
  const warnings: string[] = []
  const backend = await openBackend('auto', { warn: (message) => warnings.push(message) })
  const { name } = backend
  backend.close()
  const said = path === null || name !== 'cpu' ? {} : await describeLibrary(path)
  const library = path === null ? null : { path, built: built.fresh ? 'just now' : 'before' }
  const threads = said.threads === undefined ? null : Number(said.threads)
  const findings = [...describeBuild(compiler, built), ...describeInstructions(said)]
  if (name === 'cpu') findings.push(ok('backend', 'auto is cpu, the native kernels'))
  else {
    const why = path === null ? 'it needs no kernels' : warnings.join('; ')
    findings.push(lacking('backend', `auto is ${name}, which is slow: ${why}`))
  }
  if (threads !== null) findings.push(ok('threads', `${threads} by default; --threads takes another number`))
  const data = {
    compiler,
    library,
    reason: path === null ? built.reason : null,
    auto: name,
    threads,
    features: said,
  }
  return { title: 'Backend', findings, data } satisfies Section<unknown>
}

/** What cannot be mended on this kind of machine is no problem of this machine. */
const lacking = process.arch === 'x64' ? problem : note

function describeBuild(compiler: Compiler | null, built: Build): Finding[] {
  const found = compiler
    ? ok('compiler', `${compiler.name}: ${compiler.version}`)
    : lacking('compiler', 'none was found (looked for g++ and clang++)', installing[process.platform])
  if (built.path === null) return [found, lacking('kernels', `not built: ${built.reason}`)]
  const state = built.fresh ? 'built just now' : 'built before, still current'
  return [found, ok('kernels', `${state}: ${built.path}`)]
}

function describeInstructions({
  kernels,
  threads: _,
  ...features
}: Readonly<Record<string, string>>): Finding[] {
  if (kernels === undefined) return []
  const list = Object.entries(features).map(([feature, there]) => `${feature} ${there}`)
  return [ok('instructions', `kernels for ${kernels}${list.length > 0 ? ` (${list.join(', ')})` : ''}`)]
}
