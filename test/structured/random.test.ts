// Numbers and patterns against what JavaScript says of them, over random ones: where xgrammar merges what it should not,
// it shows here.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createDice, type Dice } from '../../src/engine/workload.ts'
import { RequestError } from '../../src/tensor/error.ts'
import { createAcceptors, readRows, type SchemaRow } from './acceptor.ts'
import { validator } from './validator.ts'

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
  const one = (): string =>
    dice.of(['a', 'b', 'c', '[ab]', '[^a]', '.', '\\d', '\\w', '1', '"', '[a-c1]', 'é'])
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
        const fits =
          [...word].length >= (lengths.minLength ?? 0) && [...word].length <= (lengths.maxLength ?? 99)
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
          assert.equal(
            taken,
            wanted[i],
            `${JSON.stringify(word)} of ${[source, searched][i]} ${JSON.stringify(lengths)}`,
          )
          met[taken ? 'taken' : 'refused']++
        }
      }
      for (const it of opened) if (it.status === 'fulfilled') it.value.close()
    }
    assert.ok(met.taken > 1000 && met.refused > 1000 && met.unsaid < 6000, JSON.stringify(met))
  })
})

function schema(dice: Dice, depth: number): Record<string, unknown> {
  const low = dice.from(0, 3)
  const inner = (): Record<string, unknown> => schema(dice, depth - 1)
  switch (dice.from(depth > 0 ? 0 : 4, 10)) {
    case 0:
    case 1: {
      const names = ['a', 'ab', 'b', 'é', 'a b'].filter(() => dice.chance(0.5))
      return {
        type: 'object',
        properties: Object.fromEntries(names.map((name) => [name, inner()])),
        required: names.filter(() => dice.chance(0.5)),
        additionalProperties: dice.chance(0.6) ? false : inner(),
        ...(dice.chance(0.2) && names.length > 0 && { minProperties: 1 }),
      }
    }
    case 2:
      return { type: 'array', items: inner(), minItems: dice.from(0, 2), maxItems: dice.from(2, 3) }
    case 3:
      return { [dice.of(['anyOf', 'allOf'])]: dice.chance(0.5) ? [inner()] : [inner(), inner()] }
    case 4:
      return { type: 'string', minLength: low, maxLength: low + dice.from(0, 5) }
    case 5:
      return { type: 'string', pattern: `^${pattern(dice, 2)}$`, maxLength: 9 }
    case 6:
      return { type: 'number', minimum: bound(dice) }
    case 7:
      return { type: 'integer', maximum: bound(dice), exclusiveMinimum: -1e6 }
    case 8:
      return { enum: [1, 'x', null, [true], 'xy'].filter(() => dice.chance(0.7)).concat('z') }
    case 9:
      return {
        type: 'string',
        format: dice.of(['date', 'time', 'date-time', 'ipv4', 'uuid', 'email', 'hostname', 'uri']),
      }
    default:
      return { type: [dice.of(['boolean', 'null']), 'integer'] }
  }
}

describe('texts of a grammar', () => {
  it('random schemas: whatever the masks allow is valid', async () => {
    const met = { valid: 0, unfinished: 0, refused: 0 }
    for (let round = 0; round < 200; round++) {
      const dice = createDice(7000 + round)
      const json = schema(dice, 3)
      const acceptor = await open({ json }).catch((error: unknown) => {
        assert.ok(error instanceof RequestError, String(error))
        met.refused++
        return null
      })
      if (!acceptor) continue
      for (let i = 0; i < 3; i++) await check(acceptor, json, dice, met)
      acceptor.close()
    }
    assert.ok(met.valid > 300 && met.refused < 80, JSON.stringify(met))
  })

  it('published schemas: whatever the masks allow is valid', async () => {
    const met = { valid: 0, unfinished: 0, refused: 0 }
    for (const [i, { schema: json }] of readRows<SchemaRow>('maskbench.jsonl.gz').entries()) {
      if (i % 3 !== 0 || validator(json) === null) continue
      const acceptor = await open({ json }).catch(() => null)
      if (!acceptor) continue
      await check(acceptor, json, createDice(i), met)
      acceptor.close()
    }
    assert.ok(met.valid > 70, JSON.stringify(met))
  })
})

async function check(
  acceptor: Awaited<ReturnType<typeof open>>,
  json: SchemaRow['schema'],
  dice: Dice,
  met: { valid: number; unfinished: number },
): Promise<void> {
  const text = await acceptor.sample(dice, 500)
  if (text === null) {
    met.unfinished++
    return
  }
  met.valid++
  const validate = validator(json)
  assert.ok(
    validate?.(JSON.parse(text)),
    `${text} of ${JSON.stringify(json)}: ${JSON.stringify(validate?.errors)}`,
  )
}
