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
 * Largest error, relative to the largest value: float32 storage of float64 sums; where products take activations of 8
 * bits, half a step of 1/127 for each, or rounded to bf16, half a step of 1/256, which mostly cancels.
 */
const exact = { float: 5e-7, half: 5e-7, integer: 5e-7 }
const native = { float: 2e-6, half: 2e-6, integer: 2.5e-2 }
const rounding = { ...native, half: 1e-2 }

/** Whether the cpu backend opens with an instruction set here. */
async function opens(features: string): Promise<boolean> {
  try {
    const backend = await openBackend('cpu', { features })
    backend.close()
    return true
  } catch {
    return false
  }
}

const targets = [
  { backend: 'reference', features: '', bar: exact },
  { backend: 'cpu', features: '', bar: (await opens('amx')) ? rounding : native },
  { backend: 'cpu', features: 'avx2', bar: native },
  { backend: 'cpu', features: 'scalar', bar: native },
]
for (const [features, bar] of [
  ['avx512', native],
  ['avx512bf16', rounding],
  ['amx', rounding],
] as const) {
  if (await opens(features)) targets.push({ backend: 'cpu', features, bar })
}

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
    for (const { name: title, run, want, integer, half } of [...cases, ...attendCases]) {
      it(title, async () => {
        const got = await run(backend)
        const right = Array.from(want())
        assert.equal(got.length, right.length)
        const scale = Math.max(...right.map(Math.abs), 1e-30)
        const off = Math.max(0, ...right.map((value, i) => Math.abs(value - got[i]))) / scale
        const allowed = integer ? bar.integer : half ? bar.half : bar.float
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
