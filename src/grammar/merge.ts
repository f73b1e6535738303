// The keywords of one schema that assert something, checked and in one spelling, and two such sets as one. Knows no
// references and no alternatives.
import { isDeepStrictEqual } from 'node:util'
import { type Fields, type Flat, type JsonType, jsonTypes, type Schema } from './fields.ts'
import { formats, unenforced } from './format.ts'
import { join, malformed, refuse } from './keywords.ts'
import { satisfies } from './value.ts'

type Mutable = { -readonly [K in keyof Fields]: Fields[K] }

/** The assertions of a schema itself. */
export function own(schema: Schema, path: string): Flat {
  const fields: Mutable = {}
  const at = (keyword: string): string => join(path, keyword)
  if (schema.type !== undefined) fields.type = typesOf(schema.type, at('type'))
  const values = enumOf(schema, path)
  if (values) fields.enum = values
  readNumbers(schema, fields, at)
  for (const name of [
    'minLength',
    'maxLength',
    'minItems',
    'maxItems',
    'minProperties',
    'maxProperties',
  ] as const) {
    if (schema[name] !== undefined) fields[name] = count(schema[name], at(name))
  }
  if (schema.pattern !== undefined) fields.pattern = string(schema.pattern, at('pattern'))
  const format = schema.format === undefined ? '' : string(schema.format, at('format'))
  if (unenforced.includes(format))
    refuse(at('format'), `${format} is not among ${Object.keys(formats).join(', ')}`)
  if (Object.hasOwn(formats, format)) fields.format = format
  if (format === 'int32') {
    fields.minimum = Math.max(fields.minimum ?? -Infinity, -(2 ** 31))
    fields.maximum = Math.min(fields.maximum ?? Infinity, 2 ** 31 - 1)
  }
  readItems(schema, fields, at)
  readProperties(schema, fields, at)
  return { fields, path }
}

function typesOf(value: unknown, path: string): readonly JsonType[] {
  const list = Array.isArray(value) ? value : [value]
  const known = list.every((type) => jsonTypes.includes(type as JsonType))
  if (!known || list.length === 0)
    return malformed(path, value, `one of ${jsonTypes.join(', ')}, or a list of them`)
  return list as JsonType[]
}

function enumOf(schema: Schema, path: string): readonly unknown[] | null {
  const listed = schema.enum
  if (listed !== undefined && !Array.isArray(listed))
    malformed(join(path, 'enum'), listed, 'a list of values')
  if (!Object.hasOwn(schema, 'const')) return (listed as unknown[] | undefined) ?? null
  const { const: value } = schema
  return listed === undefined || (listed as unknown[]).some((it) => isDeepStrictEqual(it, value))
    ? [value]
    : []
}

function readNumbers(schema: Schema, fields: Mutable, at: (keyword: string) => string): void {
  for (const [bound, exclusive] of [
    ['minimum', 'exclusiveMinimum'],
    ['maximum', 'exclusiveMaximum'],
  ] as const) {
    const strict = schema[exclusive] === true // draft 4 says so beside the bound
    if (schema[bound] !== undefined) fields[strict ? exclusive : bound] = number(schema[bound], at(bound))
    if (schema[exclusive] !== undefined && typeof schema[exclusive] !== 'boolean') {
      fields[exclusive] = number(schema[exclusive], at(exclusive))
    }
  }
  const step = schema.multipleOf !== undefined ? 'multipleOf' : 'divisibleBy'
  if (schema[step] !== undefined) fields.multipleOf = number(schema[step], at(step))
}

function readItems(schema: Schema, fields: Mutable, at: (keyword: string) => string): void {
  const { items, prefixItems, additionalItems } = schema
  if (Array.isArray(items)) {
    fields.prefixItems = items // before 2020-12
    if (additionalItems !== undefined) fields.items = additionalItems
  } else if (items !== undefined) fields.items = items
  if (prefixItems !== undefined) {
    if (!Array.isArray(prefixItems)) malformed(at('prefixItems'), prefixItems, 'a list of schemas')
    fields.prefixItems = prefixItems as unknown[]
  }
  if (schema.uniqueItems === true) fields.uniqueItems = true
}

function readProperties(schema: Schema, fields: Mutable, at: (keyword: string) => string): void {
  for (const name of ['properties', 'patternProperties'] as const) {
    const value = schema[name]
    if (value === undefined) continue
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      malformed(at(name), value, 'an object of schemas')
    }
    fields[name] = new Map(Object.entries(value as Schema))
  }
  const { required } = schema
  if (Array.isArray(required) && required.every((name) => typeof name === 'string'))
    fields.required = required
  else if (required !== undefined) malformed(at('required'), required, 'a list of names')
  if (schema.additionalProperties !== undefined) fields.additionalProperties = schema.additionalProperties
  if (schema.propertyNames !== undefined) fields.propertyNames = schema.propertyNames
}

