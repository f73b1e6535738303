// The head of a ranking without sorting it: top_k, typical_p and top_p are each "the best until their weight
// is enough". Knows ids, keys and weights, not what they stand for.

const buckets = 1024
/** Below this, sorting is cheaper than another pass over the buckets. */
const few = 48

export interface Ranking {
  /**
   * Keeps the shortest head of `ids[0 .. count)` whose weight reaches `target`, at least one id and in the
   * order they came; returns how many. The best key comes first, of equal keys the lowest id. `ids` ascend;
   * keys are finite and, like weights, found by id; without weights each id weighs 1.
   */
  keep(
    ids: Int32Array,
    count: number,
    keys: Float64Array,
    weights: Float64Array | null,
    target: number,
  ): number
}

/** A ranking over ids below `size`. It owns the scratch of one call, so calls must not overlap. */
export function createRanking(size: number): Ranking {
  const pool = new Int32Array(size)
  const mass = new Float64Array(buckets)

  /** The last id that is kept. Narrows the pool, bucket by bucket, to where the weight reaches the target. */
  function last(count: number, keys: Float64Array, weights: Float64Array | null, target: number): number {
    let above = 0 // weight of everything that ranks before the pool
    for (;;) {
      let high = -Infinity
      let low = Infinity
      for (let i = 0; i < count; i++) {
        const key = keys[pool[i]]
        if (key > high) high = key
        if (key < low) low = key
      }
      const scale = (buckets - 1) / (high - low)
      if (count <= few || !Number.isFinite(scale)) {
        if (low < high) pool.subarray(0, count).sort((a, b) => keys[b] - keys[a] || a - b)
        return walk(count, weights, target - above)
      }
      mass.fill(0)
      for (let i = 0; i < count; i++) {
        const id = pool[i]
        mass[((high - keys[id]) * scale) | 0] += weights === null ? 1 : weights[id]
      }
      // Rounding may leave the whole sum short of the target: then the last bucket that holds anything is
      // meant.
      const end = ((high - low) * scale) | 0
      let bucket = 0
      while (bucket < end && above + mass[bucket] < target) above += mass[bucket++]
      count = narrow(count, keys, high, scale, bucket)
    }
  }

  /** Leaves in the pool, in id order still, what falls into one bucket. */
  function narrow(count: number, keys: Float64Array, high: number, scale: number, bucket: number): number {
    let kept = 0
    for (let i = 0; i < count; i++) {
      const id = pool[i]
      pool[kept] = id
      if ((((high - keys[id]) * scale) | 0) === bucket) kept++
    }
    return kept
  }

  function walk(count: number, weights: Float64Array | null, target: number): number {
    let sum = 0
    for (let i = 0; i < count; i++) {
      sum += weights === null ? 1 : weights[pool[i]]
      if (sum >= target) return pool[i]
    }
    return pool[count - 1]
  }

  return {
    keep(ids, count, keys, weights, target) {
      pool.set(ids.subarray(0, count))
      const edge = last(count, keys, weights, target)
      const key = keys[edge]
      let kept = 0
      for (let i = 0; i < count; i++) {
        const id = ids[i]
        ids[kept] = id
        if (keys[id] > key || (keys[id] === key && id <= edge)) kept++
      }
      return kept
    },
  }
}
