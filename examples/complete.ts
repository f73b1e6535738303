// Several requests at once over one model, with seeds and log-probabilities. Run it: node dist/examples/complete.js [model]
import { load } from 'latent'

await using llm = await load(process.argv[2] ?? 'demo')

// All three are submitted before the first is awaited, so they share every step of the engine.
const prompts = ['The capital of France is', 'Once upon a time', 'One, two, three,']
const options = { temperature: 0.7, seed: 7, max_tokens: 12, logprobs: 2 }
const results = await Promise.all(prompts.map((prompt) => llm.complete(prompt, options).result()))

for (const [i, { text, logprobs }] of results.entries()) {
  console.log(`${prompts[i]}|${text}`)
  for (const { token, logprob, top } of logprobs?.slice(0, 3) ?? []) {
    const shown = (id: number, value: number | null) =>
      `${JSON.stringify(llm.tokenizer.piece(id))} ${Math.exp(value ?? 0).toFixed(3)}`
    const others = top?.map((at) => shown(at.token, at.logprob)).join(', ')
    console.log(`  ${shown(token, logprob)}  (likeliest: ${others})`)
  }
}

// The same seed gives the same answer, alone or among others.
const again = await llm.complete(prompts[0], options).result()
console.log(`the same answer again: ${again.text === results[0].text}`)
