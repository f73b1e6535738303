// Which format each tensor of a GGUF file gets: the mixtures that people know by name (q4_k_m, ...), and what stands in
// where a row is not a whole number of blocks. Knows names and widths, not numbers.
// Source: llama.cpp's llama-quant.cpp (more bits for ffn_down and values in a quarter of the layers, output in q6_k).
import { type DType, formats } from '../tensor/dtype.ts'

interface Mixture {
  readonly base: DType
  /** For what suffers most, in the layers that matter most. */
  readonly more: DType
  /** general.file_type, as llama.cpp numbers the mixtures. */
  readonly fileType: number
}

export const mixtures = {
  f32: { base: 'f32', more: 'f32', fileType: 0 },
  f16: { base: 'f16', more: 'f16', fileType: 1 },
  bf16: { base: 'bf16', more: 'bf16', fileType: 32 },
  q8_0: { base: 'q8_0', more: 'q8_0', fileType: 7 },
  q6_k: { base: 'q6_k', more: 'q6_k', fileType: 18 },
  q5_k_m: { base: 'q5_k', more: 'q6_k', fileType: 17 },
  q4_k_m: { base: 'q4_k', more: 'q6_k', fileType: 15 },
  q4_0: { base: 'q4_0', more: 'q4_0', fileType: 2 },
} as const satisfies Readonly<Record<string, Mixture>>

export type GgufType = keyof typeof mixtures

/** The format of the tensor `name` (as GGUF calls it), whose rows are `width` long, in a model of `layers` layers. */
export function formatOf(
  type: GgufType,
  name: string,
  shape: readonly number[],
  layers: number,
  tied: boolean,
): DType {
  const { base, more }: Mixture = mixtures[type]
  // a norm has one row; a wrong expert costs more than its router weighs
  if (shape.length < 2 || name.endsWith('ffn_gate_inp.weight')) return 'f32'
  if (formats[base].block === 1) return base
  const width = shape[shape.length - 1]
  if (name === 'output.weight' || (tied && name === 'token_embd.weight')) {
    const whole = width % formats[base].block === 0
    return fitting(base === 'q8_0' || !whole ? 'q8_0' : 'q6_k', width)
  }
  const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1)
  // llama.cpp means values too, but knows them by the name of the matrix that held keys and values before they were split
  const sensitive = /\.(ffn_down\w*|attn_v_b)\.weight$/.test(name) && deservesMore(layer, layers)
  return fitting(sensitive ? more : base, width)
}

/** The first eighth of the layers, the last one, and every third between. */
function deservesMore(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8)
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2
}

const standIns: Readonly<Partial<Record<DType, DType>>> = { q4_k: 'q5_0', q5_k: 'q5_1', q6_k: 'q8_0' }

/** The format itself, or the next larger one whose blocks a row of this width can be cut into. */
function fitting(dtype: DType, width: number): DType {
  if (width % formats[dtype].block === 0) return dtype
  const other = standIns[dtype]
  return other !== undefined && width % formats[other].block === 0 ? other : 'f16'
}