function number(value: unknown, path: string): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : malformed(path, value, 'a number')
}

function count(value: unknown, path: string): number {
  const whole = typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
  return whole ? value : malformed(path, value, 'a whole number from 0')
}

function string(value: unknown, path: string): string {
  return typeof value === 'string' ? value : malformed(path, value, 'a string')
}

const higher = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties'] as const
const lower = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties'] as const

/** Both at once; null where nothing satisfies both. Refuses what no single set of keywords can say. */
export function conjoin(a: Flat, b: Flat): Flat | null {
  const [x, y] = [a.fields, b.fields]
  const fields: Mutable = { ...x, ...y }
  for (const name of higher) if (has(x, y, name)) fields[name] = Math.max(x[name]!, y[name]!)
  for (const name of lower) if (has(x, y, name)) fields[name] = Math.min(x[name]!, y[name]!)
  for (const name of ['pattern', 'format', 'multipleOf', 'propertyNames'] as const) {
    if (!has(x, y, name) || isDeepStrictEqual(x[name], y[name])) continue
    refuse(join(b.path, name), `two of them would have to hold at once (the other at ${join(a.path, name)})`)
  }
  if (x.type && y.type) fields.type = commonTypes(x.type, y.type)
  if (fields.type?.length === 0) return null
  if (x.enum && y.enum) {
    fields.enum = x.enum.filter((value) => y.enum!.some((other) => isDeepStrictEqual(value, other)))
  }
  if (fields.enum) fields.enum = fields.enum.filter((value) => satisfies(value, fields) !== false)
  if (fields.enum?.length === 0) return null
  conjoinItems(a, b, fields)
  conjoinProperties(a, b, fields)
  return { fields, path: b.path }
}

function has(x: Fields, y: Fields, name: keyof Fields): boolean {
  return x[name] !== undefined && y[name] !== undefined
}

function commonTypes(a: readonly JsonType[], b: readonly JsonType[]): JsonType[] {
  const allows = (types: readonly JsonType[], type: JsonType): boolean =>
    types.includes(type) || (type === 'integer' && types.includes('number'))
  return jsonTypes
    .filter((type) => allows(a, type) && allows(b, type))
    .filter((type, _, all) => type !== 'integer' || !all.includes('number'))
}

function both(a: unknown, b: unknown): unknown {
  if (a === undefined || a === true) return b
  if (b === undefined || b === true || isDeepStrictEqual(a, b)) return a
  return a === false || b === false ? false : { allOf: [a, b] }
}

function conjoinItems({ fields: x }: Flat, { fields: y }: Flat, fields: Mutable): void {
  const length = Math.max(x.prefixItems?.length ?? 0, y.prefixItems?.length ?? 0)
  if (x.items !== undefined || y.items !== undefined) fields.items = both(x.items, y.items)
  if (length === 0) return
  const at = (it: Fields, i: number): unknown => it.prefixItems?.[i] ?? it.items
  fields.prefixItems = Array.from({ length }, (_, i) => both(at(x, i), at(y, i)) ?? true)
}

function conjoinProperties(a: Flat, b: Flat, fields: Mutable): void {
  const [x, y] = [a.fields, b.fields]
  if (x.required || y.required) fields.required = [...new Set([...(x.required ?? []), ...(y.required ?? [])])]
  const limits = (it: Fields): boolean =>
    it.additionalProperties !== undefined && it.additionalProperties !== true
  if ((limits(x) && y.patternProperties) || (limits(y) && x.patternProperties)) {
    refuse(
      join(b.path, 'additionalProperties'),
      'it would have to hold together with patternProperties elsewhere',
    )
  }
  if (x.patternProperties || y.patternProperties) {
    const all = new Map(x.patternProperties)
    for (const [pattern, schema] of y.patternProperties ?? [])
      all.set(pattern, both(all.get(pattern), schema))
    fields.patternProperties = all
  }
  if (x.properties || y.properties) {
    const of = (it: Fields, name: string): unknown =>
      it.properties?.has(name) ? it.properties.get(name) : it.additionalProperties
    const names = new Set([...(x.properties?.keys() ?? []), ...(y.properties?.keys() ?? [])])
    fields.properties = new Map([...names].map((name) => [name, both(of(x, name), of(y, name)) ?? true]))
  }
  if (has(x, y, 'additionalProperties')) {
    fields.additionalProperties = both(x.additionalProperties, y.additionalProperties)
  }
}
