// Numbers and patterns against what JavaScript says of them, over random ones: where xgrammar merges what it should not,
// it shows here.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createDice, type Dice } from '../../src/engine/workload.ts'
import { RequestError } from '../../src/tensor/error.ts'
import { createAcceptors } from './acceptor.ts'

const open = await createAcceptors()

function bound(dice: Dice): number {
  const digits = dice.of([1, 10, 100, 1000, 100000])
  const value = dice.from(-digits, digits)
  return dice.chance(0.4) ? value / dice.of([10, 100, 1000]) : value
}

/** A number near a bound, or far from it, as text. */
function near(dice: Dice, bounds: readonly number[], whole: boolean): string {
  const base = bounds.length > 0 && dice.chance(0.8) ? dice.of(bounds) : bound(dice)
  const moved = base + dice.of([0, 0, 1, -1, 0.5, -0.5, 0.01, -0.01, 10, -10, -2 * base])
  const value = whole ? Math.round(moved) : Number(moved.toFixed(6))
  return String(value === 0 ? 0 : value)
}

describe('numbers', () => {
  it('random bounds take what lies between them and nothing else', async () => {
    const met = { taken: 0, refused: 0 }
    for (let round = 0; round < 150; round++) {
      const dice = createDice(round)
      const whole = dice.chance(0.5)
      const [a, b] = [bound(dice), bound(dice)].sort((x, y) => x - y)
      const json: Record<string, unknown> = { type: whole ? 'integer' : 'number' }
      if (dice.chance(0.8)) json[dice.of(['minimum', 'exclusiveMinimum'])] = a
      if (dice.chance(0.8)) json[dice.of(['maximum', 'exclusiveMaximum'])] = b
      const acceptor = await open({ json }).catch((error: unknown) => {
        assert.ok(error instanceof RequestError, String(error))
        return null // nothing lies between
      })
      for (let i = 0; i < 25; i++) {
        const text = near(dice, [a, b], whole || dice.chance(0.3))
        const wanted = holds(Number(text), json)
        const taken = acceptor === null ? false : await acceptor.accepts(text)
        assert.equal(taken, wanted, `${text} of ${JSON.stringify(json)}`)
        met[taken ? 'taken' : 'refused']++
      }
      acceptor?.close()
    }
    assert.ok(met.taken > 500 && met.refused > 500, JSON.stringify(met))
  })
})

function holds(value: number, json: Record<string, unknown>): boolean {
  if (json.type === 'integer' && !Number.isInteger(value)) return false
  const is = (keyword: string, fits: (bound: number) => boolean): boolean =>
    json[keyword] === undefined || fits(json[keyword] as number)
  return (
    is('minimum', (least) => value >= least) &&
    is('maximum', (most) => value <= most) &&
    is('exclusiveMinimum', (least) => value > least) &&
    is('exclusiveMaximum', (most) => value < most)
  )
}

function pattern(dice: Dice, depth: number): string {
  const one = (): string => dice.of(['a', 'b', 'c', '[ab]', '[^a]', '.', '\\d', '\\w', '1', '"', '[a-c1]', 'é'])
  if (depth === 0) return one()
  switch (dice.from(0, 5)) {
    case 0:
      return `(?:${pattern(dice, depth - 1)}|${pattern(dice, depth - 1)}|${pattern(dice, depth - 1)})`
    case 1:
      return `(${pattern(dice, depth - 1)})${dice.of(['*', '+', '?', '{2}', '{1,3}', '{0,2}', '{2,}'])}`
    case 2:
      return one()
    default:
      return pattern(dice, depth - 1) + pattern(dice, depth - 1)
  }
}

function words(dice: Dice, source: string): string[] {
  const letters = [...'aabbcc11"é2_\n']
  const own = [...source].filter((letter) => /[abc1"é]/.test(letter))
  return Array.from({ length: 40 }, () => {
    const from = dice.chance(0.5) && own.length > 0 ? own : letters
    return Array.from({ length: dice.from(0, 6) }, () => dice.of(from)).join('')
  })
}

describe('patterns', () => {
  it('random ones take what a RegExp takes, alone and in strings, whole and found', async () => {
    const met = { taken: 0, refused: 0, unsaid: 0 }
    for (let round = 0; round < 150; round++) {
      const dice = createDice(1000 + round)
      const source = pattern(dice, dice.from(1, 4))
      const [start, end] = [dice.chance(0.5) ? '^' : '', dice.chance(0.5) ? '$' : '']
      const lengths = dice.chance(0.3) ? { minLength: dice.from(0, 2), maxLength: dice.from(2, 5) } : {}
      const searched = `${start}(?:${source})${end}`
      const opened = await Promise.allSettled([
        open({ regex: source }),
        open({ json: { type: 'string', pattern: searched, ...lengths } }),
      ])
      for (const word of words(dice, source)) {
        const fits = [...word].length >= (lengths.minLength ?? 0) && [...word].length <= (lengths.maxLength ?? 99)
        const wanted = [
          new RegExp(`^(?:${source})$`, 'u').test(word) && word !== '',
          new RegExp(searched, 'u').test(word) && fits,
        ]
        for (const [i, text] of [word, JSON.stringify(word)].entries()) {
          const it = opened[i]
          if (it.status === 'rejected') {
            assert.ok(it.reason instanceof RequestError, String(it.reason))
            met.unsaid++
            continue
          }
          if (word === '' && i === 0) continue
          const taken = await it.value.accepts(text)
          assert.equal(taken, wanted[i], `${JSON.stringify(word)} of ${[source, searched][i]} ${JSON.stringify(lengths)}`)
          met[taken ? 'taken' : 'refused']++
        }
      }
      for (const it of opened) if (it.status === 'fulfilled') it.value.close()
    }
    assert.ok(met.taken > 1000 && met.refused > 1000 && met.unsaid < 6000, JSON.stringify(met))
  })
})
