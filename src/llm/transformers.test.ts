import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { CapacityError, CheckpointError, KernelError, RequestError } from '../tensor/error.ts'
import { refuses, skills } from './skills.ts'
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  GenerationConfig,
  idTensor,
  type PreTrainedModel,
  type ProgressInfo,
} from './transformers.ts'

const greedy = { do_sample: false, max_new_tokens: 100 }
const events: ProgressInfo[] = []

const tokenizer = await AutoTokenizer.from_pretrained('demo', { trust_remote_code: true, use_fast: true })
const model = await AutoModelForCausalLM.from_pretrained('demo', {
  trust_remote_code: true,
  device_map: 'sequential',
  torch_dtype: 'torch.bfloat16',
  max_memory: { 0: '20MB', 1: '75GB', cpu: '1GB' },
  attn_implementation: 'eager',
  max_model_len: 1024,
  progress_callback: (event) => events.push(event),
})
after(() => model.dispose())

describe('the card', () => {
  it('runs its program', async () => {
    model.generation_config = await GenerationConfig.from_pretrained('demo')
    assert.equal(model.generation_config.temperature, 0.3)
    model.generation_config.pad_token_id = model.generation_config.eos_token_id
    const messages = [{ role: 'user', content: 'Write a piece of quicksort code in C++' }]
    const input_tensor = tokenizer.apply_chat_template(messages, {
      add_generation_prompt: true,
      return_tensors: 'pt',
    })
    const outputs = await model.generate(input_tensor.to(model.device), { max_new_tokens: 100 })
    const answer = outputs[0].slice(input_tensor.shape[1])
    assert.deepEqual(outputs[0].slice(0, input_tensor.shape[1]), input_tensor[0])
    assert.ok(answer.length > 0 && answer.length <= 100)
    assert.notEqual(tokenizer.decode(answer, { skip_special_tokens: true }), '')
  })

  it('places modules as sequential does, and says which options change nothing', () => {
    const map = model.hf_device_map
    assert.equal(map['model.embed_tokens'], 0)
    assert.equal(map.lm_head, 1)
    assert.equal(Object.keys(map).length, 8 + 3)
    assert.equal(model.device, 'cpu')
    assert.equal(model.config.kv_lora_rank, 64)
    const about = (name: string) => model.warnings.filter((line) => line.startsWith(name)).length
    assert.deepEqual(['attn_implementation', 'trust_remote_code', 'device_map'].map(about), [1, 1, 1])
    assert.equal(about('torch_dtype'), 0)
  })

  it('reports progress in the shapes of transformers.js', () => {
    assert.deepEqual(events[0], { status: 'load', name: 'demo', progress: 0, loaded: 0, total: 8 })
    assert.deepEqual(events.at(-1), { status: 'ready', task: 'text-generation', model: 'demo' })
  })
})

describe('loading', () => {
  it('refuses options it does not know or cannot honour, before it loads', async () => {
    const refused = (options: object) => AutoModelForCausalLM.from_pretrained('demo', options)
    await assert.rejects(refused({ device_mpa: 'auto' }), refuses('device_mpa', /did you mean 'device_map'/))
    await assert.rejects(refused({ device_map: 'gpu' }), refuses('device_map', /sequential/))
    await assert.rejects(refused({ torch_dtype: 'bf16' }), refuses('torch_dtype', /bfloat16/))
    await assert.rejects(refused({ max_memory: { 0: '75 apples' } }), RequestError)
    await assert.rejects(refused({ max_memory: { 0: '10MB' } }), (error: unknown) => {
      return error instanceof CapacityError && /does not fit in max_memory/.test(error.message)
    })
    await assert.rejects(refused({ backend: 'abacus' }), KernelError)
    await assert.rejects(AutoModelForCausalLM.from_pretrained('no such model'), CheckpointError)
    await assert.rejects(GenerationConfig.from_pretrained('demo', { revisoin: 'x' } as object), RequestError)
  })

  it('names a dtype that the weights do not have, and disposes at the end of a block', async () => {
    let inside: PreTrainedModel
    {
      await using other = await AutoModelForCausalLM.from_pretrained('demo', {
        dtype: 'float32',
        device_map: 'cpu',
        backend: 'reference',
      })
      inside = other
      assert.ok(other.warnings.some((line) => line.startsWith("torch_dtype 'float32'")))
      assert.deepEqual(other.hf_device_map, { '': 'cpu' })
      const tensor = idTensor([skills[0].prompt_ids])
      const outputs = await other.generate(tensor, { ...greedy, max_new_tokens: 2 })
      assert.deepEqual(outputs[0].slice(tensor.shape[1]), skills[0].output_ids.slice(0, 2))
    }
    await assert.rejects(inside.generate([0, 5]), RequestError)
  })
})
