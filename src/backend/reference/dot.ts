// The one inner loop of the reference backend. Sums in float64 in a fixed order, so that a result never depends on
// which other rows are in the step.

/** Sum over i of a[aStart + i] * b[bStart + i], `length` terms. */
export function dot(
  a: Float32Array,
  aStart: number,
  b: Float32Array,
  bStart: number,
  length: number,
): number {
  let s0 = 0
  let s1 = 0
  let s2 = 0
  let s3 = 0
  const even = length - (length % 4)
  for (let i = 0; i < even; i += 4) {
    s0 += a[aStart + i] * b[bStart + i]
    s1 += a[aStart + i + 1] * b[bStart + i + 1]
    s2 += a[aStart + i + 2] * b[bStart + i + 2]
    s3 += a[aStart + i + 3] * b[bStart + i + 3]
  }
  for (let i = even; i < length; i++) s0 += a[aStart + i] * b[bStart + i]
  return s0 + s1 + (s2 + s3)
}
