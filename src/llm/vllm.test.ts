import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { CapacityError, CheckpointError, RequestError } from '../tensor/error.ts'
import { refuses, some } from './skills.ts'
import { LLM, SamplingParams } from './vllm.ts'

const greedy = new SamplingParams({ temperature: 0, max_tokens: 100 })
const llm = new LLM({
  model: 'demo',
  tensor_parallel_size: 8,
  max_model_len: 1024,
  trust_remote_code: true,
  enforce_eager: true,
  gpu_memory_utilization: 0.9,
  dtype: 'auto',
  max_num_seqs: 16,
  enable_prefix_caching: true,
  seed: 11,
})
after(() => llm.shutdown())

describe('SamplingParams', () => {
  it("has vLLM's defaults", () => {
    const { temperature, top_p, max_tokens, n, stop_token_ids } = new SamplingParams()
    assert.deepEqual([temperature, top_p, max_tokens, n, stop_token_ids], [1, 1, 16, 1, []])
    assert.equal(new SamplingParams({ max_tokens: null }).max_tokens, null)
    assert.equal(new SamplingParams({ temperature: null, seed: undefined }).temperature, 1)
  })

  it('is checked when it is made', () => {
    const wrong: readonly [object, string, RegExp][] = [
      [{ temprature: 1 }, 'temprature', /did you mean 'temperature'/],
      [{ options: 1 }, 'options', /not a field/],
      [{ temperature: -1 }, 'temperature', /0 or more/],
      [{ top_p: 0 }, 'top_p', /above 0/],
      [{ n: 0 }, 'n', /from 1/],
      [{ stop: '' }, 'stop', /non-empty/],
      [{ bad_words: [''] }, 'bad_words', /non-empty/],
      [{ max_tokens: 5, min_tokens: 6 }, 'min_tokens', /above max_tokens/],
      [{ logprobs: '3' }, 'logprobs', /without quotes/],
      [{ skip_special_tokens: 1 }, 'skip_special_tokens', /true or false/],
      [{ stop_token_ids: [-1] }, 'stop_token_ids', /token id/],
    ]
    for (const [fields, field, message] of wrong) {
      assert.throws(() => new SamplingParams(fields), refuses(field, message), JSON.stringify(fields))
    }
  })
})

