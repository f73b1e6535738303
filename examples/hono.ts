// latent inside a server of one's own: the app is a function from Request to Response, so Hono mounts it under a path.
// Run it: node dist/examples/hono.js [model] [port]; then http://localhost:3000/ai/v1 is an OpenAI-compatible base URL.
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { load } from 'latent'
import { createServer, parseKeys } from 'latent/server'

const [model = 'demo', port = '3000'] = process.argv.slice(2)
const llm = await load(model)
const { app: ai } = createServer(llm, {
  keys: parseKeys('team: sk-example', 'this program'),
  rates: { requests: 60, tokens: 100_000 },
  log: { write: (line) => console.log(line), format: 'json' },
})

const site = new Hono()
site.get('/', (c) => c.text('A site with a model under /ai'))
site.mount('/ai', ai)

const server = serve({ fetch: site.fetch, port: Number(port) }, (address) => {
  console.log(`http://localhost:${address.port}/ai/v1`)
})
process.once('SIGTERM', async () => {
  server.close()
  await llm.close()
  process.exit()
})
