// Runs every compiled test with node:test. Arguments: name fragments of the test files to run, or node --test flags.
// test/peers needs what only `npm install --prefix bench/peers` installs: it runs when it is named, as test:peers does.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const flags = process.argv.slice(2).filter((word) => word.startsWith('--'))
const wanted = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const files = testsIn(join(root, 'dist'))
  .filter((path) => !path.includes('peers') || wanted.includes('peers'))
  .filter((path) => wanted.length === 0 || wanted.some((word) => path.includes(word)))
  .map((path) => join('dist', path))
  .sort()
if (files.length === 0) {
  process.stderr.write(`no test file matches ${wanted.join(', ')}\n`)
  process.exit(1)
}
const done = spawnSync(process.execPath, ['--test', ...concurrency(), ...flags, ...files], {
  cwd: root,
  stdio: 'inherit',
})
process.exit(done.status ?? 1)

/** Below `folder`, by hand: readdir has no `recursive` before Node 20.1. */
function testsIn(folder, prefix = '') {
  return readdirSync(join(folder, prefix), { withFileTypes: true }).flatMap((entry) => {
    const path = join(prefix, entry.name)
    if (entry.isDirectory()) return testsIn(folder, path)
    return path.endsWith('.test.js') ? [path] : []
  })
}

/** Before Node 20.10 there is no such flag, and the runner takes as many files at a time as it likes. */
function concurrency() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  return major > 20 || minor >= 10 ? ['--test-concurrency=2'] : []
}
