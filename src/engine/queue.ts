// A queue with one reader that waits: how events cross from the engine's loop to whoever iterates.

export interface Queue<Item> {
  push(item: Item): void
  /** No more items; the reader ends after the last one, or throws `error`. */
  end(error?: unknown): void
  next(): Promise<IteratorResult<Item, undefined>>
}

export function createQueue<Item>(): Queue<Item> {
  const items: Item[] = []
  let ended: { readonly error: unknown } | null = null
  let wake: (() => void) | null = null

  function signal(): void {
    wake?.()
    wake = null
  }

  return {
    push(item) {
      if (ended) return
      items.push(item)
      signal()
    },
    end(error) {
      ended ??= { error }
      signal()
    },
    async next() {
      while (items.length === 0) {
        if (ended?.error !== undefined) throw ended.error
        if (ended) return { done: true, value: undefined }
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      return { done: false, value: items.shift() as Item }
    },
  }
}
