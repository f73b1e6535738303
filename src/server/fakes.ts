// Engines that misbehave on purpose, over real sockets: for the gateway's tests.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

export interface Asked {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

export type Act = (response: ServerResponse, asked: Asked, count: number) => unknown

export interface Fake {
  readonly url: string
  readonly port: number
  readonly name: string
  /** Requests but the probes. */
  readonly asked: readonly Asked[]
  /** Of them, those whose client left before the end. */
  readonly left: number
  act: Act
  /** What GET /health says; 0 breaks the connection. */
  health: number
  ready: number
  stop(): Promise<void>
}

export async function fake(
  act: Act,
  options: { port?: number; models?: readonly string[] } = {},
): Promise<Fake> {
  const asked: Asked[] = []
  const sockets = new Set<Socket>()
  let left = 0
  const models = options.models ?? ['model']
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    if (method === 'GET' && url === '/health') {
      if (made.health === 0) return request.socket.destroy()
      return response.writeHead(made.health).end('{}')
    }
    if (method === 'GET' && url === '/ready') return response.writeHead(made.ready).end()
    if (method === 'GET' && url === '/v1/models') {
      return json(response, 200, { object: 'list', data: models.map((id) => ({ id, object: 'model' })) })
    }
    let body = ''
    for await (const piece of request) body += piece
    const one = { method, path: url, headers, body }
    asked.push(one)
    response.on('close', () => {
      if (!response.writableFinished) left++
    })
    await made.act(response, one, asked.length)
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const made: Fake = {
    url: `http://127.0.0.1:${port}`,
    port,
    name: `127.0.0.1:${port}`,
    asked,
    get left() {
      return left
    },
    act,
    health: 200,
    ready: 404,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
  return made
}

export function json(response: ServerResponse, status: number, value: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
}

export const error = (status: number, code: string | null = null) => ({
  error: { message: `fake ${status}`, type: 'server_error', param: null, code },
})

export function openStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
}

export const say = (response: ServerResponse, value: unknown): boolean =>
  response.write(`data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`)

export const chunk = (delta: object, finish_reason: string | null = null) => ({
  ...{ id: 'c', object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] },
})

export const role = chunk({ role: 'assistant', content: '' })

/** A whole chat, streamed or not as it was asked. */
export const answer =
  (text: string): Act =>
  (response, { body }) => {
    if (!body.includes('"stream":true')) {
      const message = { role: 'assistant', content: text }
      return json(response, 200, { id: 'c', choices: [{ index: 0, message, finish_reason: 'stop' }] })
    }
    openStream(response)
    say(response, role)
    for (const piece of text) say(response, chunk({ content: piece }))
    say(response, chunk({}, 'stop'))
    say(response, '[DONE]')
    response.end()
  }

/** The connection, not the answer, ends. */
export const cut = (response: ServerResponse): void => void response.socket?.destroy()

export const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
