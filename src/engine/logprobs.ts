// Log-probabilities of raw logits, in float64, and the likeliest few. Knows nothing of temperature, penalties
// or masks: what is reported is what the model said (vLLM's `raw_logprobs`).
import { KernelError } from '../tensor/error.ts'

export interface Logprob {
  readonly token: number
  readonly logprob: number
}

/** A token and, where asked for, how likely the model held it and what it held likelier. */
export interface Choice {
  readonly token: number
  readonly logprob: number | null
  /**
   * The likeliest first, of equals the lowest id; the chosen token is among them only if it is that likely.
   */
  readonly top: readonly Logprob[] | null
}

/** The log-softmax of `logits` [V] at `token`, and its `top` largest values. */
export function tokenLogprobs(logits: Float32Array, token: number, top: number): Choice {
  let peak = -Infinity
  for (let id = 0; id < logits.length; id++) if (logits[id] > peak) peak = logits[id]
  // An infinite peak shares all the mass with its equals; inf - inf would be NaN.
  const gap = (logit: number) => (logit === peak ? 0 : logit - peak)
  let sum = 0
  for (let id = 0; id < logits.length; id++) sum += Math.exp(gap(logits[id]))
  if (Number.isNaN(sum)) {
    throw new KernelError(
      `the model produced NaN: the logit of token ${logits.findIndex(Number.isNaN)} has no log-probability`,
    )
  }
  const total = Math.log(sum)
  const logprob = (id: number) => gap(logits[id]) - total
  return {
    token,
    logprob: logprob(token),
    top: likeliest(logits, Math.min(top, logits.length)).map((id) => ({ token: id, logprob: logprob(id) })),
  }
}

/** The `count` ids of the largest logits, the largest first, of equals the lowest id. */
function likeliest(logits: Float32Array, count: number): number[] {
  if (count === 0) return []
  const worse = (a: number, b: number) => logits[a] < logits[b] || (logits[a] === logits[b] && a > b)
  // A heap of the best so far with the worst of them on top: most ids lose to it and cost one comparison.
  const heap = Array.from({ length: count }, (_, id) => id)
  for (let at = count >> 1; at-- > 0; ) sink(heap, at, worse)
  let bar = logits[heap[0]]
  for (let id = count; id < logits.length; id++) {
    if (logits[id] <= bar) continue
    heap[0] = id
    sink(heap, 0, worse)
    bar = logits[heap[0]]
  }
  return heap.sort((a, b) => (worse(a, b) ? 1 : -1))
}

/** Moves the item at `at` down until nothing below it is worse. */
function sink(heap: number[], at: number, worse: (a: number, b: number) => boolean): void {
  const item = heap[at]
  for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
    if (child + 1 < heap.length && worse(heap[child + 1], heap[child])) child++
    if (!worse(heap[child], item)) break
    heap[at] = heap[child]
    at = child
  }
  heap[at] = item
}
