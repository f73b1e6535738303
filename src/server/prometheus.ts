// Counters, gauges and histograms as Prometheus reads them. Knows the text format, no names.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
export type Labels = Readonly<Record<string, string>>

/** One line; a suffix is what histograms append to their family's name. */
export interface Sample {
  readonly suffix?: string
  readonly labels: Labels
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly samples: readonly Sample[]
}

/** Counts by labels. */
export interface Counter {
  add(labels: Labels, amount?: number): void
  samples(): readonly Sample[]
}

export interface Histogram {
  /** A loop over about twenty numbers: cheap enough to call for every token. */
  observe(value: number): void
  samples(labels: Labels): readonly Sample[]
}

export function createCounter(begin: readonly Labels[] = []): Counter {
  const counts = new Map<string, { readonly labels: Labels; value: number }>()
  const at = (labels: Labels) => {
    const key = JSON.stringify(labels)
    const known = counts.get(key) ?? { labels, value: 0 }
    counts.set(key, known)
    return known
  }
  begin.forEach(at) // a rate needs the zero before the first one
  return {
    add(labels, amount = 1) {
      at(labels).value += amount
    },
    samples: () => [...counts.values()],
  }
}

/** `bounds` are upper ones, ascending; +Inf is added. */
export function createHistogram(bounds: readonly number[]): Histogram {
  const counts = new Float64Array(bounds.length + 1)
  let sum = 0
  return {
    observe(value) {
      let i = 0
      while (i < bounds.length && value > bounds[i]) i++
      counts[i]++
      sum += value
    },
    samples: (labels) => histogramSamples(bounds, counts, sum, labels),
  }
}

/** Buckets are cumulative. `counts` has one more than `bounds`. */
export function histogramSamples(
  bounds: readonly number[],
  counts: ArrayLike<number>,
  sum: number,
  labels: Labels,
): readonly Sample[] {
  let total = 0
  const buckets = [...bounds, Infinity].map((bound, i) => {
    total += counts[i]
    return { suffix: '_bucket', labels: { ...labels, le: numberText(bound) }, value: total }
  })
  return [...buckets, { suffix: '_count', labels, value: total }, { suffix: '_sum', labels, value: sum }]
}

export const contentType = 'text/plain; version=0.0.4; charset=utf-8'

export function exposition(families: readonly Family[]): string {
  return families.map(familyText).join('')
}

function familyText({ name, type, help, samples }: Family): string {
  const said = help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')
  const lines = samples.map(
    ({ suffix = '', labels, value }) => `${name}${suffix}${labelText(labels)} ${numberText(value)}\n`,
  )
  return `# HELP ${name} ${said}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function labelText(labels: Labels): string {
  const list = Object.entries(labels).map(([name, value]) => `${name}="${escapeValue(value)}"`)
  return list.length === 0 ? '' : `{${list.join(',')}}`
}

const escapeValue = (value: string): string =>
  value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')

/** As Prometheus's own clients write it: `1.0` for a bound of 1, so that series of peers go together. */
function numberText(value: number): string {
  if (Number.isFinite(value)) return Number.isInteger(value) && value < 1e15 ? `${value}.0` : String(value)
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf'
}
