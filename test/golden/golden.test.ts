// Every backend against logits, layers and continuations that an independent float64 implementation computed.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Pages } from '../../src/backend/backend.ts'
import type { Batch } from '../../src/backend/batch.ts'
import type { LatentFormat } from '../../src/backend/latents.ts'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.ts'
import { type OpenModel, openModel, pageSize } from '../../src/engine/open.ts'
import { floats, type Tensor } from '../../src/tensor/tensor.ts'
import { on } from '../backends.ts'

/** Relative to the largest value: float32 activations over f32 and bf16 weights. */
const bars = { reference: 1e-5, cpu: 1e-4 }
const goldens = ['lite-tiny', 'v2-tiny', 'plain-f32']
const folder = (name: string): string =>
  fileURLToPath(new URL(`../../../test/data/golden/${name}/`, import.meta.url))

interface Expected {
  readonly prompts: Readonly<Record<string, readonly number[]>>
  readonly greedy: Readonly<Record<string, { readonly tokens: readonly number[] }>>
}

for (const [backend, bar] of Object.entries(bars)) {
  for (const name of goldens) {
    describe(`golden ${name} on ${backend}`, on(backend), () => check(name, backend, bar))
  }
}

/**
 * What narrower latents cost the median position, of its largest logit: a bf16 number is off by 2^-9 of itself at most, a
 * q8 one by half a step, 1/254 of the largest in its block. Not the worst position: where two experts are nearly as
 * good, these random models choose the other one under any rounding, bf16 or q8, and all its logits change.
 */
const keptBars = { bf16: 0.02, q8: 0.05 }
for (const name of goldens) {
  describe(`golden ${name} with narrow latents`, () => {
    const expected = JSON.parse(readFileSync(`${folder(name)}expected.json`, 'utf8')) as Expected
    const arrays = openCheckpoint(`${folder(name)}expected`)
    for (const [kept, bar] of Object.entries(keptBars) as [LatentFormat, number][]) {
      for (const [length, ids] of Object.entries(expected.prompts)) {
        it(`${kept}, ${length} tokens`, async () => {
          const want = floats(arrays.read(`logits.${length}`))
          for (const backend of ['reference', 'cpu']) {
            const { logits } = await run(name, backend, ids, 5, kept)
            const off = medianOff(logits.subarray(logits.length - want.length), want)
            assert.ok(off <= bar, `${backend}: ${off} is over ${bar}`)
          }
        })
      }
    }
  })
}

function check(name: string, backend: string, bar: number): void {
  const expected = JSON.parse(readFileSync(`${folder(name)}expected.json`, 'utf8')) as Expected
  const arrays = openCheckpoint(`${folder(name)}expected`)
  for (const [length, ids] of Object.entries(expected.prompts)) {
    for (const chunk of [ids.length, 5]) {
      it(`logits of ${length} tokens, ${chunk} at a time`, async () => {
        const want = floats(arrays.read(`logits.${length}`))
        const { logits, layers } = await run(name, backend, ids, chunk)
        near(logits.subarray(logits.length - want.length), want, bar, 'logits')
        for (const [l, x] of layers.entries()) {
          const hidden = `hidden.${length}.layer.${l}`
          if (chunk === ids.length && arrays.tensors.has(hidden))
            near(x, floats(arrays.read(hidden)), bar, hidden)
        }
      })
    }
  }
  for (const [length, { tokens }] of Object.entries(expected.greedy)) {
    it(`greedy continuation of ${length} tokens`, async () => {
      const ids = [...expected.prompts[length]]
      for (const token of tokens) {
        const { logits } = await run(name, backend, ids, ids.length)
        const last = logits.subarray(-512)
        assert.equal(last.indexOf(Math.max(...last)), token)
        ids.push(token)
      }
    })
  }
}

async function run(
  name: string,
  backend: string,
  ids: readonly number[],
  chunk: number,
  kept: LatentFormat = 'f32',
): Promise<{ logits: Float32Array; layers: Float32Array[] }> {
  const opened = await openModel(folder(name), { backend })
  const pages = opened.backend.pages(opened.pageShape(Math.ceil(ids.length / pageSize), kept))
  const logits: number[] = []
  const layers: Float32Array[] = []
  for (let first = 0; first < ids.length; first += chunk) {
    const part = ids.slice(first, first + chunk)
    const out = await forward(opened, pages, part, first, async (l, x) => {
      layers[l] = await opened.backend.read(x)
    })
    for (const value of out) logits.push(value)
  }
  opened.close()
  return { logits: Float32Array.from(logits), layers }
}

function forward(
  { model, backend }: OpenModel,
  pages: Pages,
  tokens: readonly number[],
  first: number,
  watch: (layer: number, x: Tensor) => Promise<void>,
): Promise<Float32Array> {
  const positions = Int32Array.from(tokens, (_, i) => first + i)
  // pages in falling order, so that a slot is never its position by accident
  const tables = Int32Array.from({ length: pages.pages }, (_, i) => pages.pages - 1 - i)
  const batch: Batch = {
    tokens: Int32Array.from(tokens),
    positions,
    slots: positions.map((p) => tables[Math.floor(p / pageSize)] * pageSize + (p % pageSize)),
    starts: Int32Array.of(0, tokens.length),
    tables,
    tableWidth: pages.pages,
    wanted: Int32Array.from(tokens.keys()),
  }
  return backend.read(model.forward(batch, pages, (l, x) => void watch(l, x)))
}

/** Largest difference against the largest number there is, as the goldens' README measures it. */
function near(got: Float32Array, want: Float32Array, bar: number, what: string): void {
  assert.equal(got.length, want.length, what)
  let scale = 0
  let off = 0
  for (let i = 0; i < want.length; i++) {
    scale = Math.max(scale, Math.abs(want[i]))
    off = Math.max(off, Math.abs(want[i] - got[i]))
  }
  assert.ok(off / scale <= bar, `${what}: ${off / scale} is over ${bar}`)
}

/** The median over positions of the largest difference against the largest number of that position. */
function medianOff(got: Float32Array, want: Float32Array): number {
  const width = 512
  const offs = Array.from({ length: want.length / width }, (_, row) => {
    const [a, b] = [got, want].map((all) => all.subarray(row * width, (row + 1) * width))
    return Math.max(...b.map((value, i) => Math.abs(value - a[i]))) / Math.max(...b.map(Math.abs))
  })
  return offs.sort((a, b) => a - b)[Math.floor(offs.length / 2)]
}
