// How a command ends that could not do its work: which exit code, which words, and where.
// Knows the five error classes and commander's; not what the commands do.
import { CommanderError } from 'commander'
import { CapacityError, CheckpointError, KernelError, RequestError, ShapeError } from '../tensor/error.ts'
import type { Io } from './io.ts'

export const exitCodes = {
  failure: 1,
  usage: 2,
  checkpoint: 3,
  capacity: 4,
  interrupted: 130,
} as const

export const exitCodeHelp = `Exit codes:
  0    done
  1    failed
  2    wrong usage: an option, a prompt, a row or a field that cannot be meant
  3    the model's files: missing, damaged, of another family, not downloadable
  4    too large: the request or the model does not fit the length, memory or disk there is
  130  interrupted by Ctrl-C`

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage
  if (error instanceof RequestError) return exitCodes.usage
  if (error instanceof CheckpointError) return exitCodes.checkpoint
  if (error instanceof CapacityError) return exitCodes.capacity
  return exitCodes.failure
}

/** Says what went wrong on stderr and, under --json, as one object on stdout; returns the exit code. */
export async function report(error: unknown, args: readonly string[], io: Io): Promise<number> {
  const json = wantsJson(args)
  if (io.signal.aborted) {
    if (json) await io.write(`${JSON.stringify(errorObject('Interrupted', 'interrupted'))}\n`)
    io.note(io.err.dim('latent: interrupted'))
    return exitCodes.interrupted
  }
  const code = exitCodeOf(error)
  const message = messageOf(error, args)
  if (code === 0 || message === null) return code
  if (json) {
    const field = error instanceof RequestError ? error.field : null
    await io.write(`${JSON.stringify(errorObject(typeOf(error), message, field))}\n`)
  }
  io.note(`${io.err.red('latent:')} ${message}`)
  const debug = io.env.LATENT_DEBUG !== undefined && io.env.LATENT_DEBUG !== '0'
  if (debug && error instanceof Error) io.note(io.err.dim(error.stack ?? ''))
  return code
}

function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--')
  return args.slice(0, end < 0 ? args.length : end).includes('--json')
}

function errorObject(type: string, message: string, field: string | null = null) {
  return { error: { type, message, field } }
}

function typeOf(error: unknown): string {
  if (error instanceof CommanderError) return 'UsageError'
  return error instanceof Error ? error.name : 'Error'
}

/** Null where all has been said: help that was asked for in a wrong way. */
function messageOf(error: unknown, args: readonly string[]): string | null {
  if (error instanceof CommanderError) {
    if (error.code === 'commander.help') return null
    const said = error.message
      .replace(/^error: /, '')
      .replace(/\n\(Did you mean (.+)\?\)/s, '; did you mean $1?')
    const command = args.find((arg) => !arg.startsWith('-'))
    const where = error.code === 'commander.unknownCommand' || command === undefined ? '' : `${command} `
    return `${said}\n(\`latent ${where}--help\` lists what there is)`
  }
  const message = error instanceof Error ? error.message : String(error)
  const ours = [RequestError, CheckpointError, CapacityError, KernelError, ShapeError]
  if (ours.some((kind) => error instanceof kind)) return message
  return `${message || 'it failed without a word'} (LATENT_DEBUG=1 shows where)`
}
