// Responses that clients may come back to: in memory, bounded by count and bytes, the one unused for longest goes first.
// Each belongs to the key that asked; for any other key it does not exist. Knows no HTTP.

/** An item of a conversation as the Responses API writes it. */
export type Item = Readonly<Record<string, unknown>> & { readonly type: string; readonly id: string }

export interface StoredResponse {
  readonly id: string
  readonly status: string
  readonly output: readonly Item[]
  readonly [member: string]: unknown
}

export interface Entry {
  readonly key: string | null
  /** All that came before the answer, earlier responses included: no entry needs another one. */
  readonly input: readonly Item[]
  readonly response: StoredResponse
  /** Ends what is still being made; such an entry stays whatever the bounds. */
  readonly cancel: (() => void) | null
}

export interface StoreLimits {
  readonly most: number
  readonly bytes: number
}

export interface Store {
  /** Also replaces one of the same id. */
  put(entry: Entry): void
  get(key: string | null, id: string): Entry | null
  /** An item of any response of this key. */
  item(key: string | null, id: string): Item | null
  /** What was taken out. */
  delete(key: string | null, id: string): Entry | null
  readonly size: number
  readonly bytes: number
}

export function createStore(limits: StoreLimits): Store {
  const entries = new Map<string, { readonly entry: Entry; readonly bytes: number }>() // oldest use first
  let total = 0

  function drop(id: string): void {
    total -= entries.get(id)?.bytes ?? 0
    entries.delete(id)
  }

  function shrink(newest: string): void {
    for (const [id, { entry }] of entries) {
      if (entries.size <= limits.most && total <= limits.bytes) return
      if (entry.cancel === null && id !== newest) drop(id)
    }
    if (total > limits.bytes && entries.get(newest)?.entry.cancel === null) drop(newest)
  }

  function get(key: string | null, id: string): Entry | null {
    const found = entries.get(id)
    if (found?.entry.key !== key) return null
    entries.delete(id)
    entries.set(id, found)
    return found.entry
  }

  return {
    put(entry) {
      const { id } = entry.response
      drop(id)
      const bytes = 2 * JSON.stringify([entry.input, entry.response]).length // two bytes a letter at most
      entries.set(id, { entry, bytes })
      total += bytes
      shrink(id)
    },
    get,
    item(key, id) {
      for (const { entry } of entries.values()) {
        if (entry.key !== key) continue
        const found = [...entry.input, ...entry.response.output].find((item) => item.id === id)
        if (found) return found
      }
      return null
    },
    delete(key, id) {
      const entry = get(key, id)
      if (entry) drop(id)
      return entry
    },
    get size() {
      return entries.size
    },
    get bytes() {
      return total
    },
  }
}
