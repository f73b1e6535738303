// The contract bound to any library that implements native/ops.h. Knows addresses and argument order; computes nothing.
// Activations live in an arena of the library's memory that a scope rewinds; weights are handles of the library.
import koffi from 'koffi'
import { byteLength, type DType } from '../tensor/dtype.ts'
import { CapacityError, KernelError, ShapeError } from '../tensor/error.ts'
import { decodeRow, dims, host, type Piece, piecesOf, size, type Tensor } from '../tensor/tensor.ts'
import { type Arena, createArena } from './arena.ts'
import type { Backend, PageShape, Pages } from './backend.ts'
import type { LatentFormat } from './latents.ts'

const abi = 2

/** The numbers of `enum latent_cache_format`. */
const cacheFormats: Readonly<Record<LatentFormat, number>> = { f32: 0, bf16: 2, q8: 64 }

/** The numbers of `enum latent_dtype`. */
const dtypes: Partial<Record<DType, number>> = {
  f32: 0,
  f16: 1,
  bf16: 2,
  f8_e4m3: 3,
  i32: 4,
  q8_0: 5,
  q4_0: 6,
  q4_1: 7,
  q5_0: 8,
  q5_1: 9,
  iq4_nl: 10,
  q2_k: 11,
  q3_k: 12,
  q4_k: 13,
  q5_k: 14,
  q6_k: 15,
  iq4_xs: 16,
}

export interface NativeOptions {
  /** 0: one for each core. */
  readonly threads?: number
  /** The most advanced instruction set to use; '' for the best there is. */
  readonly features?: string
  readonly pin?: boolean
}

type Call = (...args: readonly unknown[]) => number

/** Every function of ops.h that latent calls: what it returns and takes. Addresses travel as numbers. */
const prototypes = {
  latent_abi: 'int ()',
  latent_open: 'uintptr_t (int threads, const char *features, int pin)',
  latent_close: 'void (uintptr_t on)',
  latent_error: 'const char * (uintptr_t on)',
  latent_describe: 'const char * (uintptr_t on)',
  latent_ceiling: 'double (uintptr_t on, const char *what)',
  latent_alloc: 'uintptr_t (uintptr_t on, size_t bytes)',
  latent_free: 'void (uintptr_t on, uintptr_t memory)',
  latent_write: 'int (uintptr_t on, uintptr_t to, const void *host, size_t bytes)',
  latent_read: 'int (uintptr_t on, uintptr_t from, void *host, size_t bytes)',
  latent_upload:
    'uintptr_t (uintptr_t on, int dtype, int rank, const int64_t *shape, const void *data, const void *scales)',
  latent_borrow:
    'uintptr_t (uintptr_t on, int dtype, int rank, const int64_t *shape, const uint64_t *pieces, int count, const int *files, const int64_t *offsets, const void *scales)',
  latent_release: 'void (uintptr_t on, uintptr_t weight)',
  latent_embed: 'int (uintptr_t on, uintptr_t table, const int32_t *tokens, int T, uintptr_t y)',
  latent_linear: 'int (uintptr_t on, uintptr_t x, int T, uintptr_t w, uintptr_t y)',
  latent_rms_norm: 'int (uintptr_t on, uintptr_t x, int T, int D, uintptr_t gain, float eps, uintptr_t y)',
  latent_rope:
    'int (uintptr_t on, uintptr_t x, int T, int H, int R, const int32_t *positions, const double *frequencies, float factor, uintptr_t y)',
  latent_add: 'int (uintptr_t on, uintptr_t x, uintptr_t y, int64_t count)',
  latent_swiglu: 'int (uintptr_t on, uintptr_t gate, uintptr_t up, int64_t count, uintptr_t y)',
  latent_pick: 'int (uintptr_t on, uintptr_t x, int D, const int32_t *rows, int R, uintptr_t y)',
  latent_route:
    'int (uintptr_t on, uintptr_t scores, int T, int E, int top, int groups, int top_groups, int normalize, float scale, uintptr_t experts, uintptr_t weights)',
  latent_experts:
    'int (uintptr_t on, uintptr_t x, int T, uintptr_t experts, uintptr_t weights, int K, uintptr_t gate, uintptr_t up, uintptr_t down, uintptr_t y)',
  latent_cache_open:
    'uintptr_t (uintptr_t on, int layers, int pages, int page_size, int latent, int key, int format)',
  latent_cache_close: 'void (uintptr_t on, uintptr_t cache)',
  latent_store:
    'int (uintptr_t on, uintptr_t cache, int layer, const int32_t *slots, int T, uintptr_t latents, uintptr_t keys)',
  latent_attend:
    'int (uintptr_t on, uintptr_t q, uintptr_t q_rope, uintptr_t key_up, uintptr_t value_up, uintptr_t cache, int layer, const int32_t *starts, const int32_t *positions, const int32_t *tables, int runs, int table_width, float scale, uintptr_t y)',
} as const

