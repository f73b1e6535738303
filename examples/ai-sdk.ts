// The AI SDK over a model in this process: no server, no HTTP.
// Run it: node dist/examples/ai-sdk.js [model]; needs `npm install ai`. With `ai` 7 leave `specification` out.
import { generateText, streamText } from 'ai'
import { load } from 'latent'
import { latent } from 'latent/ai'

await using llm = await load(process.argv[2] ?? 'demo')
const model = latent(llm, { specification: 'v3' })

const { textStream } = streamText({ model, prompt: 'Who are you?', maxOutputTokens: 32, temperature: 0 })
for await (const text of textStream) process.stdout.write(text)

const { usage, finishReason } = await generateText({
  model,
  system: 'Be brief.',
  prompt: 'Write a piece of quicksort code in C++.',
  maxOutputTokens: 64,
  providerOptions: { latent: { min_p: 0.05 } }, // any option of latent's own
})
console.log(`\n${usage.outputTokens} tokens (${finishReason})`)
