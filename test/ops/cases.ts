// The shared case table: for each operation random inputs of chosen shapes, and what it must give, restated as the
// plainest float64 arithmetic. Every backend runs every case (ops.test.ts); a new kernel adds its shapes here.
import type { Backend, RoutingRule } from '../../src/backend/backend.ts'
import { uniform } from '../../src/engine/random.ts'
import { type DType, formats } from '../../src/tensor/dtype.ts'
import { decodeRow, floats, fromFloats, integers, size, type Tensor, zeros } from '../../src/tensor/tensor.ts'

export interface Case {
  readonly name: string
  /** Weights whose products take activations as 8-bit integers where a backend prefers that. */
  readonly integer?: boolean
  /** bf16 weights, whose products take activations rounded to bf16 on some instruction sets. */
  readonly half?: boolean
  /** What the operation gives on a backend. */
  run(on: Backend): Promise<Float32Array>
  /** The same by definition. */
  want(): ArrayLike<number>
}

let drawn = 0
export function random(shape: readonly number[], dtype: DType = 'f32', spread = 1): Tensor {
  const values = Float32Array.from({ length: size(shape) }, () => (uniform(7, drawn++) * 2 - 1) * spread)
  if (dtype === 'f32') return fromFloats(shape, values)
  const tensor = zeros(shape, dtype)
  const { encode } = formats[dtype]
  if (encode && formats[dtype].block === 1) encode(values, tensor.data as Uint8Array, 0)
  else fillBlocks(tensor)
  return tensor
}

function fp8(N: number, D: number): Tensor {
  return { ...random([N, D], 'f8_e4m3'), scales: random([Math.ceil(N / 128), Math.ceil(D / 128)]) }
}

/** Random codes in every field, half-float scales kept finite and small. */
function fillBlocks({ dtype, data }: Tensor): void {
  const bytes = data as Uint8Array
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = Math.floor(uniform(11, drawn++) * (dtype === 'f8_e4m3' ? 0x70 : 256))
  const halves = halfFields[dtype] ?? []
  for (let at = 0; at < bytes.length; at += formats[dtype].bytes) {
    for (const field of halves) {
      bytes[at + field + 1] = 0x1c + Math.floor(uniform(13, drawn++) * 8) // exponents of 2^-8 or so
    }
  }
}

/** Where the blocks of a format that tests do not encode keep their half floats. */
const halfFields: Partial<Record<DType, readonly number[]>> = {
  q2_k: [80, 82],
  q3_k: [108],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
  iq4_xs: [0],
  q8_0: [0],
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  iq4_nl: [0],
}

const quantized = Object.keys(halfFields) as DType[]

/** A tensor's rows as float64. */
export function rows(w: Tensor): Float64Array[] {
  const D = w.shape[w.shape.length - 1]
  return Array.from({ length: size(w.shape) / D }, (_, n) => {
    const row = new Float32Array(D)
    decodeRow(w, n, row)
    return Float64Array.from(row)
  })
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}
const silu = (x: number): number => x / (1 + Math.exp(-x))

function linearCase(T: number, N: number, D: number, w: Tensor, kind: string): Case {
  const x = random([T, D])
  return {
    name: `linear [${T} ${D}] x [${N} ${D}] ${kind}`,
    integer: formats[w.dtype].block > 1,
    half: w.dtype === 'bf16',
    run: (on) => on.read(on.linear(on.write(x), on.upload(w))),
    want: () => rows(x).flatMap((a) => rows(w).map((b) => dot(a, b))),
  }
}

function embedCase(dtype: DType, D = 24): Case {
  const table = random([11, D], dtype)
  return {
    name: `embed [11 ${D}] ${dtype}`,
    run: (on) => on.read(on.embed(on.upload(table), Int32Array.of(10, 0, 3, 3))),
    want: () => [10, 0, 3, 3].flatMap((id) => [...rows(table)[id]]),
  }
}

function rmsNormCase(T: number, D: number, dtype: DType): Case {
  const x = random([T, D], 'f32', 3)
  const gain = random([D], dtype)
  return {
    name: `rmsNorm [${T} ${D}] gain ${dtype}`,
    run: (on) => on.read(on.rmsNorm(on.write(x), on.upload(gain), 1e-6)),
    want: () =>
      rows(x).flatMap((a) => [...a].map((v, d) => (v / Math.sqrt(dot(a, a) / D + 1e-6)) * rows(gain)[0][d])),
  }
}

function ropeCase(T: number, H: number, R: number, factor: number): Case {
  const x = random([T, H, R])
  const positions = Int32Array.from({ length: T }, (_, t) => t * 977)
  const frequencies = Float64Array.from({ length: R / 2 }, (_, i) => 10000 ** ((-2 * i) / R))
  const want = (): number[] =>
    rows(x).flatMap((a, th) =>
      [...a].map((_, i) => {
        const angle = positions[Math.floor(th / H)] * frequencies[i >> 1]
        const [even, odd] = [a[i & ~1], a[i | 1]]
        return (
          factor *
          (i % 2
            ? even * Math.sin(angle) + odd * Math.cos(angle)
            : even * Math.cos(angle) - odd * Math.sin(angle))
        )
      }),
    )
  return {
    name: `rope [${T} ${H} ${R}]`,
    run: (on) => on.read(on.rope(on.write(x), positions, { frequencies, factor })),
    want,
  }
}

