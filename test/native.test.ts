// The CPU kernels by themselves, under the compiler's sanitizers: no error of memory, no undefined behaviour, no data
// race, and the same bits on any number of threads (native/check.cc says what is compared).
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { buildCheck } from '../src/backend/build.ts'

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
