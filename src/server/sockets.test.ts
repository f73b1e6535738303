// What only shows between real sockets on both sides of the gateway.
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, it } from 'node:test'
import { answer, chunk, type Fake, fake, openStream, say, wait } from './fakes.ts'
import { createGateway, type GatewayOptions } from './gateway.ts'
import { listen } from './listen.ts'

const open: { close(): unknown }[] = []
after(() => Promise.all(open.map((one) => one.close())))

async function front(engine: Fake, options: Partial<GatewayOptions> = {}) {
  const gateway = createGateway({ upstreams: [engine.url], ...options })
  const listening = await listen(gateway.app, { host: '127.0.0.1', port: 0 })
  open.push(gateway, { close: engine.stop })
  open.push({
    close: () => {
      void listening.close()
      listening.closeNow()
    },
  })
  return { url: `${listening.url}/v1/chat/completions`, upstream: gateway.upstreams[0], gateway }
}

const body = (stream: boolean): string => JSON.stringify({ messages: [], stream })
const post = (url: string, stream: boolean) => fetch(url, { method: 'POST', body: body(stream) })

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (holds()) return
    await wait(20)
  }
  assert.fail(`waited in vain until ${what}`)
}

it('a client that hangs up ends the work upstream: before its headers, in its stream, in its answer', async () => {
  const engine = await fake(() => undefined)
  const { url, upstream, gateway } = await front(engine, { relay: { statusMs: 50 } })
  const hangUp = async (stream: boolean, afterMs: number): Promise<void> => {
    const asking = request(url, { method: 'POST' })
    asking.on('error', () => undefined)
    asking.end(body(stream))
    const seen = engine.asked.length
    await until('it arrives', () => engine.asked.length > seen)
    await wait(afterMs)
    asking.destroy()
    await until('the engine is left', () => engine.left > seen)
  }
  await hangUp(true, 0)
  await hangUp(true, 200)
  await hangUp(false, 100)
  engine.act = (response) => {
    openStream(response)
    say(response, chunk({ content: 'a' }))
  }
  await hangUp(true, 100)
  await until('nothing is under way', () => upstream.running === 0 && gateway.jobs.running === 0)
  assert.equal(upstream.mark, 'up')
})

it('connections to an engine serve one answer after the other, streams too', async () => {
  const ports = new Set<number | undefined>()
  const engine = await fake((response, asked, n) => {
    ports.add(response.socket?.remotePort)
    answer('abc')(response, asked, n)
  })
  const { url } = await front(engine)
  for (let i = 0; i < 20; i++) assert.match(await (await post(url, i % 2 === 0)).text(), /"content":"a/)
  assert.ok(ports.size <= 3, `${ports.size} connections for 20 answers`)
})

it('a client that does not read stops the engine, and its memory does not grow', async () => {
  let written = 0
  const engine = await fake(async (response) => {
    openStream(response)
    const big = chunk({ content: 'x'.repeat(100_000) })
    while (written < 3e8 && !response.destroyed) {
      written += 1e5
      if (!say(response, big))
        await Promise.race([wait(3000), new Promise((go) => response.once('drain', go))])
      if (response.writableNeedDrain) return
    }
  })
  const { url } = await front(engine)
  const asking = request(url, { method: 'POST' })
  asking.on('error', () => undefined)
  asking.on('response', (response) => response.pause())
  asking.end(body(true))
  await wait(1500)
  const then = written
  await wait(500)
  assert.equal(written, then, 'it stands still')
  assert.ok(written < 4e7, `${written} bytes went out to nobody`)
  asking.destroy()
  await until('the engine is left', () => engine.left === 1)
})
