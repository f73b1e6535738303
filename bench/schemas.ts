// How many schemas that people wrote are taken, and which keyword the others are refused for.

import { RequestError } from '../src/tensor/error.ts'
import { createAcceptors, readRows } from '../test/structured/acceptor.ts'
import { type Line, median } from './report.ts'

interface Row {
  readonly name: string
  readonly schema: Record<string, unknown>
}

export async function benchSchemas(): Promise<Line[]> {
  const open = await createAcceptors()
  const rows = readRows<Row>('schemabench.jsonl.gz')
  const refused = new Map<string, number>()
  const subsets = new Map<string, { taken: number; all: number }>()
  const times: number[] = []
  for (const { name, schema } of rows) {
    const [subset] = name.split('---')
    const own = subsets.get(subset) ?? { taken: 0, all: 0 }
    subsets.set(subset, own)
    own.all++
    const started = performance.now()
    try {
      const acceptor = await open({ json: schema })
      acceptor.close()
      own.taken++
    } catch (error) {
      if (!(error instanceof RequestError)) throw error
      const keyword = keywordOf(error.message)
      refused.set(keyword, (refused.get(keyword) ?? 0) + 1)
    }
    times.push(performance.now() - started)
  }
  const percent = (part: number, of: number): number => (part / of) * 100
  const taken = [...subsets.values()].reduce((sum, own) => sum + own.taken, 0)
  return [
    { name: `taken of ${rows.length}`, value: percent(taken, rows.length), unit: '%' },
    ...[...subsets].map(([name, own]) => ({
      name: `taken of ${name}`,
      value: percent(own.taken, own.all),
      unit: '%',
    })),
    ...[...refused]
      .sort((a, b) => b[1] - a[1])
      .map(([keyword, count]) => ({
        name: `refused for ${keyword}`,
        value: percent(count, rows.length),
        unit: '%',
      })),
    { name: 'translating and compiling over 256 tokens, median', value: median(times), unit: 'ms' },
    { name: 'the same, slowest', value: Math.max(...times), unit: 'ms' },
  ]
}

/** The last word of the path that a refusal names. */
function keywordOf(message: string): string {
  const path = /^structured_outputs\.json: (\$\S*)/.exec(message)?.[1] ?? '$'
  const words = path.replace(/\[[^\]]*\]/g, '').split('.')
  const last = words.at(-1) ?? '$'
  return last === '$' ? 'contradiction' : last
}
