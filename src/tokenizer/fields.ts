// Reading fields out of parsed JSON that nobody has vouched for. Knows JSON types and how to complain, not
// tokenizers.

import { CheckpointError } from '../tensor/error.ts'

export type Fields = Readonly<Record<string, unknown>>

/** How a value looks in a message: short, and never a whole vocabulary. */
export function show(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : (JSON.stringify(value) ?? String(value))
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Fields of one JSON object, each read with a check; `where` names the object in messages. */
export function reader(value: unknown, where: string) {
  if (!isFields(value)) throw new CheckpointError(`${where} is ${show(value)}, wanted an object`)
  const wrong = (name: string, wanted: string): never => {
    throw new CheckpointError(`${where}: ${name} is ${show(value[name])}, wanted ${wanted}`)
  }
  return {
    where,
    raw: value,
    string: (name: string): string => {
      const field = value[name]
      return typeof field === 'string' ? field : wrong(name, 'a string')
    },
    flag: (name: string, fallback: boolean): boolean => {
      const field = value[name] ?? fallback
      return typeof field === 'boolean' ? field : wrong(name, 'true or false')
    },
    id: (name: string): number => {
      const field = value[name]
      return isId(field) ? field : wrong(name, 'an id (a whole number from 0)')
    },
    list: (name: string): readonly unknown[] => {
      const field = value[name]
      return Array.isArray(field) ? field : wrong(name, 'a list')
    },
    fields: (name: string): Fields => {
      const field = value[name]
      return isFields(field) ? field : wrong(name, 'an object')
    },
  }
}

/** Ids index typed arrays, so one absurd id must not become one absurd allocation. */
export function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 24
}
