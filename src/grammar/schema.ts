// A JSON schema -> a grammar of texts that satisfy it, all of them valid: keywords are enforced exactly or refused with
// their path. Some valid texts are left out on purpose: properties come in the order in which they are declared, then
// others; keywords without a type speak of their own type only; whitespace is bounded.
import { choice, createRules, type Expr, never, type Rules, sequence, text } from './expr.ts'
import type { Fields, Flat, JsonType } from './fields.ts'
import { type Alternative, createFlattener, type Flattener } from './flat.ts'
import { formats } from './format.ts'
import { createJson, type JsonSetting, type Mark } from './json.ts'
import { join, refuse } from './keywords.ts'
import { type Bound, decimals, integers, rounded } from './number.ts'
import { objectOf } from './object.ts'
import { type Pattern, parsePattern } from './regex.ts'
import { regular } from './regular.ts'
import { satisfies } from './value.ts'
import type { Writer } from './writer.ts'

export interface Grammar {
  readonly text: string
  /** Letters that no answer may contain, wherever in it. */
  readonly barred: string
  readonly marks: readonly Mark[]
}

/** Items and characters beyond which counts are refused below and cut above. */
export const mostCounted = 4096

export interface Setting extends JsonSetting {
  /** What may stand before the text (a template's space). */
  readonly lead?: string
}

export function schemaGrammar(schema: unknown, { lead = '', ...setting }: Setting = {}): Grammar {
  const rules = createRules()
  const flattener = createFlattener(schema)
  const { writer, barred } = createWriter(rules, flattener, setting)
  const root = writer.write(schema, '$')
  const printed = rules.print(sequence(choice(text(''), text(lead)), root))
  if (printed === null)
    refuse('$', 'no finite text satisfies the schema; look for contradictions and endless references')
  return { text: printed, barred: barred(), marks: writer.json.marks() }
}

function createWriter(
  rules: Rules,
  flattener: Flattener,
  setting: JsonSetting,
): { writer: Writer; barred: () => string } {
  const json = createJson(rules, setting)
  const references = new Map<string, Expr>()
  const barred = new Set<string>()
  const writer: Writer = { json, rules, write, pattern }

  function pattern(source: string, path: string): Pattern {
    const parsed = parsePattern(source, path)
    for (const letter of parsed.barred) barred.add(letter)
    return parsed
  }

  function write(schema: unknown, path: string): Expr {
    return choice(...flattener.flatten(schema, path).map((it) => alternative(it)))
  }

  function alternative(it: Alternative): Expr {
    if (it.ref === null) return rules.define(flatExpr(it.flat))
    const path = flattener.pathOf(it.ref)
    const known = references.get(path)
    if (known) return known
    const { rule, fill } = rules.reserve()
    references.set(path, rule)
    fill(write(flattener.resolve(it.ref, '$'), path))
    return rule
  }

  function flatExpr(flat: Flat): Expr {
    if (flat.fields.enum) return enumExpr(flat, rules)
    const types = flat.fields.type ?? spokenTypes(flat.fields)
    return types === null ? json.value : choice(...types.map((type) => ofType(type, flat)))
  }

  function ofType(type: JsonType, flat: Flat): Expr {
    switch (type) {
      case 'null':
        return text('null')
      case 'boolean':
        return choice(text('true'), text('false'))
      case 'string':
        return stringOf(flat, writer)
      case 'integer':
      case 'number':
        return numberOf(type, flat, writer)
      case 'array':
        return arrayOf(flat, writer)
      case 'object':
        return objectOf(flat, writer)
    }
  }

  return { writer, barred: () => [...barred].join('') }
}

function enumExpr({ fields, path }: Flat, rules: Rules): Expr {
  const kept = fields.enum!.filter((value) => {
    const verdict = satisfies(value, fields)
    if (verdict === null)
      refuse(join(path, 'enum'), 'the keywords beside it say more than a type; list only what they allow')
    return verdict
  })
  return regular(choice(...kept.map((value) => text(JSON.stringify(value)))), rules)
}

/** Keywords without a type speak of one: that is what is written. */
function spokenTypes(fields: Fields): readonly JsonType[] | null {
  const names = Object.keys(fields)
  const some = (...words: readonly string[]): boolean => words.some((word) => names.includes(word))
  const types: JsonType[] = []
  if (
    some('properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames') ||
    some('minProperties', 'maxProperties')
  )
    types.push('object')
  if (some('items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems')) types.push('array')
  if (some('minLength', 'maxLength', 'pattern', 'format')) types.push('string')
  if (some('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf')) types.push('number')
  return types.length > 0 ? types : null
}

