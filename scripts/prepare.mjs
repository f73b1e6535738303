// Makes a fresh clone runnable: installs packages when the lock file changed, compiles when a source changed.
// Plain JavaScript with no imports but Node's own, because nothing is installed or built when it runs.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const quiet = process.argv.includes('--quiet')
const say = (text) => process.stderr.write(`latent: ${text}\n`)

const [major] = process.versions.node.split('.').map(Number)
if (major < 20) {
  say(`Node ${process.versions.node} is too old; latent needs Node 20 or newer (https://nodejs.org)`)
  process.exit(1)
}

install()
compile()
await buildNative()

function install() {
  const stamp = join(root, 'node_modules', '.latent-stamp')
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say('installing packages (npm ci) ...')
  const npm = process.env.npm_execpath
  // `npm pack --dry-run` hands its dry run down to every npm inside it
  const args = ['ci', '--no-dry-run', '--no-audit', '--no-fund', '--loglevel=error']
  const done = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' })
  if (done.status !== 0) fail('npm ci failed; the lines above say why (is the npm registry reachable?)')
  writeFileSync(stamp, wanted)
}

function compile() {
  const stamp = join(root, 'dist', '.latent-stamp')
  const wanted = sourcesKey()
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  if (!quiet || !existsSync(stamp)) say('compiling TypeScript ...')
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8').split('\n')[1] !== wanted.split('\n')[1]) {
    rmSync(join(root, 'dist'), { recursive: true, force: true }) // a removed source must not leave a test behind
  }
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const done = spawnSync(process.execPath, [tsc, '-p', root], { cwd: root, stdio: ['ignore', 2, 2] })
  if (done.status !== 0) fail('the TypeScript compiler found errors (above)')
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, wanted)
}

async function buildNative() {
  const { buildCpu } = await import(pathToFileURL(join(root, 'dist', 'src', 'backend', 'build.js')).href)
  const built = await buildCpu({ building: () => say('building the native kernels ...') })
  if (built.path === null && !quiet) say(`${built.reason}; the slow reference backend will be used`)
}

// first line: names and times of all sources; second: their names alone
function sourcesKey() {
  const names = []
  const times = createHash('sha256')
  const walk = (folder) => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`
      if (entry.isDirectory()) walk(path)
      else if (entry.name.endsWith('.ts')) {
        names.push(path)
        times.update(`${path} ${statSync(join(root, path)).mtimeMs}\n`)
      }
    }
  }
  for (const folder of ['src', 'test', 'bench', 'examples']) if (existsSync(join(root, folder))) walk(folder)
  times.update(readFileSync(join(root, 'tsconfig.json')))
  return `${times.digest('hex')}\n${createHash('sha256').update(names.sort().join('\n')).digest('hex')}`
}

function fail(message) {
  say(message)
  process.exit(1)
}
