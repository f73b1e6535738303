import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Config, parseConfig } from './config.ts'
import { chat0628Config, liteConfig } from './examples.ts'
import type { Json } from './fields.ts'
import { correctionRange, rotation, softmaxScale } from './yarn.ts'

const lite = parseConfig(liteConfig, 'lite')
const scaled = (changes: Json): Config =>
  parseConfig(
    { ...liteConfig, rope_scaling: { ...(liteConfig.rope_scaling as Json), ...changes } },
    'changed',
  )

function close(given: number, wanted: number): void {
  assert.ok(Math.abs(given - wanted) <= 5e-9 * wanted, `${given} is not ${wanted}`)
}

// written out to nine digits, from the definition
const table = [
  [10, 0.0562341325],
  [11, 0.0390069266],
  [12, 0.0268793601],
  [13, 0.0183781462],
  [14, 0.0124479559],
  [15, 0.00833450895],
  [16, 0.0055],
  [17, 0.00356199749],
  [18, 0.0022493653],
  [19, 0.00137051364],
  [20, 0.000790569415],
  [21, 0.000414990398],
  [22, 0.000177827941],
  [23, 3.33380358e-5],
  [24, 2.5e-5],
  [25, 1.87473552e-5],
  [26, 1.40585331e-5],
  [27, 1.05424126e-5],
  [28, 7.90569415e-6],
  [29, 5.92843426e-6],
  [30, 4.44569853e-6],
  [31, 3.33380358e-6],
] as const

test('the frequencies of the published models', () => {
  const { frequencies, factor } = rotation(lite)
  assert.equal(frequencies.length, 32)
  assert.equal(factor, 1)
  for (let i = 0; i <= 10; i++) close(frequencies[i], 10000 ** (-i / 32))
  for (const [i, wanted] of table) close(frequencies[i], wanted)
  assert.deepEqual(rotation(parseConfig(chat0628Config, 'large')).frequencies, frequencies)
})

test('the ramp lies between pairs 10 and 23', () => {
  assert.deepEqual(correctionRange(lite), { low: 10, high: 23 })
})

test('a ramp without width is a step', () => {
  const config = scaled({ original_max_position_embeddings: 1 })
  const { low, high } = correctionRange(config)
  assert.equal(low, 0)
  assert.ok(rotation(config).frequencies.every(Number.isFinite), `${low} ${high}`)
})

test('without scaling the frequencies are plain and nothing is magnified', () => {
  const config = parseConfig({ ...liteConfig, rope_scaling: null }, 'plain')
  const { frequencies, factor } = rotation(config)
  frequencies.forEach((frequency, i) => close(frequency, 10000 ** (-i / 32)))
  assert.equal(factor, 1)
  assert.equal(softmaxScale(config).toFixed(10), '0.0721687836')
})

test('the scale of scores follows mscale_all_dim', () => {
  assert.equal(softmaxScale(lite).toFixed(10), '0.1147213868')
  assert.equal(softmaxScale(scaled({ mscale: 1, mscale_all_dim: 1 })).toFixed(10), '0.1352337789')
  assert.equal(softmaxScale(scaled({ mscale_all_dim: undefined })).toFixed(10), '0.0721687836')
  assert.equal(softmaxScale(scaled({ mscale_all_dim: 0 })).toFixed(10), '0.0721687836')
})

test('the factor of cos and sin is the ratio of the two', () => {
  close(rotation(scaled({ mscale: 1, mscale_all_dim: undefined })).factor, 1.3688879454)
  close(rotation(scaled({ mscale: 1 })).factor, 1.3688879454 / 1.2608037774)
  assert.equal(rotation(scaled({ mscale: 1, mscale_all_dim: 1 })).factor, 1)
})
