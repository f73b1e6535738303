import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestError } from '../tensor/error.ts'
import { parseConfig } from './config.ts'
import { chat0628Config, liteConfig } from './examples.ts'
import { parseDevices, parseMaxMemory } from './fields.ts'
import { layout, parts } from './layout.ts'
import { describePlan, type Plan, type PlanOptions, plan, type WeightFormat } from './plan.ts'

const lite = parseConfig(liteConfig, 'lite')
const large = parseConfig(chat0628Config, 'large')
const evenly = (count: number, size: string) =>
  parseMaxMemory(Object.fromEntries(Array.from({ length: count }, (_, i) => [i, size])))

/** What must be true of every plan. */
function consistent(given: Plan, layers: number): void {
  const sum = (numbers: readonly number[]) => numbers.reduce((all, number) => all + number, 0)
  assert.equal(given.weightBytes, sum(parts.map((part) => given.bytesByPart[part])))
  assert.equal(given.latentBytes, given.latentBytesPerToken * given.context * given.sequences)
  for (const row of given.placement) {
    assert.ok(row.freeBytes >= 0)
    assert.equal(row.capacity, row.weightBytes + row.latentBytes + row.freeBytes)
  }
  const placed = sum(given.placement.map((row) => row.weightBytes + row.latentBytes))
  if (given.placement.length > 0)
    assert.equal(placed + given.shortfall, given.weightBytes + given.latentBytes)
  const names = [...given.placement.flatMap((row) => row.modules), ...given.homeless]
  if (given.placement.length > 0) assert.equal(names.length, layers + 3)
  assert.equal(given.fits, given.shortfall === 0)
  assert.equal(given.fits, given.advice.length === 0)
  for (const line of describePlan(given).split('\n')) assert.ok(line.length <= 100, line)
}

test('the large model: the bytes of its parts', () => {
  const given = plan(large, { context: 131072 })
  consistent(given, 60)
  assert.equal(given.weightBytes, 471_482_869_760)
  assert.equal(given.latentBytesPerToken, 69_120)
  assert.equal((given.latentBytes / 2 ** 30).toFixed(3), '8.438')
  assert.equal(plan(large, { context: 32768 }).latentBytes / 2 ** 30, 2.109375)
  assert.equal(plan(lite).latentBytesPerToken, 31_104)
  assert.equal(plan(lite, { kvDtype: 'f32' }).latentBytesPerToken, 62_208)
  // 512 codes, 8 steps of 2 bytes, 64 rope numbers of 2 bytes
  assert.equal(plan(lite, { kvDtype: 'q8' }).latentBytesPerToken, 27 * (512 + 8 * 2 + 64 * 2))
  assert.equal(plan(lite).weightBytes, 31_412_968_448)
})

test('8 devices of 80 GB under max_memory 75GB hold the large model, as its card says', () => {
  const given = plan(large, { devices: parseDevices('8x80GB'), maxMemory: evenly(8, '75GB') })
  consistent(given, 60)
  assert.ok(given.fits)
  assert.equal(given.placement.length, 8)
  assert.equal(given.placement[0].capacity, 75e9)
  assert.equal(given.placement[0].modules[0], 'model.embed_tokens')
  assert.deepEqual(given.placement[0].layers, { first: 0, last: 8 })
  assert.ok(plan(large, { maxMemory: evenly(8, '75GB') }).fits)
})

test('6 devices under 75GB do not, one 80 GB device does not, and both hear what would', () => {
  const six = plan(large, { maxMemory: evenly(6, '75GB') })
  consistent(six, 60)
  assert.ok(!six.fits && six.shortfall > 471e9 + 11e9 - 6 * 75e9)
  assert.match(six.advice.join('\n'), /1 more device with room for 75.00 GB: 7 hold it/)
  assert.match(six.advice.join('\n'), /weights in fp8, 236.9\d GB instead of 471.48 GB/)
  const one = plan(large, { devices: parseDevices('1x80GB') })
  consistent(one, 60)
  assert.match(one.advice.join('\n'), /6 more devices/)
  assert.match(one.advice.join('\n'), /weights in q4_0, 132.\d\d GB; and 1 more device/)
})

test('7 devices under 75GB hold one long sequence but not eight, and the context that fits is exact', () => {
  const maxMemory = evenly(7, '75GB')
  assert.ok(plan(large, { maxMemory }).fits)
  const eight = plan(large, { maxMemory, sequences: 8 })
  consistent(eight, 60)
  assert.match(eight.advice.join('\n'), /2 more devices/)
  const context = Number(/context of ([\d,]+)/.exec(eight.advice.join('\n'))?.[1].replaceAll(',', ''))
  assert.ok(plan(large, { maxMemory, sequences: 8, context }).fits)
  assert.ok(!plan(large, { maxMemory, sequences: 8, context: context + 1 }).fits)
  const sequences = Number(/(\d+) instead of 8 sequences/.exec(eight.advice.join('\n'))?.[1])
  assert.ok(plan(large, { maxMemory, sequences }).fits)
  assert.ok(!plan(large, { maxMemory, sequences: sequences + 1 }).fits)
})

test('a narrower latent is proposed where it is enough', () => {
  const options = { maxMemory: evenly(7, '75GB'), sequences: 3 }
  const given = plan(large, options)
  assert.ok(!given.fits)
  assert.match(given.advice.join('\n'), /latents in q8: 39,360 instead of 69,120 bytes a token/)
  assert.ok(plan(large, { ...options, kvDtype: 'q8' }).fits)
})

