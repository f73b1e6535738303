// Each keyword by itself: what it lets through and what it does not, asked of the real grammar; and each refusal with the
// path that it names.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { keywords, verdict } from '../../src/grammar/keywords.ts'
import { answerGrammar, checkOutputs, type StructuredOutputs } from '../../src/grammar/structured.ts'
import { RequestError } from '../../src/tensor/error.ts'
import { createAcceptors } from './acceptor.ts'

const open = await createAcceptors()
type Schema = Record<string, unknown>

/** A keyword, a schema with it, texts that are taken and texts that are not. */
const cases: readonly (readonly [string, Schema, readonly string[], readonly string[]])[] = [
  ['type', { type: ['integer', 'null'] }, ['1', '-20', 'null'], ['1.5', '"a"', 'true', '01', '']],
  [
    'enum',
    { enum: ['a', 1, null, { b: [2] }] },
    ['"a"', '1', 'null', '{"b":[2]}'],
    ['"b"', '2', '{"b":[3]}'],
  ],
  ['enum', { enum: ['a', 'ab', 3], type: 'string', minLength: 2 }, ['"ab"'], ['"a"', '3']],
  ['const', { const: 'é"\\' }, [JSON.stringify('é"\\')], ['"é"']],
  ['$ref', { $ref: '#/$defs/a', $defs: { a: { type: 'null' } } }, ['null'], ['1']],
  [
    '$ref',
    {
      type: 'object',
      properties: { v: { type: 'integer' }, next: { $ref: '#' } },
      required: ['v'],
      additionalProperties: false,
    },
    ['{"v":1}', '{"v":1,"next":{"v":2,"next":{"v":3}}}'],
    ['{"v":1,"next":{}}', '{"next":{"v":1}}'],
  ],
  ['allOf', { allOf: [{ type: 'integer', minimum: 3 }, { maximum: 5 }] }, ['3', '5'], ['2', '6']],
  ['anyOf', { anyOf: [{ type: 'null' }, { const: 'x' }] }, ['null', '"x"'], ['"y"']],
  [
    'oneOf',
    {
      oneOf: ['a', 'b'].map((kind) => ({
        type: 'object',
        properties: { kind: { const: kind }, [kind]: { type: 'null' } },
        required: ['kind', kind],
        additionalProperties: false,
      })),
    },
    ['{"kind":"a","a":null}', '{"kind":"b","b":null}'],
    ['{"kind":"a","b":null}', '{"kind":"c"}'],
  ],
  [
    'properties',
    { properties: { a: { type: 'null' }, b: { type: 'boolean' } }, type: 'object' },
    ['{}', '{"a":null}', '{"b":true}', '{"a": null, "b": false}', '{"a":null,"c":[1]}', '{\n  "a": null\n}'],
    ['{"a":1}', '{"b":null}', '{"a":null,"a":1}', '{ }', '{"a":null,}', '{"a":  null}', '{\n\n"a":null}'],
  ],
  ['required', { type: 'object', required: ['x'] }, ['{"x":1}', '{"x":1,"y":2}'], ['{}', '{"y":1}']],
  [
    'additionalProperties',
    { type: 'object', properties: { ab: {} }, additionalProperties: { type: 'integer' } },
    ['{"ab":"s","a":1,"abc":2,"b":3}', '{"ab":1}', '{"é":1}'],
    ['{"a":"s"}', '{"ab":1,"ab":2}', '{"\\u0061b":"s"}'],
  ],
  [
    'additionalProperties',
    {
      type: 'object',
      properties: { é: { type: 'null' }, 'a"': { type: 'null' } },
      additionalProperties: { type: 'integer' },
    },
    ['{"é":null}', '{"e":1}', '{"a\\"":null}', '{"a\\"b":1}'],
    ['{"é":1}', '{"a\\"":1}', '{"a\\u0022":1}'],
  ],
  [
    'patternProperties',
    { type: 'object', patternProperties: { '^x-': { type: 'integer' } }, additionalProperties: false },
    ['{}', '{"x-a":1,"x-":2}'],
    ['{"y":1}', '{"x-a":"s"}'],
  ],
  [
    'propertyNames',
    { type: 'object', propertyNames: { pattern: '^[a-z]+$' } },
    ['{"a":1}'],
    ['{"A":1}', '{"":1}'],
  ],
  ['minProperties', { type: 'object', minProperties: 1 }, ['{"a":1}'], ['{}']],
  [
    'minProperties',
    { type: 'object', properties: { a: {}, b: {}, c: {} }, minProperties: 2, additionalProperties: false },
    ['{"a":1,"b":2}', '{"a":1,"b":2,"c":3}'],
    ['{}', '{"a":1}', '{"c":1}'],
  ],
  ['maxProperties', { type: 'object', maxProperties: 1 }, ['{}', '{"a":1}'], ['{"a":1,"b":2}']],
  ['items', { type: 'array', items: { type: 'integer' } }, ['[]', '[1]', '[1, 2]'], ['["a"]', '[1,]', '[,]']],
  [
    'prefixItems',
    { prefixItems: [{ type: 'null' }, {}], items: false },
    ['[]', '[null]', '[null,3]'],
    ['[1]', '[null,3,4]'],
  ],
  ['additionalItems', { items: [{}], additionalItems: { type: 'null' } }, ['[1,null]'], ['[1,2]']],
  ['minItems', { type: 'array', items: { const: 1 }, minItems: 2 }, ['[1,1]', '[1,1,1]'], ['[]', '[1]']],
  ['maxItems', { type: 'array', items: { const: 1 }, maxItems: 2 }, ['[]', '[1]', '[1,1]'], ['[1,1,1]']],
  ['uniqueItems', { type: 'array', uniqueItems: true, maxItems: 1 }, ['[]', '[1]'], ['[1,1]']],
  [
    'minLength',
    { type: 'string', minLength: 2 },
    ['"ab"', '"中文"', '"😀a"', '"\\n\\u00e9"'],
    ['"a"', '"😀"', '""'],
  ],
  ['maxLength', { type: 'string', maxLength: 2 }, ['""', '"ab"', '"😀😀"'], ['"abc"']],
  [
    'maxLength',
    { type: 'string', minLength: 100, maxLength: 150 },
    [100, 130, 150].map(long),
    [99, 151].map(long),
  ],
  [
    'pattern',
    { type: 'string', pattern: '^a.c$' },
    ['"abc"', '"a\\"c"', '"a中c"'],
    ['"abcd"', '"a\\nc"', '"ac"'],
  ],
  ['pattern', { type: 'string', pattern: 'b+' }, ['"b"', '"abbc"'], ['"a"', '""']],
  [
    'pattern',
    { pattern: '^[a-z]\\w*$', type: 'string', maxLength: 3, minLength: 2 },
    ['"ab"', '"a_9"'],
    ['"a"', '"abcd"', '"9a"'],
  ],
  [
    'format',
    { type: 'string', format: 'date' },
    ['"2024-02-28"', '"1999-12-31"'],
    ['"2024-02-30"', '"2024-13-01"', '"today"'],
  ],
  ['format', { type: 'string', format: 'uuid' }, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123e4567"']],
  ['format', { type: 'integer', format: 'int32' }, ['2147483647', '-2147483648'], ['2147483648']],
  ['minimum', { type: 'integer', minimum: -3 }, ['-3', '0', '99'], ['-4', '-30']],
  ['minimum', { type: 'number', minimum: 1.25 }, ['1.25', '1.3', '2', '1.250'], ['1.24', '1', '0.5', '-2']],
  [
    'maximum',
    { maximum: 300, type: 'number' },
    ['300', '300.00', '299.99', '-5.5'],
    ['300.5', '301', '1000', '300.01'],
  ],
  ['exclusiveMinimum', { type: 'number', exclusiveMinimum: 0 }, ['0.1', '1'], ['0', '0.0', '-0', '-1']],
  ['exclusiveMaximum', { type: 'integer', exclusiveMaximum: 10, minimum: 8 }, ['8', '9'], ['10', '7']],
  ['multipleOf', { type: 'integer', multipleOf: 100 }, ['0', '100', '-2500'], ['10', '150']],
  ['divisibleBy', { type: 'number', divisibleBy: 1 }, ['3'], ['3.5']],
]

function long(length: number): string {
  return JSON.stringify('x'.repeat(length))
}

/** Refused schemas and the path that the message names. */
const refusals: readonly (readonly [Schema, string])[] = [
  [{ properties: { age: { multipleOf: 7 } } }, '$.properties.age.multipleOf'],
  [{ properties: { 'a b': { not: { type: 'null' } } } }, '$.properties["a b"].not'],
  [{ items: { if: {}, else: {} } }, '$.items.if'],
  [{ $defs: { a: { contains: {} } }, $ref: '#/$defs/a' }, '$.$defs.a.contains'],
  [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, '$.oneOf'],
  [{ type: 'array', uniqueItems: true }, '$.uniqueItems'],
  [{ type: 'array', minItems: 1e6 }, '$.minItems'],
  [{ type: 'string', minLength: 1e9 }, '$.minLength'],
  [{ type: 'string', pattern: '^(?=a)b' }, '$.pattern'],
  [{ type: 'string', pattern: '(a)\\1' }, '$.pattern'],
  [{ type: 'string', pattern: '((a{1000}){1000}){1000}' }, '$.pattern'],
  [{ type: 'string', format: 'idn-email' }, '$.format'],
  [{ $ref: 'https://example.com/other.json' }, '$.$ref'],
  [{ dependentRequired: { a: ['b'] } }, '$.dependentRequired'],
  [{ unevaluatedProperties: false }, '$.unevaluatedProperties'],
  [{ $ref: '#' }, '$'],
  [{ type: 'integer', minimum: 3, maximum: 2 }, '$'],
  [{ type: 'objekt' }, '$.type'],
  [{ properties: { a: { minimum: '3' } } }, '$.properties.a.minimum'],
]

describe('keywords', () => {
  for (const [keyword, schema, taken, refused] of cases) {
    it(`${keyword}: ${JSON.stringify(schema).slice(0, 90)}`, async () => {
      const acceptor = await open({ json: schema })
      for (const text of taken) assert.equal(await acceptor.accepts(text), true, `takes ${text}`)
      for (const text of refused) assert.equal(await acceptor.accepts(text), false, `does not take ${text}`)
      acceptor.close()
    })
  }

  it('every enforced keyword has a case', () => {
    const tried = new Set(cases.map(([keyword]) => keyword))
    assert.deepEqual(
      keywords.filter((keyword) => verdict(keyword) === 'enforced' && !tried.has(keyword)),
      [],
    )
  })

  it('what cannot be enforced is refused, by its path', () => {
    for (const [schema, path] of refusals) {
      assert.throws(
        () => answerGrammar({ json: schema }),
        (error) =>
          error instanceof RequestError &&
          error.field === 'structured_outputs.json' &&
          error.message.startsWith(`structured_outputs.json: ${path} `),
        JSON.stringify(schema),
      )
    }
  })

  it('annotations and words of nobody change nothing', async () => {
    const plain = answerGrammar({ json: { type: 'integer' } }).text
    const noted = {
      type: 'integer',
      title: 't',
      description: 'd',
      default: 3,
      examples: [],
      'x-own': 1,
      format: 'color',
    }
    assert.equal(answerGrammar({ json: noted }).text, plain)
  })

  it('a bomb is refused before it costs anything', () => {
    let nested: Schema = { type: 'null' }
    for (let i = 0; i < 300; i++) nested = { type: 'array', items: nested }
    const doubling = Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [
        `d${i}`,
        {
          allOf: [
            { anyOf: [{ type: 'null' }, { $ref: `#/$defs/d${i + 1}` }] },
            { anyOf: [{ $ref: `#/$defs/d${i + 1}` }, { const: i }] },
          ],
        },
      ]),
    )
    const many = Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`property number ${i}`, {}]))
    const started = performance.now()
    for (const json of [nested, { properties: many }]) {
      assert.throws(() => checkOutputs({ json }), RequestError)
    }
    assert.throws(() => answerGrammar({ json: { $ref: '#/$defs/d0', $defs: doubling } }), RequestError)
    assert.ok(performance.now() - started < 20_000)
  })
})

