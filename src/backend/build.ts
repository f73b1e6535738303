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

const isas: Readonly<Record<string, readonly string[]>> = {
  scalar: ['-O1'], // the compiler spends half a minute on -O3 of what only old machines run
  avx2: ['-mavx2', '-mfma', '-mf16c'],
  avx512: [
    '-mavx512f',
    '-mavx512bw',
    '-mavx512vl',
    '-mavx512dq',
    '-mavx512vnni',
    '-mfma',
    '-mf16c',
    '-mprefer-vector-width=512',
    '-Wno-maybe-uninitialized', // g++ 12 warns of its own headers
  ],
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

/** native/check.cc with the CPU kernels in one program, under a sanitizer of the compiler; null without a compiler. */
export async function buildCheck(sanitizer: string): Promise<string | null> {
  const compiler = await findCompiler()
  if (!compiler || process.arch !== 'x64') return null
  const own = [...flags, '-O1', '-g', `-fsanitize=${sanitizer}`]
  const path = join(builds, `check-${sanitizer.replace(',', '-')}`, 'check')
  const link = { inputs: [join(native, 'check.cc')], flags: own }
  await compile(
    { compiler: compiler.name, flags: own, link, path },
    unitsOf(readdirSync(join(native, 'cpu'))),
  )
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
    .update(JSON.stringify([flags.slice(0, -1), isas, perIsa, 'nodelete']))
  for (const name of sources) hash.update(name).update(readFileSync(join(native, 'cpu', name)))
  return hash
    .update(readFileSync(join(native, 'ops.h')))
    .digest('hex')
    .slice(0, 16)
}

/** Sources that are compiled once for each instruction set. */
const perIsa = ['kernels.cc', 'attention-kernels.cc']

function unitsOf(sources: readonly string[]): Unit[] {
  return sources
    .filter((name) => name.endsWith('.cc'))
    .flatMap((name) => {
      const source = join(native, 'cpu', name)
      if (!perIsa.includes(name)) return [{ source, object: name.replace('.cc', '.o'), flags: [] }]
      return Object.entries(isas).map(([isa, own]) => ({
        source,
        object: name.replace('.cc', `-${isa}.o`),
        flags: [`-DLATENT_ISA=${isa}`, ...own],
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
