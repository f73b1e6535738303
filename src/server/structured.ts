// The ways clients ask for structured answers, as one: OpenAI's response_format, vLLM's structured_outputs and
// guided_*, SGLang's regex, ebnf and json_schema, llama.cpp's grammar. What can be enforced is judged below.
import type { StructuredOutputs as Structure } from '../grammar/structured.ts'
import type { Fields } from './body.ts'
import { Failure } from './failure.ts'

/** Members of a request that this file reads. */
export const structureFields = [
  ...['response_format', 'structured_outputs', 'regex', 'ebnf', 'json_schema', 'grammar'],
  ...['guided_json', 'guided_regex', 'guided_choice', 'guided_grammar'],
]

const spelled: Readonly<Record<string, (value: unknown) => Structure | null>> = {
  response_format: readFormat,
  structured_outputs: (value) => value as Structure,
  regex: (value) => ({ regex: value as string }),
  ebnf: (value) => ({ grammar: value as string }),
  grammar: (value) => ({ grammar: value as string }),
  json_schema: (value) => ({ json: value as Fields }),
  guided_json: (value) => ({ json: value as Fields }),
  guided_regex: (value) => ({ regex: value as string }),
  guided_choice: (value) => ({ choice: value as readonly string[] }),
  guided_grammar: (value) => ({ grammar: value as string }),
}

/** What the answer has to look like, or null. */
export function readStructure(fields: Fields): Structure | null {
  const given = structureFields.filter((name) => (fields[name] ?? null) !== null && fields[name] !== '')
  const wanted = given.flatMap((name) => {
    const structure = spelled[name](fields[name])
    return structure === null ? [] : [{ name, structure }]
  })
  if (wanted.length > 1) {
    const names = wanted.map(({ name }) => name).join(' and ')
    throw new Failure(400, `${names} each ask for a structure; an answer can have one, send one of them`, {
      param: wanted[1].name,
    })
  }
  return wanted[0]?.structure ?? null
}

function readFormat(value: unknown): Structure | null {
  const wanted = `{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"name", "schema"}}`
  const refuse = (what: string): Failure =>
    new Failure(400, `${what}; response_format must be ${wanted}`, { param: 'response_format' })
  if (typeof value !== 'object' || value === null) throw refuse(`response_format is ${JSON.stringify(value)}`)
  const { type, json_schema, schema } = value as Fields
  if (type === 'text') return null
  // llama.cpp takes a schema beside json_object
  if (type === 'json_object')
    return schema === undefined || schema === null ? { json_object: true } : { json: schema as Fields }
  if (type !== 'json_schema') throw refuse(`response_format.type is ${JSON.stringify(type)}`)
  const inner = (json_schema ?? value) as Fields
  if (typeof inner !== 'object' || (inner.schema ?? null) === null) {
    throw refuse('response_format.json_schema has no schema')
  }
  return { json: inner.schema as Fields }
}
