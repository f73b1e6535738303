// A conversation, streamed, with a way to stop it. Run it: node dist/examples/chat.js [model] [question]
import { load } from 'latent'

const [model = 'demo', question = 'Write this as JSON: Mateo is 40 years old and lives in Nairobi.'] =
  process.argv.slice(2)
await using llm = await load(model)

// Ctrl-C ends the answer, not the program; so would a `break` in the loop
const stop = new AbortController()
process.once('SIGINT', () => stop.abort())

const messages = [{ role: 'user', content: question }]
const answer = llm.chat(messages, { max_tokens: 200, signal: stop.signal })
try {
  for await (const { text } of answer) process.stdout.write(text)
} catch (error) {
  if (!stop.signal.aborted) throw error
}
process.stdout.write('\n')

if (!stop.signal.aborted) {
  const { usage, timings, finish_reason } = await answer.result()
  const speed = timings.predicted_per_second.toFixed(1)
  console.log(`${usage.completion_tokens} tokens (${finish_reason}), ${speed} tokens a second`)
}
