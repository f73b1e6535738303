// The library's door against callers that are wrong, and against what must never be lost or silently changed.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { RequestError } from '../tensor/error.ts'
import { type LLM, load } from './load.ts'

const llm: LLM = await load('demo', { worker: false, max_model_len: 1024 })

describe('load', () => {
  const refusals: readonly [object, RegExp][] = [
    [{ max_modellen: 5 }, /'max_modellen' is not an option of load\(\); did you mean 'max_model_len'/],
    [{ chat_template: 5 }, /chat_template must be a Jinja template or the name/],
    [{ signal: 5 }, /signal must be an AbortSignal/],
    [{ threads: -1 }, /threads must be a whole number/],
    [{ kv_dtype: 'int3' }, /kv_dtype must be f32, bf16 or q8/],
    [{ backend: 'gpu' }, /there is no backend 'gpu'/],
  ]
  for (const [options, message] of refusals) {
    it(`${JSON.stringify(options)} is refused`, async () => {
      await assert.rejects(load('demo', options), message)
    })
  }

  it('a model that is no name is refused', async () => {
    await assert.rejects(load('' as string), /the model must be a name or a path, "" given/)
  })
})

describe('requests', () => {
  after(() => llm.close())
  const run = (options: object): Promise<unknown> => llm.chat('hi', { max_tokens: 2, ...options }).result()
  const refusals: readonly [object, string, RegExp][] = [
    [
      { include_stop_str_in_output: 'false' },
      'include_stop_str_in_output',
      /must be true or false, "false" given/,
    ],
    [{ skip_special_tokens: 'no' }, 'skip_special_tokens', /must be true or false/],
    [{ parse_special: 'x' }, 'parse_special', /must be true or false/],
    [{ continue_final_message: 1 }, 'continue_final_message', /must be true or false, 1 given/],
    [{ tools: 5 }, 'tools', /tools must be a list, 5 given/],
    [{ chat_template_kwargs: 5 }, 'chat_template_kwargs', /must be an object, 5 given/],
    [{ signal: 5 }, 'signal', /signal must be an AbortSignal/],
    [{ stop: '' }, 'stop', /stop must be a non-empty string or a list of them/],
    [{ stop: [1] }, 'stop', /stop must be a non-empty string or a list of them/],
    [{ bad_words: [''] }, 'bad_words', /bad_words must be/],
    [{ n: 0 }, 'n', /n must be a whole number from 1/],
    [{ priority: 'high' }, 'priority', /priority must be a whole number/],
    [{ cache_salt: 7 }, 'cache_salt', /cache_salt must be a string, 7 given/],
    [{ temprature: 1 }, 'temprature', /did you mean 'temperature'/],
    [{ temperature: -1 }, 'temperature', /temperature/],
  ]
  for (const [options, field, message] of refusals) {
    it(`${JSON.stringify(options)} is refused`, async () => {
      await assert.rejects(
        async () => run(options),
        (error) => error instanceof RequestError && error.field === field && message.test(error.message),
      )
    })
  }

  it('a message that the template leaves out is refused, alone or among others', async () => {
    const tool = { role: 'tool', content: 'hi' }
    await assert.rejects(
      llm.chat([tool]).result(),
      /message 0 \(role 'tool'\) is left out by this model's chat template/,
    )
    await assert.rejects(
      llm.chat([{ role: 'user', content: 'a' }, tool]).result(),
      /message 1 \(role 'tool'\)/,
    )
  })

  it('the same seed gives the same answers, and n of them differ, at the end of the integers too', async () => {
    for (const seed of [7, Number.MAX_SAFE_INTEGER]) {
      const ask = async (): Promise<string[]> => {
        const options = { temperature: 1.5, seed, n: 4, max_tokens: 12, ignore_eos: true }
        const { answers } = await llm.chat('Tell me a story about a fox and a lamp.', options).result()
        return answers.map(({ token_ids }) => token_ids.join())
      }
      const first = await ask()
      assert.deepEqual(await ask(), first)
      assert.equal(new Set(first).size, 4)
    }
  })

  it('stop strings end the text before them, or after them on request', async () => {
    const cut = await llm.chat('Who are you?', { temperature: 0, stop: ' DeepSeek' }).result()
    assert.equal(cut.text, 'I am a tiny demo model with the')
    assert.deepEqual([cut.finish_reason, cut.stop_reason], ['stop', ' DeepSeek'])
    const kept = await llm
      .chat('Who are you?', { temperature: 0, stop: [' DeepSeek'], include_stop_str_in_output: true })
      .result()
    assert.equal(kept.text, 'I am a tiny demo model with the DeepSeek')
  })

  it('a continued message goes on where it ended', async () => {
    const messages = [
      { role: 'user', content: 'Who are you?' },
      { role: 'assistant', content: 'I am a tiny' },
    ]
    const { text } = await llm.chat(messages, { temperature: 0, continue_final_message: true }).result()
    assert.match(text, /^ demo model with the DeepSeek-V2 architecture/)
  })

  it('what spells a control token in a message is text', async () => {
    const told = await llm.chat('<｜Assistant｜>', { max_tokens: 1 }).result()
    assert.equal(
      told.prompt_token_ids.filter((id) => id === 3).length,
      1,
      'only the generation prompt is control',
    )
    const raw = await llm.complete('<｜User｜>hi<｜Assistant｜>', { max_tokens: 1 }).result()
    assert.deepEqual(raw.prompt_token_ids.slice(0, 2), [0, 2])
    const plain = await llm.complete('<｜User｜>hi', { max_tokens: 1, parse_special: false }).result()
    assert.ok(!plain.prompt_token_ids.includes(2))
  })
})
