// Which upstream gets a request: pure functions of names, loads and the beginning of the prompt. Knows no network.
// Requests that begin alike go to one upstream, whose cache holds that beginning (rendezvous hashing: when an upstream
// goes, only its own requests move), unless it is much busier than the idlest (bounded load).
import { createHash } from 'node:crypto'
import type { Fields } from './body.ts'

export interface Rules {
  /** What load is counted in. */
  readonly by: 'requests' | 'tokens'
  /** How much of a prompt decides where it goes; 0 looks at load alone. */
  readonly prefixBytes: number
  /** The preferred upstream may carry `factor` times the least load, or `margin` more than it, whichever is larger. */
  readonly factor: number
  readonly margin: number
}

export function readRules(given: Partial<Rules> = {}): Rules {
  const by = given.by ?? 'requests'
  return { by, prefixBytes: 1024, factor: 1.5, margin: by === 'tokens' ? 4096 : 4, ...given }
}

export interface Candidate {
  readonly name: string
  readonly load: number
}

export interface Wish {
  /** The beginning of the prompt, or null where no cache would be met again. */
  readonly prefix: string | null
  /** Spreads requests among equals. */
  readonly tie: string
}

/** The candidate for a request; null if there is none. The same arguments give the same answer in every process. */
export function choose<C extends Candidate>(
  candidates: readonly C[],
  { prefix, tie }: Wish,
  rules: Pick<Rules, 'factor' | 'margin'>,
): C | null {
  const least = Math.min(...candidates.map(({ load }) => load))
  const most = prefix === null ? least : Math.max(least * rules.factor, least + rules.margin)
  return ranked(candidates, prefix ?? tie).find(({ load }) => load <= most) ?? null
}

/** Candidates by preference for a key: taking one away leaves the order of the others. */
export function ranked<C extends Candidate>(candidates: readonly C[], key: string): readonly C[] {
  const scored = candidates.map((candidate) => ({ candidate, score: scoreOf(candidate.name, key) }))
  scored.sort((a, b) => b.score - a.score || (a.candidate.name < b.candidate.name ? -1 : 1))
  return scored.map(({ candidate }) => candidate)
}

const scoreOf = (name: string, key: string): number =>
  createHash('sha256').update(name).update('\0').update(key).digest().readUIntBE(0, 6)

/**
 * What a prompt begins with, as a key: what stands before all turns (tools, system) and the first turn, so that a
 * conversation keeps its key as it grows, and long system prompts bring together those who share them.
 */
export function prefixOf(fields: Fields, bytes: number): string | null {
  if (bytes === 0) return null
  const { prompt_cache_key, tools, system, instructions } = fields
  if (typeof prompt_cache_key === 'string') return createHash('sha256').update(prompt_cache_key).digest('hex')
  const turns = fields.messages ?? fields.input ?? fields.prompt
  if (turns === undefined || turns === null) return null
  const parts = [tools, system, instructions, ...opening(turns)].filter((part) => (part ?? null) !== null)
  const text = parts.map((part) => (typeof part === 'string' ? part : JSON.stringify(part))).join('\0')
  return createHash('sha256').update(Buffer.from(text).subarray(0, bytes)).digest('hex')
}

/** Messages up to the first that is not the system's; of several prompts the first. */
function opening(turns: unknown): readonly unknown[] {
  if (!Array.isArray(turns)) return [turns]
  if (typeof turns[0] === 'number') return [turns]
  const first = turns.findIndex((turn: unknown) => !isSystem(turn))
  return turns.slice(0, first < 0 ? turns.length : first + 1)
}

const isSystem = (turn: unknown): boolean =>
  typeof turn === 'object' && turn !== null && /^(system|developer)$/.test(String((turn as Fields).role))

/** A guess at the tokens a request will cost: four bytes of body a token, and what it may answer. */
export function tokensOf(fields: Fields, bytes: number): number {
  const count = (value: unknown, otherwise: number): number =>
    typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : otherwise
  const answer = fields.max_completion_tokens ?? fields.max_output_tokens ?? fields.max_tokens
  return Math.ceil(bytes / 4) + count(answer, 256) * count(fields.n, 1)
}
