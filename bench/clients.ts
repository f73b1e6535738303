// Many readers of streams at once, each asking again as soon as its answer has ended: over HTTP, or of an engine in this
// process. Arguments: http URL CLIENTS SECONDS, or engine "MODEL BACKEND" CLIENTS SECONDS. Prints one ClientReport.
import { Agent, request } from 'node:http'
import { load } from '../src/index.ts'
import type { ClientReport } from './serve.ts'

type Ask = (prompt: string, tokens: number, seed: number, token: () => void) => Promise<void>

const words = 'alpha river stone cloud seven green paper light north maple table ocean'.split(' ')
const promptOf = (seed: number): string =>
  Array.from({ length: 8 + (seed % 24) }, (_, i) => words[(seed * 7 + i * 5) % words.length]).join(' ')

function httpAsk(url: string): Ask {
  const agent = new Agent({ keepAlive: true, maxSockets: 1000 })
  return (prompt, tokens, seed, token) =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({
        ...{ model: 'deepseek-chat', stream: true, max_tokens: tokens, ignore_eos: true, seed },
        messages: [{ role: 'user', content: prompt }],
      })
      const options = { method: 'POST', agent, headers: { 'content-type': 'application/json' } }
      const sent = request(`${url}/v1/chat/completions`, options, (answer) => {
        let text = ''
        let done = false
        answer.setEncoding('utf8')
        answer.on('data', (piece: string) => {
          text += piece
          const events = text.split('\n\n')
          text = events.pop() ?? ''
          for (const event of events) {
            if (event.includes('"delta":{"content"')) token()
            else if (event === 'data: [DONE]') done = true
            else if (event.startsWith('data: {"error"')) reject(new Error(event))
          }
        })
        answer.on('end', () => {
          if (done && answer.statusCode === 200) resolve()
          else
            reject(
              new Error(`status ${answer.statusCode}, ${done ? 'done' : 'not done'}: ${text.slice(0, 200)}`),
            )
        })
        answer.on('error', reject)
      })
      sent.on('error', reject)
      sent.end(body)
    })
}

async function engineAsk(model: string, backend: string, clients: number): Promise<Ask> {
  const sizes = { max_num_seqs: clients, max_model_len: 2048, cache_bytes: 2 ** 30 }
  const llm = await load(model, { backend, ...sizes })
  return async (prompt, tokens, seed, token) => {
    const options = { max_tokens: tokens, ignore_eos: true, seed }
    for await (const chunk of llm.chat(prompt, options)) if (chunk.text !== '') token()
  }
}

const [kind, target, clients, seconds] = process.argv.slice(2)
const ask =
  kind === 'http'
    ? httpAsk(target)
    : await engineAsk(target.split(' ')[0], target.split(' ')[1], Number(clients))
const gaps: number[] = []
const firsts: number[] = []
const errors: string[] = []
let tokens = 0
let answers = 0
const start = performance.now()
const end = start + Number(seconds) * 1000

async function reader(index: number): Promise<void> {
  for (let turn = 0; performance.now() < end; turn++) {
    let last = performance.now()
    let first = true
    try {
      await ask(promptOf(index + turn * 64), 96 + (index % 64), index + turn, () => {
        const now = performance.now()
        ;(first ? firsts : gaps).push(now - last)
        first = false
        last = now
        if (now < end) tokens++
      })
      answers++
    } catch (error) {
      errors.push(String(error))
    }
  }
}
await Promise.all(Array.from({ length: Number(clients) }, (_, index) => reader(index)))

const at = (values: number[], part: number): number => {
  values.sort((a, b) => a - b)
  return values[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0
}
const report: ClientReport = {
  tokens,
  seconds: Number(seconds),
  answers,
  errors,
  first: { median: at(firsts, 0.5), p99: at(firsts, 0.99) },
  gap: { median: at(gaps, 0.5), p99: at(gaps, 0.99) },
}
process.stdout.write(JSON.stringify(report), () => process.exit(0))
