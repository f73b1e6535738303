// The thread that xgrammar lives in: compiles grammars, follows answers, and writes the mask of the next token where the
// engine reads it. A grammar that aborts its runtime takes this thread with it, and nothing else.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import type * as XGrammar from '@mlc-ai/web-xgrammar'
import { type FromMasker, type MaskerData, state, type ToMasker } from './message.ts'
import type { AnswerGrammar } from './structured.ts'
import { sizeOf, tokenAt } from './vocabulary.ts'

const { vocabulary, size, stop } = workerData as MaskerData
const port = parentPort
if (!port) throw new Error('this file is the start of a worker thread')

/** Its bundle is CommonJS in a package that says it is not: read and run as what it is. */
function loadXgrammar(): typeof XGrammar {
  const require = createRequire(import.meta.url)
  const path = require.resolve('@mlc-ai/web-xgrammar')
  const names = ['exports', 'require', 'module', '__filename', '__dirname']
  const run = new Function(...names, readFileSync(path, 'utf8')) // and not node:vm, where it may not import
  const module = { exports: {} }
  run(module.exports, require, module, path, dirname(path))
  return module.exports as typeof XGrammar
}
const xgrammar = loadXgrammar()

interface Matcher {
  readonly matcher: XGrammar.GrammarMatcher
  readonly words: Int32Array
}

const compilers = new Map<string, Promise<XGrammar.GrammarCompiler>>()
const compiled = new Map<number, XGrammar.CompiledGrammar>()
const matchers = new Map<number, Matcher>()

/** GPT-2's letters for bytes, which xgrammar calls byte_level: printable ones stand for themselves. */
const letters = ((): readonly string[] => {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    return String.fromCharCode(printable ? byte : next++)
  })
})()

/** A compiler for answers without the barred letters, in which the shown control tokens are spelled. */
function compilerFor({ barred, shown }: AnswerGrammar): Promise<XGrammar.GrammarCompiler> {
  const key = JSON.stringify([barred, shown])
  const known = compilers.get(key)
  if (known) return known
  const control = new Set(vocabulary.control)
  const text = new TextDecoder()
  const tokens = Array.from({ length: sizeOf(vocabulary) }, (_, id) => {
    const bytes = tokenAt(vocabulary, id)
    const hidden = control.has(id)
      ? !shown.includes(text.decode(bytes))
      : barred.length > 0 && barred.some((letter) => text.decode(bytes).includes(letter))
    return hidden ? '' : Array.from(bytes, (byte) => letters[byte]).join('')
  })
  const made = xgrammar.TokenizerInfo.createTokenizerInfo(tokens, 'byte_level', false, size, [...stop]).then(
    (info) => xgrammar.GrammarCompiler.createGrammarCompiler(info, false),
  )
  compilers.set(key, made)
  return made
}

async function compile(grammar: AnswerGrammar): Promise<XGrammar.CompiledGrammar> {
  const compiler = await compilerFor(grammar)
  return grammar.kind === 'tags'
    ? compiler.compileStructuralTag(grammar.text)
    : compiler.compileGrammar(grammar.text)
}

async function show({ matcher, words }: Matcher): Promise<void> {
  words.set(await matcher.getNextTokenBitmask(), 1)
  settle(words, state.ready)
}

function settle(words: Int32Array, value: number): void {
  Atomics.store(words, 0, value)
  Atomics.notify(words, 0)
}

async function handle(message: ToMasker): Promise<void> {
  switch (message.kind) {
    case 'compile': {
      const answer = (error: string | null): FromMasker => ({ kind: 'compiled', id: message.id, error })
      try {
        compiled.set(message.id, await compile(message.grammar))
        port?.postMessage(answer(null))
      } catch (error) {
        port?.postMessage(answer(error instanceof Error ? error.message : String(error)))
      }
      return
    }
    case 'open': {
      const words = new Int32Array(message.shared)
      const grammar = compiled.get(message.grammar)
      if (!grammar) return settle(words, state.failed)
      const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(grammar)
      matchers.set(message.matcher, { matcher, words })
      return show({ matcher, words })
    }
    case 'accept': {
      const found = matchers.get(message.matcher)
      if (!found) return
      if (!found.matcher.acceptToken(message.token)) return settle(found.words, state.failed)
      return show(found)
    }
    case 'close':
      matchers.get(message.matcher)?.matcher.dispose()
      matchers.delete(message.matcher)
      return
    case 'drop':
      compiled.get(message.id)?.dispose()
      compiled.delete(message.id)
  }
}

// one after another, in the order they came: masks depend on it
let last: Promise<void> = Promise.resolve()
port.on('message', (message: ToMasker) => {
  last = last.then(() => handle(message))
})
