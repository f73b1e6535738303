// What the commands have of the process: three streams, the environment, Ctrl-C. Knows no commands.
import type { ReadStream, WriteStream } from 'node:tty'
import { type Paint, paintFor } from './style.ts'

export interface Io {
  readonly stdin: ReadStream
  readonly stdout: WriteStream
  readonly stderr: WriteStream
  readonly env: Readonly<Record<string, string | undefined>>
  /** Aborted by the first Ctrl-C; the second ends the process. */
  readonly signal: AbortSignal
  /** Colours for what goes to stdout and to stderr: plain where nobody would see them. */
  readonly out: Paint
  readonly err: Paint
  /** Whether stderr is a terminal that can redraw its lines. */
  readonly live: boolean
  /** To stdout, as fast as the reader takes it. */
  write(text: string): Promise<void>
  /** One line for people, on stderr. */
  note(text: string): void
  /** While `handler` is set, Ctrl-C calls it instead of ending the command; returns how to let go. */
  onInterrupt(handler: () => void): () => void
  /** The same for the signal that service managers send (SIGTERM), which otherwise ends the process. */
  onTerminate(handler: () => void): () => void
  flush(): Promise<void>
  /** The exit code of a command that did its work and has bad news. */
  leave(code: number): void
  readonly exitCode: number
}

export function createIo(process: NodeJS.Process): Io {
  const { stdin, stdout, stderr, env } = process
  const stop = new AbortController()
  const handlers: (() => void)[] = []
  let exitCode = 0
  process.on('SIGINT', () => {
    const handler = handlers.at(-1)
    if (handler) handler()
    else if (stop.signal.aborted) process.exit(130)
    else stop.abort()
  })
  // `latent ... | head`: whoever read us has seen enough
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
  stderr.on('error', () => undefined)

  function write(text: string): Promise<void> {
    return new Promise((resolve) => {
      if (stdout.write(text)) resolve()
      else stdout.once('drain', resolve)
    })
  }

  function onInterrupt(handler: () => void): () => void {
    handlers.push(handler)
    return () => {
      const at = handlers.lastIndexOf(handler)
      if (at >= 0) handlers.splice(at, 1)
    }
  }

  function onTerminate(handler: () => void): () => void {
    process.on('SIGTERM', handler)
    return () => void process.off('SIGTERM', handler)
  }

  async function flush(): Promise<void> {
    for (const stream of [stdout, stderr]) {
      await new Promise<void>((resolve) => stream.write('', () => resolve()))
    }
  }

  return {
    stdin,
    stdout,
    stderr,
    env,
    signal: stop.signal,
    out: paintFor(stdout.isTTY, env),
    err: paintFor(stderr.isTTY, env),
    live: stderr.isTTY === true && env.TERM !== 'dumb',
    write,
    note: (text) => void stderr.write(`${text}\n`),
    onInterrupt,
    onTerminate,
    flush,
    leave: (code) => {
      exitCode = code
    },
    get exitCode() {
      return exitCode
    },
  }
}