function rowwiseCases(): Case[] {
  const x = random([5, 12])
  const y = random([5, 12], 'f32', 4)
  const run = (on: Backend): Promise<Float32Array> => {
    const sum = on.write(x)
    on.add(sum, on.write(y))
    return on.read(sum)
  }
  return [
    { name: 'add [5 12]', run, want: () => floats(x).map((v, i) => v + floats(y)[i]) },
    {
      name: 'swiglu [5 12]',
      run: (on) => on.read(on.swiglu(on.write(y), on.write(x))),
      want: () => [...floats(y)].map((v, i) => silu(v) * floats(x)[i]),
    },
    {
      name: 'pick [5 12] of [3]',
      run: (on) => on.read(on.pick(on.write(x), Int32Array.of(4, 0, 4))),
      want: () => [4, 0, 4].flatMap((t) => [...rows(x)[t]]),
    },
    {
      name: 'pick [5 12] of none',
      run: (on) => on.read(on.pick(on.write(x), new Int32Array())),
      want: () => [],
    },
  ]
}

/** Routing as experts then weights, each in order of choice. */
function routeCase(T: number, E: number, rule: RoutingRule, what: string): Case {
  const scores = random([T, E], 'f32', 4)
  const want = (): number[] => {
    const chosen: number[] = []
    const weights: number[] = []
    for (const a of rows(scores)) {
      const total = [...a].reduce((sum, v) => sum + Math.exp(v), 0)
      const p = [...a].map((v) => Math.exp(v) / total)
      const width = E / rule.groups
      const best = Array.from({ length: rule.groups }, (_, g) =>
        Math.max(...p.slice(g * width, (g + 1) * width)),
      )
      const bar = [...best].sort((u, v) => v - u)[rule.topGroups - 1]
      const order = p.map((_, e) => e).filter((e) => best[Math.floor(e / width)] >= bar)
      const top = order.sort((u, v) => p[v] - p[u]).slice(0, rule.top)
      const sum = top.reduce((s, e) => s + p[e], 0)
      chosen.push(...top)
      weights.push(...top.map((e) => (rule.normalize ? p[e] / (sum + 1e-20) : p[e] * rule.scale)))
    }
    return [...chosen, ...weights]
  }
  return {
    name: `route [${T} ${E}] ${what}`,
    run: async (on) => {
      const routing = on.route(on.write(scores), rule)
      return Float32Array.from([...(await on.read(routing.experts)), ...(await on.read(routing.weights))])
    },
    want,
  }
}

function expertsCase(T: number, D: number, F: number, E: number, K: number, dtype: DType): Case {
  const x = random([T, D])
  const bank = {
    gate: random([E, F, D], dtype),
    up: random([E, F, D], dtype),
    down: random([E, D, F], dtype),
  }
  const experts = zeros([T, K], 'i32')
  integers(experts).forEach((_, i, all) => (all[i] = (i * 7 + Math.floor(i / K)) % E))
  const weights = random([T, K])
  const want = (): number[] => {
    const [gate, up, down] = [rows(bank.gate), rows(bank.up), rows(bank.down)]
    return rows(x).flatMap((a, t) => {
      const y = new Array<number>(D).fill(0)
      for (let k = 0; k < K; k++) {
        const e = integers(experts)[t * K + k]
        const inner = Array.from(
          { length: F },
          (_, f) => silu(dot(a, gate[e * F + f])) * dot(a, up[e * F + f]),
        )
        for (let d = 0; d < D; d++) y[d] += floats(weights)[t * K + k] * dot(inner, down[e * D + d])
      }
      return y
    })
  }
  return {
    name: `experts [${T} ${D}] of ${K} in [${E} ${F} ${D}] ${dtype}`,
    integer: formats[dtype].block > 1,
    half: dtype === 'bf16',
    run: (on) => {
      const own = { gate: on.upload(bank.gate), up: on.upload(bank.up), down: on.upload(bank.down) }
      const routing = { experts: on.write(experts), weights: on.write(weights) }
      return on.read(on.experts(on.write(x), routing, own))
    },
    want,
  }
}

const greedy: RoutingRule = { top: 6, groups: 1, topGroups: 1, normalize: false, scale: 1 }

export const cases: readonly Case[] = [
  ...(['f32', 'f16', 'bf16'] as const).map((d) => linearCase(3, 17, 40, random([17, 40], d), d)),
  linearCase(1, 33, 576, random([33, 576], 'bf16'), 'bf16'),
  linearCase(2, 200, 300, fp8(200, 300), 'fp8 block'),
  ...quantized.map((d) => linearCase(3, 18, 512, random([18, 512], d), d)),
  ...quantized.map((d) => linearCase(13, 16, 256, random([16, 256], d), d)),
  expertsCase(5, 256, 256, 4, 2, 'q4_k'),
  expertsCase(5, 64, 96, 4, 3, 'q8_0'),
  expertsCase(20, 64, 32, 3, 2, 'q4_0'),
  embedCase('f32'),
  ...quantized.map((d) => embedCase(d, 256)),
  embedCase('bf16'),
  rmsNormCase(4, 96, 'bf16'),
  rmsNormCase(1, 7, 'f32'),
  ropeCase(5, 3, 16, 1),
  ropeCase(2, 1, 64, 1.25),
  ...rowwiseCases(),
  routeCase(7, 64, greedy, 'greedy'),
  routeCase(7, 160, { ...greedy, groups: 8, topGroups: 3, scale: 16 }, '3 of 8 groups, scaled'),
  routeCase(3, 8, { ...greedy, top: 2, normalize: true }, 'normalized'),
  expertsCase(5, 24, 16, 8, 3, 'bf16'),
  expertsCase(1, 33, 7, 4, 2, 'f32'),
]
