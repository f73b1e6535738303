// How a llama-bench is called and read: what ik_llama.cpp and llama.cpp take and print.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { argumentsOf, readLlamaBench } from './engines.ts'
import { describeLine, median } from './report.ts'

describe('llama-bench', () => {
  it('is asked for prompts, and for tokens after a context in the way it knows', () => {
    const decode = { test: 'decode', context: 2048, count: 32, batch: 1, seed: 1 } as const
    const words = (order: Parameters<typeof argumentsOf>[0], gp: boolean) => argumentsOf(order, gp)?.join(' ')
    assert.equal(words({ test: 'prefill', size: 512, seed: 1 }, true), '-p 512 -n 0')
    assert.equal(words(decode, true), '-p 0 -n 0 -gp 2048,32')
    assert.equal(words(decode, false), '-p 0 -n 32 -d 2048')
    assert.equal(words({ ...decode, context: 16 }, true), '-p 0 -n 32')
    assert.equal(argumentsOf({ ...decode, batch: 4 }, true), null)
    assert.equal(argumentsOf({ test: 'first' }, true), null)
  })

  it('says its speed in JSON, whatever else it prints', () => {
    const json = '[\n  {\n    "model": "x [1]",\n    "avg_ts": 81.5,\n    "samples_ts": [ 81.5 ]\n  }\n]\n'
    assert.equal(readLlamaBench(json), 81.5)
    assert.equal(readLlamaBench(`repacked 163 tensors [ok]\n${json}`), 81.5)
    assert.throws(() => readLlamaBench('error: no such file'), /not what llama-bench says: error/)
    assert.throws(() => readLlamaBench('[\n]\n'), /not what llama-bench says/)
  })
})

describe('a line of a report', () => {
  it('shows every peer, and the share of its limit', () => {
    const peers = [
      { name: 'llama.cpp', value: 31, ratio: 4.1 },
      { name: 'ik_llama.cpp', value: 80, ratio: 1.5 },
    ]
    const share = { of: 'int8 dot products', limit: 925, unit: 'GOP/s', share: 0.61 }
    assert.equal(
      describeLine({ name: 'prefill 512', value: 127, unit: 'tok/s', peers, share }).replaceAll(/ +/g, ' '),
      'prefill 512 127.0 tok/s 4.10 x llama.cpp 1.50 x ik_llama.cpp 61% of 925.0 GOP/s, int8 dot products',
    )
    assert.equal(median([3, 1, 2, 10]), 2.5)
  })
})
