// A GGUF file through every room: llama.cpp's own vocabulary gives llama.cpp's own ids, and a converted model answers.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { readConfigFile } from '../src/checkpoint/checkpoint.ts'
import { openEngine, readConfig } from '../src/engine/open.ts'
import { samplingParams } from '../src/engine/sampling.ts'
import { convertToGguf } from '../src/model/convert.ts'
import { createTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts'

const data = new URL('../../test/data/', import.meta.url)
const work = mkdtempSync(join(tmpdir(), 'latent-ggufall-'))
after(() => rmSync(work, { recursive: true }))

function tokenizerOf(path: string): Tokenizer {
  return createTokenizer(
    readConfigFile(path, 'tokenizer.json'),
    readConfigFile(path, 'tokenizer_config.json'),
    path,
  )
}

test("llama.cpp's vocabulary of DeepSeek-LLM gives llama.cpp's 47 vectors", () => {
  const path = join(work, 'vocab.gguf')
  writeFileSync(path, gunzipSync(readFileSync(new URL('gguf/ggml-vocab-deepseek-llm.gguf.gz', data))))
  const tokenizer = tokenizerOf(path)
  assert.equal(tokenizer.size, 100_015) // and not the 102,400 rows of the embedding
  assert.deepEqual([tokenizer.bos, tokenizer.eos, tokenizer.pad], [100_000, 100_001, 100_001])
  const read = (name: string): string => readFileSync(new URL(`tokenizer/deepseek-llm/${name}`, data), 'utf8')
  const texts = read('llama.cpp.inp').split('\n__ggml_vocab_test__\n')
  const ids = read('llama.cpp.out').split('\n')
  assert.equal(texts.length, 47)
  for (const [i, text] of texts.entries()) {
    const wanted = ids[i].split(' ').filter((id) => id !== '')
    assert.deepEqual(tokenizer.encode(text).map(String), wanted, JSON.stringify(text))
  }
  const real = JSON.parse(
    gunzipSync(readFileSync(new URL('tokenizer/deepseek-v2/tokenizer.json.gz', data))).toString('utf8'),
  )
  const made = readConfigFile(path, 'tokenizer.json') as typeof real
  assert.deepEqual(made.pre_tokenizer, real.pre_tokenizer)
  assert.deepEqual(made.model.merges, real.model.merges)
  assert.deepEqual(made.model.vocab, real.model.vocab)
})

test('the demo model answers from a GGUF file of 9 MB', async () => {
  const path = join(work, 'demo.gguf')
  await convertToGguf(fileURLToPath(new URL('../../models/demo', import.meta.url)), path, 'q4_k_m')
  const tokenizer = tokenizerOf(path)
  assert.equal(readConfig(path).vocabSize, 4096)
  const prompt = '<｜begin▁of▁sentence｜><｜User｜>What is 2 + 3?<｜Assistant｜>'
  const engine = await openEngine(path, { backend: 'reference', max_model_len: 64, tokens: tokenizer.size })
  const answer: number[] = []
  const request = {
    prompt_token_ids: tokenizer.encode(prompt, { parseSpecial: true }),
    params: samplingParams({ temperature: 0, max_tokens: 16 }, { size: tokenizer.size }),
  }
  for await (const { choice } of engine.generate(request)) if (choice !== null) answer.push(choice.token)
  await engine.close()
  assert.equal(tokenizer.decode(answer, { skipSpecialTokens: true }), '2 + 3 = 5')
})
