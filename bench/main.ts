// npm run bench [-- decode|tokenizer|ops|cpu|serve|masks|schemas ...] [--backend NAME] [--model NAME] [--save]: runs benchmarks, prints
// tables, and with --save writes bench/results/*.json to be committed. `ops` times every operation of the cpu backend by
// itself. `cpu` makes a random V2-Lite of --type (q4_0) in the temporary folder and runs it with --threads; --keep leaves
// the file for the next run. --peer runs llama.cpp in turns with it (npm install --prefix bench/peers), and any
// llama-bench that LATENT_PEER_BENCH names, with LATENT_PEER_BENCH_ARGS (ik_llama.cpp's -fa 1 -mla 3 -rtr 1), shown as
// LATENT_PEER_NAME. `serve` puts --clients streaming readers on the server for --seconds, against the engine alone.
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import type { GgufType } from '../src/model/convert.ts'
import { benchCpu } from './cpu.ts'
import { benchDecode } from './decode.ts'
import type { LlamaBench } from './engines.ts'
import { benchMasks } from './masks.ts'
import { benchOps } from './ops.ts'
import { print, type Report, save } from './report.ts'
import { benchSchemas } from './schemas.ts'
import { benchServe } from './serve.ts'
import { benchTokenizer } from './tokenizer.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: 'string', default: 'reference' },
    model: { type: 'string', default: 'demo' },
    save: { type: 'boolean', default: false },
    type: { type: 'string', default: 'q4_0' },
    threads: { type: 'string', default: String(availableParallelism()) },
    features: { type: 'string', default: '' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    peer: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    clients: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '120' },
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
      llamaBench: llamaBench(),
      rounds: Number(values.rounds),
      only: values.only,
      keep: values.keep,
    }),
  }),
  ops: async () => ({
    benchmark: 'ops',
    backend: values.features === '' ? 'cpu' : `cpu-${values.features}`,
    lines: await benchOps({ threads: Number(values.threads), features: values.features, only: values.only }),
  }),
  serve: async () => ({
    benchmark: `serve-${values.model.replace(/[^\w.-]+/g, '-')}`,
    backend: values.backend,
    lines: await benchServe({
      model: values.model,
      backend: values.backend,
      clients: Number(values.clients),
      seconds: Number(values.seconds),
    }),
  }),
  masks: async () => ({ benchmark: 'masks', backend: 'xgrammar', lines: await benchMasks() }),
  schemas: async () => ({ benchmark: 'schemas', backend: '', lines: await benchSchemas() }),
  tokenizer: async () => ({ benchmark: 'tokenizer', backend: 'js', lines: await benchTokenizer() }),
}

function llamaBench(): LlamaBench | null {
  const { LATENT_PEER_BENCH: path, LATENT_PEER_BENCH_ARGS: args, LATENT_PEER_NAME: name } = process.env
  return path ? { path, args: (args ?? '-fa 1 -mla 3 -rtr 1').split(' ').filter(Boolean), name } : null
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
