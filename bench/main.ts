// npm run bench [-- decode|tokenizer|cpu ...] [--backend NAME] [--model NAME] [--save]: runs benchmarks, prints tables,
// and with --save writes bench/results/*.json to be committed. `cpu` makes a random V2-Lite of --type (q4_0) in the
// temporary folder and runs it with --threads; --peer runs llama.cpp in turns with it (npm ci --prefix bench/peers).
import { parseArgs } from 'node:util'
import type { GgufType } from '../src/model/convert.ts'
import { benchCpu } from './cpu.ts'
import { benchDecode } from './decode.ts'
import { print, type Report, save } from './report.ts'
import { benchTokenizer } from './tokenizer.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: 'string', default: 'reference' },
    model: { type: 'string', default: 'demo' },
    save: { type: 'boolean', default: false },
    type: { type: 'string', default: 'q4_0' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    peer: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
})

const benchmarks: Readonly<Record<string, () => Promise<Report>>> = {
  decode: async () => ({
    benchmark: `decode-${values.model.replace(/[^\w.-]+/g, '-')}`,
    backend: values.backend,
    lines: await benchDecode(values.model, values.backend),
  }),
  cpu: async () => ({
    benchmark: `cpu-lite-${values.type}`,
    backend: 'cpu',
    lines: await benchCpu({
      type: values.type as GgufType,
      threads: Number(values.threads),
      peer: values.peer,
      rounds: Number(values.rounds),
      only: values.only,
      keep: values.keep,
    }),
  }),
  tokenizer: async () => ({ benchmark: 'tokenizer', backend: 'js', lines: await benchTokenizer() }),
}

for (const name of positionals.length > 0 ? positionals : ['decode', 'tokenizer']) {
  const run = benchmarks[name]
  if (!run) {
    process.stderr.write(`no benchmark '${name}'; there are ${Object.keys(benchmarks).join(', ')}\n`)
    process.exit(2)
  }
  const report = await run()
  print(report)
  if (values.save) save(report)
}
