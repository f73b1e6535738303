// Tokens a second of a model through the engine: prompts of one size, then answers, one sequence at a time and several.
import { load } from '../src/index.ts'
import { type Line, median } from './report.ts'

export async function benchDecode(model: string, backend: string): Promise<Line[]> {
  const llm = await load(model, { backend, worker: false, enable_prefix_caching: false, max_model_len: 2048 })
  const lines: Line[] = []
  const ceiling = multiplyAdds()
  const perToken = activeMultiplies(llm.config)
  for (const size of [128, 512]) {
    const speeds: number[] = []
    for (let i = 0; i < 5; i++) {
      const { timings } = await llm.complete(prompt(size, i), { max_tokens: 1, ignore_eos: true }).result()
      speeds.push(timings.prompt_per_second)
    }
    lines.push(line(`prefill ${size}`, median(speeds), perToken, ceiling))
  }
  for (const batch of [1, 4, 16]) {
    const speeds: number[] = []
    for (let i = 0; i < 3; i++) {
      const options = { max_tokens: 65, ignore_eos: true, temperature: 0 }
      const results = await Promise.all(
        Array.from({ length: batch }, (_, b) => llm.complete(prompt(16, i * batch + b), options).result()),
      )
      speeds.push(results.reduce((sum, { timings }) => sum + timings.predicted_per_second, 0))
    }
    lines.push(line(`decode, ${batch} at once`, median(speeds), perToken, ceiling))
  }
  await llm.close()
  return lines
}

function line(name: string, speed: number, perToken: number, ceiling: number): Line {
  return {
    name,
    value: speed,
    unit: 'tok/s',
    share: {
      of: 'a plain in-cache loop in JavaScript',
      limit: ceiling / 1e9,
      unit: 'billion multiply-adds/s',
      share: (speed * perToken) / ceiling,
    },
  }
}

function prompt(size: number, seed: number): number[] {
  return Array.from({ length: size }, (_, i) => 10 + ((i * 7919 + seed * 104729) % 3000))
}

/** Multiply-adds of one generated token, attention scores left out. */
function activeMultiplies(config: Awaited<ReturnType<typeof load>>['config']): number {
  const c = config
  const heads = c.numAttentionHeads * (c.qkNopeHeadDim + c.qkRopeHeadDim)
  const query = c.qLoraRank === null ? c.hiddenSize * heads : c.qLoraRank * (c.hiddenSize + heads)
  const absorbed = c.numAttentionHeads * c.kvLoraRank * (c.qkNopeHeadDim + c.vHeadDim)
  const output = c.numAttentionHeads * c.vHeadDim * c.hiddenSize
  const attention = query + c.hiddenSize * (c.kvLoraRank + c.qkRopeHeadDim) + absorbed + output
  const experts = (c.numExpertsPerTok + (c.nSharedExperts ?? 0)) * 3 * c.hiddenSize * c.moeIntermediateSize
  const dense = 3 * c.hiddenSize * c.intermediateSize
  const moeLayers = c.numHiddenLayers - c.firstKDenseReplace
  return (
    c.numHiddenLayers * attention +
    moeLayers * experts +
    c.firstKDenseReplace * dense +
    c.vocabSize * c.hiddenSize
  )
}

/** Multiply-adds a second of the simplest loop over two short vectors: what JavaScript on this core can do. */
function multiplyAdds(): number {
  const a = new Float32Array(1024).fill(0.5)
  const b = new Float32Array(1024).fill(0.25)
  const rates: number[] = []
  let sink = 0
  for (let round = 0; round < 7; round++) {
    const start = performance.now()
    for (let repeat = 0; repeat < 20_000; repeat++) {
      let [s0, s1, s2, s3] = [0, 0, 0, 0]
      for (let i = 0; i < 1024; i += 4) {
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
      }
      sink += s0 + s1 + s2 + s3
    }
    rates.push((20_000 * 1024) / ((performance.now() - start) / 1000))
  }
  if (Number.isNaN(sink)) throw new Error('unreachable, but keeps the loop alive')
  return median(rates)
}
