// The time of each mask along a text, over a real vocabulary. Used by the benchmark alone.
import { createMasker } from '../../src/engine/masker.ts'
import { loadXgrammar } from '../../src/engine/xgrammar.ts'
import { answerGrammar, type StructuredOutputs } from '../../src/grammar/structured.ts'
import { letters } from '../../src/tokenizer/alphabet.ts'
import { readText, specs } from '../../src/tokenizer/examples.ts'
import { createTokenizer } from '../../src/tokenizer/tokenizer.ts'

export interface Measured {
  readonly compileMs: number
  /** Microseconds, one for each token of the text. */
  readonly masks: readonly number[]
}

const rounds = 3

export async function createAcceptorsOf(
  name: 'deepseek-v2',
  vocabSize: number,
): Promise<(outputs: StructuredOutputs, text: string) => Promise<Measured>> {
  const tokenizer = createTokenizer(specs.v2, JSON.parse(readText(`${name}/tokenizer_config.json`)))
  const { library } = await loadXgrammar()
  const bytes = Array.from({ length: tokenizer.size }, (_, id) => tokenizer.bytes(id))
  const spelled = bytes.map((own, id) =>
    tokenizer.control.has(id) ? '' : Array.from(own, (byte) => letters[byte]).join(''),
  )
  const eos = tokenizer.eos ?? 0
  const info = await library.TokenizerInfo.createTokenizerInfo(spelled, 'byte_level', false, vocabSize, [eos])
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false)
  const latin = bytes.map((own) => Buffer.from(own).toString('latin1'))
  const masker = createMasker(latin, vocabSize)
  return async (outputs, text) => {
    const started = performance.now()
    const grammar = answerGrammar(outputs, { marked: masker.canMark })
    const compiled = await compiler.compileGrammar(grammar.text)
    const compileMs = performance.now() - started
    const ids = tokenizer.encode(text)
    const masks = ids.map(() => Infinity)
    for (let round = 0; round < rounds; round++) {
      const matcher = await library.GrammarMatcher.createGrammarMatcher(compiled)
      const place = masker.begin(grammar)
      for (const [i, id] of ids.entries()) {
        const begun = performance.now()
        const words = await matcher.getNextTokenBitmask()
        place.apply(words)
        masks[i] = Math.min(masks[i], (performance.now() - begun) * 1000)
        if (!matcher.acceptToken(id))
          throw new Error(`${tokenizer.piece(id)} of ${text} is not in its grammar`)
        place.step(id)
      }
      matcher.dispose()
    }
    compiled.dispose()
    return { compileMs, masks }
  }
}
