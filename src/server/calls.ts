// Finds the calls of functions in an answer as it is written, and passes their arguments on piece by piece. Two
// syntaxes: V2.5's own tokens, and blocks of JSON for checkpoints that were not trained for tools. What is no whole call
// stays text: nothing that the model wrote is lost.
import { randomUUID } from 'node:crypto'
import type { Delta, Reader } from './answer.ts'

export interface Syntax {
  /** Begins a call. */
  readonly open: string
  /** What precedes the arguments, from the end of `open`; its first group is the name. */
  readonly header: RegExp
  /** Ends a call. */
  readonly close: string
  /** Marks around calls that say nothing. */
  readonly noise: readonly string[]
}

/** DeepSeek-V2.5's tokens (its tokenizer_config.json and chat template). */
export const nativeSyntax: Syntax = {
  open: '<｜tool▁call▁begin｜>',
  header: /^[^<\n]*<｜tool▁sep｜>([^\n]*)\n```json\n/,
  close: '<｜tool▁call▁end｜>',
  noise: ['<｜tool▁calls▁begin｜>', '<｜tool▁calls▁end｜>', '<｜end▁of▁sentence｜>'],
}

/** What models without such tokens are asked to write (prompt in tools.ts). */
export const promptedSyntax: Syntax = {
  open: '<tool_call>',
  header: /^\s*\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*/,
  close: '</tool_call>',
  noise: [],
}

/** Follows one JSON value from its first character; tells how many characters of a piece belong to it. */
function createValue() {
  let depth = 0
  let inString = false
  let escaped = false
  let over = false
  let begun = false

  function take(text: string): number {
    begun ||= text !== ''
    for (let i = 0; i < text.length; i++) {
      if (over) return i
      const sign = text[i]
      if (inString) {
        if (escaped) escaped = false
        else if (sign === '\\') escaped = true
        else if (sign === '"') inString = false
      } else if (sign === '"') inString = true
      else if (sign === '{' || sign === '[') depth++
      else if (sign === '}' || sign === ']') depth--
      over = depth <= 0 && !inString
    }
    return text.length
  }

  return {
    take,
    get begun() {
      return begun
    },
    get over() {
      return over
    },
  }
}

type State =
  | { readonly at: 'text' }
  | { readonly at: 'header' }
  | { readonly at: 'arguments'; readonly value: ReturnType<typeof createValue> }
  | { readonly at: 'tail' }

/** `limit`: calls after which the rest is dropped (parallel_tool_calls false). */
export function createCallReader(syntax: Syntax, limit: number): Reader {
  const marks = [syntax.open, ...syntax.noise]
  let state: State = { at: 'text' }
  let held = ''
  let calls = 0
  let spoken = false // content that is more than blanks around calls

  function content(text: string): readonly Delta[] {
    // blanks between the text and a call are the protocol's, not the answer's
    const shown = calls > 0 || !spoken ? text.trimStart() : text
    if (shown === '') return []
    spoken = true
    return [{ content: shown }]
  }

  /** Text up to a mark, or up to what may become one. */
  function readText(): readonly Delta[] | null {
    const found = marks
      .map((mark) => ({ mark, at: held.indexOf(mark) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at)[0]
    if (found) {
      const before = held.slice(0, found.at)
      held = held.slice(found.at + found.mark.length)
      if (found.mark === syntax.open) state = { at: 'header' }
      return content(found.mark === syntax.open ? before.trimEnd() : before)
    }
    // blanks wait too: before a call they are not the answer's
    const shown = held.slice(0, held.length - pending(held, marks)).trimEnd()
    if (shown === '') return null
    held = held.slice(shown.length)
    return content(shown)
  }

  function readHeader(): readonly Delta[] | null {
    const found = syntax.header.exec(held)
    if (found) {
      held = held.slice(found[0].length)
      state = { at: 'arguments', value: createValue() }
      const name = plain(found[1])
      const index = calls++
      if (index >= limit) return []
      return [
        {
          tool_calls: [
            {
              index,
              id: `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`,
              type: 'function',
              function: { name, arguments: '' },
            },
          ],
        },
      ]
    }
    const end = held.indexOf(syntax.close)
    if (end < 0) return null
    const raw = syntax.open + held.slice(0, end + syntax.close.length)
    held = held.slice(end + syntax.close.length)
    state = { at: 'text' }
    return content(raw)
  }

  function readArguments(value: ReturnType<typeof createValue>): readonly Delta[] | null {
    if (!value.begun) held = held.trimStart()
    if (held === '') return null
    const count = value.take(held)
    const piece = held.slice(0, count)
    held = held.slice(count)
    if (value.over) state = { at: 'tail' }
    const index = calls - 1
    return piece === '' || index >= limit ? [] : [{ tool_calls: [{ index, function: { arguments: piece } }] }]
  }

  function readTail(): readonly Delta[] | null {
    const end = held.indexOf(syntax.close)
    if (end < 0) return null
    held = held.slice(end + syntax.close.length)
    state = { at: 'text' }
    return []
  }

  function next(): readonly Delta[] | null {
    if (held === '') return null
    if (state.at === 'text') return readText()
    if (state.at === 'header') return readHeader()
    return state.at === 'arguments' ? readArguments(state.value) : readTail()
  }

  function push(text: string): readonly Delta[] {
    held += text
    const deltas: Delta[] = []
    for (let made = next(); made !== null; made = next()) deltas.push(...made)
    return deltas
  }

  return {
    push,
    end(finish) {
      const deltas: Delta[] = []
      if (state.at === 'header') deltas.push(...content(syntax.open + held))
      if (state.at === 'text' && calls === 0) deltas.push(...content(held))
      held = ''
      return { deltas, finish: finish === 'stop' && calls > 0 ? 'tool_calls' : finish }
    },
  }
}

/** Characters at the end of `text` that may be the beginning of a mark. */
function pending(text: string, marks: readonly string[]): number {
  const longest = Math.max(...marks.map((mark) => mark.length)) - 1
  for (let count = Math.min(longest, text.length); count > 0; count--) {
    const end = text.slice(text.length - count)
    if (marks.some((mark) => mark.startsWith(end))) return count
  }
  return 0
}

function plain(name: string): string {
  try {
    return JSON.parse(`"${name}"`) as string
  } catch {
    return name
  }
}
