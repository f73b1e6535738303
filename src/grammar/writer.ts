// What the files that write one schema's grammar share.
import type { Expr, Rules } from './expr.ts'
import type { Json } from './json.ts'
import type { Pattern } from './regex.ts'

export interface Writer {
  readonly json: Json
  readonly rules: Rules
  write(schema: unknown, path: string): Expr
  /** The pattern, with what it bars noted for the whole answer. */
  pattern(source: string, path: string): Pattern
}