test('max_memory that is too tight is named, and a device it leaves out is not used', () => {
  const devices = parseDevices('8x80GB')
  const tight = plan(large, { devices, maxMemory: evenly(8, '50GB') })
  assert.match(tight.advice.join('\n'), /no max_memory: the same devices hold it/)
  const some = plan(large, { devices, maxMemory: parseMaxMemory({ 1: '75GB', 3: '75GB', cpu: '500GB' }) })
  consistent(some, 60)
  assert.deepEqual(
    some.placement.map((row) => row.device),
    ['device 1', 'device 3', 'cpu'],
  )
  assert.ok(some.fits)
  assert.throws(() => plan(large, { devices, maxMemory: evenly(9, '75GB') }), /names device 8; there are 8/)
})

test('devices that cannot hold a layer hear how large one is', () => {
  const given = plan(large, { devices: parseDevices('8x2GB'), reserve: 0, context: 1024 })
  consistent(given, 60)
  assert.match(given.advice.join('\n'), /larger devices: one layer with its latents alone takes 7.95 GB/)
  assert.match(given.advice.join('\n'), /weights in q4_0, 132.\d\d GB; and larger devices/)
})

test('host memory alone, too little of it, and none', () => {
  for (const given of [{ cpu: '600GB' }, { cpu: '100GB' }, { cpu: 0 }, { 0: 0, cpu: '1GB' }]) {
    const made = plan(large, { maxMemory: parseMaxMemory(given) })
    consistent(made, 60)
    assert.equal(made.fits, given.cpu === '600GB')
  }
})

test('the reserve comes off a device, not off max_memory', () => {
  const devices = parseDevices('1x40GB')
  assert.equal(plan(lite, { devices, reserve: 3e9 }).placement[0].capacity, 37e9)
  assert.equal(
    plan(lite, { devices, reserve: 3e9, maxMemory: evenly(1, '38GB') }).placement[0].capacity,
    37e9,
  )
  assert.equal(
    plan(lite, { devices, reserve: 3e9, maxMemory: evenly(1, '30GB') }).placement[0].capacity,
    30e9,
  )
  const estimate = 40e9 - plan(lite, { devices }).placement[0].capacity
  assert.ok(estimate > 0.2e9 && estimate < 2e9, String(estimate))
  assert.ok(plan(lite, { devices }).fits)
})

test('bytes of real headers are used as they are', () => {
  const tensorBytes = new Map([...layout(lite).keys()].map((name) => [name, 10]))
  assert.equal(plan(lite, { tensorBytes }).weightBytes, 52_910)
})

test('without devices there is nothing to fit', () => {
  const given = plan(lite)
  consistent(given, 27)
  assert.deepEqual([given.fits, given.placement.length], [true, 0])
})

test('smaller formats are smaller, in order', () => {
  const formats: readonly WeightFormat[] = ['f32', 'bf16', 'q8_0', 'q4_k_m', 'q4_0']
  const sizes = formats.map((weightDtype) => plan(large, { weightDtype }).weightBytes)
  assert.deepEqual(
    sizes,
    sizes.toSorted((a, b) => b - a),
  )
  // published Q4_K_M files of this shape take 142 GB
  assert.equal(Math.round(sizes[3] / 1e9), 143)
})

test('every plan adds up', () => {
  let state = 11
  const upTo = (n: number) => (state = (state * 48271) % 2147483647) % n
  for (let round = 0; round < 60; round++) {
    const options: PlanOptions = {
      weightDtype: (['f32', 'bf16', 'fp8', 'q8_0', 'q4_k_m', 'q4_0'] as const)[upTo(6)],
      kvDtype: (['f32', 'bf16', 'q8'] as const)[upTo(3)],
      devices: parseDevices(`${1 + upTo(6)}x${1 + upTo(90)}GB,${1 + upTo(2)}x${1 + upTo(40)}GiB`),
      context: 1 + upTo(163840),
      sequences: 1 + upTo(20),
    }
    consistent(plan(lite, options), 27)
  }
})

test('options that cannot be meant are refused', () => {
  const refused: readonly (readonly [PlanOptions, RegExp])[] = [
    [{ context: 0 }, /context is 0; wanted 1 to 163840/],
    [{ context: 200000 }, /context is 200000; wanted 1 to 163840, the positions of this model/],
    [{ sequences: 0.5 }, /sequences is 0.5/],
    [{ reserve: -1 }, /reserve is -1/],
    [{ weightDtype: 'q2' as 'q4_0' }, /weightDtype is q2; wanted one of f32, bf16/],
    [{ kvDtype: 'q4' as 'q8' }, /kvDtype is q4; wanted one of/],
  ]
  for (const [options, message] of refused) {
    assert.throws(
      () => plan(lite, options),
      (error) => error instanceof RequestError && message.test(error.message),
    )
  }
})

test('a plan in words', () => {
  const text = describePlan(plan(large, { maxMemory: evenly(8, '75GB') }))
  assert.match(text, /^235.74 B parameters, 20.85 B of them active for each token$/m)
  assert.match(text, /^routed experts +222.72 B +445.44 GB$/m)
  assert.match(text, /^latents: 11.32 GB for 163,840 tokens, 69,120 bytes a token in bf16$/m)
  assert.match(text, /^device 0 +75.00 GB +65.28 GB +1.70 GB +8.02 GB +embed_tokens, layers 0-8$/m)
  assert.match(
    describePlan(plan(large, { devices: parseDevices('80GB') })),
    /no place +layers 10-59, norm, lm_head/,
  )
})
