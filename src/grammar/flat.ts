// A schema as a list of alternatives without references and without allOf, anyOf and oneOf: what follows is a matter of
// types alone. An alternative that is nothing but a reference stays one, so that a schema may contain itself.
import { disjoint } from './disjoint.ts'
import type { Flat, Schema } from './fields.ts'
import { join, malformed, refuse, verdict } from './keywords.ts'
import { conjoin, own } from './merge.ts'

/** A reference by itself, or keywords that hold together. */
export type Alternative = { readonly ref: string } | { readonly ref: null; readonly flat: Flat }

export interface Flattener {
  /** The alternatives of a schema; none where nothing satisfies it. */
  flatten(schema: unknown, path: string): readonly Alternative[]
  /** The schema that a local reference names. */
  resolve(ref: string, path: string): unknown
  /** Where a resolved schema stands, for messages. */
  pathOf(ref: string): string
}

const mostAlternatives = 256
const mostDepth = 48
/** Alternatives made in all: a schema of products of products is refused before it fills the memory. */
const mostWork = 50_000

export function createFlattener(root: unknown): Flattener {
  let work = 0

  function flatten(schema: unknown, path: string, depth = 0): readonly Alternative[] {
    if (++work > mostWork) refuse('$', 'the schema combines too many alternatives; write them out, or fewer')
    if (schema === true) return [{ ref: null, flat: own({}, path) }]
    if (schema === false) return []
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      return malformed(path, schema, 'a schema: an object, true or false')
    }
    if (depth > mostDepth) refuse(path, 'the schema refers to itself, or nests, without end')
    const fields = schema as Schema
    judge(fields, path)
    let all: readonly Alternative[] = [{ ref: null, flat: own(fields, path) }]
    if (fields.$ref !== undefined) all = product(all, reference(fields.$ref, join(path, '$ref')), path, depth)
    for (const [i, part] of parts(fields, 'allOf', path).entries()) {
      all = product(all, flatten(part, join(join(path, 'allOf'), i), depth + 1), path, depth)
    }
    const any = parts(fields, 'anyOf', path)
    if (any.length > 0) {
      const of = any.flatMap((part, i) => flatten(part, join(join(path, 'anyOf'), i), depth + 1))
      all = product(all, of, path, depth)
    }
    const one = parts(fields, 'oneOf', path)
    return one.length > 0 ? exclusive(all, one, join(path, 'oneOf'), depth) : all
  }

  function judge(fields: Schema, path: string): void {
    for (const keyword of Object.keys(fields)) {
      if (verdict(keyword) !== 'refused') continue
      refuse(join(path, keyword), 'no grammar can say exactly what this keyword says; leave it out')
    }
    const base = fields.$id ?? (typeof fields.id === 'string' ? fields.id : undefined)
    if (path !== '$' && typeof base === 'string' && !base.startsWith('#') && hasRef(fields)) {
      refuse(
        join(path, '$id'),
        'references inside would start from another document; write them from the root',
      )
    }
  }

  function reference(ref: unknown, path: string): readonly Alternative[] {
    if (typeof ref !== 'string') return malformed(path, ref, 'a reference, such as "#/$defs/name"')
    resolve(ref, path)
    return [{ ref }]
  }

  function resolve(ref: string, path: string): unknown {
    const id = isFields(root) ? (root.$id ?? root.id) : undefined
    const local = typeof id === 'string' && id !== '' && ref.startsWith(id) ? ref.slice(id.length) : ref
    if (local === '' || local === '#') return root
    if (!local.startsWith('#/')) {
      const anchored = local.startsWith('#') ? anchor(root, local.slice(1)) : undefined
      if (anchored !== undefined) return anchored
      refuse(path, `${JSON.stringify(ref)} is not in this schema; put what it names under $defs`)
    }
    let at: unknown = root
    for (const step of pointer(local, path)) {
      const next = typeof at === 'object' && at !== null && Object.hasOwn(at, step)
      if (!next) refuse(path, `${JSON.stringify(ref)} names nothing in this schema`)
      at = (at as Schema)[step]
    }
    return at
  }

  function pathOf(ref: string): string {
    const at = ref.indexOf('#/')
    return at < 0 ? '$' : pointer(ref.slice(at), '$').reduce<string>((path, step) => join(path, step), '$')
  }

  /** Each of `a` with each of `b`. A reference that meets nothing else stays one. */
  function product(
    a: readonly Alternative[],
    b: readonly Alternative[],
    path: string,
    depth: number,
  ): readonly Alternative[] {
    const all = a.flatMap((left) => b.flatMap((right) => meet(left, right, depth)))
    if (all.length > mostAlternatives) {
      refuse(path, `it comes to ${all.length} alternatives, at most ${mostAlternatives} are taken`)
    }
    return all
  }

  function meet(a: Alternative, b: Alternative, depth: number): readonly Alternative[] {
    if (a.ref === null && Object.keys(a.flat.fields).length === 0) return [b]
    if (b.ref === null && Object.keys(b.flat.fields).length === 0) return [a]
    if (a.ref !== null && a.ref === b.ref) return [a]
    if (a.ref !== null) return expand(a.ref, depth).flatMap((it) => meet(it, b, depth + 1))
    if (b.ref !== null) return expand(b.ref, depth).flatMap((it) => meet(a, it, depth + 1))
    const met = conjoin(a.flat, b.flat)
    return met === null ? [] : [{ ref: null, flat: met }]
  }

  function expand(ref: string, depth: number): readonly Alternative[] {
    return flatten(resolve(ref, '$'), pathOf(ref), depth + 1)
  }

  /** oneOf: an alternative of one branch must be impossible for every other branch. */
  function exclusive(
    base: readonly Alternative[],
    branches: readonly unknown[],
    path: string,
    depth: number,
  ): readonly Alternative[] {
    const groups = branches.map((branch, i) =>
      product(base, flatten(branch, join(path, i), depth + 1), path, depth),
    )
    const flats = groups.map((group) => group.flatMap((it) => concrete(it, depth)))
    for (const [i, left] of flats.entries()) {
      for (const [j, right] of flats.entries()) {
        if (j <= i || left.every((a) => right.every((b) => disjoint(a, b, { concreteOf })))) continue
        refuse(
          path,
          `branches ${i} and ${j} may hold at once; use anyOf, or make them differ in a required const`,
        )
      }
    }
    return groups.flat()
  }

  function concrete(it: Alternative, depth: number): readonly Flat[] {
    if (it.ref === null) return [it.flat]
    if (depth > mostDepth) refuse('$', 'the schema refers to itself without end')
    return expand(it.ref, depth).flatMap((next) => concrete(next, depth + 1))
  }

  const concreteOf = (schema: unknown, path: string): readonly Flat[] =>
    flatten(schema, path).flatMap((it) => concrete(it, 0))

  return { flatten: (schema, path) => flatten(schema, path), resolve, pathOf }
}

function isFields(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parts(fields: Schema, keyword: string, path: string): readonly unknown[] {
  const value = fields[keyword]
  if (value === undefined) return []
  if (Array.isArray(value) && value.length > 0) return value
  return malformed(join(path, keyword), value, 'a list of at least one schema')
}

function pointer(ref: string, path: string): string[] {
  try {
    return ref
      .slice(2)
      .split('/')
      .map((step) => decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~'))
  } catch {
    return malformed(path, ref, 'a JSON pointer after #')
  }
}

function anchor(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  const { $anchor, $id, id } = value as Schema
  if ($anchor === name || $id === `#${name}` || id === `#${name}`) return value
  for (const inner of Object.values(value)) {
    const found = anchor(inner, name)
    if (found !== undefined) return found
  }
  return undefined
}

function hasRef(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return Object.hasOwn(value, '$ref') || Object.values(value).some(hasRef)
}
