// Who may ask: API keys from a file or from the environment's value, kept as SHA-256 only. Knows no routes; the app asks
// for every one that is not marked open.
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { RequestError } from '../tensor/error.ts'
import { Failure } from './failure.ts'

export interface Key {
  /** As logs and limits know it; keys of one name share its limits, so that a key can be exchanged for a new one. */
  readonly name: string
  /** SHA-256 of the key. */
  readonly hash: Buffer
}

const digest = (key: string): Buffer => createHash('sha256').update(key, 'utf8').digest()

/** A key as a key file may hold it, so that the file gives nothing away: keys are long and random, so no salt. */
export const hashKey = (key: string): string => `sha256:${digest(key).toString('hex')}`

/** The keys in a file: one a line, `#` begins a comment, `name:` may come first. */
export function readKeyFile(path: string): readonly Key[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new RequestError(`cannot read the key file ${path}: ${(error as Error).message}`)
  }
  const keys = parseKeys(text, path)
  if (keys.length > 0) return keys
  throw new RequestError(`the key file ${path} holds no key; put one on a line, or leave --api-key-file out`)
}

/** Keys in lines, or in a list with commas as an environment variable has it. `where` is for errors. */
export function parseKeys(text: string, where: string): readonly Key[] {
  return text.split(/\r?\n|,/).flatMap((line, i) => {
    const entry = line.replace(/(^|\s)#.*$/, '').trim()
    return entry === '' ? [] : [parseKey(entry, `${where}, entry ${i + 1}`)]
  })
}

/** Messages name the place, never the key. */
function parseKey(entry: string, where: string): Key {
  const [, given, rest] = /^(?!sha256:)([\w.-]+)\s*:\s*(.*)$/.exec(entry) ?? [null, null, entry]
  const [, hex] = /^sha256:(.*)$/.exec(rest) ?? []
  if (hex !== undefined && !/^[0-9a-f]{64}$/i.test(hex)) {
    throw new RequestError(`${where}: after sha256: there must be 64 hexadecimal digits`)
  }
  if (!/^[\x21-\x7e]+$/.test(rest)) {
    throw new RequestError(`${where}: a key is made of ASCII letters, digits and signs, without blanks`)
  }
  const hash = hex === undefined ? digest(rest) : Buffer.from(hex, 'hex')
  return { name: given ?? `key-${hash.toString('hex', 0, 4)}`, hash }
}

/** The guard's question: the name of the caller's key, or a 401 that does not repeat what was given. */
export function createKeys(keys: readonly Key[]): (request: Request) => string {
  return (request) => {
    const given = keysIn(request)
    const names = given.map((key) => nameOf(digest(key), keys))
    const name = names.find((found) => found !== null)
    if (name !== undefined && name !== null) return name
    throw given.length === 0
      ? refuse('no API key was given; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`', '')
      : refuse('this API key is not known here', ', error="invalid_token"')
  }
}

function keysIn({ headers }: Request): readonly string[] {
  const [, bearer] = /^bearer +(\S+)$/i.exec(headers.get('authorization')?.trim() ?? '') ?? []
  return [bearer, headers.get('x-api-key')?.trim()].filter(
    (key) => key !== undefined && key !== '',
  ) as string[]
}

/** Looks at all of them, so that the time taken says nothing of which one it was. */
function nameOf(hash: Buffer, keys: readonly Key[]): string | null {
  let name: string | null = null
  for (const key of keys) if (timingSafeEqual(hash, key.hash)) name = key.name
  return name
}

function refuse(message: string, error: string): Failure {
  return new Failure(401, message, {
    code: 'invalid_api_key',
    headers: { 'www-authenticate': `Bearer realm="latent"${error}` },
  })
}
