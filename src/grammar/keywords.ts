// Every keyword of JSON Schema (drafts 4 to 2020-12) and what becomes of it: enforced by the grammar, an annotation that
// asserts nothing, or refused because no grammar here says exactly what it says. Words outside the table are annotations,
// as the specification has it.
import { RequestError } from '../tensor/error.ts'

export type Verdict = 'enforced' | 'annotation' | 'refused'

const verdicts: Readonly<Record<Verdict, readonly string[]>> = {
  enforced: [
    ...['type', 'enum', 'const', '$ref', 'allOf', 'anyOf', 'oneOf'],
    ...['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames'],
    ...['minProperties', 'maxProperties'],
    ...['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems', 'uniqueItems'],
    ...['minLength', 'maxLength', 'pattern', 'format'],
    ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf', 'divisibleBy'],
  ],
  annotation: [
    ...['$schema', '$id', 'id', '$anchor', '$comment', '$defs', 'definitions', '$vocabulary'],
    ...['title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
    ...['contentEncoding', 'contentMediaType', 'contentSchema'],
    ...['minContains', 'maxContains'], // they count for `contains`, which is refused
    ...['then', 'else'], // likewise `if`
  ],
  refused: [
    ...['not', 'if', 'dependencies', 'dependentRequired', 'dependentSchemas'],
    ...['contains', 'unevaluatedItems', 'unevaluatedProperties'],
    ...['$dynamicRef', '$dynamicAnchor', '$recursiveRef', '$recursiveAnchor'],
    ...['extends', 'disallow'], // draft 3
  ],
}

const verdictOf: ReadonlyMap<string, Verdict> = new Map(
  (Object.keys(verdicts) as Verdict[]).flatMap((verdict) =>
    verdicts[verdict].map((keyword) => [keyword, verdict] as const),
  ),
)

export function verdict(keyword: string): Verdict {
  return verdictOf.get(keyword) ?? 'annotation'
}

export const keywords: readonly string[] = [...verdictOf.keys()]

/** What a schema says that cannot be held to: names the keyword by its path. */
export function refuse(path: string, why: string): never {
  throw new RequestError(`${path} cannot be enforced: ${why}`, 'structured_outputs')
}

/** What is no schema at all. */
export function malformed(path: string, value: unknown, wanted: string): never {
  const shown = JSON.stringify(value) ?? String(value)
  const short = shown.length > 60 ? `${shown.slice(0, 57)}...` : shown
  throw new RequestError(`${path} is ${short}, it must be ${wanted}`, 'structured_outputs')
}

/** `$.properties.age`, with quotes where a name is no plain word. */
export function join(path: string, name: string | number): string {
  if (typeof name === 'number') return `${path}[${name}]`
  return /^[\w$-]+$/.test(name) ? `${path}.${name}` : `${path}[${JSON.stringify(name)}]`
}
