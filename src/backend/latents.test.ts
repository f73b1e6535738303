import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decodeLatents, encodeLatent, latentBytes, latentFormats } from './latents.ts'

function through(format: (typeof latentFormats)[number], latent: readonly number[], key: readonly number[]) {
  const bytes = latentBytes(format, latent.length, key.length)
  const room = new Uint8Array(3 * bytes).fill(0xee)
  const out = new Float32Array(latent.length + key.length)
  encodeLatent(format, Float32Array.from(latent), Float32Array.from(key), room, bytes)
  decodeLatents(format, room, bytes, latent.length, key.length, out)
  const around = [...room.subarray(0, bytes), ...room.subarray(2 * bytes)]
  assert.ok(
    around.every((byte) => byte === 0xee),
    'neighbours are left alone',
  )
  return [...out]
}

describe('latents', () => {
  it('a row of the published models takes 2,304, 1,152 or 656 bytes', () => {
    assert.deepEqual(
      latentFormats.map((format) => latentBytes(format, 512, 64)),
      [2304, 1152, 656],
    )
  })

  it('an odd number of codes leaves the next row even', () => {
    assert.equal(latentBytes('q8', 7, 2), 14)
    through('q8', [1, -2, 3, -4, 5, -6, 7], [0.5, -0.25])
  })

  it('q8 is within half a step of each block, exact at its largest where that has few bits', () => {
    const latent = Array.from({ length: 130 }, (_, i) => Math.sin(i) * (i < 64 ? 1 : 1000))
    for (const [i, value] of through('q8', latent, []).entries()) {
      const step = (i < 64 ? 1 : 1000) / 127
      assert.ok(Math.abs(value - latent[i]) <= 0.505 * step, `${i}: ${value} for ${latent[i]}`)
    }
    assert.deepEqual(through('q8', [127, -127, 64, 0], [1.5]), [127, -127, 64, 0, 1.5])
  })

  it('halves go to the even code; zeros, tiny and huge blocks keep their place', () => {
    assert.deepEqual(through('q8', [127, 0.5, 1.5, -0.5, -1.5, -2.5], []), [127, 0, 2, 0, -2, -2])
    assert.deepEqual(through('q8', [0, 0], []), [0, 0])
    assert.deepEqual(through('q8', [2 ** -130, 0], []), [0, 0])
    const [huge] = through('q8', [3e38, 0], [])
    assert.ok(Math.abs(huge / 3e38 - 1) < 0.005)
  })
})
