// The programs of examples/ that need a server or are one, as their readers run them.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { load } from '../llm/load.ts'
import { listen } from './listen.ts'
import { createServer } from './server.ts'

const path = (name: string): string => fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
async function run(name: string, ...words: string[]): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [path(name), ...words])
  assert.equal(stderr, '')
  return stdout
}

describe('examples', { timeout: 60_000 }, () => {
  it("OpenAI's client", async () => {
    const llm = await load('demo')
    const listening = await listen(createServer(llm).app, { host: '127.0.0.1', port: 0 })
    const printed = await run('openai-node', `${listening.url}/v1`)
    assert.match(printed, /\d+ tokens read, \d+ written\nthe same again: (stop|length), \d+ tokens/)
    assert.match(printed, /400 temperature: /)
    listening.closeNow()
    await listening.close()
    await llm.close()
  })

  it('the AI SDK in process', async () => {
    assert.match(await run('ai-sdk'), /\n\d+ tokens \((stop|length)\)\n$/)
  })

  it('mounted in Hono', async () => {
    const child = spawn(process.execPath, [path('hono'), 'demo', '0'])
    let printed = ''
    child.stdout.on('data', (data: Buffer) => {
      printed += data.toString()
    })
    await once(child.stdout, 'data')
    const url = printed.trim()
    const headers = { 'content-type': 'application/json', authorization: 'Bearer sk-example' }
    const body = JSON.stringify({ messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 })
    const answer = await fetch(`${url}/chat/completions`, { method: 'POST', headers, body })
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('x-ratelimit-limit-requests'), '60')
    assert.match(await answer.text(), /"object":"chat.completion"/)
    const stranger = await fetch(`${url}/models`)
    assert.equal(stranger.status, 401)
    await stranger.text()
    child.kill()
    await once(child, 'exit')
    assert.match(printed, /"key":"team"[\s\S]*"status":401/)
  })
})
