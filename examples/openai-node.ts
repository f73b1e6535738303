// OpenAI's own client against `latent serve`: streamed, whole, and what it knows of limits and errors.
// Run it: node dist/examples/openai-node.js [base URL] [key]; needs `npm install openai`.
import OpenAI from 'openai'

const [baseURL = 'http://localhost:8000/v1', apiKey = 'none'] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey })
const messages = [{ role: 'user' as const, content: 'Write a piece of quicksort code in C++.' }]

const [{ id: model }] = (await client.models.list()).data
const stream = await client.chat.completions.create({
  model,
  messages,
  max_tokens: 64,
  temperature: 0.3,
  stream: true,
  stream_options: { include_usage: true },
})
for await (const { choices, usage } of stream) {
  process.stdout.write(choices[0]?.delta.content ?? '')
  if (usage) console.log(`\n${usage.prompt_tokens} tokens read, ${usage.completion_tokens} written`)
}

const { choices, usage } = await client.chat.completions.create({ model, messages, max_tokens: 16 })
const { cached_tokens = 0 } = usage?.prompt_tokens_details ?? {}
console.log(`the same again: ${choices[0].finish_reason}, ${cached_tokens} tokens were in the cache`)

try {
  await client.chat.completions.create({ model, messages, temperature: -1 })
} catch (error) {
  if (error instanceof OpenAI.APIError) console.log(`${error.status} ${error.param}: ${error.message}`)
}