type Library = { readonly [Name in keyof typeof prototypes]: Call }

function bind(path: string): Library {
  const library = koffi.load(path)
  const names = Object.keys(prototypes) as (keyof typeof prototypes)[]
  const bound = names.map((name) => {
    const [result, parameters] = prototypes[name].split(/ (?=\()/)
    return [name, library.func(`${result} ${name}${parameters}`)] as const
  })
  return Object.fromEntries(bound) as unknown as Library
}

/** Opens the library at `path`. Throws a KernelError when it is not one of ours or cannot run here. */
export function openNative(name: string, path: string, options: NativeOptions = {}): Backend {
  const lib = bind(path)
  if (lib.latent_abi() !== abi) {
    throw new KernelError(
      `${path} speaks version ${lib.latent_abi()} of native/ops.h, wanted ${abi}; build it again`,
    )
  }
  const { threads = 0, features = '', pin = false } = options
  const on = lib.latent_open(threads, features, pin ? 1 : 0)
  if (!on) {
    throw new KernelError(`the ${name} library cannot run with the features '${features}' on this machine`)
  }
  const arena = createArena(
    (bytes) => lib.latent_alloc(on, bytes),
    (memory) => lib.latent_free(on, memory),
  )
  return createBackend(name, lib, on, arena)
}

/** What a library says its machine can do at most, on so many threads: native/ops.h has the names. For benchmarks. */
export interface Ceilings {
  /** GB/s or billions of operations a second; 0 where the machine has not got it. */
  measure(what: 'read' | 'f32' | 'bf16' | 'int8' | 'amx-bf16' | 'amx-int8'): number
  close(): void
}

export function openCeilings(path: string, threads: number): Ceilings {
  const lib = bind(path)
  const on = lib.latent_open(threads, '', 0)
  return { measure: (what) => lib.latent_ceiling(on, what), close: () => void lib.latent_close(on) }
}

function createBackend(name: string, lib: Library, on: number, arena: Arena): Backend {
  const weights = new Map<number, Tensor | null>() // with the mapped file that they may still be read from
  const caches = new Set<number>()

  function check(failed: number): void {
    if (failed) throw new KernelError(`${name}: ${lib.latent_error(on)}`)
  }

  const make = (shape: readonly number[], dtype: DType = 'f32'): Tensor => ({
    dtype,
    shape,
    data: arena.take(byteLength(dtype, size(shape))),
  })

  function upload(tensor: Tensor): Tensor {
    const { dtype, shape, scales } = tensor
    if (shape.length === 1) return constant(tensor)
    const number = dtypes[dtype]
    if (number === undefined) throw new KernelError(`the ${name} backend does not take ${dtype} weights`)
    const sizes = BigInt64Array.from(shape, BigInt)
    const described = [on, number, shape.length, sizes] as const
    const factors = scales ? host(scales) : null
    const pieces = piecesOf(tensor)
    const handle = pieces
      ? lib.latent_borrow(...described, ...places(pieces), factors)
      : lib.latent_upload(...described, host(tensor), factors)
    if (!handle) throw new CapacityError(`${name}: ${lib.latent_error(on)}`)
    weights.set(handle, pieces && tensor)
    return { dtype, shape, data: handle }
  }

  /** A vector (a norm's gain): plain floats outside the arena. */
  function constant(tensor: Tensor): Tensor {
    const values = new Float32Array(tensor.shape[0])
    decodeRow(tensor, 0, values)
    const bytes = values.byteLength
    const data = lib.latent_alloc(on, bytes)
    check(lib.latent_write(on, data, values, bytes))
    return { dtype: 'f32', shape: tensor.shape, data }
  }

  function write(tensor: Tensor): Tensor {
    const copy = make(tensor.shape, tensor.dtype)
    check(lib.latent_write(on, at(copy), host(tensor), host(tensor).length))
    return copy
  }

  async function read(tensor: Tensor): Promise<Float32Array> {
    const values =
      tensor.dtype === 'i32' ? new Int32Array(size(tensor.shape)) : new Float32Array(size(tensor.shape))
    check(lib.latent_read(on, at(tensor), values, values.byteLength))
    return values instanceof Float32Array ? values : Float32Array.from(values)
  }

  function pages(shape: PageShape): Pages {
    const { layers, pages: count, pageSize, latent, key, dtype } = shape
    const data = lib.latent_cache_open(on, layers, count, pageSize, latent, key, cacheFormats[dtype])
    if (!data) throw new CapacityError(`${lib.latent_error(on)}; give a smaller cache_bytes or max_model_len`)
    caches.add(data)
    return { ...shape, data: { dtype: 'i32', shape: [], data } }
  }

  return {
    name,
    embed(table, tokens) {
      const { D } = dims('V D', table)
      const y = make([tokens.length, D])
      check(lib.latent_embed(on, at(table), tokens, tokens.length, at(y)))
      return y
    },
    linear(x, w) {
      const { T, N } = dims('T D | N D', x, w)
      const y = make([T, N])
      check(lib.latent_linear(on, at(x), T, at(w), at(y)))
      return y
    },
    rmsNorm(x, gain, eps) {
      const { T, D } = dims('T D | D', x, gain)
      const y = make([T, D])
      check(lib.latent_rms_norm(on, at(x), T, D, at(gain), eps, at(y)))
      return y
    },
    rope(x, positions, { frequencies, factor }) {
      const { T, H, R } = dims('T H R', x)
      if (T !== positions.length || R !== 2 * frequencies.length) {
        throw new ShapeError(
          `[${x.shape.join(' ')}] was given ${positions.length} positions, ${frequencies.length} frequencies`,
        )
      }
      const y = make([T, H, R])
      check(lib.latent_rope(on, at(x), T, H, R, positions, frequencies, factor, at(y)))
      return y
    },
    add(x, y) {
      dims('T D | T D', x, y)
      check(lib.latent_add(on, at(x), at(y), size(x.shape)))
    },
    swiglu(gate, up) {
      dims('T F | T F', gate, up)
      const y = make(gate.shape)
      check(lib.latent_swiglu(on, at(gate), at(up), size(gate.shape), at(y)))
      return y
    },
    pick(x, rows) {
      const { T, D } = dims('T D', x)
      const odd = rows.find((row) => row < 0 || row >= T)
      if (odd !== undefined) throw new ShapeError(`row ${odd} of ${T}`)
      const y = make([rows.length, D])
      check(lib.latent_pick(on, at(x), D, rows, rows.length, at(y)))
      return y
    },
    route(scores, { top, groups, topGroups, normalize, scale }) {
      const { T, E } = dims('T E', scores)
      const experts = make([T, top], 'i32')
      const weights = make([T, top])
      const flag = normalize ? 1 : 0
      check(
        lib.latent_route(on, at(scores), T, E, top, groups, topGroups, flag, scale, at(experts), at(weights)),
      )
      return { experts, weights }
    },
    experts(x, routing, { gate, up, down }) {
      const { T, D, K } = dims('T D | T K | E F D | E F D | E D F', x, routing.experts, gate, up, down)
      const y = make([T, D])
      const [chosen, shares] = [at(routing.experts), at(routing.weights)]
      check(lib.latent_experts(on, at(x), T, chosen, shares, K, at(gate), at(up), at(down), at(y)))
      return y
    },
    store(cache, layer, slots, latent, key) {
      const { T, C, R } = dims('T C | T R', latent, key)
      if (T !== slots.length || C !== cache.latent || R !== cache.key) {
        throw new ShapeError(
          `a cache of ${cache.latent} + ${cache.key} was given [${T} ${C}] and [${T} ${R}]`,
        )
      }
      check(lib.latent_store(on, at(cache.data), layer, slots, T, at(latent), at(key)))
    },
    attend(q, qRope, up, cache, layer, batch, scale) {
      const { T, H, B } = dims('T H A | T H R | H C A | H B C', q, qRope, up.key, up.value)
      const { starts, positions, tables, tableWidth } = batch
      const runs = starts.length - 1
      const y = make([T, H, B])
      const weights = [at(up.key), at(up.value)] as const
      check(
        lib.latent_attend(
          on,
          at(q),
          at(qRope),
          ...weights,
          at(cache.data),
          layer,
          starts,
          positions,
          tables,
          runs,
          tableWidth,
          scale,
          at(y),
        ),
      )
      return y
    },
    upload,
    write,
    empty: make,
    pages,
    read,
    free(tensor) {
      if (weights.delete(at(tensor))) lib.latent_release(on, at(tensor))
    },
    scope: (body) => arena.scope(body),
    close() {
      for (const handle of weights.keys()) lib.latent_release(on, handle)
      for (const cache of caches) lib.latent_cache_close(on, cache)
      weights.clear()
      caches.clear()
      arena.close()
      lib.latent_close(on)
    },
  }
}

/** Addresses, how many, descriptors and offsets, as latent_borrow takes them. */
const places = (pieces: readonly Piece[]) =>
  [
    BigUint64Array.from(pieces, ({ bytes }) => koffi.address(bytes)),
    pieces.length,
    Int32Array.from(pieces, ({ fd }) => fd),
    BigInt64Array.from(pieces, ({ offset }) => BigInt(offset)),
  ] as const

function at(tensor: Tensor): number {
  if (typeof tensor.data === 'number') return tensor.data
  throw new ShapeError('the tensor is in host memory; upload() weights and write() activations first')
}
