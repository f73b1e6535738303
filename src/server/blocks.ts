// One answer as blocks that follow one another (text, calls of tools), as Anthropic's messages and OpenAI's responses tell
// it: each begins, grows and ends before the next begins. Knows neither protocol's names.
import type { Result } from '../llm/completion.ts'
import { type Delta, type Reading, type Step, steps, type ToolCallDelta } from './answer.ts'

export type Block =
  | { readonly type: 'text'; readonly text: string }
  /** Its text is its arguments, JSON where the model finished them. */
  | { readonly type: 'tool'; readonly id: string; readonly name: string; readonly text: string }

export interface BlockEvent {
  readonly what: 'start' | 'grow' | 'stop'
  /** Which block. */
  readonly at: number
  /** As far as it has come. */
  readonly block: Block
  /** What is new in it. */
  readonly text: string
}

export interface Blocks {
  readonly list: readonly Block[]
  push(deltas: readonly Delta[]): readonly BlockEvent[]
  end(): readonly BlockEvent[]
}

export function createBlocks(): Blocks {
  const list: Block[] = []
  let open: string | null = null // 'text', or the number of the call in its answer

  function event(what: BlockEvent['what'], text = ''): BlockEvent {
    const at = list.length - 1
    list[at] = { ...list[at], text: list[at].text + text }
    return { what, at, block: list[at], text }
  }

  function end(): readonly BlockEvent[] {
    if (open === null) return []
    open = null
    return [event('stop')]
  }

  function enter(name: string, block: Block): readonly BlockEvent[] {
    if (open === name) return []
    const before = end()
    list.push(block)
    open = name
    return [...before, event('start')]
  }

  function call({ index, id, function: { name = '', arguments: text = '' } }: ToolCallDelta) {
    const events = enter(String(index), { type: 'tool', id: id ?? '', name, text: '' })
    return text === '' ? events : [...events, event('grow', text)]
  }

  function push(deltas: readonly Delta[]): readonly BlockEvent[] {
    return deltas.flatMap(({ content = '', tool_calls = [] }) => {
      const events: BlockEvent[] = []
      if (content !== '') events.push(...enter('text', { type: 'text', text: '' }), event('grow', content))
      for (const delta of tool_calls) events.push(...call(delta))
      return events
    })
  }

  return { list, push, end }
}

/** What happens in an answer: steps with their events, and at last how it ended. */
export interface Told {
  readonly step: Step
  readonly events: readonly BlockEvent[]
}

export interface Ended {
  readonly blocks: readonly Block[]
  readonly finish: NonNullable<Step['finish']>
  readonly stopReason: Step['stopReason']
  readonly result: Result
}

/** The first answer of a reading, block by block. */
export async function* tell(reading: Reading): AsyncGenerator<Told, Ended, undefined> {
  const blocks = createBlocks()
  const coming = steps(reading)
  let finish: Step['finish'] = null
  let stopReason: Step['stopReason'] = null
  try {
    for (;;) {
      const { done, value } = await coming.next()
      if (done) return { blocks: blocks.list, finish: finish ?? 'stop', stopReason, result: value }
      const events = [...blocks.push(value.deltas), ...(value.finish === null ? [] : blocks.end())]
      if (value.finish !== null) ({ finish, stopReason } = value)
      yield { step: value, events }
    }
  } finally {
    await coming.return(undefined as never) // who reads this may leave before the end
  }
}
