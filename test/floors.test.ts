// The house stands: imports go down the floors and never sideways, no file is longer than 400 lines, no cycles.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const floors: Readonly<Record<string, number>> = {
  tensor: 0,
  backend: 1,
  checkpoint: 1,
  grammar: 1,
  model: 2,
  engine: 3,
  tokenizer: 3,
  llm: 4,
  server: 5,
  eval: 5,
  cli: 6, // one door that opens the others
}
const files = sources('')
const room = (path: string): string => path.split('/')[0]

/** By hand: readdir has no `recursive` before Node 20.1. */
function sources(folder: string): string[] {
  return readdirSync(join(root, 'src', folder), { withFileTypes: true }).flatMap((entry) => {
    const path = posix.join(folder, entry.name)
    return entry.isDirectory() ? sources(path) : path.endsWith('.ts') ? [path] : []
  })
}

/** What a text imports: by `from`, for its effect alone, or when it runs. */
function importsIn(text: string): string[] {
  const forms = [
    /^(?:import|export)\b[^'"]*?\bfrom ['"](\.[^'"]+)['"]/gm,
    /^import ['"](\.[^'"]+)['"]/gm,
    /\bimport\(['"](\.[^'"]+)['"]\)/g,
  ]
  return forms.flatMap((form) => [...text.matchAll(form)].map((found) => found[1]))
}

function imports(path: string): string[] {
  const text = readFileSync(join(root, 'src', path), 'utf8')
  return importsIn(text).map((target) => posix.join(posix.dirname(path), target))
}

describe('floors', () => {
  it('every form of import is seen', () => {
    const text = [
      "import { a,\n  b } from './a.ts'",
      "export type { C } from './b.ts'",
      "import './c.ts'",
      "const d = await import('./d.ts')",
      "import e from 'node:fs'",
    ].join('\n')
    assert.deepEqual(importsIn(text), ['./a.ts', './b.ts', './c.ts', './d.ts'])
  })

  it('every import goes down, or stays in its room', () => {
    const wrong = files
      .filter((path) => path !== 'index.ts')
      .flatMap((path) => imports(path).map((target) => ({ path, target })))
      .filter(
        ({ path, target }) => room(path) !== room(target) && !(floors[room(target)] < floors[room(path)]),
      )
    assert.deepEqual(wrong, [])
    assert.ok(files.flatMap(imports).length > 100, 'the pattern finds imports')
  })

  it('no cycles', () => {
    const done = new Set<string>()
    const visit = (path: string, above: readonly string[]): void => {
      assert.ok(!above.includes(path), `cycle: ${[...above, path].join(' -> ')}`)
      if (done.has(path)) return
      for (const target of imports(path)) visit(target, [...above, path])
      done.add(path)
    }
    for (const path of files) visit(path, [])
  })

  it('no file is over 400 lines, and the model is under 200', () => {
    const lines = (path: string): number =>
      readFileSync(join(root, 'src', path), 'utf8').split('\n').length - 1
    assert.deepEqual(
      files.filter((path) => lines(path) > 400),
      [],
    )
    assert.ok(lines('model/deepseek2.ts') < 200)
  })

  it('the environment is read at the doors only: cli, and the library when it is loaded', () => {
    const readers = files.filter(
      (path) =>
        !path.endsWith('.test.ts') && readFileSync(join(root, 'src', path), 'utf8').includes('process.env'),
    )
    assert.deepEqual(
      readers.filter((path) => room(path) !== 'cli' && path !== 'llm/load.ts'),
      [],
    )
  })
})
