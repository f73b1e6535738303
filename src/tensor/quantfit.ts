// Which scale loses least: a search over a few roundings, each with the scale that fits it best (least squares).
// Knows the values of one sub-block, not how anything is stored. The weights and the range searched are those of ggml's
// reference, so that a file made here is as good as one made there.

/** The nearest whole number, halves away from zero. */
export function roundHalf(x: number): number {
  return x < 0 ? -Math.floor(0.5 - x) : Math.floor(x + 0.5)
}

const width = 32
const xs = new Float64Array(width)
const weights = new Float64Array(width)

/** How many roundings are tried, and where the search begins, for codes 0 .. top. */
const searches: Readonly<Record<number, { readonly first: number; readonly steps: number }>> = {
  15: { first: -1, steps: 20 },
  31: { first: -0.5, steps: 15 },
}

export interface Fit {
  readonly scale: number
  readonly min: number
}

/** 32 values as scale * q - min with q from 0 to `top` and min >= 0. */
export function fitRange(values: Float32Array, from: number, top: number): Fit {
  take(values, from)
  let least = 0 // a minimum above zero cannot be stored
  let most = xs[0]
  for (let i = 0; i < width; i++) {
    least = Math.min(least, xs[i])
    most = Math.max(most, xs[i])
  }
  if (most === least) return { scale: 0, min: -least }
  const { first, steps } = searches[top]
  let best: Fit = { scale: (most - least) / top, min: -least }
  let smallest = errorOf(top, best.scale, best.min)
  for (let step = 0; step <= steps; step++) {
    const line = bestLine(top, (first + 0.1 * step + top) / (most - least), least)
    if (line.error < smallest) {
      smallest = line.error
      best = line
    }
  }
  return best
}

/** Takes the values in; they count by their size, and by the size that is usual around them. */
function take(values: Float32Array, from: number): void {
  let squares = 0
  for (let i = 0; i < width; i++) {
    xs[i] = values[from + i]
    squares += xs[i] * xs[i]
  }
  const typical = Math.sqrt(squares / width)
  for (let i = 0; i < width; i++) weights[i] = typical + Math.abs(xs[i])
}

/** The line scale * q - min closest to the values, for the codes that `inverse` and `least` give them. */
function bestLine(top: number, inverse: number, least: number): Fit & { readonly error: number } {
  let n = 0
  let sq = 0
  let sqq = 0
  let sx = 0
  let sqx = 0
  let sxx = 0
  for (let i = 0; i < width; i++) {
    const x = xs[i]
    const q = Math.min(top, Math.floor(inverse * (x - least) + 0.5))
    const w = weights[i]
    n += w
    sq += w * q
    sqq += w * q * q
    sx += w * x
    sqx += w * q * x
    sxx += w * x * x
  }
  const determinant = n * sqq - sq * sq
  let scale = (n * sqx - sq * sx) / determinant
  let offset = (sqq * sx - sq * sqx) / determinant
  if (offset > 0) {
    scale = sqx / sqq
    offset = 0
  }
  const error =
    determinant > 0 && scale > 0
      ? scale * (scale * sqq + 2 * (offset * sq - sqx)) + offset * (offset * n - 2 * sx) + sxx
      : Infinity
  return { scale, min: -offset, error }
}

/** The weighted error of the values at the codes nearest to them. */
function errorOf(top: number, scale: number, min: number): number {
  const inverse = 1 / scale
  let error = 0
  for (let i = 0; i < width; i++) {
    const x = xs[i] + min
    const q = Math.max(0, Math.min(top, Math.floor(x * inverse + 0.5)))
    const off = scale * q - x
    error += weights[i] * off * off
  }
  return error
}

/** What stored codes of a scale and of a minimum are multiplied with. */
interface Units {
  readonly d: number
  readonly least: number
}

/**
 * Scale and minimum are rounded to codes from 0 to 63; the best pair of codes is not always the two nearest ones, so
 * their neighbours are tried too.
 */
export function nearbyRange(values: Float32Array, from: number, top: number, at: Fit, units: Units): Fit {
  take(values, from)
  let best = at
  let smallest = Infinity
  for (let scale = Math.max(1, at.scale - 1); scale <= Math.min(63, at.scale + 1); scale++) {
    for (let min = Math.max(0, at.min - 1); min <= Math.min(63, at.min + 1); min++) {
      const error = errorOf(top, units.d * scale, units.least * min)
      if (error < smallest) {
        smallest = error
        best = { scale, min }
      }
    }
  }
  return best
}

/** 16 values as scale * q with q from -32 to 31; large values weigh most, by x^2. The scale has a sign of its own. */
export function fitSigned(values: Float32Array, from: number): number {
  let farthest = 0
  for (let i = 0; i < 16; i++) {
    if (Math.abs(values[from + i]) > Math.abs(farthest)) farthest = values[from + i]
  }
  if (Math.abs(farthest) < 1e-15) return 0
  let scale = 0
  let gain = -1
  for (let step = -9; step <= 9; step++) {
    const inverse = -(32 + 0.1 * step) / farthest
    let cross = 0
    let square = 0
    for (let i = 0; i < 16; i++) {
      const x = values[from + i]
      const q = Math.max(-32, Math.min(31, roundHalf(inverse * x)))
      cross += x * x * x * q
      square += x * x * q * q
    }
    // with the best scale cross / square, the error is what x^4 holds beyond cross^2 / square
    if (square > 0 && cross * cross > gain * square) {
      gain = (cross * cross) / square
      scale = cross / square
    }
  }
  return scale
}
