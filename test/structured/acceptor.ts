// Whether a grammar takes a text: asks xgrammar itself, over a vocabulary of single bytes. Used by tests and benchmarks.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { loadXgrammar } from '../../src/engine/xgrammar.ts'
import { type AnswerGrammar, answerGrammar, type StructuredOutputs } from '../../src/grammar/structured.ts'
import { letters } from '../../src/tokenizer/alphabet.ts'

export interface Acceptor {
  readonly grammar: AnswerGrammar
  accepts(text: string): Promise<boolean>
  close(): void
}

export async function createAcceptors(): Promise<(outputs: StructuredOutputs) => Promise<Acceptor>> {
  const { library } = await loadXgrammar()
  const info = await library.TokenizerInfo.createTokenizerInfo([...letters, '</s>'], 'byte_level', false, 257, [256])
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false)
  return async (outputs) => {
    const grammar = answerGrammar(outputs)
    const compiled = await compiler.compileGrammar(grammar.text)
    return {
      grammar,
      async accepts(text) {
        if (grammar.barred.some((letter) => text.includes(letter))) return false // the masks see to it
        const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled, undefined, true)
        const taken = matcher._acceptString(text) && matcher.isTerminated()
        matcher.dispose()
        return taken
      },
      close: () => compiled.dispose(),
    }
  }
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