describe('structured_outputs', () => {
  it('exactly one kind', () => {
    const given: readonly unknown[] = [
      {},
      { json: {}, regex: 'a' },
      { json_object: false },
      [],
      'json',
      { jsonn: {} },
    ]
    for (const value of given) {
      assert.throws(
        () => checkOutputs(value),
        (error) => error instanceof RequestError && error.field?.startsWith('structured_outputs') === true,
        JSON.stringify(value),
      )
    }
  })

  const kinds: readonly (readonly [StructuredOutputs, readonly string[], readonly string[]])[] = [
    [
      { json_object: true },
      ['{}', '{"a":[1,{"b":null}]}', '{\n  "a": 1\n}'],
      ['', ' ', '[]', '1', '{\n\n}', '{}\n'],
    ],
    [{ json: true }, ['1', '[]', '"a"'], ['', 'a']],
    [{ json: '{"type":"null"}' }, ['null'], ['1']],
    [{ regex: '(yes|no)!?' }, ['yes', 'no!'], ['yes no', 'maybe', '']],
    [{ regex: '^[a-c]{2,3}$|x' }, ['ab', 'abc', 'x'], ['a', 'abcd', 'xx']],
    [{ choice: ['a', 'ab', 'b"\\n'] }, ['a', 'ab', 'b"\\n'], ['b', 'abb']],
    [{ grammar: 'root ::= "a" root | "b"' }, ['b', 'aab'], ['a', 'ba']],
  ]
  for (const [outputs, taken, refused] of kinds) {
    it(JSON.stringify(outputs), async () => {
      const acceptor = await open(outputs)
      for (const text of taken)
        assert.equal(await acceptor.accepts(text), true, `takes ${JSON.stringify(text)}`)
      for (const text of refused)
        assert.equal(await acceptor.accepts(text), false, `not ${JSON.stringify(text)}`)
      acceptor.close()
    })
  }
})
