// Runs every compiled test with node:test. Arguments: name fragments of the test files to run, or node --test flags.
// test/peers needs what only `npm install --prefix bench/peers` installs: it runs when it is named, as test:peers does.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const flags = process.argv.slice(2).filter((word) => word.startsWith('--'))
const wanted = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const files = readdirSync(join(root, 'dist'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.test.js'))
  .filter((path) => !path.includes('peers') || wanted.includes('peers'))
  .filter((path) => wanted.length === 0 || wanted.some((word) => path.includes(word)))
  .map((path) => relative(root, join(root, 'dist', path)))
  .sort()
if (files.length === 0) {
  process.stderr.write(`no test file matches ${wanted.join(', ')}\n`)
  process.exit(1)
}
const done = spawnSync(process.execPath, ['--test', '--test-concurrency=2', ...flags, ...files], {
  cwd: root,
  stdio: 'inherit',
})
process.exit(done.status ?? 1)
