// Option names as people spell them, and many requests as one. Knows no option's meaning.
import { closest } from '../tensor/closest.ts'
import { RequestError } from '../tensor/error.ts'

/** Throws on the first key that is not among `known`; `what` says what the known ones are ('a field of ...'). */
export function refuseUnknown(given: object, known: readonly string[], what: string): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue
    const meant = closest(key, known)
    const mend = meant === null ? `there are ${known.join(', ')}` : `did you mean '${meant}'?`
    throw new RequestError(`'${key}' is not ${what}; ${mend}`, key)
  }
}

/** An object without the keys that hold undefined: what a caller really stated. */
export function stated<T extends object>(given: T): Partial<T> {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Partial<T>
}

/** A sentence for each option that was given and changes nothing here, from a table of the reasons. */
export function effectless(
  given: Readonly<Record<string, unknown>>,
  reasons: Readonly<Record<string, string>>,
): string[] {
  return Object.keys(given)
    .filter((name) => Object.hasOwn(reasons, name) && given[name] !== undefined && given[name] !== null)
    .map((name) => `${name} ${shown(given[name])} has no effect: ${reasons[name]}`)
}

function shown(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) ?? String(value))
}

/** Runs all at once and gives their results in order; the first that fails cancels the others. */
export async function together<In, Out>(
  items: readonly In[],
  signal: AbortSignal | undefined,
  run: (item: In, index: number, signal: AbortSignal) => Promise<Out>,
): Promise<Out[]> {
  signal?.throwIfAborted()
  const stop = new AbortController()
  const cancelled = (): void => stop.abort(signal?.reason)
  signal?.addEventListener('abort', cancelled, { once: true })
  try {
    return await Promise.all(items.map(async (item, index) => run(item, index, stop.signal)))
  } catch (error) {
    stop.abort(error)
    throw error
  } finally {
    signal?.removeEventListener('abort', cancelled)
  }
}
