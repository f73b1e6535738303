// Runs the program as a person would: in a process of its own, piped or on a pseudo-terminal.
// Tests only.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const program = fileURLToPath(new URL('./main.js', import.meta.url))
export const root = fileURLToPath(new URL('../../../', import.meta.url))

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Setting {
  readonly stdin?: string
  readonly env?: Readonly<Record<string, string>>
  /** Called with the running process. */
  readonly during?: (child: ChildProcess) => void
}

export const scratch = (): string => mkdtempSync(join(tmpdir(), 'latent-cli-'))

/** An environment without the tester's colours, cache and tokens; the hub is a port where nobody listens. */
export function environment(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined &&
      !/^(HF_|HUGGING|TRANSFORMERS_|LATENT_|NO_COLOR|FORCE_COLOR|NODE_TEST)/.test(entry[0]),
  )
  const apart = { HF_HOME: join(tmpdir(), 'latent-cli-nothing-here'), HF_ENDPOINT: 'http://127.0.0.1:9' }
  return { ...Object.fromEntries(kept), TERM: 'xterm', ...apart, ...more }
}

export function latent(
  args: readonly string[],
  { stdin = '', env = {}, during }: Setting = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], { cwd: root, env: environment(env) })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.stdin.on('error', () => undefined) // it need not read what it was given
    child.stdin.end(stdin)
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
    during?.(child)
  })
}

/** Why there is no pseudo-terminal to be had, or null. */
export function whyNoTerminal(): string | null {
  const version = spawnSync('script', ['--version'], { encoding: 'utf8' })
  return /util-linux/.test(version.stdout ?? '') ? null : 'there is no `script` of util-linux on this machine'
}

/** Types each text once the pattern before it has shown up since the last one was typed. Resolves to all that was shown. */
export function onTerminal(
  args: readonly string[],
  steps: readonly (readonly [RegExp, string])[],
): Promise<{ readonly code: number | null; readonly shown: string }> {
  const quoted = [process.execPath, program, ...args].map((word) => `'${word}'`).join(' ')
  // `exec`: a shell that stays would take the Ctrl-C for itself too, and leave with 130 in the program's place
  const child = spawn('script', ['-qefc', `exec ${quoted}`, '/dev/null'], { cwd: root, env: environment() })
  let shown = ''
  let from = 0
  let step = 0
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      child.kill()
      reject(new Error(`step ${step}, ${String(steps[step]?.[0])}, never came:\n${shown}`))
    }, 60_000)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text
      if (step >= steps.length || !steps[step][0].test(shown.slice(from))) return
      from = shown.length
      child.stdin.write(steps[step++][1])
    })
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(late)
      resolve({ code, shown: shown.replaceAll(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replaceAll('\r', '') })
    })
  })
}
