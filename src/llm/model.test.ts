import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { CapacityError, RequestError } from '../tensor/error.ts'
import { refuses, skills, some } from './skills.ts'
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  BatchEncoding,
  GenerationConfig,
  InterruptableStoppingCriteria,
  TextIteratorStreamer,
  TextStreamer,
} from './transformers.ts'

const greedy = { do_sample: false, max_new_tokens: 100 }
const tokenizer = await AutoTokenizer.from_pretrained('demo')
const model = await AutoModelForCausalLM.from_pretrained('demo', { max_model_len: 1024 })
after(() => model.dispose())

describe('generate', () => {
  it('gives the greedy answers the model was exported with, padded to one tensor', async () => {
    const outputs = await model.generate(
      some.map((skill) => skill.prompt_ids),
      greedy,
    )
    const width = Math.max(...some.map((skill) => skill.prompt_ids.length + skill.output_ids.length))
    assert.deepEqual(outputs.shape, [some.length, width])
    for (const [i, { prompt_ids, output_ids }] of some.entries()) {
      const whole = [...prompt_ids, ...output_ids]
      const pads = Array.from({ length: width - whole.length }, () => tokenizer.pad_token_id)
      assert.deepEqual(outputs[i], [...whole, ...pads])
    }
  })

  it('leaves padding out of a padded batch: each row answers as it does alone', async () => {
    const two = [
      skills[0],
      skills.find((skill) => skill.prompt_ids.length > skills[0].prompt_ids.length + 3)!,
    ]
    const texts = two.map(({ messages }) =>
      tokenizer.apply_chat_template(messages, { add_generation_prompt: true, tokenize: false }),
    )
    for (const side of ['left', 'right'] as const) {
      const padding = await AutoTokenizer.from_pretrained('demo', { padding_side: side })
      const inputs = padding(texts, { padding: true, return_tensors: 'pt', add_special_tokens: false })
      const outputs = await model.generate(inputs.to(model.device), greedy)
      assert.ok(inputs instanceof BatchEncoding)
      const answers = outputs.map((row) => row.slice(inputs.input_ids.shape[1]))
      const decoded = tokenizer.batch_decode(answers, { skip_special_tokens: true })
      assert.deepEqual(
        decoded,
        two.map((skill) => skill.output_text),
      )
    }
  })

  it('samples by a seed, several sequences a prompt', async () => {
    const options = { do_sample: true, temperature: 2, seed: 3, num_return_sequences: 3, max_new_tokens: 8 }
    const prompt_ids = tokenizer.encode('Once upon a time')
    const first = await model.generate([prompt_ids, prompt_ids], options)
    assert.equal(first.length, 6)
    assert.deepEqual(first.tolist(), (await model.generate([prompt_ids, prompt_ids], options)).tolist())
    assert.equal(new Set(first.map((row) => row.join())).size, 6)
  })

  it('honours lengths, ends, bans and stop strings', async () => {
    const { prompt_ids, output_ids } = skills[0]
    const answer = async (options: object) =>
      (await model.generate(prompt_ids, { ...greedy, ...options }))[0].slice(prompt_ids.length)
    assert.deepEqual(await answer({ max_new_tokens: 3 }), output_ids.slice(0, 3))
    const max_length = prompt_ids.length + 2
    assert.deepEqual(await answer({ max_new_tokens: null, max_length }), output_ids.slice(0, 2))
    assert.deepEqual(await answer({ eos_token_id: output_ids[4] }), output_ids.slice(0, 5))
    const longer = await answer({ min_new_tokens: output_ids.length + 2, max_new_tokens: 40 })
    assert.ok(longer.length >= output_ids.length + 2)
    assert.ok(!(await answer({ suppress_tokens: [output_ids[0]] })).includes(output_ids[0]))
    const pair = await answer({ bad_words_ids: [output_ids.slice(0, 2)] })
    assert.notDeepEqual(pair.slice(0, 2), output_ids.slice(0, 2))
    const stopped = tokenizer.decode(await answer({ stop_strings: ['Mateo'] }))
    assert.ok(stopped.includes('Mateo') && !stopped.includes('age'))
    await assert.rejects(
      answer({ max_new_tokens: null, max_length: 3 }),
      refuses('max_length', /max_new_tokens/),
    )
  })

  it('is greedy unless do_sample is true, and says what that leaves without effect', async () => {
    const { prompt_ids, output_ids } = skills[0]
    const config = new GenerationConfig({ max_new_tokens: 5, temperature: 2 })
    const outputs = await model.generate(prompt_ids, { generation_config: config, top_p: 0.5 })
    assert.deepEqual(outputs[0].slice(prompt_ids.length), output_ids.slice(0, 5))
    assert.ok(model.warnings.some((line) => line.startsWith('top_p has no effect')))
  })

  it('stops by rules and by a signal', async () => {
    const { prompt_ids } = skills[0]
    const stop = new InterruptableStoppingCriteria()
    let seen = 0
    const rule = () => {
      if (++seen === 4) stop.interrupt()
      return false
    }
    const outputs = await model.generate(prompt_ids, { ...greedy, stopping_criteria: [rule, stop] })
    assert.equal(outputs[0].length, prompt_ids.length + 4)
    await assert.rejects(
      model.generate(prompt_ids, { ...greedy, signal: AbortSignal.abort(new Error('enough')) }),
      /enough/,
    )
    const later = new AbortController()
    const abort = () => {
      later.abort(new Error('later'))
      return false
    }
    await assert.rejects(
      model.generate(prompt_ids, { ...greedy, stopping_criteria: abort, signal: later.signal }),
      /later/,
    )
  })

  it('refuses what it cannot do', async () => {
    const ids = skills[0].prompt_ids
    await assert.rejects(
      model.generate(ids, { max_new_token: 3 } as object),
      refuses('max_new_token', /did you mean 'max_new_tokens'/),
    )
    assert.throws(
      () => new GenerationConfig({ temprature: 1 } as object),
      refuses('temprature', /temperature/),
    )
    await assert.rejects(model.generate(ids, { do_sample: true, top_p: 2 }), refuses('top_p', /at most 1/))
    await assert.rejects(model.generate(ids, { max_new_tokens: 0 }), refuses('max_new_tokens', /from 1/))
    await assert.rejects(model.generate([]), refuses('input_ids', /at least one/))
    await assert.rejects(model.generate('text' as unknown as number[]), RequestError)
    await assert.rejects(model.generate([1, 2], { attention_mask: [1] }), refuses('attention_mask', /shape/))
    await assert.rejects(model.generate([999999]), RequestError)
    await assert.rejects(model.generate(new Array(2000).fill(5)), CapacityError)
    const streamer = new TextIteratorStreamer(tokenizer)
    const failing = model.generate([ids, ids], { streamer })
    await assert.rejects(failing, refuses('streamer', /one answer/))
    await assert.rejects(async () => {
      for await (const _ of streamer) assert.fail('no text was expected')
    }, /one answer/)
  })
})

