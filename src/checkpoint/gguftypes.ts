// The numbers by which a GGUF file names its value types and tensor formats.
// Source: the GGUF specification and ggml.h of the ggml project. Knows no bytes.
import type { DType } from '../tensor/dtype.ts'

export type ScalarType =
  | ('u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'u64' | 'i64')
  | ('f32' | 'f64' | 'bool' | 'string')
export type ValueType = ScalarType | 'array'

/** A value type by its number. */
export const valueTypes: readonly ValueType[] = [
  ...(['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'f32', 'bool', 'string', 'array'] as const),
  ...(['u64', 'i64', 'f64'] as const),
]

/** Bytes of one value; of strings and arrays, of their length field alone. */
export const valueBytes: Readonly<Record<ValueType, number>> = {
  ...{ u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8 },
  ...{ string: 8, array: 12 },
}

/** What metadata holds: a 64-bit number that a double cannot hold is a bigint. */
export type Scalar = string | number | bigint | boolean

/** Our formats by their ggml numbers. */
export const tensorTypes: ReadonlyMap<number, DType> = new Map<number, DType>([
  [0, 'f32'],
  [1, 'f16'],
  [2, 'q4_0'],
  [3, 'q4_1'],
  [6, 'q5_0'],
  [7, 'q5_1'],
  [8, 'q8_0'],
  [10, 'q2_k'],
  [11, 'q3_k'],
  [12, 'q4_k'],
  [13, 'q5_k'],
  [14, 'q6_k'],
  [20, 'iq4_nl'],
  [23, 'iq4_xs'],
  [26, 'i32'],
  [30, 'bf16'],
])

/** Formats that exist and are not read here, so that a refusal can name them. */
const strangers: Readonly<Record<number, string>> = {
  ...{ 4: 'Q4_2', 5: 'Q4_3', 9: 'Q8_1', 15: 'Q8_K', 16: 'IQ2_XXS', 17: 'IQ2_XS', 18: 'IQ3_XXS', 19: 'IQ1_S' },
  ...{ 21: 'IQ3_S', 22: 'IQ2_S', 24: 'I8', 25: 'I16', 27: 'I64', 28: 'F64', 29: 'IQ1_M' },
  ...{ 31: 'Q4_0_4_4', 32: 'Q4_0_4_8', 33: 'Q4_0_8_8', 34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4', 40: 'NVFP4' },
}

export function tensorTypeName(type: number): string {
  return strangers[type] ?? `number ${type}, which is unknown here`
}

/** The ggml number of a format, or null where ggml has none (fp8). */
export function tensorTypeOf(dtype: DType): number | null {
  for (const [type, known] of tensorTypes) if (known === dtype) return type
  return null
}
