// Whether a value that is written out (an enum's, a const's) satisfies the keywords beside it.
import type { Fields } from './fields.ts'

const objectWords = [
  ...(['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames'] as const),
  ...(['minProperties', 'maxProperties'] as const),
]
const arrayWords = ['prefixItems', 'items', 'minItems', 'maxItems', 'uniqueItems'] as const

/** null: only a whole validator could tell. */
export function satisfies(value: unknown, fields: Fields): boolean | null {
  if (fields.type && !fields.type.some((type) => isOfType(value, type))) return false
  if (typeof value === 'number') return fits(value, fields)
  if (typeof value === 'string') return fitsText(value, fields)
  const words = Array.isArray(value) ? arrayWords : objectWords
  if (typeof value !== 'object' || value === null) return true
  return words.some((word) => fields[word] !== undefined) ? null : true
}

export function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value)
    case 'array':
      return Array.isArray(value)
    case 'null':
      return value === null
    case 'integer':
      return Number.isInteger(value)
    default:
      return typeof value === type
  }
}

function fits(value: number, fields: Fields): boolean | null {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = fields
  if (minimum !== undefined && value < minimum) return false
  if (maximum !== undefined && value > maximum) return false
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return false
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return false
  if (multipleOf === undefined) return true
  return Number.isInteger(multipleOf) ? value % multipleOf === 0 : null
}

function fitsText(value: string, { minLength, maxLength, pattern, format }: Fields): boolean | null {
  const { length } = [...value]
  if (minLength !== undefined && length < minLength) return false
  if (maxLength !== undefined && length > maxLength) return false
  if (pattern !== undefined && !matches(pattern, value)) return false
  return format === undefined ? true : null
}

/** As ECMAScript reads the pattern: with Unicode where that parses. */
export function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(value)
  } catch {
    return new RegExp(pattern).test(value)
  }
}
