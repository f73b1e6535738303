// Cases of storing and attending, over every format of the latent cache.
import type { Backend, PageShape } from '../../src/backend/backend.ts'
import type { Batch } from '../../src/backend/batch.ts'
import { type LatentFormat, latentFormats } from '../../src/backend/latents.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { type Case, dot, random, rows } from './cases.ts'

interface AttendShape {
  /** [past, new] positions of each run: the past is stored first, then the new rows attend. */
  readonly runs: readonly (readonly [number, number])[]
  readonly H: number
  readonly A: number
  readonly B: number
  readonly C: number
  readonly R: number
  readonly pageSize: number
  readonly dtype?: DType
  /** Of the cache. */
  readonly kept?: LatentFormat
}

function attendCase({ runs, H, A, B, C, R, pageSize, dtype = 'f32', kept = 'f32' }: AttendShape): Case {
  const lengths = runs.map(([past, fresh]) => past + fresh)
  const latents = lengths.map((n) => random([n, C]))
  const keys = lengths.map((n) => random([n, R]))
  const fresh = runs.reduce((sum, [, n]) => sum + n, 0)
  const q = random([fresh, H, A])
  const qRope = random([fresh, H, R])
  const up = { key: random([H, C, A], dtype), value: random([H, B, C], dtype) }
  const width = Math.max(...lengths.map((n) => Math.ceil(n / pageSize)))
  const count = runs.length * width
  // run r's i-th page: scattered, so that neighbours in a sequence are not neighbours in memory
  const table = (r: number, i: number): number => (r + i * runs.length + 1) % count
  const slot = (r: number, p: number): number =>
    table(r, Math.floor(p / pageSize)) * pageSize + (p % pageSize)
  const shape: PageShape = { layers: 2, pages: count, pageSize, latent: C, key: R, dtype: kept }
  const batch = attendBatch(runs, slot, table, width)

  async function run(on: Backend): Promise<Float32Array> {
    const pages = on.pages(shape)
    for (let r = 0; r < runs.length; r++) {
      const slots = Int32Array.from({ length: lengths[r] }, (_, p) => slot(r, p))
      on.store(pages, 1, slots, on.write(latents[r]), on.write(keys[r]))
    }
    const own = { key: on.upload(up.key), value: on.upload(up.value) }
    return on.read(on.attend(on.write(q), on.write(qRope), own, pages, 1, batch, 0.1))
  }

  /** As the paper first writes it: keys and values of every position and head are formed. */
  function want(): number[] {
    const out: number[] = []
    const [queries, turned] = [rows(q), rows(qRope)]
    const [upKey, upValue] = [rows(up.key), rows(up.value)]
    let row = 0
    for (const [r, [past, n]] of runs.entries()) {
      const c = rows(latents[r]).map((row) => (kept === 'q8' ? inSteps(row) : row.map(narrow[kept])))
      const k = rows(keys[r]).map((row) => row.map(narrow[kept]))
      const key = (h: number, i: number): number[] =>
        Array.from({ length: A }, (_, a) => c[i].reduce((sum, v, j) => sum + v * upKey[h * C + j][a], 0))
      const value = (h: number, i: number): number[] =>
        Array.from({ length: B }, (_, b) => dot(c[i], upValue[h * B + b]))
      const all = Array.from({ length: H }, (_, h) => c.map((_, i) => ({ k: key(h, i), v: value(h, i) })))
      for (let t = past; t < past + n; t++, row++) {
        for (let h = 0; h < H; h++) {
          const [a, b] = [queries[row * H + h], turned[row * H + h]]
          const seen = all[h].slice(0, t + 1)
          const p = seen.map((at, i) => Math.exp(0.1 * (dot(a, at.k) + dot(b, k[i]))))
          const sum = p.reduce((u, v) => u + v, 0)
          for (let d = 0; d < B; d++) out.push(seen.reduce((u, at, i) => u + (p[i] / sum) * at.v[d], 0))
        }
      }
    }
    return out
  }
  return {
    half: dtype === 'bf16',
    name: `attend ${JSON.stringify({ runs, H, A, B, C, R, pageSize, dtype, kept })}`,
    run,
    want,
  }
}