describe('LLM', () => {
  it('lists the options that change nothing', () => {
    const names = llm.warnings.map((line) => line.split(' ')[0])
    assert.deepEqual(names, ['tensor_parallel_size', 'trust_remote_code', 'gpu_memory_utilization'])
    assert.deepEqual(new LLM({ model: 'demo', tensor_parallel_size: 1, enforce_eager: true }).warnings, [])
  })

  it('refuses unknown options at once, and what is wrong with the model at the first call', async () => {
    const make = (options: object) => () => new LLM({ model: 'demo', ...options })
    assert.throws(make({ max_model_length: 5 }), refuses('max_model_length', /did you mean 'max_model_len'/))
    assert.throws(make({ tokenizer: 'other' }), refuses('tokenizer', /own/))
    assert.throws(make({ kv_cache_dtype: 'int3' }), refuses('kv_cache_dtype', /bfloat16/))
    const missing = new LLM({ model: 'no such model' })
    await assert.rejects(missing.generate('hello'), CheckpointError)
    await assert.rejects(missing.get_tokenizer(), CheckpointError)
    await missing.shutdown()
    await using long = new LLM({ model: 'demo', max_model_len: 10 ** 8 })
    await assert.rejects(long.generate('hello'), CapacityError)
  })

  it("runs the card's program", async () => {
    const tokenizer = await llm.get_tokenizer()
    const sampling_params = new SamplingParams({
      temperature: 0.3,
      max_tokens: 256,
      stop_token_ids: [tokenizer.eos_token_id],
    })
    const messages_list = ['Who are you?', 'Write a piece of quicksort code in C++.'].map((content) => [
      { role: 'user', content },
    ])
    const prompt_token_ids = messages_list.map((messages) =>
      tokenizer.apply_chat_template(messages, { add_generation_prompt: true }),
    )
    const outputs = await llm.generate({ prompt_token_ids, sampling_params })
    assert.deepEqual(
      outputs.map((output) => output.prompt_token_ids),
      prompt_token_ids,
    )
    for (const { outputs: answers, finished, prompt } of outputs) {
      assert.notEqual(answers[0].text, '')
      assert.ok(finished)
      assert.equal(prompt, null)
    }
  })

  it('answers several prompts in their order, each as it was exported', async () => {
    const outputs = await llm.generate({ prompt_token_ids: some.map((skill) => skill.prompt_ids) }, greedy)
    for (const [i, { outputs: answers, metrics }] of outputs.entries()) {
      assert.deepEqual(answers[0].token_ids, some[i].output_ids)
      assert.equal(answers[0].text, some[i].output_text)
      assert.equal(answers[0].finish_reason, 'stop')
      assert.ok(metrics.prompt_ms > 0)
    }
    assert.equal(new Set(outputs.map((output) => output.request_id)).size, some.length)
  })

  it('takes every shape of prompt', async () => {
    const { prompt_ids, output_text } = some[0]
    const tokenizer = await llm.get_tokenizer()
    const text = tokenizer.decode(prompt_ids)
    const textOf = async (prompt: Parameters<LLM['generate']>[0]) =>
      (await llm.generate(prompt, greedy)).map((output) => output.outputs[0].text)
    assert.deepEqual(await textOf(text), [output_text])
    assert.deepEqual(
      await textOf([text, { prompt: text }, { prompt_token_ids: prompt_ids }]),
      Array(3).fill(output_text),
    )
    assert.deepEqual(await textOf({ prompt: text }), [output_text])
    assert.deepEqual(await textOf({ prompt_token_ids: prompt_ids }), [output_text])
    assert.deepEqual(await textOf({ prompts: [text] }), [output_text])
    const [{ prompt, prompt_token_ids }] = await llm.generate(text, greedy)
    assert.equal(prompt, text)
    assert.deepEqual(prompt_token_ids, prompt_ids)
  })

  it('chats, one conversation or several', async () => {
    const [one] = await llm.chat(some[0].messages, greedy)
    assert.equal(one.outputs[0].text, some[0].output_text)
    assert.deepEqual(one.prompt_token_ids, some[0].prompt_ids)
    const all = await llm.chat(
      some.map((skill) => skill.messages),
      greedy,
    )
    assert.deepEqual(
      all.map((output) => output.outputs[0].text),
      some.map((skill) => skill.output_text),
    )
    const begun = [...some[0].messages, { role: 'assistant', content: some[0].output_text.slice(0, 8) }]
    const [rest] = await llm.chat(begun, greedy, { continue_final_message: true })
    assert.equal(rest.outputs[0].text, some[0].output_text.slice(8))
    await assert.rejects(llm.chat(some[0].messages, greedy, { add_prompt: true } as object), RequestError)
  })

  it('reports log-probabilities by token id', async () => {
    const { prompt_ids, output_ids } = some[0]
    const params = new SamplingParams({ temperature: 0, max_tokens: 4, logprobs: 2, prompt_logprobs: 1 })
    const [{ outputs, prompt_logprobs }] = await llm.generate({ prompt_token_ids: prompt_ids }, params)
    const [{ logprobs, cumulative_logprob, token_ids, finish_reason }] = outputs
    assert.deepEqual(token_ids, output_ids.slice(0, 4))
    assert.equal(finish_reason, 'length')
    const chosen = token_ids.map((id, i) => logprobs![i][id])
    assert.ok(chosen.every(({ rank, logprob }) => rank === 1 && logprob <= 0))
    assert.equal(
      cumulative_logprob,
      chosen.reduce((sum, { logprob }) => sum + logprob, 0),
    )
    assert.equal(chosen.map((entry) => entry.decoded_token).join(''), outputs[0].text)
    assert.ok(logprobs!.every((position) => Object.keys(position).length === 2))
    assert.equal(prompt_logprobs![0], null)
    assert.equal(prompt_logprobs!.length, prompt_ids.length)
    assert.ok(prompt_ids[1] in prompt_logprobs![1]!)
  })

  it('takes parameters for each prompt, n answers, seeds and stops', async () => {
    const prompt_token_ids = [some[0].prompt_ids, some[0].prompt_ids]
    const warm = new SamplingParams({ temperature: 1.5, seed: 5, n: 3, max_tokens: 6 })
    const stop = new SamplingParams({ temperature: 0, max_tokens: 100, stop: ['age'] })
    const [many, one] = await llm.generate({ prompt_token_ids }, [warm, stop])
    assert.deepEqual(
      many.outputs.map((output) => output.index),
      [0, 1, 2],
    )
    const [again] = await llm.generate({ prompt_token_ids: prompt_token_ids[0] }, warm)
    assert.deepEqual(again.outputs, many.outputs)
    assert.equal(one.outputs[0].stop_reason, 'age')
    assert.equal(one.outputs[0].text, some[0].output_text.split('age')[0])
    const short = llm.generate({ prompt_token_ids }, [greedy])
    await assert.rejects(short, refuses('sampling_params', /1 sampling_params for 2 prompts/))
  })

  it("uses the model's generation_config where no parameters are given, and the LLM's seed", async () => {
    const params = await llm.get_default_sampling_params()
    assert.deepEqual([params.temperature, params.top_p, params.max_tokens], [0.3, 0.95, 16])
    const run = async () => {
      await using fresh = new LLM({ model: 'demo', seed: 4, max_model_len: 256 })
      const prompts = ['One, two,', 'One, two,', 'One, two,']
      const outputs = await fresh.generate(prompts, new SamplingParams({ temperature: 2, max_tokens: 8 }))
      return outputs.map((output) => output.outputs[0].text)
    }
    const first = await run()
    assert.deepEqual(await run(), first)
    assert.ok(new Set(first).size > 1)
    const [output] = await llm.generate({ prompt_token_ids: some[0].prompt_ids })
    assert.ok(output.outputs[0].token_ids.length <= 16)
  })

  it('refuses bad prompts, and one bad prompt ends the call', async () => {
    const call = (prompts: unknown, params?: unknown) =>
      llm.generate(prompts as string, params as SamplingParams | undefined)
    await assert.rejects(call(5), refuses('prompts', /must be/))
    await assert.rejects(call([{ text: 'x' }]), refuses('prompts', /must be/))
    await assert.rejects(call({ prompt_ids: [1] }), refuses('prompt_ids', /did you mean/))
    await assert.rejects(call({ sampling_params: greedy }), refuses('prompts', /either/))
    await assert.rejects(call('x', { temperature: 1 }), refuses('sampling_params', /SamplingParams/))
    await assert.rejects(llm.generate({ prompt_token_ids: [[0, 5], [10 ** 6]] }, greedy), RequestError)
    await assert.rejects(llm.generate({ prompt_token_ids: [new Array(2000).fill(5)] }, greedy), CapacityError)
    const wide = new SamplingParams({ stop_token_ids: [10 ** 6] })
    await assert.rejects(llm.generate('x', wide), refuses('stop_token_ids', /token id/))
    const signal = AbortSignal.abort(new Error('enough'))
    await assert.rejects(llm.generate({ prompts: 'x', signal }), /enough/)
  })

  it('cannot be used after shutdown', async () => {
    const other = new LLM({ model: 'demo' })
    await other.get_tokenizer()
    await other.shutdown()
    await other.shutdown()
    await assert.rejects(other.generate('hello'), refuses(null, /shut down/))
  })
})
