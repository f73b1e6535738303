// llama.cpp through node-llama-cpp: the parts of it that are used here, because it is installed apart and its own types
// are not at hand. test/peers compares numbers with it, runner.ts times it.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

interface Wanted {
  readonly generateNext: { readonly logits: true }
}

export interface LlamaSequence {
  readonly nextTokenIndex: number
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>
  evaluate(
    tokens: readonly number[],
    options: { temperature: number; yieldEogToken?: boolean },
  ): AsyncGenerator<number>
  /** For each token that asks, the logits after it, by token. */
  controlledEvaluate(
    tokens: readonly (readonly [number, Wanted])[],
  ): Promise<readonly ({ readonly next: { readonly logits: ReadonlyMap<number, number> } } | undefined)[]>
  eraseContextTokenRanges(ranges: readonly { readonly start: number; readonly end: number }[]): Promise<void>
  clearHistory(): Promise<void>
}
export interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}
export interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
  tokenize(text: string, specialTokens?: boolean): number[]
  dispose(): Promise<void>
}

export const installPeers = 'npm install --prefix bench/peers'
const entry = new URL('../../bench/peers/node_modules/node-llama-cpp/dist/index.js', import.meta.url)

export const hasLlama = (): boolean => existsSync(fileURLToPath(entry))

export async function openLlama(file: string, threads: number): Promise<LlamaModel> {
  if (!hasLlama()) throw new Error(`the peer is not installed: ${installPeers}`)
  const { getLlama } = await import(entry.href)
  const options = { gpu: false, build: 'never', maxThreads: threads, progressLogs: false, logLevel: 'error' }
  const llama = await getLlama(options)
  return llama.loadModel({ modelPath: file, defaultContextFlashAttention: true })
}