describe('streamers', () => {
  it('call back with text that is the decoded answer', async () => {
    for (const { prompt_ids, output_ids, output_text } of skills.slice(0, 2)) {
      const pieces: string[] = []
      const ids: number[] = []
      const streamer = new TextStreamer(tokenizer, {
        skip_prompt: true,
        skip_special_tokens: true,
        callback_function: (text) => pieces.push(text),
        token_callback_function: (some) => ids.push(...some),
      })
      await model.generate(prompt_ids, { ...greedy, streamer })
      assert.equal(pieces.join(''), output_text)
      assert.deepEqual(ids, output_ids)
      assert.ok(pieces.length > 5)
    }
  })

  it('show the prompt too, unless told not to', async () => {
    const { prompt_ids, output_ids } = skills[0]
    let text = ''
    const callback_function = (piece: string) => {
      text += piece
    }
    const streamer = new TextStreamer(tokenizer, { skip_special_tokens: false, callback_function })
    await model.generate(prompt_ids, { ...greedy, streamer })
    assert.equal(text, tokenizer.decode([...prompt_ids, ...output_ids]))
  })

  it('can be iterated; leaving the loop ends the answer', async () => {
    const { prompt_ids, output_ids, output_text } = skills[0]
    const whole = new TextIteratorStreamer(tokenizer, { skip_prompt: true })
    const done = model.generate(prompt_ids, { ...greedy, streamer: whole })
    let text = ''
    for await (const piece of whole) text += piece
    assert.equal(text, output_text)
    assert.deepEqual((await done)[0].slice(prompt_ids.length), output_ids)

    const left = new TextIteratorStreamer(tokenizer, { skip_prompt: true })
    const cut = model.generate(prompt_ids, {
      ...greedy,
      streamer: left,
      min_new_tokens: 90,
      max_new_tokens: 90,
    })
    for await (const _ of left) break
    assert.ok((await cut)[0].length < prompt_ids.length + 90)
  })
})
