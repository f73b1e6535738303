// Objects: declared members in their order, each needed or not, then others whose names are none of the declared ones.
import { choice, type Expr, never, repeat, sequence, text } from './expr.ts'
import type { Fields, Flat } from './fields.ts'
import { join, refuse } from './keywords.ts'
import { matches } from './value.ts'
import type { Writer } from './writer.ts'

interface Member {
  readonly name: string
  readonly needed: boolean
  readonly pair: Expr
}

export function objectOf(flat: Flat, writer: Writer): Expr {
  const { fields, path } = flat
  const { minProperties: least = 0, maxProperties: most = Infinity } = fields
  const others = othersOf(flat, writer)
  const all = membersOf(flat, writer)
  const needed = all.filter((member) => member.needed).length
  if (needed > most) return never
  // fewer may be wanted than are declared: optional ones give way, which leaves out some objects and adds none
  let spare = most - needed
  const members = all.filter((member) => member.needed || spare-- > 0)
  const promoted = atLeast(members, least)
  const missing = least - promoted.filter((member) => member.needed).length
  const anyDoes = least === 1 && promoted.length > 0
  if (missing > 0 && !anyDoes && others === never) return never
  // the same name may come twice among others, so that they count as one member at most
  if (missing > 1) {
    refuse(
      join(path, 'minProperties'),
      `it is ${least}, more than the properties that are declared; declare them`,
    )
  }
  const room = most === Infinity ? null : most - promoted.length
  return between(promoted, room === 0 ? never : others, room, least, writer)
}

/** The first optional members become needed where members are counted: again fewer objects, all of them valid. */
function atLeast(members: readonly Member[], least: number): readonly Member[] {
  let missing = least - members.filter((member) => member.needed).length
  if (least === 1 && missing === 1) return members // any one of them: said by the grammar itself
  return members.map((member) => (!member.needed && missing-- > 0 ? { ...member, needed: true } : member))
}

function between(
  members: readonly Member[],
  others: Expr,
  room: number | null,
  least: number,
  { json, rules }: Writer,
): Expr {
  const comma = (pair: Expr): Expr => sequence(text(','), json.gap, pair)
  const sure = members.filter((member) => member.needed).length
  const open = others !== never
  const more = (most: number | null): Expr => (open ? repeat(comma(others), 0, most) : text(''))
  const forced = sure < least && sure > 0 // one other member on top of those that are needed
  let rest = rules.define(forced ? repeat(comma(others), 1, room) : more(room))
  let first: Expr = open ? sequence(others, more(room === null ? null : room - 1)) : never
  for (const { needed, pair } of [...members].reverse()) {
    const start = sequence(pair, rest)
    const next = sequence(comma(pair), rest)
    rest = rules.define(needed ? next : choice(next, rest))
    first = needed ? start : choice(start, rules.define(first)) // a rule: names that begin alike must not overlap
  }
  const filled = sequence(text('{'), json.gap, first, json.gap, text('}'))
  return sure === 0 && least === 0 ? choice(text('{}'), filled) : filled
}

function membersOf({ fields, path }: Flat, writer: Writer): readonly Member[] {
  const needed = new Set(fields.required)
  const names = new Set([...(fields.properties?.keys() ?? []), ...needed])
  return [...names]
    .map((name) => {
      const schemas = schemasFor(name, fields)
      const at = join(join(path, 'properties'), name)
      const schema = schemas.length === 1 ? schemas[0] : { allOf: schemas }
      if (!nameAllowed(name, flatNames(fields, path))) return { name, needed: needed.has(name), pair: never }
      return { name, needed: needed.has(name), pair: writer.json.pair(name, writer.write(schema, at)) }
    })
    .filter((member) => member.needed || member.pair !== never)
}

