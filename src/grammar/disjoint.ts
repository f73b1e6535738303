// Whether two sets of keywords can be shown to exclude each other: what oneOf needs. A yes is a proof, a no is not.
// Asks what keywords say by themselves, not what the grammar makes of them: a schema without a type holds for values of
// every type that its keywords do not speak of.
import { isDeepStrictEqual } from 'node:util'
import type { Fields, Flat, JsonType } from './fields.ts'
import { join } from './keywords.ts'
import { satisfies } from './value.ts'

export interface Look {
  /** The alternatives of a schema further down, without references. */
  concreteOf(schema: unknown, path: string): readonly Flat[]
}

const mostDepth = 3

export function disjoint(a: Flat, b: Flat, look: Look, depth = 0): boolean {
  const [x, y] = [a.fields, b.fields]
  const [xs, ys] = [typesOf(x), typesOf(y)]
  if (!xs.some((type) => ys.some((other) => overlap(type, other)))) return true
  if (x.enum && y.enum)
    return !x.enum.some((value) => y.enum!.some((other) => isDeepStrictEqual(value, other)))
  if (x.enum) return x.enum.every((value) => satisfies(value, y) === false)
  if (y.enum) return y.enum.every((value) => satisfies(value, x) === false)
  if (only(xs, ys, ['integer', 'number'])) return apart(x, y)
  if (only(xs, ys, ['string']))
    return (x.minLength ?? 0) > (y.maxLength ?? Infinity) || (y.minLength ?? 0) > (x.maxLength ?? Infinity)
  if (only(xs, ys, ['array']))
    return (x.minItems ?? 0) > (y.maxItems ?? Infinity) || (y.minItems ?? 0) > (x.maxItems ?? Infinity)
  return only(xs, ys, ['object']) && depth < mostDepth && objectsDiffer(a, b, look, depth)
}

const every: readonly JsonType[] = ['object', 'array', 'string', 'number', 'boolean', 'null']

function typesOf(fields: Fields): readonly JsonType[] {
  return fields.type ?? every
}

function overlap(a: JsonType, b: JsonType): boolean {
  return a === b || (a === 'integer' && b === 'number') || (a === 'number' && b === 'integer')
}

/** Whether values of both can only be of these types. */
function only(xs: readonly JsonType[], ys: readonly JsonType[], types: readonly JsonType[]): boolean {
  return [...xs, ...ys].every((type) => types.includes(type))
}

function apart(x: Fields, y: Fields): boolean {
  const below = (a: Fields, b: Fields): boolean => {
    const top = Math.min(a.maximum ?? Infinity, a.exclusiveMaximum ?? Infinity)
    const bottom = Math.max(b.minimum ?? -Infinity, b.exclusiveMinimum ?? -Infinity)
    return top < bottom || (top === bottom && (a.exclusiveMaximum === top || b.exclusiveMinimum === bottom))
  }
  return below(x, y) || below(y, x)
}

/** Both are objects: a property that both need differs, or one needs what the other forbids. */
function objectsDiffer(a: Flat, b: Flat, look: Look, depth: number): boolean {
  const shared = (a.fields.required ?? []).filter((name) => b.fields.required?.includes(name))
  const differs = shared.some((name) => {
    const path = join(join(a.path, 'properties'), name)
    const [left, right] = [a, b].map((it) => look.concreteOf(it.fields.properties?.get(name) ?? true, path))
    return left.every((one) => right.every((other) => disjoint(one, other, look, depth + 1)))
  })
  return differs || forbids(a.fields, b.fields) || forbids(b.fields, a.fields)
}

function forbids(x: Fields, y: Fields): boolean {
  return (y.required ?? []).some((name) =>
    x.properties?.has(name)
      ? x.properties.get(name) === false
      : x.additionalProperties === false && !x.patternProperties,
  )
}
