// One answer on its way to stdout, and how fast it was. Knows completions, no conversations.
import type { Completion, Result } from '../llm/completion.ts'
import type { Io } from './io.ts'
import { plural, rate } from './style.ts'
import { createWrap } from './wrap.ts'

/** Writes the text as it comes, and ends its last line. */
export async function streamAnswer(io: Io, completion: Completion): Promise<void> {
  const wrap = io.stdout.isTTY ? createWrap(() => io.stdout.columns || 80) : null
  let last = '\n'
  try {
    for await (const { text } of completion) {
      if (text === '') continue
      await io.write(wrap ? wrap.push(text) : text)
      last = text
    }
  } finally {
    await io.write((wrap?.flush() ?? '') + (last.endsWith('\n') ? '' : '\n'))
  }
}

/** '31 tokens at 174 tok/s, prompt of 7 (0 cached) in 29 ms' */
export function describeSpeed({ usage, timings }: Result): string {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = usage
  const cached = prompt_tokens_details.cached_tokens
  const known = cached > 0 ? `, ${cached} of them cached` : ''
  const answer = `${plural(completion_tokens, 'token')} at ${rate(timings.predicted_per_second)} tok/s`
  const { prompt_ms, prompt_per_second } = timings
  const read = `${Math.round(prompt_ms)} ms at ${rate(prompt_per_second)} tok/s`
  return `${answer} · prompt of ${prompt_tokens}${known}, ${read}`
}