function schemasFor(name: string, fields: Fields): readonly unknown[] {
  const own = fields.properties?.has(name) ? [fields.properties.get(name)] : []
  const patterned = [...(fields.patternProperties ?? [])].filter(([pattern]) => matches(pattern, name))
  const all = [...own, ...patterned.map(([, schema]) => schema)]
  return all.length > 0 ? all : [fields.additionalProperties ?? true]
}

/** What propertyNames says, as far as it is enforced. */
interface Names {
  readonly pattern: string | null
  readonly listed: readonly string[] | null
}

function flatNames({ propertyNames }: Fields, path: string): Names {
  if (propertyNames === undefined || propertyNames === true) return { pattern: null, listed: null }
  const at = join(path, 'propertyNames')
  if (typeof propertyNames !== 'object' || propertyNames === null)
    refuse(at, 'only a pattern or an enum is enforced')
  const { type = 'string', pattern, enum: listed, ...rest } = propertyNames as Record<string, unknown>
  const notes = ['description', 'title', '$comment', 'examples']
  const further = Object.keys(rest).filter((word) => !notes.includes(word))
  if (type !== 'string' || further.length > 0 || (pattern !== undefined && listed !== undefined)) {
    refuse(join(at, further[0] ?? 'type'), 'only a pattern or an enum is enforced')
  }
  if (pattern !== undefined && typeof pattern !== 'string') refuse(join(at, 'pattern'), 'it must be a string')
  if (listed !== undefined && !Array.isArray(listed)) refuse(join(at, 'enum'), 'it must be a list')
  const names = (listed as unknown[] | undefined)?.filter((name) => typeof name === 'string') ?? null
  return { pattern: (pattern as string | undefined) ?? null, listed: names }
}

function nameAllowed(name: string, { pattern, listed }: Names): boolean {
  return (pattern === null || matches(pattern, name)) && (listed === null || listed.includes(name))
}

const catchAll = ['', '.*', '^.*$', '^.*', '.*$', '[\\s\\S]*', '^']

/** One further member, or never. */
function othersOf({ fields, path }: Flat, writer: Writer): Expr {
  const { json } = writer
  const declared = [...new Set([...(fields.properties?.keys() ?? []), ...(fields.required ?? [])])]
  const names = flatNames(fields, path)
  const patterns = [...(fields.patternProperties ?? [])]
  const additional = fields.additionalProperties ?? true
  if (patterns.length === 0) {
    if (additional === false) return never
    const value = writer.write(additional, join(path, 'additionalProperties'))
    if (names.listed) {
      return choice(
        ...names.listed.filter((name) => !declared.includes(name)).map((name) => json.pair(name, value)),
      )
    }
    if (names.pattern === null) return json.otherPair(declared, value)
    return keyed(names.pattern, join(join(path, 'propertyNames'), 'pattern'), value, declared, writer)
  }
  const at = join(path, 'patternProperties')
  if (names.pattern !== null || names.listed !== null)
    refuse(at, 'it stands beside propertyNames; keep one of them')
  if (patterns.length === 1 && catchAll.includes(patterns[0][0])) {
    return json.otherPair(declared, writer.write(patterns[0][1], join(at, patterns[0][0])))
  }
  if (new Set(patterns.map(([, schema]) => JSON.stringify(schema))).size > 1) {
    refuse(at, 'its patterns may match one name at once; keep one of them')
  }
  const [pattern, schema] = patterns[0]
  return keyed(pattern, join(at, pattern), writer.write(schema, join(at, pattern)), declared, writer)
}

/** Names that match a pattern; none where a declared one matches too, which would be a second member of that name. */
function keyed(
  pattern: string,
  path: string,
  value: Expr,
  declared: readonly string[],
  { json, pattern: parse }: Writer,
): Expr {
  if (declared.some((name) => matches(pattern, name))) return never
  const key = json.inString(parse(pattern, path).found, 0, null)
  return key === null
    ? refuse(path, 'it comes to too many states; use smaller counts')
    : json.keyedPair(key, value)
}
