// The grammar that calls of tools are held to: free text in which a call begins with its mark, names a tool there is and
// gives arguments of its schema. Schemas that cannot be enforced are an error where the tool is strict, else a warning.

import { schemaGrammar } from '../grammar/schema.ts'
import type { StructuralTag } from '../grammar/structured.ts'
import { RequestError } from '../tensor/error.ts'
import type { Fields } from './body.ts'
import { nativeSyntax, promptedSyntax } from './calls.ts'
import { Failure } from './failure.ts'
import type { Options, Warning } from './fields.ts'

export interface Tool {
  readonly name: string
  readonly description?: string | undefined
  /** JSON Schema of the arguments. */
  readonly parameters: Fields
  /** Arguments that do not fit the schema are worse than no answer. */
  readonly strict: boolean
}

/** Which calls an answer may or must hold. */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string }

export interface CallGrammar {
  readonly options: Options
  readonly warnings: readonly Warning[]
}

export function callGrammar(
  tools: readonly Tool[],
  choice: ToolChoice,
  parallel: boolean,
  native: boolean,
): CallGrammar {
  const warnings: Warning[] = []
  const structures = tools.flatMap((tool) => {
    const schema = enforceable(tool, warnings)
    return native ? nativeCall(tool.name, schema) : [promptedCall(tool.name, schema)]
  })
  const tag: StructuralTag = {
    triggers: native ? [nativeOpening, nativeSyntax.open] : [promptedSyntax.open],
    structures,
    at_least_one: choice !== 'auto',
    stop_after_first: !parallel || typeof choice === 'object',
  }
  return { options: { structured_outputs: { structural_tag: tag } }, warnings }
}

const nativeOpening = nativeSyntax.noise[0]

/** A first call, and one that follows it. */
function nativeCall(name: string, schema: Fields): StructuralTag['structures'] {
  const begin = `${nativeSyntax.open}function<｜tool▁sep｜>${name}\n\`\`\`json\n`
  const end = `\n\`\`\`${nativeSyntax.close}`
  return [
    { begin: `${nativeOpening}${begin}`, schema, end },
    { begin, schema, end },
  ]
}

function promptedCall(name: string, schema: Fields): StructuralTag['structures'][number] {
  return {
    begin: `${promptedSyntax.open}\n{"name": ${JSON.stringify(name)}, "arguments": `,
    schema,
    end: `}\n${promptedSyntax.close}`,
  }
}

/** Patterns and large schemas can take seconds to work out: not in the thread that serves; the engine refuses what it must. */
function isCostly(schema: Fields): boolean {
  const text = JSON.stringify(schema)
  return text.length > 16_384 || /"pattern(Properties)?":/.test(text)
}

/** The schema of a tool's arguments, or any object's where it cannot be enforced and nobody insists. */
function enforceable(tool: Tool, warnings: Warning[]): Fields {
  const schema = { type: 'object', ...tool.parameters }
  if (isCostly(schema)) return schema
  const wrong = judge(schema)
  if (wrong === null) return schema
  const message = `the parameters of tool '${tool.name}' cannot be enforced: ${wrong}`
  if (tool.strict) throw new Failure(400, message, { param: 'tools' })
  warnings.push({
    field: 'tools',
    message: `${message}; its arguments are held to being a JSON object only`,
  })
  return { type: 'object' }
}

/** What keeps a schema from being enforced, or null. Agents send the same tools with every request. */
function judge(schema: Fields): string | null {
  const key = JSON.stringify(schema)
  const known = judged.get(key)
  if (known !== undefined) return known
  const wrong = refusalOf(schema)
  if (judged.size >= 512) judged.clear()
  judged.set(key, wrong)
  return wrong
}
const judged = new Map<string, string | null>()

function refusalOf(schema: Fields): string | null {
  try {
    schemaGrammar(schema, {})
    return null
  } catch (error) {
    if (error instanceof RequestError) return error.message
    throw error
  }
}
