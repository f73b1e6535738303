// A histogram as Prometheus keeps it.

export interface Histogram {
  add(value: number): void
  /** Lines of one series. */
  lines(name: string, labels: string): readonly string[]
  readonly counts: readonly number[]
  readonly sum: number
}

/** Bounds of vLLM's histograms, in seconds. */
export const secondsOf = {
  firstToken: [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  ],
  whole: [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960],
} as const

export function createHistogram(bounds: readonly number[], parts: readonly Histogram[] = []): Histogram {
  const counts = [...bounds, 0].map((_, i) => parts.reduce((total, part) => total + part.counts[i], 0))
  let sum = parts.reduce((total, part) => total + part.sum, 0)
  return {
    counts,
    get sum() {
      return sum
    },
    add(value) {
      const at = bounds.findIndex((bound) => value <= bound)
      counts[at < 0 ? bounds.length : at]++
      sum += value
    },
    lines(name, labels) {
      const inside = labels === '' ? '' : `${labels},`
      const braces = labels === '' ? '' : `{${labels}}`
      let total = 0
      const buckets = counts.map((count, i) => {
        total += count
        return `${name}_bucket{${inside}le="${bounds[i] ?? '+Inf'}"} ${total}`
      })
      return [...buckets, `${name}_sum${braces} ${sum}`, `${name}_count${braces} ${total}`]
    },
  }
}
