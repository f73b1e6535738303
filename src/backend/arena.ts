// Memory for the tensors of a step: taken from the end of large pieces, given back all at once by rewinding.
// Knows addresses as numbers and two functions that get and return pieces.

export interface Arena {
  /** The address of `bytes` bytes, 64-byte aligned, valid until the scope it was taken in ends. */
  take(bytes: number): number
  /** Gives back what `body` took when it returns or, if it returns a promise, when that settles. */
  scope<Result>(body: () => Result): Result
  close(): void
}

const pieceBytes = 2 ** 26

export function createArena(allocate: (bytes: number) => number, release: (memory: number) => void): Arena {
  const pieces: { readonly memory: number; readonly size: number }[] = []
  let piece = 0
  let used = 0

  function take(bytes: number): number {
    const wanted = Math.max(64, Math.ceil(bytes / 64) * 64)
    while (piece < pieces.length && used + wanted > pieces[piece].size) {
      piece++
      used = 0
    }
    if (piece === pieces.length) {
      const size = Math.max(pieceBytes, wanted)
      pieces.push({ memory: allocate(size), size })
      used = 0
    }
    used += wanted
    return pieces[piece].memory + used - wanted
  }

  function scope<Result>(body: () => Result): Result {
    const mark = { piece, used }
    const rewind = (): void => {
      piece = mark.piece
      used = mark.used
    }
    let waiting = false
    try {
      const result = body()
      if (!(result instanceof Promise)) return result
      waiting = true
      return result.finally(rewind) as Result
    } finally {
      if (!waiting) rewind()
    }
  }

  function close(): void {
    for (const { memory } of pieces) release(memory)
    pieces.length = 0
    piece = 0
    used = 0
  }

  return { take, scope, close }
}
