// Finds a compiler and builds a native library once: into a folder named by the sources, the flags and the compiler, so
// that a change of any builds anew and nothing else does. Knows compilers and files; loads nothing.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const native = fileURLToPath(new URL('../../../native/', import.meta.url))
const builds = fileURLToPath(new URL('../../../build/', import.meta.url))

const flags = [
  '-std=c++17',
  '-fPIC',
  '-Wall',
  '-Wno-psabi',
  '-fno-math-errno',
  '-ffp-contract=fast',
  '-pthread',
  `-I${native}`,
]

/** One object of the library: a source, compiled for one instruction set where that matters. */
interface Unit {
  readonly source: string
  readonly object: string
  readonly flags: readonly string[]
}

interface Isa {
  readonly name: string
  readonly sources: readonly string[]
  readonly flags: readonly string[]
}

/** Which sources are compiled for which instruction set, with which flags, a line each: native/build.sh reads it too. */
function readIsas(): readonly Isa[] {
  const lines = readFileSync(join(native, 'isas'), 'utf8').trim().split('\n')
  return lines.map((line) => {
    const [name, sources, ...own] = line.split(' ')
    return { name, sources: sources.split(',').map((source) => `${source}.cc`), flags: own }
  })
}

export type Build =
  | { readonly path: string; readonly compiler: string; readonly fresh: boolean }
  | { readonly path: null; readonly reason: string }

/** The CPU library's path, built if need be; or why there is none and what mends it. */
export async function buildCpu(tell: { readonly building?: () => void } = {}): Promise<Build> {
  if (process.arch !== 'x64')
    return { path: null, reason: `no native kernels for ${process.arch} processors yet` }
  const compiler = await findCompiler()
  if (!compiler) {
    return { path: null, reason: 'no C++ compiler was found; install g++ or clang++ for the fast kernels' }
  }
  const sources = readdirSync(join(native, 'cpu')).filter((name) => /\.(cc|h)$/.test(name))
  const folder = join(builds, `cpu-${key(sources, compiler.version)}`)
  const path = join(folder, 'liblatent-cpu.so')
  if (existsSync(path)) return { path, compiler: compiler.version, fresh: false }
  tell.building?.()
  try {
    // never unmapped: a program that ends without closing its engine unloads the library under its threads' feet
    const link = { inputs: [], flags: ['-shared', '-Wl,-z,nodelete'] }
    await compile({ compiler: compiler.name, flags: ['-O3', ...flags], link, path }, unitsOf(sources))
    return { path, compiler: compiler.version, fresh: true }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    return {
      path: null,
      reason: `${compiler.name} could not build the native kernels: ${text.slice(0, 2000)}`,
    }
  }
}

/** Undefined behaviour would only be printed, and the program end well, were it not told to stop. */
export function sanitizing(sanitizer: string): readonly string[] {
  return [`-fsanitize=${sanitizer}`, '-fno-sanitize-recover=all']
}

/** native/check.cc with the CPU kernels in one program, under a sanitizer of the compiler; null without a compiler. */
export async function buildCheck(sanitizer: string): Promise<string | null> {
  const compiler = await findCompiler()
  if (!compiler || process.arch !== 'x64') return null
  const own = [...flags, '-O1', '-g', ...sanitizing(sanitizer)]
  const path = join(builds, `check-${sanitizer.replace(',', '-')}`, 'check')
  const link = { inputs: [join(native, 'check.cc')], flags: own }
  await compile(
    { compiler: compiler.name, flags: own, link, path },
    unitsOf(readdirSync(join(native, 'cpu'))),
  )
  return path
}

/** native/bench.cc beside the CPU library, which it uses as any program would. Throws where neither can be built. */
export async function buildBench(): Promise<string> {
  const [built, compiler] = [await buildCpu(), await findCompiler()]
  if (built.path === null || !compiler)
    throw new Error(built.path === null ? built.reason : 'no C++ compiler')
  const hash = createHash('sha256')
  for (const name of ['bench.cc', 'sources.h']) hash.update(readFileSync(join(native, name)))
  const path = join(dirname(built.path), `bench-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(path)) return path
  const output = `${path}.${process.pid}`
  const inputs = [join(native, 'bench.cc'), built.path, `-Wl,-rpath,${dirname(built.path)}`]
  await run(compiler.name, [...flags, '-O2', ...inputs, '-o', output])
  renameSync(output, path)
  return path
}

export interface Compiler {
  readonly name: string
  readonly version: string
}

/** The first of g++ and clang++ that answers, or null. */
export async function findCompiler(): Promise<Compiler | null> {
  for (const name of ['g++', 'clang++']) {
    try {
      const { stdout } = await run(name, ['--version'])
      return { name, version: stdout.split('\n')[0] }
    } catch {
      // the next one
    }
  }
  return null
}

/** What a built library says of itself and of this machine: kernels, threads, instruction sets. */
export async function describeLibrary(path: string): Promise<Readonly<Record<string, string>>> {
  const { default: koffi } = await import('koffi')
  const library = koffi.load(path)
  const on: unknown = library.func('uintptr_t latent_open(int, const char *, int)')(0, '', 0)
  if (!on) return {}
  const text = String(library.func('const char *latent_describe(uintptr_t)')(on))
  library.func('void latent_close(uintptr_t)')(on)
  return Object.fromEntries(text.split('\n').map((line) => line.split(/: (.*)/s, 2)))
}

function key(sources: readonly string[], version: string): string {
  const hash = createHash('sha256')
    .update(version)
    .update(JSON.stringify([flags.slice(0, -1), readIsas(), 'nodelete']))
  for (const name of sources) hash.update(name).update(readFileSync(join(native, 'cpu', name)))
  return hash
    .update(readFileSync(join(native, 'ops.h')))
    .digest('hex')
    .slice(0, 16)
}

function unitsOf(sources: readonly string[]): Unit[] {
  const isas = readIsas()
  return sources
    .filter((name) => name.endsWith('.cc'))
    .flatMap((name) => {
      const source = join(native, 'cpu', name)
      const own = isas.filter((isa) => isa.sources.includes(name))
      if (own.length === 0) return [{ source, object: name.replace('.cc', '.o'), flags: [] }]
      return own.map((isa) => ({
        source,
        object: name.replace('.cc', `-${isa.name}.o`),
        flags: [`-DLATENT_ISA=${isa.name}`, ...isa.flags],
      }))
    })
}

interface Goal {
  readonly compiler: string
  readonly flags: readonly string[]
  /** Further inputs and flags of the last step. */
  readonly link: { readonly inputs: readonly string[]; readonly flags: readonly string[] }
  readonly path: string
}

/** Into a folder of this process first: two processes may build at once, and the last rename wins with equal files. */
async function compile({ compiler, flags: own, link, path }: Goal, units: readonly Unit[]): Promise<void> {
  const folder = dirname(path)
  const work = `${folder}.${process.pid}-${Math.random().toString(36).slice(2)}`
  mkdirSync(work, { recursive: true })
  try {
    const waiting = [...units]
    const worker = async (): Promise<void> => {
      for (let unit = waiting.shift(); unit; unit = waiting.shift()) {
        await run(compiler, [...own, ...unit.flags, '-c', unit.source, '-o', join(work, unit.object)])
      }
    }
    await Promise.all(Array.from({ length: availableParallelism() }, worker))
    const objects = units.map(({ object }) => join(work, object))
    const output = join(work, 'output')
    await run(compiler, [...link.flags, '-pthread', ...link.inputs, ...objects, '-o', output])
    mkdirSync(folder, { recursive: true })
    renameSync(output, path)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
