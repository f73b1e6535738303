// The library that computes masks, in a thread of its own: it is a UMD file inside an ES package, so it wants names that
// only CommonJS has, and it says why it aborts on the console and nowhere else.
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as Library from '@mlc-ai/web-xgrammar'

export type Xgrammar = typeof Library

export interface Loaded {
  readonly library: Xgrammar
  /** What it last complained of, without the place in its source. */
  complaint(): string
}

export async function loadXgrammar(): Promise<Loaded> {
  const require = createRequire(import.meta.url)
  const file = require.resolve('@mlc-ai/web-xgrammar')
  let complaints: string[] = []
  const note = (...words: readonly unknown[]): void => {
    complaints = [...complaints.slice(-3), words.map(String).join(' ')]
  }
  Object.assign(console, { error: note, warn: note, log: note }) // this thread has nothing else to say
  Object.assign(globalThis, { require, __filename: file, __dirname: dirname(file) })
  await import(pathToFileURL(file).href)
  const { xgrammar } = globalThis as unknown as { readonly xgrammar: Xgrammar }
  return { library: xgrammar, complaint: () => plain(complaints) }
}

function plain(complaints: readonly string[]): string {
  const fatal = complaints.findLast((line) => line.includes('[FATAL]')) ?? complaints.at(-1) ?? ''
  return fatal.replace(/^\[\w+\]\s+\S+:\d+:\s*/, '').split('\n')[0]
}
