// What a token costs by the sizes of a file's tensors: bytes that must be read to write one, operations to read one.
import { openParts } from '../src/checkpoint/ggufparts.ts'
import { byteLength } from '../src/tensor/dtype.ts'
import { size } from '../src/tensor/tensor.ts'

export interface Touched {
  /** Bytes of one step that writes a token to each of `batch` sequences of `context` tokens. */
  stepBytes(batch: number, context: number): number
  /** Operations of one prompt token, a multiply-add being two; attention over what is before it left out. */
  readonly promptOperations: number
}

export function touched(file: string): Touched {
  const { metadata, entries } = openParts(file)
  const number = (key: string): number => Number(metadata.get(`deepseek2.${key}`))
  const [experts, used] = [number('expert_count'), number('expert_used_count')]
  const tied = !entries.some(({ name }) => name === 'output.weight')
  const sum = { always: 0, routed: 0, multiplies: 0 }
  for (const { name, shape, dtype } of entries) {
    const bytes = byteLength(dtype, size(shape))
    const routed = /_exps\./.test(name)
    const table = name === 'token_embd.weight' // one row of it is read, unless it is the head too
    if (routed) sum.routed += bytes
    else if (!table || tied) sum.always += bytes
    const headOnly = table || name === 'output.weight' // computed for a prompt's last token alone
    if (shape.length > 1 && !headOnly) sum.multiplies += size(shape) * (routed ? used / experts : 1)
  }
  const latent = number('attention.kv_lora_rank') + number('rope.dimension_count')
  const cached = number('block_count') * latent * 2 // bf16, as the runner asks for
  return {
    stepBytes: (batch, context) => {
      const met = 1 - (1 - used / experts) ** batch // the part of the experts that somebody in the batch wants
      return sum.always + sum.routed * met + batch * context * cached
    },
    promptOperations: 2 * sum.multiplies,
  }
}
