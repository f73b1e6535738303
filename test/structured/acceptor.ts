// Whether a grammar takes a text: asks for every mask on the way, over a vocabulary of single bytes. Used by tests and benchmarks.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { GrammarMatcher } from '@mlc-ai/web-xgrammar'
import { createMasker, type Place } from '../../src/engine/masker.ts'
import type { Dice } from '../../src/engine/workload.ts'
import { loadXgrammar } from '../../src/engine/xgrammar.ts'
import { type AnswerGrammar, answerGrammar, type StructuredOutputs } from '../../src/grammar/structured.ts'
import { letters } from '../../src/tokenizer/alphabet.ts'

export interface Acceptor {
  readonly grammar: AnswerGrammar
  accepts(text: string): Promise<boolean>
  /** A random text of the grammar; null where it does not end within `most` bytes. */
  sample(dice: Dice, most: number): Promise<string | null>
  close(): void
}

/** `marked` as the engine does it; else strings are bounded by rules, which is slower to compile. */
export async function createAcceptors(
  marked = true,
): Promise<(outputs: StructuredOutputs) => Promise<Acceptor>> {
  const { library } = await loadXgrammar()
  const info = await library.TokenizerInfo.createTokenizerInfo(
    [...letters, '</s>'],
    'byte_level',
    false,
    257,
    [256],
  )
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false)
  const bytes = Array.from({ length: 257 }, (_, id) => (id < 256 ? String.fromCharCode(id) : ''))
  const masker = createMasker(bytes, 257)
  return async (outputs) => {
    const grammar = answerGrammar(outputs, { marked })
    const compiled = await compiler.compileGrammar(grammar.text)
    return {
      grammar,
      async accepts(text) {
        const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled)
        try {
          return await takes(matcher, masker.begin(grammar), [...Buffer.from(text, 'utf8'), 256])
        } finally {
          matcher.dispose()
        }
      },
      async sample(dice, most) {
        const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled)
        try {
          return await walk(matcher, masker.begin(grammar), dice, most)
        } finally {
          matcher.dispose()
        }
      },
      close: () => compiled.dispose(),
    }
  }
}

/** Any byte that the mask allows, with a liking for those that end something. */
async function walk(matcher: GrammarMatcher, place: Place, dice: Dice, most: number): Promise<string | null> {
  const ids: number[] = []
  while (ids.length < most) {
    const words = await matcher.getNextTokenBitmask()
    place.apply(words)
    const allowed = Array.from({ length: 257 }, (_, id) => id).filter(
      (id) => (words[id >> 5] >>> (id & 31)) & 1,
    )
    if (allowed.length === 0) throw new Error(`nothing may follow ${Buffer.from(ids).toString('utf8')}`)
    const ends = allowed.filter((id) => id === 256 || '"]}'.includes(String.fromCharCode(id)))
    const id = ends.length > 0 && dice.chance(0.4) ? dice.of(ends) : dice.of(allowed)
    if (id === 256) return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(ids))
    ids.push(id)
    if (!matcher.acceptToken(id)) throw new Error(`byte ${id} was allowed and not taken`)
    place.step(id)
  }
  return null
}

/** Each token is allowed by the mask of its place, the end too. */
async function takes(matcher: GrammarMatcher, place: Place, ids: readonly number[]): Promise<boolean> {
  for (const id of ids) {
    const words = await matcher.getNextTokenBitmask()
    place.apply(words)
    if (((words[id >> 5] >>> (id & 31)) & 1) === 0 || !matcher.acceptToken(id)) return false
    place.step(id)
  }
  return true
}

export function readRows<Row>(name: string): readonly Row[] {
  const path = fileURLToPath(new URL(`../../../test/structured/${name}`, import.meta.url))
  const lines = gunzipSync(readFileSync(path)).toString('utf8').trim().split('\n')
  return lines.map((line) => JSON.parse(line) as Row)
}

export interface SchemaRow {
  readonly name?: string
  readonly file?: string
  readonly description?: string
  readonly schema: Record<string, unknown> | boolean
  readonly tests: readonly { readonly data: unknown; readonly valid: boolean }[]
}
