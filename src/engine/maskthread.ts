// The thread that knows grammars: compiles them, follows each answer through its own, and writes the mask of the next
// token while the engine computes that token's logits. Its other half is grammar.ts.
import { parentPort, workerData } from 'node:worker_threads'
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar'
import { type AnswerGrammar, answerGrammar } from '../grammar/structured.ts'
import { KernelError } from '../tensor/error.ts'
import { createMasker, type Place } from './masker.ts'
import type { FromMasking, GrammarVocabulary, MaskingData, ToMasking } from './masking.ts'
import { toPlain } from './plain.ts'
import { deadEnd, goesOn, onlyEnd, openSlot, type Slot, stateAt, turnAt, wantedAt } from './slot.ts'
import { loadXgrammar } from './xgrammar.ts'

const port = parentPort
if (!port) throw new Error('maskthread.ts runs as a worker thread only')
const post = (message: FromMasking): void => port.postMessage(message)
const { vocabulary: packed, vocabSize, eosTokenIds } = workerData as MaskingData
const { library, complaint } = await loadXgrammar()
const vocabulary = JSON.parse(new TextDecoder().decode(new Uint8Array(packed).slice())) as GrammarVocabulary
const bytesOf = byteReader(vocabulary.letters)
const masker = createMasker(vocabulary.tokens.map(bytesOf), vocabSize)

interface Compiled {
  readonly compiled: CompiledGrammar
  readonly grammar: AnswerGrammar
}

interface Following {
  readonly matcher: GrammarMatcher
  readonly place: Place
  readonly slot: Slot
  turn: number
}

const compilers = new Map<string, GrammarCompiler>()
const compiled = new Map<string, Compiled>()
const followed = new Map<number, Following>()
let work: Promise<void> = Promise.resolve()

// one message after the other: the library's calls are asynchronous in name, and a mask must not meet half a compile
port.on('message', (message: ToMasking) => {
  work = work.then(() => obey(message))
})

async function obey(message: ToMasking): Promise<void> {
  switch (message.kind) {
    case 'compile':
      return compile(message)
    case 'drop':
      compiled.get(message.key)?.compiled.dispose()
      compiled.delete(message.key)
      return
    case 'open':
      return open(message)
    case 'advance':
      for (const { matcher, token } of message.moves) await advance(matcher, token)
      return
    case 'close':
      followed.get(message.matcher)?.matcher.dispose()
      followed.delete(message.matcher)
  }
}

async function compile({ key, outputs, lead }: Extract<ToMasking, { kind: 'compile' }>): Promise<void> {
  try {
    if (!compiled.has(key)) compiled.set(key, await compileGrammar(outputs, lead, key))
    post({ kind: 'compiled', key })
  } catch (error) {
    post({ kind: 'refused', key, error: toPlain(error) })
  }
}

async function compileGrammar(outputs: string, lead: string, key: string): Promise<Compiled> {
  const controls = vocabulary.controls.map(({ content }) => content)
  const grammar = answerGrammar(JSON.parse(outputs), { lead, controls, marked: masker.canMark })
  try {
    const compiler = await compilerFor(grammar.shown)
    return { compiled: await build(compiler, grammar), grammar }
  } catch (error) {
    return die(key, null, error)
  }
}

function build(compiler: GrammarCompiler, { kind, text }: AnswerGrammar): Promise<CompiledGrammar> {
  return kind === 'tags' ? compiler.compileStructuralTag(text) : compiler.compileGrammar(text)
}

/** Control tokens are no text here, but for those that the grammar spells out. */
async function compilerFor(shown: readonly string[]): Promise<GrammarCompiler> {
  const key = shown.join('\n')
  const known = compilers.get(key)
  if (known) return known
  const hidden = new Set(
    vocabulary.controls.filter(({ content }) => !shown.includes(content)).map(({ id }) => id),
  )
  const spelled = vocabulary.tokens.map((token, id) =>
    hidden.has(id) || eosTokenIds.includes(id) ? '' : token,
  )
  const info = await library.TokenizerInfo.createTokenizerInfo(spelled, 'byte_level', false, vocabSize, [
    ...eosTokenIds,
  ])
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false)
  compilers.set(key, compiler)
  return compiler
}

async function open({
  matcher: id,
  key,
  slot,
  tokens: written,
}: Extract<ToMasking, { kind: 'open' }>): Promise<void> {
  const of = compiled.get(key)
  if (!of) return lose(id, new KernelError('a grammar was dropped before its answer began; ask again'))
  try {
    const matcher = await library.GrammarMatcher.createGrammarMatcher(of.compiled)
    followed.set(id, { matcher, place: masker.begin(of.grammar), slot: openSlot(slot), turn: 0 })
    for (const token of written) accept(id, token)
    await mask(id)
  } catch (error) {
    die(null, id, error)
  }
}

async function advance(id: number, token: number): Promise<void> {
  try {
    if (accept(id, token)) await mask(id)
  } catch (error) {
    die(null, id, error)
  }
}

function accept(id: number, token: number): boolean {
  const it = followed.get(id)
  if (!it) return false
  if (!it.matcher.acceptToken(token)) {
    lose(id, new KernelError(`token ${token} left the grammar of its answer; this is an error of latent's`))
    return false
  }
  it.turn++
  it.place.step(token)
  return true
}

async function mask(id: number): Promise<void> {
  const it = followed.get(id)
  if (!it) return
  const words = await it.matcher.getNextTokenBitmask()
  it.place.apply(words)
  const { head } = it.slot
  it.slot.words.set(words)
  head[stateAt] = stateOf(words)
  Atomics.store(head, turnAt, it.turn + 1)
  Atomics.notify(head, turnAt)
  if (Atomics.exchange(head, wantedAt, 0) === 1) post({ kind: 'ready', matcher: id })
}

function stateOf(words: Int32Array): number {
  const ends = eosTokenIds.filter((id) => ((words[id >> 5] >>> (id & 31)) & 1) === 1)
  const endWords = new Map<number, number>()
  for (const id of ends) endWords.set(id >> 5, (endWords.get(id >> 5) ?? 0) | (1 << (id & 31)))
  const more = words.some((word, i) => (word & ~(endWords.get(i) ?? 0)) !== 0)
  return more ? goesOn : ends.length > 0 ? onlyEnd : deadEnd
}

function lose(matcher: number, error: Error): void {
  post({ kind: 'lost', matcher, error: toPlain(error) })
}

/** After an abort nothing of the library can be used again. */
function die(key: string | null, matcher: number | null, error: unknown): never {
  post({ kind: 'dead', key, matcher, why: complaint() || (error as Error).message })
  process.exit(1)
}

function byteReader(letters: readonly string[]): (token: string) => string {
  const byteOf = new Map(letters.map((letter, byte) => [letter, String.fromCharCode(byte)]))
  return (token) => [...token].map((letter) => byteOf.get(letter) ?? '').join('')
}
