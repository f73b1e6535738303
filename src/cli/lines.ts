// Lines that a person types: history, multi-line blocks, Ctrl-C and Ctrl-D. Knows readline, no conversation.
import { createInterface } from 'node:readline'
import type { Io } from './io.ts'

export interface Lines {
  /** The next input; null when the person leaves. A block between two `"""` is one input of many lines. */
  ask(prompt: string): Promise<string | null>
  close(): void
}

const fence = '"""'

export function openLines(io: Io, words: readonly string[]): Lines {
  const { stdin, stdout } = io
  const terminal = stdout.isTTY === true
  const input = createInterface({ input: stdin, output: stdout, terminal, completer, historySize: 1000 })
  const waiting: string[] = []
  let resolve: ((line: string | null) => void) | null = null
  let closed = false
  let warned = false
  let inside = false // a block, which Ctrl-C gives up

  function completer(line: string): [string[], string] {
    return [line.startsWith('/') ? words.filter((word) => word.startsWith(line)) : [], line]
  }

  function settle(line: string | null): void {
    const done = resolve
    resolve = null
    done?.(line)
  }

  input.on('line', (line) => {
    if (resolve) settle(line)
    else waiting.push(line)
  })
  input.on('close', () => {
    closed = true
    settle(null)
  })
  input.on('SIGINT', () => {
    const typed = input.line !== ''
    stdout.write('^C\n')
    if (typed) {
      input.write(null, { ctrl: true, name: 'e' })
      input.write(null, { ctrl: true, name: 'u' })
    }
    if (inside) {
      inside = false
      return settle('')
    }
    if (warned && !typed) return input.close()
    warned = !typed
    if (warned) stdout.write(io.out.dim('Ctrl-C again, Ctrl-D or /exit leaves.\n'))
    input.prompt()
  })

  function line(prompt: string): Promise<string | null> {
    const pasted = waiting.shift()
    if (pasted !== undefined) return Promise.resolve(pasted)
    if (closed) return Promise.resolve(null)
    return new Promise((done) => {
      resolve = done
      if (terminal) stdin.setRawMode(true)
      input.setPrompt(prompt)
      input.prompt()
    })
  }

  async function ask(prompt: string): Promise<string | null> {
    const first = await line(prompt)
    warned = false
    const text = first?.trimStart().startsWith(fence) ? await block(first.trimStart().slice(3)) : first
    // until the next question Ctrl-C is a signal, and what is typed ahead waits in the terminal
    input.pause()
    if (terminal && !closed) stdin.setRawMode(false)
    return text
  }

  async function block(first: string): Promise<string | null> {
    const lines: string[] = []
    const prompt = io.out.dim('… ')
    let next: string | null = first
    inside = true
    while (next !== null && !next.trimEnd().endsWith(fence)) {
      lines.push(next)
      next = await line(prompt)
      if (!inside) return ''
    }
    inside = false
    if (next === null) return null
    return [...lines, next.trimEnd().slice(0, -fence.length)].join('\n').trim()
  }

  return { ask, close: () => input.close() }
}
