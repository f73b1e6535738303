// Sixty schemas whose answers are short: what extraction, classification and tool calls ask for, and the odd corners.

type Schema = Record<string, unknown>

const closed = (properties: Schema, optional: readonly string[] = []): Schema => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
  additionalProperties: false,
})
const word = { type: 'string', maxLength: 12 }
const text = { type: 'string', minLength: 1, maxLength: 30 }
const age = { type: 'integer', minimum: 0, maximum: 120 }
const few = (items: Schema, maxItems = 3, minItems = 0): Schema => ({
  type: 'array',
  items,
  minItems,
  maxItems,
})
const of = (...values: readonly unknown[]): Schema => ({ enum: values })

export function sixty(): readonly Schema[] {
  return [...flat, ...numbers, ...strings, ...lists, ...nested, ...combined, ...objects]
}

const flat: readonly Schema[] = [
  closed({ name: word, age }),
  closed({ name: word, age, city: word }, ['city']),
  closed({ ok: { type: 'boolean' } }),
  closed({ nothing: { type: 'null' } }),
  closed({ label: of('positive', 'negative', 'neutral'), score: { type: 'number', minimum: 0, maximum: 1 } }),
  closed({ 'first name': word, 'e-mail': { type: 'string', format: 'email', maxLength: 40 } }),
  closed({ é: word, 日本: of('東京', '大阪') }),
  closed({ a: of(1), b: of(2), c: of(3) }, ['a', 'b', 'c']),
  closed({ 'quote"': word, 'back\\slash': word, 'tab\t': word }),
  closed({ x: { type: ['integer', 'null'], minimum: -9, maximum: 9 } }),
]

const numbers: readonly Schema[] = [
  { type: 'integer' },
  { type: 'integer', minimum: 1000, maximum: 1999 },
  { type: 'integer', exclusiveMinimum: -5, exclusiveMaximum: 5 },
  { type: 'number' },
  { type: 'number', minimum: -1.5, maximum: 1.5 },
  { type: 'number', exclusiveMinimum: 0, maximum: 100 },
  { type: 'integer', multipleOf: 10 },
  of(3, 1.5, -2),
]

const strings: readonly Schema[] = [
  word,
  text,
  { type: 'string', pattern: '^[A-Z][a-z]{2,8}$' },
  { type: 'string', pattern: '^(red|green|blue)-\\d{1,3}$' },
  { type: 'string', pattern: 'cat', maxLength: 12 },
  { type: 'string', pattern: '^[^"\\\\]{1,10}$' },
  { type: 'string', format: 'date' },
  { type: 'string', format: 'time' },
  { type: 'string', format: 'date-time' },
  { type: 'string', format: 'uuid' },
  { type: 'string', format: 'ipv4' },
  { type: 'string', minLength: 3, maxLength: 5 },
  of('yes', 'no', 'yes, but', ''),
]

const lists: readonly Schema[] = [
  few(word),
  few(age, 5, 2),
  few(of('a', 'b', 'c'), 4, 4),
  few({ type: 'boolean' }, 3, 1),
  { type: 'array', prefixItems: [word, age, { type: 'boolean' }], items: false, minItems: 3 },
  {
    type: 'array',
    prefixItems: [of('point')],
    items: { type: 'integer', minimum: 0, maximum: 99 },
    minItems: 3,
    maxItems: 3,
  },
  few(few(of(0, 1), 2, 2), 2, 2),
  { type: 'array', maxItems: 0 },
]

const nested: readonly Schema[] = [
  closed({ person: closed({ name: word, age }), tags: few(word, 2) }),
  closed({ a: closed({ b: closed({ c: of('deep') }) }) }),
  closed({ rows: few(closed({ id: age, done: { type: 'boolean' } }), 2, 1) }),
  {
    ...closed({ who: { $ref: '#/$defs/who' }, other: { $ref: '#/$defs/who' } }),
    $defs: { who: closed({ name: word }) },
  },
  {
    ...closed({ value: age, next: { anyOf: [{ type: 'null' }, { $ref: '#' }] } }),
    title: 'a list that ends',
  },
  closed({ tool: of('search', 'open'), arguments: closed({ query: text }) }),
  closed({ items: few(closed({ name: word, price: { type: 'number', minimum: 0, maximum: 999 } }), 2) }),
]

const combined: readonly Schema[] = [
  { anyOf: [{ type: 'null' }, closed({ name: word })] },
  { anyOf: [word, age, { type: 'boolean' }] },
  { oneOf: [closed({ kind: of('circle'), radius: age }), closed({ kind: of('square'), side: age })] },
  {
    allOf: [
      { type: 'object', properties: { a: age }, required: ['a'] },
      { properties: { b: word }, required: ['b'], maxProperties: 2 },
    ],
  },
  { allOf: [{ type: 'integer', minimum: 3 }, { maximum: 7 }] },
  {
    type: 'object',
    properties: { a: age, b: age },
    additionalProperties: false,
    anyOf: [{ required: ['a'] }, { required: ['b'] }],
  },
  { type: ['object', 'null'], properties: { a: age }, additionalProperties: false, minProperties: 1 },
  { const: { fixed: [1, 'two', null] } },
]

const objects: readonly Schema[] = [
  { type: 'object', additionalProperties: { type: 'integer', minimum: 0, maximum: 9 }, maxProperties: 3 },
  {
    type: 'object',
    properties: { name: word },
    required: ['name'],
    additionalProperties: { type: 'boolean' },
    maxProperties: 3,
  },
  {
    type: 'object',
    patternProperties: { '^x-[a-z]{1,4}$': word },
    additionalProperties: false,
    maxProperties: 2,
  },
  { type: 'object', propertyNames: { enum: ['up', 'down'] }, additionalProperties: age, maxProperties: 2 },
  { type: 'object', properties: { a: age, b: age, c: age }, minProperties: 2, additionalProperties: false },
  { type: 'object', required: ['only'], maxProperties: 1, additionalProperties: of('here') },
]
