// Microseconds a mask, with the vocabulary of DeepSeek-V2: along real texts through the grammars they belong to. Each mask
// is computed three times and the fastest counts, because these machines are shared.
import { createAcceptorsOf } from '../test/structured/masking.ts'
import { type Line, median } from './report.ts'

const person = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 60 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    email: { type: 'string', format: 'email' },
    tags: { type: 'array', items: { type: 'string' }, maxItems: 8 },
    address: {
      type: 'object',
      properties: {
        street: { type: 'string' },
        city: { type: 'string' },
        zip: { type: 'string', pattern: '^\\d{5}$' },
      },
      required: ['street', 'city'],
      additionalProperties: false,
    },
    note: { type: 'string' },
  },
  required: ['name', 'age', 'address'],
  additionalProperties: false,
}
const somebody = {
  name: 'Alice in Wonderland',
  age: 33,
  email: 'alice@example.com',
  tags: ['curious', 'tall, then small', '仙境'],
  address: { street: '12 Rabbit Hole Lane', city: 'Oxford', zip: '01234' },
  note: 'She said: "Curiouser and curiouser!"\nThe quick brown fox jumps over the lazy dog, 中文也可以.',
}

const texts = {
  'a JSON object': { outputs: { json_object: true }, text: JSON.stringify(somebody, null, 2) },
  'a schema': { outputs: { json: person }, text: JSON.stringify(somebody) },
  'a schema, indented': { outputs: { json: person }, text: JSON.stringify(somebody, null, 2) },
  'a regex': {
    outputs: { regex: '[A-Z][a-z]+( [a-z]+)*\\.' },
    text: 'The quick brown fox jumps over the lazy dog.',
  },
  'a string of up to 255': {
    outputs: { json: { type: 'string', maxLength: 255 } },
    text: JSON.stringify('The quick brown fox jumps over the lazy dog. '.repeat(5)),
  },
}

export async function benchMasks(): Promise<Line[]> {
  const measure = await createAcceptorsOf('deepseek-v2', 102_400)
  const lines: Line[] = []
  const all: number[] = []
  for (const [name, { outputs, text }] of Object.entries(texts)) {
    const { compileMs, masks } = await measure(outputs, text)
    if (!name.includes('255')) all.push(...masks)
    lines.push({ name: `${name}: compile`, value: compileMs, unit: 'ms' }, ...spread(name, masks))
  }
  return [...spread('all but the last, a mask', all), ...lines]
}

function spread(name: string, masks: readonly number[]): Line[] {
  const sorted = [...masks].sort((a, b) => a - b)
  return [
    { name: `${name}: median`, value: median(masks), unit: 'us' },
    { name: `${name}: p99`, value: sorted[Math.floor(sorted.length * 0.99)], unit: 'us' },
  ]
}
