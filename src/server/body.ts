// The body of a request, as far as it is JSON: read with a limit, so that nobody fills the memory, and named exactly in
// errors. Knows no endpoint.
import { z } from 'zod'
import { Failure } from './failure.ts'

export type Fields = Readonly<Record<string, unknown>>

/** A member that is true, false, or left out. */
export const flag = z.boolean({ error: 'must be true or false' }).nullish()
export const streamOptions = z
  .looseObject({ include_usage: flag }, { error: 'must be an object such as {"include_usage": true}' })
  .nullish()

/** The JSON object in a request's body of at most `limit` bytes. */
export async function readBody(request: Request, limit: number): Promise<Fields> {
  return (await readBoth(request, limit)).fields
}

/** The same with the text it was read from, for those who pass it on as it came (numbers beyond 2^53 included). */
export async function readBoth(
  request: Request,
  limit: number,
): Promise<{ readonly text: string; readonly fields: Fields }> {
  const type = request.headers.get('content-type')
  if (type !== null && !/^[^;]*\bjson\b|^text\/plain|^application\/x-www-form-urlencoded/i.test(type)) {
    throw new Failure(415, `the body must be JSON (content-type: application/json), '${clip(type)}' given`)
  }
  const text = await readText(request, limit)
  if (text.trim() === '') throw new Failure(400, 'the body is empty; send a JSON object')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Failure(400, `the body is not JSON: ${clip((error as Error).message, 200)}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Failure(400, `the body must be a JSON object, ${kindOf(value)} given`)
  }
  return { text, fields: value as Fields }
}

async function readText(request: Request, limit: number): Promise<string> {
  const stated = Number(request.headers.get('content-length') ?? 0)
  if (stated > limit) throw tooLarge(limit)
  if (!request.body) return ''
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of request.body as unknown as AsyncIterable<Uint8Array>) {
    size += piece.byteLength
    if (size > limit) throw tooLarge(limit)
    pieces.push(piece)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(pieces))
  } catch {
    throw new Failure(400, 'the body is not UTF-8')
  }
}

function tooLarge(limit: number): Failure {
  return new Failure(
    413,
    `the body is larger than ${limit} bytes; send less, or raise --max-body of the server`,
    { headers: { connection: 'close' } },
  )
}

/** The value of `schema` in `fields`, or a 400 that names the first member at fault. */
export function parse<Schema extends z.ZodType>(schema: Schema, fields: unknown): z.output<Schema> {
  const read = schema.safeParse(fields)
  if (read.success) return read.data
  const { path, message } = read.error.issues[0]
  const where = path.reduce<string>(
    (text, part) =>
      typeof part === 'number' ? `${text}[${part}]` : text === '' ? String(part) : `${text}.${String(part)}`,
    '',
  )
  throw new Failure(400, where === '' ? message : `${where}: ${message}`, {
    param: path.length > 0 ? String(path[0]) : null,
  })
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? 'a list' : value === null ? 'null' : `a ${typeof value}`
}

export function clip(text: string, most = 80): string {
  return text.length <= most ? text : `${text.slice(0, most)}...`
}
