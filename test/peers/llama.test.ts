// llama.cpp opens what `latent quantize` writes, reads the same tokens, and computes the same: npm run test:peers, after
// npm install --prefix bench/peers. The demo model is the one we have with a tokenizer and a shape that llama.cpp takes:
// it knows models without q_lora by their 26 or 27 layers, and opens no file without a vocabulary.
import assert from 'node:assert/strict'
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type LlamaModel, openLlama } from '../../bench/llama.ts'
import { score } from '../../src/llm/score.ts'
import { convertToGguf, type GgufType } from '../../src/model/convert.ts'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'

const demo = fileURLToPath(new URL('../../../models/demo/', import.meta.url))
const work = mkdtempSync(join(tmpdir(), 'latent-peers-'))
after(() => rmSync(work, { recursive: true }))

interface Row {
  readonly prompt_ids: readonly number[]
  readonly output_ids: readonly number[]
  readonly min_margin: number
}
const rows = readFileSync(join(demo, 'skills.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Row)

const types: readonly GgufType[] = ['q8_0', 'q4_0', 'q4_k_m', 'q5_k_m', 'q6_k']
/** Of two next-token distributions, half the sum of differences. Found: 0.018 at most, both sides rounding activations. */
const apart = 0.04
/** Our lead of the likeliest token, in logits, from which theirs must be the same. */
const clear = 1

/**
 * The demo with any expert allowed: of grouped experts llama.cpp ranks groups by their two best, as V3 does, where V2
 * takes the best one, so that some rows go to other experts.
 */
function ungrouped(): string {
  const folder = mkdtempSync(join(work, 'ungrouped-'))
  for (const name of readdirSync(demo).filter((name) => /\.(json|safetensors)$/.test(name))) {
    copyFileSync(join(demo, name), join(folder, name))
  }
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  const open = { ...config, topk_method: 'greedy', n_group: 1, topk_group: 1 }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(open))
  return folder
}

const open = new Map<string, Promise<LlamaModel>>()

async function written(source: string, type: GgufType): Promise<readonly [string, LlamaModel]> {
  const path = join(work, `${source === demo ? 'demo' : 'ungrouped'}-${type}.gguf`)
  if (!open.has(path)) {
    await convertToGguf(source, path, type)
    open.set(path, openLlama(path, 1))
  }
  return [path, await open.get(path)!]
}

/** [n, vocab]: their logits after each id. */
async function theirLogits(
  model: LlamaModel,
  ids: readonly number[],
): Promise<readonly ReadonlyMap<number, number>[]> {
  const context = await model.createContext({ contextSize: 512, sequences: 1, threads: 1 })
  const wanted = ids.map((id) => [id, { generateNext: { logits: true } }] as const)
  const outputs = await context.getSequence().controlledEvaluate(wanted)
  await context.dispose()
  return outputs.map((output) => output!.next.logits)
}

function softmax(logits: Float32Array): Float64Array {
  const most = Math.max(...logits)
  const weights = Float64Array.from(logits, (value) => Math.exp(value - most))
  const total = weights.reduce((sum, weight) => sum + weight)
  return weights.map((weight) => weight / total)
}

describe('a GGUF file of ours in llama.cpp', () => {
  const ids = rows.filter((_, i) => i % 40 === 0).map((row) => [...row.prompt_ids, ...row.output_ids])
  const source = ungrouped()

  for (const type of types) {
    for (const backend of ['reference', 'cpu'] as const) {
      it(`${type}: the next-token probabilities of our ${backend} backend, at every position`, async () => {
        const [path, model] = await written(source, type)
        for (const prompt of ids) {
          const { logits, vocabSize } = await score(path, prompt, { backend, logits: true })
          const theirs = await theirLogits(model, prompt)
          assert.equal(theirs.length, prompt.length)
          for (const [i, row] of theirs.entries()) {
            const own = logits!.subarray(i * vocabSize, (i + 1) * vocabSize)
            compare(own, row, `position ${i} of ${prompt.join(' ')}`)
          }
        }
      })
    }
  }

  it('the same tokens of a text', async () => {
    const [path, model] = await written(source, 'q8_0')
    const tokenizer = openTokenizer(path)
    const texts = [
      'I am here: 你好\n\n  12 + 345 = 357',
      'naïve café — “quoted” 🙂',
      ' \t\n x',
      "don't DON'T 1999's",
    ]
    for (const text of [...texts, '<｜User｜>What is 2 + 3?<｜Assistant｜>']) {
      assert.deepEqual(model.tokenize(text, true), tokenizer.encode(text, { parseSpecial: true }), text)
    }
  })

  it('the recorded answers, token by token', async () => {
    const [, model] = await written(demo, 'q8_0')
    const context = await model.createContext({ contextSize: 512, sequences: 1, threads: 1 })
    const sequence = context.getSequence()
    const some = rows.filter(({ min_margin }) => min_margin > clear).filter((_, i) => i % 6 === 0)
    assert.ok(some.length > 20, `${some.length} rows`)
    for (const { prompt_ids, output_ids } of some) {
      await sequence.clearHistory()
      const got: number[] = []
      const options = { temperature: 0, yieldEogToken: true }
      for await (const token of sequence.evaluate([...prompt_ids], options)) {
        if (got.push(token) === output_ids.length) break
      }
      assert.deepEqual(got, output_ids)
    }
    await context.dispose()
  })
})

function compare(own: Float32Array, row: ReadonlyMap<number, number>, where: string): void {
  const other = Float32Array.from(own, (_, token) => row.get(token)!)
  const [p, q] = [softmax(own), softmax(other)]
  const distance = p.reduce((sum, value, token) => sum + Math.abs(value - q[token]), 0) / 2
  assert.ok(distance < apart, `${where}: probabilities are ${distance} apart`)
  const [first, second] = own.toSorted().slice(-2).reverse()
  if (first - second < clear) return
  assert.equal(other.indexOf(Math.max(...other)), own.indexOf(first), where)
}
