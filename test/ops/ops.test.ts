// Every operation case on every backend that opens here.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Backend } from '../../src/backend/backend.ts'
import { openBackend } from '../../src/backend/open.ts'
import { ShapeError } from '../../src/tensor/error.ts'
import { fromFloats, zeros } from '../../src/tensor/tensor.ts'
import { on } from '../backends.ts'
import { attendCases } from './attend.ts'
import { cases } from './cases.ts'

/**
 * Largest error, relative to the largest value: float32 storage of float64 sums; where products take 8-bit activations,
 * half a step of 1/127 for each, which mostly cancels.
 */
const exact = { float: 5e-7, integer: 5e-7 }
const native = { float: 2e-6, integer: 2.5e-2 }
const targets = [
  { backend: 'reference', features: '', bar: exact },
  { backend: 'cpu', features: '', bar: native },
  { backend: 'cpu', features: 'avx2', bar: native },
  { backend: 'cpu', features: 'scalar', bar: native },
]

// opened before any suite is: the first releases of Node 20 do not wait for a suite that is async
const opened = new Map<object, Backend>()
for (const target of targets) {
  const { backend: name, features } = target
  if (on(name).skip === false) opened.set(target, await openBackend(name, { features }))
}

for (const target of targets) {
  const { backend: name, features, bar } = target
  describe(`operations on ${name} ${features}`, on(name), () => {
    const backend = opened.get(target)
    if (!backend) return
    for (const { name: title, run, want, integer } of [...cases, ...attendCases]) {
      it(title, async () => {
        const got = await run(backend)
        const right = Array.from(want())
        assert.equal(got.length, right.length)
        const scale = Math.max(...right.map(Math.abs), 1e-30)
        const off = Math.max(0, ...right.map((value, i) => Math.abs(value - got[i]))) / scale
        const allowed = integer ? bar.integer : bar.float
        assert.ok(off <= allowed, `off by ${off}, allowed ${allowed}`)
      })
    }

    it('refuses shapes that disagree', () => {
      const x = backend.write(fromFloats([2, 4], new Float32Array(8)))
      const w = backend.upload(zeros([3, 5], 'bf16'))
      assert.throws(() => backend.linear(x, w), ShapeError)
      assert.throws(() => backend.linear(x, w), /wanted T D \| N D, given \[2 4\] \| \[3 5\]/)
      assert.throws(() => backend.embed(w, Int32Array.of(3)), /token 3 is outside the embedding of 3 rows/)
      assert.throws(() => backend.pick(x, Int32Array.of(2)), ShapeError)
      assert.throws(() => backend.add(x, backend.write(fromFloats([4, 2], new Float32Array(8)))), ShapeError)
    })
  })
}