const word = new Uint32Array(1)
const asFloat = new Float32Array(word.buffer)

function bf16(value: number): number {
  asFloat[0] = value
  const half = word[0] & 0xffff
  const up = half > 0x8000 || (half === 0x8000 && (word[0] & 0x10000) !== 0)
  word[0] = (word[0] & 0xffff0000) + (up ? 0x10000 : 0)
  return asFloat[0]
}

/** What a cache keeps of a rope key's number, and of a latent's too where it is not q8. */
const narrow: Readonly<Record<LatentFormat, (value: number) => number>> = {
  f32: (value) => value,
  bf16,
  q8: bf16,
}

/** 64 numbers as multiples, -127 to 127, of a step that is the largest of them / 127 in bf16. */
function inSteps(row: Float64Array): Float64Array {
  return row.map((value, i) => {
    const first = i - (i % 64)
    const most = Math.max(...Array.from(row.subarray(first, first + 64), Math.abs))
    const step = bf16(most / 127)
    return most === 0 ? 0 : Math.round(value / step) * step
  })
}

function attendBatch(
  runs: readonly (readonly [number, number])[],
  slot: (run: number, position: number) => number,
  table: (run: number, page: number) => number,
  tableWidth: number,
): Batch {
  const where = runs.flatMap(([past, n], r) => Array.from({ length: n }, (_, i) => ({ r, p: past + i })))
  let start = 0
  const starts = runs.map(([, n]) => (start += n) - n)
  return {
    tokens: new Int32Array(where.length),
    positions: Int32Array.from(where, ({ p }) => p),
    slots: Int32Array.from(where, ({ r, p }) => slot(r, p)),
    starts: Int32Array.from([...starts, where.length]),
    tables: Int32Array.from({ length: runs.length * tableWidth }, (_, i) =>
      table(Math.floor(i / tableWidth), i % tableWidth),
    ),
    tableWidth,
    wanted: new Int32Array(),
  }
}

const small = { H: 3, A: 8, B: 12, C: 16, R: 8, pageSize: 4 }
const wide = { H: 2, A: 16, B: 24, C: 70, R: 8, pageSize: 64 }

export const attendCases: readonly Case[] = [
  attendCase({ runs: [[0, 1]], H: 2, A: 8, B: 4, C: 8, R: 4, pageSize: 4 }),
  attendCase({
    runs: [
      [0, 9],
      [13, 1],
      [3, 4],
    ],
    H: 3,
    A: 8,
    B: 12,
    C: 16,
    R: 8,
    pageSize: 4,
    dtype: 'bf16',
  }),
  attendCase({ runs: [[70, 2]], H: 4, A: 16, B: 16, C: 64, R: 16, pageSize: 64 }),
  attendCase({
    runs: [
      [600, 1],
      [0, 2],
    ],
    H: 2,
    A: 16,
    B: 16,
    C: 32,
    R: 16,
    pageSize: 64,
    dtype: 'bf16',
  }),
  attendCase({
    runs: [
      [40, 200],
      [3, 1],
    ],
    H: 2,
    A: 16,
    B: 24,
    C: 32,
    R: 8,
    pageSize: 64,
    dtype: 'bf16',
  }),
  // every format of the cache: few rows, several runs, a latent that is no whole number of blocks, a long run
  ...latentFormats.flatMap((kept) => [
    attendCase({ ...small, runs: [[0, 1]], kept }),
    attendCase({
      ...small,
      runs: [
        [9, 3],
        [0, 5],
        [17, 1],
        [2, 1],
      ],
      kept,
    }),
    attendCase({ ...wide, runs: [[300, 9]], kept }),
    attendCase({
      ...wide,
      runs: [
        [5, 1],
        [30, 190],
        [520, 1],
      ],
      kept,
    }),
  ]),
]