function stringOf({ fields, path }: Flat, { json, pattern }: Writer): Expr {
  const { minLength: least = 0, maxLength } = fields
  if (least > mostCounted)
    refuse(join(path, 'minLength'), `it is ${least}, at most ${mostCounted} characters are counted`)
  const most = maxLength === undefined ? null : Math.min(maxLength, mostCounted)
  if (most !== null && most < least) return never
  if (fields.pattern === undefined && fields.format === undefined) return json.stringOf(least, most)
  if (fields.pattern !== undefined && fields.format !== undefined) {
    refuse(join(path, 'format'), 'it stands beside a pattern; keep one of them')
  }
  const keyword = fields.pattern === undefined ? 'format' : 'pattern'
  const source = fields.pattern ?? `^(?:${formats[fields.format!]})$`
  const parsed = pattern(source, join(path, keyword))
  const body = json.inString(parsed.found, least, most)
  if (body === null) {
    const counted =
      fields.maxLength !== undefined ? 'maxLength' : fields.minLength !== undefined ? 'minLength' : keyword
    refuse(
      join(path, counted),
      'pattern and length together come to too many states; use smaller counts or simpler sets',
    )
  }
  return sequence(text('"'), body, text('"'))
}

function numberOf(type: 'integer' | 'number', { fields, path }: Flat, { json, rules }: Writer): Expr {
  const { multipleOf: step } = fields
  const low = tighter(fields.minimum, fields.exclusiveMinimum, (a, b) => a > b)
  const high = tighter(fields.maximum, fields.exclusiveMaximum, (a, b) => a < b)
  if (step === undefined || step === 1 || (type === 'integer' && 1 / step === Math.round(1 / step))) {
    if (type === 'integer' || step === 1) return regular(integers(low, high), rules)
    if (low === null && high === null) return json.number
    const expr = decimals(low, high)
    if (expr !== null) return regular(expr, rules)
    return refuse(join(path, boundName(fields)), 'it has more digits than can be compared; round it')
  }
  const zeros = Math.log10(step)
  if (Number.isInteger(zeros) && zeros > 0 && zeros < 12 && low === null && high === null)
    return regular(rounded(zeros), rules)
  return refuse(
    join(path, 'multipleOf'),
    `it is ${step}; only 1, 10, 100 and so on are enforced, without bounds beside them`,
  )
}

function boundName(fields: Fields): string {
  const names = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const
  return names.find((name) => fields[name] !== undefined) ?? 'minimum'
}

function tighter(
  inclusive: number | undefined,
  exclusive: number | undefined,
  beats: (a: number, b: number) => boolean,
): Bound | null {
  if (inclusive === undefined && exclusive === undefined) return null
  const strict = exclusive !== undefined && (inclusive === undefined || !beats(inclusive, exclusive))
  return strict ? { value: exclusive, exclusive: true } : { value: inclusive!, exclusive: false }
}

function arrayOf({ fields, path }: Flat, { json, write, rules }: Writer): Expr {
  const { minItems: least = 0, prefixItems = [], items = true, uniqueItems } = fields
  if (least > mostCounted)
    refuse(join(path, 'minItems'), `it is ${least}, at most ${mostCounted} items are counted`)
  if (uniqueItems && (fields.maxItems === undefined || fields.maxItems > 1)) {
    refuse(join(path, 'uniqueItems'), 'no grammar compares items; leave it out, or give maxItems 1')
  }
  const counted = fields.maxItems === undefined ? null : Math.min(fields.maxItems, mostCounted)
  const most = items === false ? Math.min(counted ?? Infinity, prefixItems.length) : counted
  if (most !== null && most < least) return never
  const heads = prefixItems
    .slice(0, most ?? undefined)
    .map((item, i) => write(item, join(join(path, 'prefixItems'), i)))
  const tail =
    items === false || (most !== null && most <= heads.length) ? never : write(items, join(path, 'items'))
  if (heads.length === 0) return most === 0 ? text('[]') : json.list('[', tail, least, most, ']')
  const comma = (item: Expr): Expr => sequence(text(','), json.gap, item)
  const left = (count: number): number => Math.max(count - heads.length, 0)
  const more = choice(...(left(least) === 0 ? [text('')] : []), {
    kind: 'repeat',
    of: comma(tail),
    least: Math.max(left(least), 1),
    most: most === null ? null : Math.max(left(most), 1),
  })
  let rest = tail === never ? (left(least) === 0 ? text('') : never) : more
  for (let i = heads.length - 1; i > 0; i--) {
    const on = sequence(comma(heads[i]), rest)
    rest = rules.define(i >= least ? choice(text(''), on) : on)
  }
  const filled = sequence(text('['), json.gap, heads[0], rest, json.gap, text(']'))
  return least === 0 ? choice(text('[]'), filled) : filled
}
