// What a request may demand of its answer, and its way to a grammar. Knows neither tokens nor who computes masks.
import { RequestError } from '../tensor/error.ts'
import { choice, createRules, type Expr, sequence, text } from './expr.ts'
import { createJson, type Mark } from './json.ts'
import { parsePattern } from './regex.ts'
import { regular } from './regular.ts'
import { schemaGrammar } from './schema.ts'

/** Exactly one of these, spelled as vLLM spells them. */
export interface StructuredOutputs {
  /** A JSON schema, or its text. */
  readonly json?: Readonly<Record<string, unknown>> | string | boolean | null
  /** Any JSON object. */
  readonly json_object?: boolean | null
  /** The whole answer matches. */
  readonly regex?: string | null
  readonly choice?: readonly string[] | null
  /** EBNF as xgrammar reads it; its first rule is `root`. */
  readonly grammar?: string | null
  /** Or its text. */
  readonly structural_tag?: StructuralTag | string | null
}

/** Free text in which each trigger begins a region that is held to a schema. */
export interface StructuralTag {
  /** Beginnings of `begin` texts. */
  readonly triggers: readonly string[]
  readonly structures: readonly TagStructure[]
  /** The answer cannot end, nor write free text first, before one region is there. */
  readonly at_least_one?: boolean
  /** The answer ends with the first region. */
  readonly stop_after_first?: boolean
}

export interface TagStructure {
  readonly begin: string
  readonly schema: Readonly<Record<string, unknown>> | string | boolean
  readonly end: string
}

/** Plain data, ready to cross threads. */
export interface AnswerGrammar {
  /** `ebnf`, or `tags`: a structural tag of xgrammar as JSON. */
  readonly kind: 'ebnf' | 'tags'
  readonly text: string
  /** Texts that no answer contains: what a grammar here cannot leave out by itself. */
  readonly barred: readonly string[]
  /** Letters of the grammar that say that a bounded string is open: never let through, and its characters counted. */
  readonly marks: readonly Mark[]
  /** Control tokens that the answer may use: those in the texts around regions. */
  readonly shown: readonly string[]
}

const kinds = ['json', 'json_object', 'regex', 'choice', 'grammar', 'structural_tag'] as const
type Kind = (typeof kinds)[number]
const largestOutputs = 1 << 20
const largestGrammar = 256 * 1024
const mostChoices = 10_000

export interface Surroundings {
  /** What the model may write before its answer (a template's space). */
  readonly lead?: string
  /** The spellings of the control tokens. */
  readonly controls?: readonly string[]
  /** Whether strings may be bounded by marks. */
  readonly marked?: boolean
}

const field = 'structured_outputs'

/** Throws where a request sets none of the kinds, or two, or more than is taken. Cheap: nothing is translated. */
export function checkOutputs(given: unknown): StructuredOutputs {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new RequestError(
      `${field} must be an object with one of ${kinds.join(', ')}; ${show(given)} given`,
      field,
    )
  }
  const odd = Object.keys(given).find((name) => !kinds.includes(name as Kind))
  if (odd !== undefined) {
    throw new RequestError(
      `${field}.${odd} does not exist; it has one of ${kinds.join(', ')}`,
      `${field}.${odd}`,
    )
  }
  kindOf(given)
  if (sizeOf(given) > largestOutputs) {
    throw new RequestError(`${field} is larger than ${largestOutputs} characters; send a smaller one`, field)
  }
  return given
}

function kindOf(options: StructuredOutputs): Kind {
  const set = kinds.filter(
    (kind) => options[kind] !== undefined && options[kind] !== null && !isOff(options, kind),
  )
  if (set.length === 1) return set[0]
  const which = set.length === 0 ? 'none is' : `${set.join(' and ')} are`
  throw new RequestError(`${field} must have exactly one of ${kinds.join(', ')}; ${which} set`, field)
}

/** The grammar of a request that passed the check: milliseconds, for the largest schemas a second. */
export function answerGrammar(options: StructuredOutputs, surroundings: Surroundings = {}): AnswerGrammar {
  const kind = kindOf(options)
  return under(`${field}.${kind}`, () => grammarOf(kind, options, surroundings))
}

/** Characters of its strings and names, give or take; what nests deeper than any parser goes is too large as well. */
function sizeOf(value: unknown, depth = 0): number {
  if (depth > 200) return Infinity
  if (typeof value === 'string') return value.length + 2
  if (typeof value !== 'object' || value === null) return 4
  let size = 2
  for (const [name, inner] of Object.entries(value)) {
    size += name.length + 4 + sizeOf(inner, depth + 1)
    if (size > largestOutputs) return size
  }
  return size
}

function isOff(options: StructuredOutputs, kind: Kind): boolean {
  return kind === 'json_object' && options.json_object === false
}

/** Errors from below name the whole field. */
function under<Result>(field: string, body: () => Result): Result {
  try {
    return body()
  } catch (error) {
    // a stack that overflows is how a nest of patterns says that it is too deep
    const deep = error instanceof RangeError ? 'it is too complicated to be enforced; make it simpler' : null
    if (deep === null && !(error instanceof RequestError)) throw error
    throw new RequestError(`${field}: ${deep ?? (error as Error).message}`, field)
  }
}

