import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { type FakeHub, fakeHub, sha } from '../checkpoint/fakehub.ts'
import { CheckpointError } from '../tensor/error.ts'
import { locate } from './load.ts'
import { skills } from './skills.ts'
import { AutoModelForCausalLM, AutoTokenizer, GenerationConfig, type ProgressInfo } from './transformers.ts'
import { LLM, SamplingParams } from './vllm.ts'

const directory = await locate('demo')
const names = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'model.safetensors',
]
const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(directory, name))]))
const cache_dir = mkdtempSync(join(tmpdir(), 'latent-'))
const { HF_ENDPOINT } = process.env

after(() => {
  rmSync(cache_dir, { recursive: true })
  if (HF_ENDPOINT === undefined) delete process.env.HF_ENDPOINT
  else process.env.HF_ENDPOINT = HF_ENDPOINT
})

describe('models of the hub', () => {
  it('are fetched as far as each class needs them, once, and found again without the network', async () => {
    await using hub: FakeHub = await fakeHub('org/demo', { main: sha('a') }, files)
    process.env.HF_ENDPOINT = hub.endpoint
    const tokenizer = await AutoTokenizer.from_pretrained('org/demo', { cache_dir, token: 'secret' })
    const config = await GenerationConfig.from_pretrained('org/demo', { cache_dir })
    assert.equal(config.eos_token_id, tokenizer.eos_token_id)
    assert.equal(tokenizer.name_or_path, 'org/demo')
    assert.equal(hub.gets('model.safetensors').length, 0)
    assert.equal(hub.asked[0].authorization, 'Bearer secret')

    const events: ProgressInfo[] = []
    const progress_callback = (event: ProgressInfo) => events.push(event)
    const options = { cache_dir, max_model_len: 256 }
    await using model = await AutoModelForCausalLM.from_pretrained('org/demo', {
      ...options,
      progress_callback,
    })
    const seen = (file: string) =>
      events.filter((event) => 'file' in event && event.file === file).map((event) => event.status)
    assert.deepEqual(seen('config.json'), ['initiate', 'done'])
    const statuses = seen('model.safetensors')
    assert.deepEqual([...statuses.slice(0, 2), statuses.at(-1)], ['initiate', 'download', 'done'])
    assert.deepEqual(new Set(statuses.slice(2, -1)), new Set(['progress']))
    assert.equal(model.name_or_path, 'org/demo')
  })

  it('answer from the cache alone', async () => {
    await AutoTokenizer.from_pretrained('org/demo', { cache_dir, local_files_only: true })
    await using llm = new LLM({ model: 'org/demo', download_dir: cache_dir, max_model_len: 256 })
    const params = new SamplingParams({ temperature: 0, max_tokens: 100 })
    const [output] = await llm.generate({ prompt_token_ids: skills[0].prompt_ids }, params)
    assert.deepEqual(output.outputs[0].token_ids, skills[0].output_ids)
    const absent = AutoTokenizer.from_pretrained('org/other', { cache_dir, local_files_only: true })
    await assert.rejects(absent, CheckpointError)
  })
})
