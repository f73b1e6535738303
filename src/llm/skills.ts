// The demo model's own record of what it answers, greedily. Tests only.
import { readFileSync } from 'node:fs'
import { RequestError } from '../tensor/error.ts'
import { locate } from './load.ts'

export interface Skill {
  readonly messages: readonly { readonly role: string; readonly content: string }[]
  readonly prompt_ids: number[]
  readonly output_ids: number[]
  readonly output_text: string
  readonly open_ended: boolean
}

/** The ones with one right answer. */
export const skills = readFileSync(`${await locate('demo')}/skills.jsonl`, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Skill)
  .filter((skill) => !skill.open_ended)

/** A few of different kinds. */
export const some = skills.filter((_, i) => i % 40 === 0).slice(0, 5)

/** For assert.throws: a RequestError about this field. */
export const refuses = (field: string | null, message: RegExp) => (error: unknown) =>
  error instanceof RequestError && error.field === field && message.test(error.message)
