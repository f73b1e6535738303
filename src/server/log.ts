// The server's log: a line a request, as JSON or for eyes. It says who asked (the key's name), for what, how long it took
// and how it ended; what was asked and answered only where the operator wants it. Where lines go, others know.
import type { Result } from '../llm/completion.ts'
import { failureOf } from './failure.ts'
import type { Answered, JobEnd, JobFacts, Observer } from './job.ts'

export interface LogOptions {
  readonly write: (line: string) => void
  /** `text` is for terminals. */
  readonly format: 'json' | 'text'
  readonly model: string
  /** Gives prompts and answers to the log. */
  readonly decode?: ((ids: readonly number[]) => string) | undefined
  readonly now?: () => Date
}

export interface Log {
  readonly observer: Observer
  /** The server's own error, with its stack. */
  report(error: unknown, id: string): void
}

type Level = 'info' | 'warn' | 'error'
type Fields = Readonly<Record<string, unknown>>

/** A generation whose line is not written yet: it needs the head of its answer, and its end. */
interface Pending {
  answered: Answered | null
  end: JobEnd | null
}

export function createLog(options: LogOptions): Log {
  const { write, format, model, decode, now = () => new Date() } = options
  // by request id; a list, because clients may choose their ids and choose one twice
  const pending = new Map<string, Pending[]>()

  function say(level: Level, message: string, fields: Fields): void {
    const entry = { time: now().toISOString(), level, message, ...fields }
    write(format === 'json' ? JSON.stringify(entry) : humanLine(entry))
  }

  function begin({ id }: JobFacts): void {
    pending.set(id, [...(pending.get(id) ?? []), { answered: null, end: null }])
  }

  function answered(head: Answered): void {
    const job = pending.get(head.id)?.find((one) => one.answered === null)
    if (job) job.answered = head
    if (job) settle(head.id, job)
    else say(levelOf(head.status), 'request', headFields(head))
  }

  function end(ended: JobEnd): void {
    const job = pending.get(ended.id)?.find((one) => one.end === null)
    if (job) job.end = ended
    if (job) settle(ended.id, job)
  }

  function settle(id: string, job: Pending): void {
    if (job.answered === null || job.end === null) return
    const rest = (pending.get(id) ?? []).filter((one) => one !== job)
    if (rest.length > 0) pending.set(id, rest)
    else pending.delete(id)
    const { outcome, error, result } = job.end
    const level = outcome === 'error' ? levelOf(failureOf(error).status) : levelOf(job.answered.status)
    say(level, 'generation', {
      ...headFields(job.answered),
      model,
      ...jobFields(job.end),
      ...(result && decode && { prompt: decode(result.prompt_token_ids), answers: textsOf(result) }),
    })
  }

  function report(error: unknown, id: string): void {
    const { status } = failureOf(error)
    const known = error instanceof Error
    say(levelOf(status), 'error', {
      request_id: id,
      error: known ? `${error.name}: ${error.message}` : String(error),
      ...(status >= 500 && known && error.stack !== undefined && { stack: error.stack }),
    })
  }

  return { observer: { begin, answered, end }, report }
}

const levelOf = (status: number): Level => (status >= 500 ? 'error' : status >= 400 ? 'warn' : 'info')
const textsOf = ({ answers }: Result): readonly string[] => answers.map(({ text }) => text)
const round = (value: number): number => Math.round(value * 10) / 10

function headFields({ id, key, method, route, path, status, seconds }: Answered): Fields {
  return {
    request_id: id,
    ...(key !== null && { key }),
    method,
    path: route ?? path.slice(0, 200),
    status,
    head_ms: round(seconds * 1000),
  }
}

function jobFields({ endpoint, stream, n, outcome, seconds, result, error }: JobEnd): Fields {
  return {
    endpoint,
    stream,
    ...(n > 1 && { n }),
    outcome,
    total_ms: round(seconds * 1000),
    ...(result && resultFields(result)),
    ...(error instanceof Error && { error: `${error.name}: ${error.message}` }),
  }
}

function resultFields({ usage, timings }: Result): Fields {
  return {
    prompt_tokens: usage.prompt_tokens,
    output_tokens: usage.completion_tokens,
    cached_tokens: usage.prompt_tokens_details.cached_tokens,
    queue_ms: round(timings.queued_ms),
    prefill_ms: round(timings.prompt_ms),
    decode_ms: round(timings.predicted_ms),
    tokens_per_second: round(timings.predicted_per_second),
  }
}

/** `12:00:00 warn request method=GET path=/x`; control characters stay inside their line. */
function humanLine({ time, level, message, stack, ...fields }: Fields): string {
  const shown = Object.entries(fields).map(([name, value]) => `${name}=${humanValue(value)}`)
  const below = typeof stack === 'string' ? `\n${printable(stack)}` : ''
  return `${String(time).slice(11, 19)} ${level} ${message} ${shown.join(' ')}${below}`
}

function humanValue(value: unknown): string {
  if (typeof value !== 'string') return printable(JSON.stringify(value))
  return /^[\w./:+-]+$/.test(value) ? value : printable(JSON.stringify(value))
}

const printable = (text: string): string => text.replace(/[\0-\x09\x0b-\x1f\x7f-\x9f]/g, ' ')
