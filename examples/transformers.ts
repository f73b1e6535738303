// The program of DeepSeek-V2-Chat-0628's model card for Hugging Face transformers, line for line.
// Run it: node dist/examples/transformers.js [model]; the model `demo` comes with latent.
import { AutoModelForCausalLM, AutoTokenizer, GenerationConfig } from 'latent/transformers'

const model_name = process.argv[2] ?? 'deepseek-ai/DeepSeek-V2-Chat-0628'
const tokenizer = await AutoTokenizer.from_pretrained(model_name, { trust_remote_code: true })
const max_memory = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [i, '75GB']))
const model = await AutoModelForCausalLM.from_pretrained(model_name, {
  trust_remote_code: true,
  device_map: 'sequential',
  torch_dtype: 'bfloat16',
  max_memory,
  attn_implementation: 'eager',
})
model.generation_config = await GenerationConfig.from_pretrained(model_name)
model.generation_config.pad_token_id = model.generation_config.eos_token_id

const messages = [{ role: 'user', content: 'Write a piece of quicksort code in C++' }]
const input_tensor = tokenizer.apply_chat_template(messages, {
  add_generation_prompt: true,
  return_tensors: 'pt',
})
const outputs = await model.generate(input_tensor.to(model.device), { max_new_tokens: 100 })

const result = tokenizer.decode(outputs[0].slice(input_tensor.shape[1]), { skip_special_tokens: true })
console.log(result)
