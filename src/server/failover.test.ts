// Two latent servers, each a process of its own, behind the gateway and under load; one is killed in the middle of it.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, it } from 'node:test'
import OpenAI from 'openai'
import { wait } from './fakes.ts'
import { createGateway, type Gateway } from './gateway.ts'
import { type Listening, listen } from './listen.ts'

// no --input-type=module: the engine's thread would inherit it, and refuse it
const child = (port: number): string => `(async () => {
  const { load } = await import('${new URL('../llm/load.js', import.meta.url)}')
  const { createServer } = await import('${new URL('./server.js', import.meta.url)}')
  const { listen } = await import('${new URL('./listen.js', import.meta.url)}')
  const server = createServer(await load('demo', { threads: 1 }))
  await server.warmUp()
  const listening = await listen(server.app, { host: '127.0.0.1', port: ${port} })
  process.stdout.write('port ' + listening.port + '\\n')
  process.stdin.resume().on('end', () => process.exit())
})()`

interface Engine {
  readonly process: ChildProcess
  readonly port: number
}

/** Ends with this process, whose end closes its input. */
async function engine(port: number): Promise<Engine> {
  const started = spawn(process.execPath, ['-e', child(port)], { stdio: ['pipe', 'pipe', 'inherit'] })
  for await (const line of started.stdout) {
    const found = /port (\d+)/.exec(String(line))
    if (found) return { process: started, port: Number(found[1]) }
  }
  throw new Error('the engine ended before it listened')
}

const engines: Engine[] = []
let gateway: Gateway
let front: Listening
let client: OpenAI

before(async () => {
  engines.push(...(await Promise.all([engine(0), engine(0)])))
  gateway = createGateway({
    upstreams: engines.map(({ port }) => `http://127.0.0.1:${port}`),
    health: { everyMs: 500, timeoutMs: 3000 },
  })
  await gateway.probe()
  front = await listen(gateway.app, { host: '127.0.0.1', port: 0 })
  client = new OpenAI({ baseURL: `${front.url}/v1`, apiKey: 'none', maxRetries: 0 })
})

after(() => {
  void front?.close()
  front?.closeNow()
  gateway?.close()
  for (const { process: one } of engines) one.kill('SIGKILL')
})

const prompts = [
  'Who are you?',
  'Count to ten.',
  'What is 2 + 3?',
  'Tell me a story.',
  'Hello!',
  'Name a color.',
]

interface Heard {
  readonly prompt: string
  readonly text: string
  /** Null where the stream came to its end. */
  readonly error: unknown
}

async function stream(prompt: string, heard: (text: string) => void = () => undefined): Promise<Heard> {
  let text = ''
  let finish: string | null = null
  try {
    const coming = await client.chat.completions.create({
      ...{ model: 'demo', stream: true, temperature: 0, max_tokens: 32 },
      messages: [{ role: 'user', content: prompt }],
      // not OpenAI's, but latent's: every answer is as long as the other
      ...{ ignore_eos: true },
    })
    for await (const { choices } of coming) {
      text += choices[0]?.delta.content ?? ''
      finish = choices[0]?.finish_reason ?? finish
      heard(text)
    }
    return { prompt, text, error: finish === 'length' ? null : new Error(`the stream ended with ${finish}`) }
  } catch (error) {
    return { prompt, text, error }
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (holds()) return
    await wait(20)
  }
  assert.fail(`waited in vain until ${what}`)
}

it('no request is lost before its first token, none is told twice, and the killed engine comes back', async (t) => {
  const expected = new Map<string, string>()
  for (const prompt of prompts) {
    const { text, error } = await stream(prompt)
    assert.equal(error, null)
    expected.set(prompt, text)
  }
  const [first] = gateway.upstreams
  const all: Heard[] = []
  let going = true
  let speaking = 0
  const workers = Array.from({ length: 24 }, async (_, i) => {
    for (let round = 0; going; round++) {
      let begun = false
      const heard = await stream(prompts[(i + round) % prompts.length], (text) => {
        if (!begun && text !== '') speaking++
        begun ||= text !== ''
      })
      if (begun) speaking--
      all.push(heard)
    }
  })
  await until('both have worked', () => gateway.upstreams.every(({ counts }) => counts.requests > 20))
  await until('streams are in their middle', () => first.running >= 4 && speaking >= 12)
  engines[0].process.kill('SIGKILL')
  await until('it is marked down', () => first.mark === 'down')
  const sent = first.counts.requests
  const before = all.length
  await until('the other one goes on alone', () => all.length > before + 48)
  assert.equal(first.counts.requests, sent, 'what is down is not asked')
  if (engines[0].process.exitCode === null && engines[0].process.signalCode === null) {
    await once(engines[0].process, 'exit')
  }
  engines[0] = await engine(engines[0].port)
  await until('it is up again', () => first.mark === 'up')
  const done = first.whole.counts.reduce((sum, count) => sum + count, 0)
  const served = (): number => first.whole.counts.reduce((sum, count) => sum + count, 0) - done
  await until('it answers again', () => served() > 10)
  going = false
  await Promise.all(workers)

  const cut = all.filter(({ error }) => error !== null)
  for (const { prompt, text, error } of all) {
    const whole = expected.get(prompt) ?? ''
    if (error === null) assert.equal(text, whole)
    else {
      assert.ok(error instanceof OpenAI.APIError, String(error))
      assert.equal(error.code, 'upstream_cut')
      assert.ok(text !== '' && whole.startsWith(text), `'${text}' of '${whole}'`)
    }
  }
  const { failovers } = first.counts
  t.diagnostic(`${all.length} requests, ${cut.length} cut after a token, ${failovers} moved before one`)
  assert.ok(cut.length + failovers > 0, 'the kill met somebody')
  assert.equal(first.counts.cut, cut.length)
  assert.equal(gateway.jobs.running, 0)
})
