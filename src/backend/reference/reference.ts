// The oracle: every operation of the contract as plain loops over host memory, float64 sums, no tricks.
// What it computes is what latent means; every other backend is judged by it.
import { CapacityError } from '../../tensor/error.ts'
import { floats, host, integers, type Tensor, toF32, zeros } from '../../tensor/tensor.ts'
import type { Backend, PageShape, Pages } from '../backend.ts'
import { attend, pagesByteLength, store } from './attend.ts'
import { experts, route } from './experts.ts'
import { linear } from './linear.ts'
import { add, embed, pick, rmsNorm, rope, swiglu } from './rows.ts'

/** Matrices up to this many bytes are kept as f32, so that they are not decoded anew in every step. */
const widened = 2 ** 24

export function openReference(): Backend {
  return {
    name: 'reference',
    embed,
    linear,
    rmsNorm,
    rope,
    add,
    swiglu,
    pick,
    route,
    experts,
    store,
    attend,
    upload: (tensor) => (host(tensor).length <= widened ? toF32(tensor) : { ...tensor, data: host(tensor) }),
    write: (tensor) => ({ ...tensor, data: host(tensor).slice() }),
    empty: (shape, dtype) => zeros(shape, dtype),
    pages: allocate,
    read: async (tensor: Tensor) =>
      tensor.dtype === 'i32' ? Float32Array.from(integers(tensor)) : floats(tensor).slice(),
    free: () => {}, // the garbage collector owns host memory
    scope: (body) => body(),
    close: () => {},
  }
}

function allocate(shape: PageShape): Pages {
  const bytes = pagesByteLength(shape)
  try {
    return { ...shape, data: zeros([Math.ceil(bytes / 4)], 'i32') } // room and no more: the format is in the shape
  } catch (cause) {
    throw new CapacityError(
      `no room for a latent cache of ${bytes} bytes; give a smaller cache_bytes or max_model_len`,
      { cause },
    )
  }
}
