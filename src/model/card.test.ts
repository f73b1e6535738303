import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from './config.ts'
import { chat0628Config, liteConfig } from './examples.ts'
import { parseDevices, parseMaxMemory } from './fields.ts'
import { describePlan, plan } from './plan.ts'

const large = parseConfig(chat0628Config, 'large')
const lite = parseConfig(liteConfig, 'lite')
const evenly = (count: number) =>
  parseMaxMemory(Object.fromEntries(Array.from({ length: count }, (_, i) => [i, '75GB'])))

test("the card's own code needs 8 x 80 GB for the large model", () => {
  const { card } = plan(large)
  assert.equal(card.expandedBytesPerToken, 128 * (128 + 64 + 128) * 60 * 2)
  assert.equal(card.weightBytes, 471_482_869_760)
  assert.deepEqual([card.deviceBytes, card.maxMemory], [80e9, 75e9])
  assert.deepEqual([card.layered.devices, card.split.devices, card.devices], [7, 8, 8])
  assert.equal(card.split.bytes, (471_482_869_760 + 8192 * 4_915_200) / 8)
  assert.ok(card.split.bytes * 2 > 80e9) // what 4 devices would have to hold
})

test('the longest prompt fits beside the weights of every device, and one token more does not', () => {
  const { card } = plan(large)
  const rows = plan(large, { maxMemory: evenly(8), context: 1 }).placement.filter(({ layers }) => layers)
  assert.equal(rows.length, card.layered.devices)
  const fits = (tokens: number) =>
    rows.every(({ weightBytes, layers }) => {
      const cache = tokens * 128 * 320 * 2 * (layers === null ? 0 : layers.last - layers.first + 1)
      const scores = 128 * tokens * tokens * (2 + 4 + 2)
      return weightBytes + cache + scores <= 80e9
    })
  assert.ok(fits(card.layered.longestPrompt))
  assert.ok(!fits(card.layered.longestPrompt + 1))
})

test('latent needs as many as a plan over such devices fills', () => {
  for (const context of [1024, 32768, 163840]) {
    const given = plan(large, { devices: parseDevices('12x80GB'), context })
    const used = given.placement.filter(({ modules }) => modules.length > 0).length
    assert.equal(given.card.latentDevices, used)
    assert.ok(used < given.card.devices)
  }
  const many = plan(large, { sequences: 64 }).card
  assert.ok((many.latentDevices ?? 0) > 8)
  assert.equal(many.devices, 8) // of the card's own sizes, whatever is asked of latent
})

test('heads that do not divide, a model for one device, files in another format', () => {
  const odd = plan(
    parseConfig({ ...chat0628Config, num_attention_heads: 120, num_key_value_heads: 120 }, 'odd'),
  )
  assert.deepEqual([odd.card.split.devices, odd.card.layered.devices], [8, 7])
  const prime = parseConfig(
    { ...chat0628Config, num_attention_heads: 127, num_key_value_heads: 127 },
    'prime',
  )
  assert.equal(plan(prime).card.devices, 127)
  const small = plan(lite).card
  assert.deepEqual([small.devices, small.latentDevices, small.expandedBytesPerToken], [1, 1, 276_480])
  assert.deepEqual(plan(large, { weightDtype: 'q4_0' }).card, plan(large).card)
})

test('in words, where more than one device is needed', () => {
  const text = describePlan(plan(large, { context: 32768 }))
  assert.match(text, /4,915,200 bytes a token, 71\.1 times the latents/)
  assert.match(text, /eager attention's\n +128 x tokens x tokens scores/)
  assert.match(text, /filled up to 75 GB \(its max_memory\)/)
  assert.match(text, /Both of its programs run on 8 x 80 GB/)
  assert.match(text, /latent needs 7 of them for 32,768 tokens: it keeps 69,120 bytes a token/)
  for (const line of text.split('\n')) assert.ok(line.length <= 100, line)
  assert.doesNotMatch(describePlan(plan(lite)), /card/)
})
