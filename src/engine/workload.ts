// Random workloads for the property that guards the engine. Used by tests alone; not in the published package.
import type { Backend } from '../backend/backend.ts'
import type { LatentFormat } from '../backend/latents.ts'
import type { Engine, EngineRequest } from './engine.ts'
import { createEngine } from './local.ts'
import type { OpenModel } from './open.ts'
import { uniform } from './random.ts'
import { samplingParams } from './sampling.ts'

/** A deterministic stream of choices. */
export interface Dice {
  /** A whole number in [low, high]. */
  from(low: number, high: number): number
  chance(p: number): boolean
  of<Item>(items: readonly Item[]): Item
}

export function createDice(seed: number): Dice {
  let drawn = 0
  const roll = (): number => uniform(seed, drawn++)
  return {
    from: (low, high) => low + Math.floor(roll() * (high - low + 1)),
    chance: (p) => roll() < p,
    of: (items) => items[Math.floor(roll() * items.length)],
  }
}

export interface Workload {
  readonly pageSize: number
  readonly pages: number
  readonly max_num_seqs: number
  readonly max_num_batched_tokens: number
  readonly prefixCaching: boolean
  readonly jobs: readonly Job[]
}

export interface Job {
  readonly request: EngineRequest
  /** Leave the loop after this many events; null stays to the end. */
  readonly leaveAfter: number | null
  /** Turns of the event loop to wait before asking. */
  readonly delay: number
}

export function randomWorkload(seed: number, vocabSize: number): Workload {
  const dice = createDice(seed)
  const pageSize = dice.of([2, 4, 8])
  const longest = 40
  const spread = dice.of([4, vocabSize]) // few different ids: equal pages after different prefixes
  const stems = Array.from({ length: 2 }, () => ids(dice, dice.from(0, 24), spread))
  const jobs = Array.from({ length: dice.from(1, 8) }, () => randomJob(dice, stems, spread, vocabSize))
  const least = Math.ceil(longest / pageSize)
  return {
    pageSize,
    pages: dice.chance(0.6) ? dice.from(least, least * 2) : least * 8, // often too few: preemption
    max_num_seqs: dice.from(1, 6),
    max_num_batched_tokens: dice.of([1, 3, 7, 16, 64]),
    prefixCaching: dice.chance(0.8),
    jobs,
  }
}

function randomJob(dice: Dice, stems: readonly number[][], spread: number, vocabSize: number): Job {
  const prompt = [...dice.of(stems), ...ids(dice, dice.from(1, 6), spread)]
  const fields = {
    temperature: dice.of([0, 0.7, 1.5]),
    top_p: dice.of([1, 0.9]),
    repetition_penalty: dice.of([1, 1.2]),
    seed: dice.from(0, 1000),
    max_tokens: dice.from(0, 10),
    logprobs: dice.of([null, 2]),
    prompt_logprobs: dice.chance(0.2) ? 1 : null,
    ignore_eos: dice.chance(0.5),
  }
  return {
    request: {
      prompt_token_ids: prompt,
      params: samplingParams(fields, { size: vocabSize }),
      n: dice.chance(0.2) ? dice.from(2, 3) : 1,
      priority: dice.of([0, 0, 0, 1]),
      cache_salt: dice.of(['', '', '1']),
    },
    leaveAfter: dice.chance(0.15) ? dice.from(1, 3) : null,
    delay: dice.from(0, 6),
  }
}

function ids(dice: Dice, length: number, spread: number): number[] {
  return Array.from({ length }, () => dice.from(2, spread - 1))
}

/** An engine over `opened` of just these sizes. Closing it closes the backend: give each its own, or none. */
export function engineFor(
  opened: OpenModel,
  backend: Backend,
  workload: Workload,
  format: LatentFormat = 'f32',
): Engine {
  const { pageSize, pages: count, max_num_seqs, max_num_batched_tokens, prefixCaching } = workload
  const pages = backend.pages({ ...opened.pageShape(count, format), pageSize })
  return createEngine({
    model: opened.model,
    backend,
    pages,
    limits: {
      max_model_len: 40,
      max_num_seqs,
      max_num_batched_tokens,
      cache_bytes: 0,
      cache_tokens: count * pageSize,
    },
    eosTokenIds: opened.config.eosTokenIds,
    vocabSize: opened.config.vocabSize,
    tokens: opened.config.vocabSize,
    prefixCaching,
  })
}

/** What one answer came to: all that must not depend on who else was served. */
export interface Outcome {
  readonly tokens: number[]
  readonly logprobs: (number | null)[]
  readonly finish: string | null
  readonly promptLogprobs: (number | null)[] | null
}

/** Runs jobs together; the outcomes of each job's n answers. */
export function runTogether(engine: Engine, jobs: readonly Job[]): Promise<Outcome[][]> {
  return Promise.all(jobs.map((job) => runJob(engine, job)))
}

async function runJob(engine: Engine, { request, leaveAfter, delay }: Job): Promise<Outcome[]> {
  for (let i = 0; i < delay; i++) await new Promise(setImmediate)
  const outcomes = Array.from({ length: request.n ?? 1 }, () => ({
    tokens: [] as number[],
    logprobs: [] as (number | null)[],
    finish: null as string | null,
    promptLogprobs: null as (number | null)[] | null,
  }))
  let events = 0
  for await (const { index, choice, finish, prompt } of engine.generate(request)) {
    const outcome = outcomes[index]
    if (choice) {
      outcome.tokens.push(choice.token)
      outcome.logprobs.push(choice.logprob)
    }
    outcome.finish = finish
    if (prompt?.logprobs) outcome.promptLogprobs = prompt.logprobs.map((scored) => scored?.logprob ?? null)
    if (++events === leaveAfter) break
  }
  return outcomes
}
