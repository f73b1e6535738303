// How far a download is, per file and in all.
// Knows counts; drawing them is the caller's business.

export interface DownloadProgress {
  /** `cached`: nothing had to be fetched. */
  readonly status: 'start' | 'progress' | 'done' | 'cached'
  readonly file: string
  readonly loaded: number
  /** 0 while the server has not said. */
  readonly total: number
  readonly overall: { readonly loaded: number; readonly total: number; readonly files: number }
}

export interface Tally {
  report(status: DownloadProgress['status'], file: string, loaded: number, total: number): void
}

/** Adds the files up. `progress` events of one file come at most every `interval` milliseconds. */
export function tally(
  sizes: ReadonlyMap<string, number>,
  listener: ((event: DownloadProgress) => void) | undefined,
  interval: number,
): Tally {
  const totals = new Map(sizes)
  const counts = new Map<string, number>()
  const last = new Map<string, number>()
  return {
    report(status, file, loaded, total) {
      totals.set(file, total)
      counts.set(file, loaded)
      const now = performance.now()
      if (status === 'progress' && now - (last.get(file) ?? Number.NEGATIVE_INFINITY) < interval) return
      last.set(file, now)
      const overall = { loaded: sum(counts), total: sum(totals), files: totals.size }
      listener?.({ status, file, loaded, total, overall })
    },
  }
}

function sum(counts: ReadonlyMap<string, number>): number {
  let all = 0
  for (const count of counts.values()) all += count
  return all
}
