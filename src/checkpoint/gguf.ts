// A GGUF file as if it were a folder of Hugging Face: the same tensor names and shapes, the same JSON files. Nothing
// above learns that there was no folder. Knows what llama.cpp's converter did to a checkpoint, and undoes the naming.
import { checkArchitecture, ggufConfig, ggufGeneration } from './ggufconfig.ts'
import { fromGgufName } from './ggufnames.ts'
import { openParts } from './ggufparts.ts'
import { ggufTokenizer, ggufTokenizerConfig } from './ggufvocab.ts'
import type { Entry } from './header.ts'

/** Told by its name, because a model is named by a path before anybody opens it. */
export function isGguf(path: string): boolean {
  return /\.gguf$/i.test(path)
}

export interface GgufTensors {
  /** Where the files are that the tensors name. */
  readonly folder: string
  readonly tensors: ReadonlyMap<string, Entry & { readonly file: string }>
}

/** The tensors of a model, under the names of Hugging Face. Throws one CheckpointError that lists what is wrong. */
export function listGguf(path: string): GgufTensors {
  const parts = openParts(path)
  checkArchitecture(parts)
  const heads = parts.metadata.get('deepseek2.attention.head_count')
  const tensors = new Map<string, Entry & { readonly file: string }>()
  for (const entry of parts.entries) {
    // frequencies that some converters precompute; RoPE is computed from the config
    if (entry.name === 'rope_freqs.weight') continue
    const name = fromGgufName(entry.name)
    tensors.set(name, { ...entry, name, shape: perHead(name, entry.shape, Number(heads)) })
  }
  // ik_llama.cpp keeps the fused matrix beside its two halves
  for (const name of tensors.keys()) {
    const half = name.replace('.kv_b_proj.', '.k_b_proj.')
    if (half !== name && tensors.has(half)) tensors.delete(name)
  }
  return { folder: parts.folder, tensors }
}

/** ik_llama.cpp writes the halves of kv_b as matrices, llama.cpp a matrix a head: [H*C A] is [H C A]. */
function perHead(name: string, shape: readonly number[], heads: number): readonly number[] {
  if (shape.length !== 2 || !/\.self_attn\.[kv]_b_proj\.weight$/.test(name)) return shape
  return shape[0] % heads === 0 ? [heads, shape[0] / heads, shape[1]] : shape
}

/** What a file of this name would say if the model were a folder; null where there would be none. */
export function readGgufJson(path: string, name: string): Record<string, unknown> | null {
  if (name === 'config.json') return ggufConfig(openParts(path))
  if (name === 'generation_config.json') return ggufGeneration(openParts(path))
  if (name === 'tokenizer.json') return ggufTokenizer(openParts(path))
  if (name === 'tokenizer_config.json') return ggufTokenizerConfig(openParts(path))
  return null
}
