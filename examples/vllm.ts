// The program of DeepSeek-V2-Chat-0628's model card for vLLM, line for line.
// Run it: node dist/examples/vllm.js [model]; the model `demo` comes with latent.
import { AutoTokenizer } from 'latent/transformers'
import { LLM, SamplingParams } from 'latent/vllm'

const [max_model_len, tp_size] = [8192, 8]
const model_name = process.argv[2] ?? 'deepseek-ai/DeepSeek-V2-Chat-0628'
const tokenizer = await AutoTokenizer.from_pretrained(model_name)
const llm = new LLM({
  model: model_name,
  tensor_parallel_size: tp_size,
  max_model_len,
  trust_remote_code: true,
  enforce_eager: true,
})
const sampling_params = new SamplingParams({
  temperature: 0.3,
  max_tokens: 256,
  stop_token_ids: [tokenizer.eos_token_id],
})

const messages_list = [
  [{ role: 'user', content: 'Who are you?' }],
  [
    {
      role: 'user',
      content:
        'Translate the following content into Chinese directly: DeepSeek-V2 adopts innovative architectures to guarantee economical training and efficient inference.',
    },
  ],
  [{ role: 'user', content: 'Write a piece of quicksort code in C++.' }],
]

const prompt_token_ids = messages_list.map((messages) =>
  tokenizer.apply_chat_template(messages, { add_generation_prompt: true }),
)

const outputs = await llm.generate({ prompt_token_ids, sampling_params })

const generated_text = outputs.map((output) => output.outputs[0].text)
console.log(generated_text)
