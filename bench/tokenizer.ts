// Megabytes of text a second, to ids and back, beside the Rust library in the same run on the same texts. The
// library also keeps offsets, which nothing here needs. "first sight" begins with an empty word cache; the
// other encode lines are what a running server sees.

import { createDice, openOracle, readLines, readText, specs } from '../src/tokenizer/examples.ts'
import { createTokenizer } from '../src/tokenizer/tokenizer.ts'
import { type Line, median } from './report.ts'

const rounds = 5
const peer = 'Rust tokenizers'

export async function benchTokenizer(): Promise<Line[]> {
  const config = JSON.parse(readText('deepseek-v2/tokenizer_config.json')) as unknown
  const fresh = () => createTokenizer(specs.v2, config)
  const [tokenizer, oracle] = [fresh(), openOracle(specs.v2)]
  const lines: Line[] = []
  for (const [name, text] of Object.entries(texts())) {
    const size = Buffer.byteLength(text) / 1e6
    const native = await rate(
      size,
      async () => void (await oracle.encode(text, null, { addSpecialTokens: false })),
    )
    const compare = (value: number, native: number) => ({
      value,
      unit: 'MB/s',
      peers: [{ name: peer, value: native, ratio: value / native }],
    })
    lines.push({
      name: `encode ${name}`,
      ...compare(await rate(size, () => void tokenizer.encode(text)), native),
    })
    const others = Array.from({ length: rounds + 1 }, fresh)
    const first = await rate(size, () => void others.pop()!.encode(text))
    lines.push({ name: `encode ${name}, first sight`, ...compare(first, native) })
    const ids = tokenizer.encode(text)
    const nativeDecode = await rate(size, async () => void (await oracle.decode(ids, false)))
    lines.push({
      name: `decode ${name}`,
      ...compare(await rate(size, () => void tokenizer.decode(ids)), nativeDecode),
    })
  }
  return lines
}

/** Megabytes a second, the middle of several rounds after one that does not count. */
async function rate(size: number, work: () => void | Promise<void>): Promise<number> {
  const rates: number[] = []
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now()
    await work()
    if (round > 0) rates.push(size / ((performance.now() - start) / 1000))
  }
  return median(rates)
}

/**
 * Real texts, about 400 kB each. The Chinese ones are few, so windows of them make runs that were not seen
 * before.
 */
function texts(): Readonly<Record<string, string>> {
  const rows = readLines('vectors.jsonl.gz').map((line) => JSON.parse(line) as { tag: string; text: string })
  const of = (...tags: readonly string[]) =>
    rows
      .filter(({ tag }) => tags.some((start) => tag.startsWith(start)))
      .map(({ text }) => text)
      .join('\n')
  const chinese = of('cmath-zh')
  const dice = createDice(1)
  const windows = Array.from({ length: 14_000 }, () => {
    const start = dice(chinese.length)
    return chinese.slice(start, start + 4 + dice(12))
  })
  const english = of('gpt4', 'math')
  const code = of('code-', 'humaneval')
  return {
    English: english + english.slice(0, 220_000),
    Chinese: windows.join('，'),
    code: code + code.slice(0, 130_000),
  }
}
