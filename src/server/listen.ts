// The app on a socket: TLS where asked for, and a stop that lets streams finish.
import { readFileSync } from 'node:fs'
import { createServer as createHttp, type Server as HttpServer } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { getRequestListener } from '@hono/node-server'
import { RequestError } from '../tensor/error.ts'
import type { App } from './app.ts'
import { Failure } from './failure.ts'

export interface ListenOptions {
  readonly host: string
  /** 0 takes a free one. */
  readonly port: number
  /** Files of TLS in PEM. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string } | undefined
  /** Milliseconds that a client may take to send the headers, and the whole, of a request; default 60 and 300 s. */
  readonly patience?: { readonly headers: number; readonly request: number }
}

export interface Listening {
  readonly url: string
  readonly port: number
  /** No new connections; idle ones are closed. Resolves when the last one is. */
  close(): Promise<void>
  /** Also those in use. */
  closeNow(): void
}

export async function listen(app: App, options: ListenOptions): Promise<Listening> {
  const { host, port, tls, patience = { headers: 60_000, request: 300_000 } } = options
  const listener = getRequestListener((request) => app(request), { overrideGlobalObjects: false })
  const limits = {
    headersTimeout: patience.headers,
    requestTimeout: patience.request,
    connectionsCheckingInterval: Math.min(30_000, patience.headers),
  }
  const server: HttpServer = tls
    ? createHttps({ ...pems(tls), ...limits }, listener)
    : createHttp(limits, listener)
  server.on('clientError', refuseClient)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)))
    server.listen(port, host, resolve)
  })
  const address = server.address() as AddressInfo
  const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return {
    url: `${tls ? 'https' : 'http'}://${host === '0.0.0.0' || host === '::' ? 'localhost' : shown}:${address.port}`,
    port: address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeIdleConnections()
      }),
    closeNow: () => server.closeAllConnections(),
  }
}

const refusals: Readonly<Record<string, readonly [number, string, string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'the headers are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'the request took too long to arrive'],
}

/** What Node could not read as HTTP never reaches the app. */
function refuseClient(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy()
  const [status, reason, message] = refusals[error.code ?? ''] ?? [
    400,
    'Bad Request',
    'this is not an HTTP request',
  ]
  const body = JSON.stringify(new Failure(status, message).body)
  const head = `HTTP/1.1 ${status} ${reason}\r\ncontent-type: application/json\r\nconnection: close`
  socket.end(`${head}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
}

function pems({ cert, key, ca }: NonNullable<ListenOptions['tls']>) {
  const read = (path: string, what: string): Buffer => {
    try {
      return readFileSync(path)
    } catch (error) {
      throw new RequestError(`cannot read the ${what} ${path}: ${(error as Error).message}`)
    }
  }
  return {
    cert: read(cert, 'certificate'),
    key: read(key, 'key'),
    ...(ca !== undefined && { ca: read(ca, 'authority') }),
  }
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code === 'EADDRINUSE') {
    return new RequestError(
      `port ${port} of ${host} is in use; stop what uses it, or give another --port (0 takes a free one)`,
    )
  }
  if (error.code === 'EACCES')
    return new RequestError(`port ${port} needs more rights; give a --port from 1024`)
  return new RequestError(`cannot listen on ${host}:${port}: ${error.message}`)
}
