// The app on a socket: TLS where asked for, and a stop that lets streams finish.
import { readFileSync } from 'node:fs'
import { createServer as createHttp, type Server as HttpServer } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
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
}

export interface Listening {
  readonly url: string
  readonly port: number
  /** No new connections; idle ones are closed. Resolves when the last one is. */
  close(): Promise<void>
  /** Also those in use. */
  closeNow(): void
}

export async function listen(app: App, { host, port, tls }: ListenOptions): Promise<Listening> {
  const listener = getRequestListener((request) => app(request), { overrideGlobalObjects: false })
  const server: HttpServer = tls ? createHttps(pems(tls), listener) : createHttp(listener)
  server.requestTimeout = 300_000 // a client may take that long to send its request
  server.headersTimeout = 60_000
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable) return
    const large = error.code === 'HPE_HEADER_OVERFLOW'
    const failure = large
      ? new Failure(413, 'the headers are too large')
      : new Failure(400, 'this is not an HTTP request')
    const body = JSON.stringify(failure.body)
    const status = large ? '431 Request Header Fields Too Large' : '400 Bad Request'
    socket.end(
      `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    )
  })
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