function grammarOf(
  kind: Kind,
  options: StructuredOutputs,
  { lead = '', controls = [], marked = false }: Surroundings,
): AnswerGrammar {
  switch (kind) {
    case 'json':
      return ebnf(schemaGrammar(readSchema(options.json), { lead, marked }))
    case 'json_object':
      return ebnf(objectGrammar(options.json_object, lead))
    case 'regex':
      return ebnf(regexGrammar(options.regex, lead))
    case 'choice':
      return ebnf(choiceGrammar(options.choice, lead))
    case 'grammar':
      return ebnf({ text: ownGrammar(options.grammar), barred: '' })
    case 'structural_tag':
      return tagGrammar(options.structural_tag, controls)
  }
}

interface Translated {
  readonly text: string
  readonly barred: string
  readonly marks?: readonly Mark[]
}

function ebnf({ text, barred, marks = [] }: Translated): AnswerGrammar {
  return { kind: 'ebnf', text, barred: [...barred], marks, shown: [] }
}

/** A schema or a structural tag, from text too. */
function readSchema(given: unknown): unknown {
  if (typeof given !== 'string') return given
  try {
    return JSON.parse(given)
  } catch (error) {
    throw new RequestError(`the text is no JSON: ${(error as Error).message}`)
  }
}

function printed(root: (rules: ReturnType<typeof createRules>) => Expr, lead: string): string {
  const rules = createRules()
  const text = rules.print(sequence(leadExpr(lead), root(rules)))
  if (text === null) throw new RequestError('nothing matches it; give a pattern that some text satisfies')
  return text
}

function leadExpr(lead: string): Expr {
  return lead === '' ? text('') : choice(text(''), text(lead))
}

function objectGrammar(given: unknown, lead: string): Translated {
  if (given !== true) throw new RequestError(`it must be true, ${show(given)} given`)
  return { text: printed((rules) => createJson(rules).object, lead), barred: '' }
}

function regexGrammar(given: unknown, lead: string): Translated {
  if (typeof given !== 'string' || given === '') {
    throw new RequestError(`it must be a regular expression, ${show(given)} given`)
  }
  const pattern = parsePattern(given, 'the pattern')
  return { text: printed((rules) => regular(pattern.whole, rules), lead), barred: pattern.barred }
}

function choiceGrammar(given: unknown, lead: string): Translated {
  const fits = Array.isArray(given) && given.length > 0 && given.length <= mostChoices
  if (!fits || given.some((it) => typeof it !== 'string' || it === '')) {
    throw new RequestError(
      `it must be a list of 1 to ${mostChoices} texts that are not empty, ${show(given)} given`,
    )
  }
  return {
    text: printed((rules) => regular(choice(...(given as string[]).map(text)), rules), lead),
    barred: '',
  }
}

function ownGrammar(given: unknown): string {
  if (typeof given !== 'string' || given.length > largestGrammar || !/(^|\n)\s*root\s*::=/.test(given)) {
    throw new RequestError(
      `it must be EBNF of at most ${largestGrammar} characters with a rule "root ::= ...", ${show(given)} given`,
    )
  }
  return given
}

function tagGrammar(given: unknown, controls: readonly string[]): AnswerGrammar {
  const { triggers, structures, at_least_one = false, stop_after_first = false } = readTag(readSchema(given))
  const barred = new Set<string>()
  const around = [...triggers, ...structures.flatMap(({ begin, end }) => [begin, end])]
  const shown = controls.filter((control) => around.some((it) => it.includes(control)))
  // a control token that may come around a region must not fit into a string inside it
  const avoid = [...new Set(shown.map((control) => control[0]))]
    .filter((letter) => letter < '\u0080')
    .join('')
  const tags = structures.map(({ begin, schema, end }, i) => {
    if (!triggers.some((trigger) => begin.startsWith(trigger))) {
      throw new RequestError(`structures[${i}].begin starts with none of the triggers: ${show(begin)}`)
    }
    const body = under(`structures[${i}].schema`, () => schemaGrammar(readSchema(schema), { avoid }))
    for (const letter of body.barred) barred.add(letter)
    return { type: 'tag', begin, content: { type: 'grammar', grammar: body.text }, end }
  })
  const format = { type: 'triggered_tags', triggers, tags, at_least_one, stop_after_first }
  return {
    kind: 'tags',
    text: JSON.stringify({ type: 'structural_tag', format }),
    barred: [...barred],
    marks: [],
    shown,
  }
}

function readTag(given: unknown): StructuralTag {
  const tag = (typeof given === 'object' && given !== null ? given : {}) as Partial<StructuralTag>
  const texts = (value: unknown): boolean =>
    Array.isArray(value) && value.length > 0 && value.every((it) => typeof it === 'string' && it !== '')
  if (!texts(tag.triggers))
    throw new RequestError(`triggers must be a list of texts, ${show(tag.triggers)} given`)
  const list: unknown = tag.structures
  const isStructure = (it: Partial<TagStructure> | null): boolean =>
    texts([it?.begin]) && texts([it?.end]) && it?.schema !== undefined
  if (!Array.isArray(list) || list.length === 0 || !list.every(isStructure)) {
    throw new RequestError(`structures must be a list of { begin, schema, end }, ${show(list)} given`)
  }
  for (const [i, a] of tag.triggers!.entries()) {
    const other = tag.triggers!.find((b, j) => i !== j && b.startsWith(a))
    if (other)
      throw new RequestError(`the trigger ${show(a)} begins the trigger ${show(other)}; keep the shorter`)
  }
  return tag as StructuralTag
}

function show(value: unknown): string {
  const shown = JSON.stringify(value) ?? String(value)
  return shown.length > 60 ? `${shown.slice(0, 57)}...` : shown
}
