// DeepSeekMoE: which experts a token visits (paper equations 20-22, device-limited routing of section 2.2.2), and what
// they answer. An expert's weights are read once a step, whatever the number of its tokens.
import { ShapeError } from '../../tensor/error.ts'
import { dims, floats, fromFloats, integers, type Tensor, zeros } from '../../tensor/tensor.ts'
import type { Bank, Routing, RoutingRule } from '../backend.ts'
import { dot } from './dot.ts'
import { rowReader } from './linear.ts'
import { silu } from './rows.ts'

/** [T E] router logits -> Routing: softmax over all experts, best groups by their maximum, best experts of those. */
export function route(scores: Tensor, rule: RoutingRule): Routing {
  const { T, E } = dims('T E', scores)
  if (E % rule.groups !== 0 || rule.topGroups > rule.groups) {
    throw new ShapeError(`${E} experts cannot form ${rule.groups} groups of which ${rule.topGroups} are kept`)
  }
  const experts = zeros([T, rule.top], 'i32')
  const weights = new Float32Array(T * rule.top)
  const logits = floats(scores)
  for (let t = 0; t < T; t++) {
    const chances = softmax(logits.subarray(t * E, (t + 1) * E))
    const chosen = highest(candidates(chances, rule), rule.top, (e) => chances[e])
    let sum = 0
    for (const e of chosen) sum += chances[e]
    const factor = rule.normalize && rule.top > 1 ? 1 / (sum + 1e-20) : rule.scale
    integers(experts).set(chosen, t * rule.top)
    for (let k = 0; k < rule.top; k++) weights[t * rule.top + k] = chances[chosen[k]] * factor
  }
  return { experts, weights: fromFloats([T, rule.top], weights) }
}

function softmax(logits: Float32Array): Float64Array {
  let max = -Infinity
  for (const value of logits) max = Math.max(max, value)
  const chances = Float64Array.from(logits, (value) => Math.exp(value - max))
  let sum = 0
  for (const value of chances) sum += value
  return chances.map((value) => value / sum)
}

/** The experts of the groups a token may visit. */
function candidates(chances: Float64Array, rule: RoutingRule): number[] {
  const all = Array.from(chances.keys())
  if (rule.groups === rule.topGroups) return all
  const width = chances.length / rule.groups
  const best = (group: number): number =>
    chances.subarray(group * width, (group + 1) * width).reduce((a, b) => Math.max(a, b))
  const groups = Array.from({ length: rule.groups }, (_, group) => group)
  const kept = new Set(highest(groups, rule.topGroups, best))
  return all.filter((e) => kept.has(Math.floor(e / width)))
}

/** The `count` items of highest score, best first; of equals the first. */
function highest(items: readonly number[], count: number, score: (item: number) => number): number[] {
  if (items.length < count) throw new ShapeError(`wanted the best ${count} of ${items.length}`)
  const scored = items.map((item) => ({ item, value: score(item) }))
  scored.sort((a, b) => b.value - a.value || a.item - b.item)
  return scored.slice(0, count).map(({ item }) => item)
}

/** [T D], Routing [T K] -> [T D]: sum over the chosen experts of weight * down(silu(gate x) * up x). */
export function experts(x: Tensor, routing: Routing, bank: Bank): Tensor {
  const { T, D, E, F, K } = dims('T D | T K | E F D | E D F', x, routing.experts, bank.gate, bank.down)
  const y = new Float32Array(T * D)
  const from = floats(x)
  const chosen = integers(routing.experts)
  const weights = floats(routing.weights)
  const gateRow = rowReader(bank.gate)
  const upRow = rowReader(bank.up)
  const downRow = rowReader(bank.down)
  for (let e = 0; e < E; e++) {
    const visits: number[] = [] // indices into [T K] of the tokens that chose e
    for (let i = 0; i < T * K; i++) if (chosen[i] === e) visits.push(i)
    if (visits.length === 0) continue
    const inner = new Float32Array(visits.length * F)
    for (let f = 0; f < F; f++) {
      const gate = gateRow(e * F + f)
      const up = upRow(e * F + f)
      for (let v = 0; v < visits.length; v++) {
        const at = Math.floor(visits[v] / K) * D
        const g = dot(from, at, gate.values, gate.start, D)
        inner[v * F + f] = silu(g) * dot(from, at, up.values, up.start, D)
      }
    }
    for (let d = 0; d < D; d++) {
      const down = downRow(e * D + d)
      for (let v = 0; v < visits.length; v++) {
        const t = Math.floor(visits[v] / K)
        y[t * D + d] += weights[visits[v]] * dot(inner, v * F, down.values, down.start, F)
      }
    }
  }
  return fromFloats([T, D], y)
}
