// The CPU kernels by themselves, under the compiler's sanitizers: no error of memory, no undefined behaviour, no data
// race, and the same bits on any number of threads (native/check.cc says what is compared).
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { buildCheck, buildCpu, findCompiler, sanitizing } from '../src/backend/build.ts'
import { openCeilings } from '../src/backend/native.ts'

describe('native/check', () => {
  for (const sanitizer of ['address,undefined', 'thread']) {
    it(`under ${sanitizer}`, async (context) => {
      const program = await buildCheck(sanitizer).catch((error: Error) => {
        if (!/cannot find .*(asan|ubsan|tsan)/.test(error.message)) throw error
        return null // a compiler without its sanitizers' libraries
      })
      if (program === null) {
        context.skip('no C++ compiler with sanitizers was found')
        return
      }
      const output = execFileSync(program, { encoding: 'utf8' })
      assert.match(output, /^\d{3} checks of outputs, 0 failed$/m)
    })
  }
})

/** A mistake for each sanitizer to find: that it finds none above says something only if it finds these. */
const mistakes: Readonly<Record<string, string>> = {
  address:
    'int main(int n, char **) { int *p = new int[4]; delete[] p; volatile int read = p[n]; return 0; }',
  undefined: 'int main(int n, char **) { volatile int most = 2147483647; most = most + n; return 0; }',
  thread: '#include <thread>\nint x; int main() { std::thread a([] { x++; }); x++; a.join(); return 0; }',
}

describe('sanitizers', () => {
  for (const [kind, program] of Object.entries(mistakes)) {
    it(`a planted mistake of ${kind} stops the program`, async (context) => {
      const compiler = await findCompiler()
      if (!compiler) return context.skip('no C++ compiler was found')
      const folder = mkdtempSync(join(tmpdir(), 'latent-sanitizer-'))
      context.after(() => rmSync(folder, { recursive: true }))
      const [source, output] = [join(folder, 'mistake.cc'), join(folder, 'mistake')]
      writeFileSync(source, program)
      const flags = sanitizing(kind === 'thread' ? 'thread' : 'address,undefined')
      const built = spawnSync(compiler.name, [...flags, '-pthread', source, '-o', output], {
        encoding: 'utf8',
      })
      if (/cannot find .*(asan|ubsan|tsan)/.test(built.stderr)) return context.skip('no sanitizers here')
      assert.equal(built.status, 0, built.stderr)
      const { status, stderr } = spawnSync(output, { encoding: 'utf8' })
      assert.notEqual(status, 0)
      assert.match(stderr, /heap-use-after-free|signed integer overflow|data race/)
    })
  }
})

describe('ceilings', () => {
  it('are numbers where the machine has the instructions, and nothing where it has not', async (context) => {
    const { path } = await buildCpu()
    if (path === null) return context.skip('no C++ compiler was found')
    const ceilings = openCeilings(path, 2)
    assert.ok(ceilings.measure('read') > 0)
    for (const what of ['f32', 'bf16', 'int8', 'amx-bf16', 'amx-int8'] as const) {
      assert.ok(ceilings.measure(what) >= 0, what)
    }
    assert.equal(ceilings.measure('no such thing' as 'read'), 0)
    ceilings.close()
  })
})
