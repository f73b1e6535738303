import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CheckpointError, RequestError } from '../tensor/error.ts'
import { refuses, skills } from './skills.ts'
import { AutoTokenizer, IdTensor, PreTrainedTokenizer } from './transformers.ts'

const tokenizer = await AutoTokenizer.from_pretrained('demo', { trust_remote_code: true, use_fast: true })

describe('the tokenizer', () => {
  it('renders and encodes a chat as the model was trained on it, as a list, a tensor, text or a dictionary', () => {
    const { messages, prompt_ids } = skills[0]
    const options = { add_generation_prompt: true } as const
    assert.deepEqual(tokenizer.apply_chat_template(messages, options), prompt_ids)
    const tensor = tokenizer.apply_chat_template(messages, { ...options, return_tensors: 'pt' })
    assert.deepEqual(tensor.shape, [1, prompt_ids.length])
    assert.deepEqual(tensor.tolist(), [prompt_ids])
    const text = tokenizer.apply_chat_template(messages, { ...options, tokenize: false })
    assert.equal(text, tokenizer.decode(prompt_ids))
    const both = tokenizer.apply_chat_template(messages, { ...options, return_dict: true })
    assert.deepEqual(both.input_ids, prompt_ids)
    assert.deepEqual(
      both.attention_mask,
      prompt_ids.map(() => 1),
    )
    const tensors = tokenizer.apply_chat_template(messages, {
      ...options,
      return_dict: true,
      return_tensors: 'pt',
    })
    assert.deepEqual(tensors.to('cuda').input_ids.shape, [1, prompt_ids.length])
    assert.equal(tokenizer.apply_chat_template(messages).length, prompt_ids.length - 1)
  })

  it('takes another template, and goes on with a last message', () => {
    const messages = [{ role: 'user', content: 'hi' }]
    const template = "{% for m in messages %}[{{ m['content'] }}{{ mark }}]{% endfor %}"
    const options = { chat_template: template, chat_template_kwargs: { mark: '!' }, tokenize: false } as const
    assert.equal(tokenizer.apply_chat_template(messages, options), '[hi!]')
    const begun = [...messages, { role: 'assistant', content: 'Well' }]
    const text = tokenizer.apply_chat_template(begun, { continue_final_message: true, tokenize: false })
    assert.ok(text.endsWith('Well'))
  })

  it('is called as in Python, with padding and tensors', () => {
    assert.ok(tokenizer instanceof PreTrainedTokenizer)
    const one = tokenizer('hello there')
    assert.deepEqual(one.input_ids, tokenizer.encode('hello there'))
    assert.equal(one.input_ids[0], tokenizer.bos_token_id)
    const { input_ids, attention_mask } = tokenizer(['a longer text', 'b'], {
      padding: true,
      return_tensors: 'pt',
    })
    assert.ok(input_ids instanceof IdTensor)
    const width = tokenizer.encode('a longer text').length
    assert.deepEqual(input_ids.shape, [2, width])
    const short = tokenizer.encode('b')
    assert.deepEqual(input_ids[1].slice(width - short.length), short)
    assert.equal(input_ids[1][0], tokenizer.pad_token_id)
    assert.deepEqual(attention_mask[1].filter(Boolean).length, short.length)
    const wide = tokenizer('b', { padding: 'max_length', max_length: 9 })
    assert.equal(wide.input_ids.length, 9)
    assert.equal(tokenizer(['b'], { truncation: true, max_length: 1 }).input_ids[0].length, 1)
    assert.throws(
      () => tokenizer(['a longer text', 'b'], { return_tensors: 'pt' }),
      refuses('return_tensors', /padding/),
    )
    const raw = tokenizer.encode('b', { add_special_tokens: false })
    assert.deepEqual([tokenizer.bos_token_id, ...raw], short)
  })

  it('knows its special tokens, and pads with what it is told to', async () => {
    assert.equal(tokenizer.eos_token, '<｜end▁of▁sentence｜>')
    assert.equal(tokenizer.convert_tokens_to_ids(tokenizer.eos_token), tokenizer.eos_token_id)
    assert.deepEqual(tokenizer.convert_tokens_to_ids(['<｜User｜>', 'no such token'])[1], null)
    assert.equal(tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id), tokenizer.eos_token)
    assert.equal(tokenizer.model_max_length, 16384)
    assert.ok(tokenizer.vocab_size > 3000)
    assert.match(tokenizer.chat_template, /add_generation_prompt/)
    const right = await AutoTokenizer.from_pretrained('demo', { padding_side: 'right' })
    right.pad_token = right.bos_token
    const padded = right(['a longer text', 'b'], { padding: 'longest' }).input_ids[1]
    assert.equal(padded.at(-1), right.bos_token_id)
    right.pad_token = null
    assert.throws(() => right(['a longer text', 'b'], { padding: true }), refuses('padding', /pad_token/))
  })

  it('decodes with and without special tokens', () => {
    const { output_ids, output_text } = skills[0]
    assert.equal(tokenizer.decode(output_ids, { skip_special_tokens: true }), output_text)
    assert.equal(tokenizer.decode(output_ids), output_text + tokenizer.eos_token)
    assert.deepEqual(tokenizer.batch_decode([output_ids], { skip_special_tokens: true }), [output_text])
  })

  it('refuses what it does not know, and names what was meant', async () => {
    const messages = [{ role: 'user', content: 'hi' }]
    const odd = { add_generation_promt: true } as object
    assert.throws(
      () => tokenizer.apply_chat_template(messages, odd),
      refuses('add_generation_promt', /did you mean 'add_generation_prompt'/),
    )
    assert.throws(() => tokenizer.decode([5], { skip_special: true } as object), RequestError)
    await assert.rejects(AutoTokenizer.from_pretrained('demo', { cache: 'x' } as object), RequestError)
    await assert.rejects(AutoTokenizer.from_pretrained('no such model'), CheckpointError)
  })
})
