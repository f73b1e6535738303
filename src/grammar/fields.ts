// What a schema asserts, in one spelling whatever its draft.

export type Schema = Readonly<Record<string, unknown>>

export const jsonTypes = ['object', 'array', 'string', 'integer', 'number', 'boolean', 'null'] as const
export type JsonType = (typeof jsonTypes)[number]

/** Assertions in one spelling; what drafts spell in two ways is here in the newer one. */
export interface Fields {
  readonly type?: readonly JsonType[]
  readonly enum?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly exclusiveMaximum?: number
  readonly multipleOf?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly format?: string
  readonly prefixItems?: readonly unknown[]
  readonly items?: unknown
  readonly minItems?: number
  readonly maxItems?: number
  readonly uniqueItems?: boolean
  readonly properties?: ReadonlyMap<string, unknown>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
  readonly patternProperties?: ReadonlyMap<string, unknown>
  readonly propertyNames?: unknown
  readonly minProperties?: number
  readonly maxProperties?: number
}

export interface Flat {
  readonly fields: Fields
  /** Where the schema stands, for messages. */
  readonly path: string
}
