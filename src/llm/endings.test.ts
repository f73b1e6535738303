// What a text shows of its end, and what is said of a prompt, against plain restatements over random requests.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Engine, FinishReason } from '../engine/engine.ts'
import { openEngine } from '../engine/open.ts'
import { samplingParams } from '../engine/sampling.ts'
import { createDice, type Dice } from '../engine/workload.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import { createCompletion } from './completion.ts'
import { readOptions } from './request.ts'
import { score } from './score.ts'

const demo = fileURLToPath(new URL('../../../models/demo', import.meta.url))
const tiny = fileURLToPath(new URL('../../../test/data/golden/v2-tiny', import.meta.url))
const tokenizer = openTokenizer(demo)
const eos = tokenizer.eos ?? 1

/** An engine that says what it is told. */
interface Script {
  readonly tokens: readonly number[]
  readonly finish: FinishReason
  readonly stopToken: number | null
}

function speaking({ tokens, finish, stopToken }: Script): Engine {
  const generate: Engine['generate'] = async function* () {
    for (const [i, token] of tokens.entries()) {
      const ends = i === tokens.length - 1
      const choice = { token, logprob: null, top: null }
      const rest = { finish: ends ? finish : null, stopToken: ends ? stopToken : null, prompt: null }
      yield { index: 0, choice, ...rest }
    }
  }
  return { generate } as Engine
}

interface Rules {
  readonly stop: readonly string[]
  readonly include_stop_str_in_output: boolean
  readonly skip_special_tokens: boolean
  readonly min_tokens: number
}

/** Where, in letters, a stop string is complete first; of several that end there, the longest. */
function firstStop(text: string, stops: readonly string[]) {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop))
    if (complete.length > 0) return { end, stop: complete.reduce((a, b) => (b.length > a.length ? b : a)) }
  }
  return null
}

/** Token by token: the text so far, decoded anew each time, and whether a stop string is in what follows min_tokens. */
function restated({ tokens, finish, stopToken }: Script, rules: Rules) {
  const include = rules.include_stop_str_in_output
  const shownOf = (count: number): readonly number[] => {
    const given = tokens.slice(0, count)
    if (count < tokens.length || finish !== 'stop') return given
    const shown = stopToken === null ? !rules.skip_special_tokens : include
    return shown ? given : given.slice(0, -1)
  }
  const textOf = (count: number): string => {
    const text = tokenizer.decode(shownOf(count), { skipSpecialTokens: rules.skip_special_tokens })
    return count < tokens.length ? text.replace(/\uFFFD+$/, '') : text // half a letter is not said yet
  }
  const free = textOf(Math.min(rules.min_tokens, tokens.length))
  for (let count = rules.min_tokens + 1; count <= tokens.length; count++) {
    const found = firstStop(textOf(count).slice(free.length), rules.stop)
    if (found === null) continue
    const end = free.length + found.end - (include ? 0 : found.stop.length)
    const text = textOf(count).slice(0, end)
    return { text, token_ids: tokens.slice(0, count), finish_reason: 'stop', stop_reason: found.stop }
  }
  return { text: textOf(tokens.length), token_ids: tokens, finish_reason: finish, stop_reason: stopToken }
}

const words = ['a', 'b', 'ab', ' a', 'ba', '\n\n', 'é', '中文', '👍🏽', ' the', 'User:', '.']

function randomScript(dice: Dice): Script {
  const text = Array.from({ length: dice.from(1, 14) }, () => dice.of(words)).join('')
  const tokens = tokenizer.encode(text)
  if (dice.chance(0.2)) tokens.splice(dice.from(0, tokens.length), 0, eos) // as under ignore_eos
  const ending = dice.of(['length', 'stop', 'eos'] as const)
  if (ending === 'length') return { tokens, finish: 'length', stopToken: null }
  if (ending === 'eos') return { tokens: [...tokens, eos], finish: 'stop', stopToken: null }
  return { tokens, finish: 'stop', stopToken: tokens[tokens.length - 1] }
}

test('stop strings and stop tokens are in the text if include_stop_str_in_output says so, and end it', async () => {
  const met = { stopString: 0, stopToken: 0, eos: 0, length: 0, shorter: 0, late: 0 }
  for (let round = 0; round < 3000; round++) {
    const dice = createDice(round)
    const script = randomScript(dice)
    const text = tokenizer.decode(script.tokens)
    const rules = {
      stop: Array.from({ length: dice.from(0, 3) }, () => {
        const letters = dice.chance(0.7) ? [...text] : [...'abUser:. ']
        const start = dice.from(0, letters.length - 1)
        return letters.slice(start, start + dice.from(1, 4)).join('')
      }),
      include_stop_str_in_output: dice.chance(0.5),
      skip_special_tokens: dice.chance(0.5),
      min_tokens: dice.chance(0.3) ? dice.from(0, script.tokens.length) : 0,
    }
    const completion = createCompletion({
      vocabulary: () => new SharedArrayBuffer(0),
      engine: speaking(script),
      tokenizer,
      prompt: () => [1],
      options: readOptions({ ...rules }, tokenizer, tokenizer.size, {}),
      signal: undefined,
      lead: '',
    })
    let streamed = ''
    for await (const chunk of completion) streamed += chunk.text
    const { text: whole, token_ids, finish_reason, stop_reason } = await completion.result()
    const wanted = restated(script, rules)
    const shown = JSON.stringify({ round, text, script, rules })
    assert.deepEqual({ text: whole, token_ids, finish_reason, stop_reason }, wanted, shown)
    assert.equal(streamed, whole, shown)
    if (typeof stop_reason === 'string') met.stopString++
    else met[stop_reason !== null ? 'stopToken' : finish_reason === 'stop' ? 'eos' : 'length']++
    if (token_ids.length < script.tokens.length) met.shorter++
    if (rules.min_tokens > 0 && typeof stop_reason === 'string') met.late++
  }
  for (const [what, times] of Object.entries(met)) assert.ok(times >= 50, `${what}: only ${times}`)
})

/** log(exp(x) / sum(exp(...))), and the likeliest by sorting. */
function plainly(logits: readonly number[], token: number, top: number) {
  const sum = logits.reduce((all, logit) => all + Math.exp(logit), 0)
  const logprob = (id: number): number => Math.log(Math.exp(logits[id]) / sum)
  const ranked = logits.map((_, id) => id).sort((a, b) => logits[b] - logits[a] || a - b)
  return {
    token,
    logprob: logprob(token),
    top: ranked.slice(0, top).map((id) => ({ token: id, logprob: logprob(id) })),
  }
}

test("prompt_logprobs are `score`'s numbers and the log-softmax of its logits, however prompts are cut", async () => {
  const sizes = { max_model_len: 128, cache_bytes: 2 ** 20, max_num_batched_tokens: 7 }
  const engine = await openEngine(tiny, { backend: 'reference', ...sizes })
  const size = 512
  for (let round = 0; round < 12; round++) {
    const dice = createDice(round)
    const prompt = Array.from({ length: dice.from(1, 90) }, () => dice.from(2, round % 2 ? 5 : size - 1))
    const top = dice.of([0, 1, 5])
    const params = samplingParams({ prompt_logprobs: top, max_tokens: dice.from(0, 2) }, { size })
    const scored = await score(tiny, prompt, { backend: 'reference', top, logits: true })
    const reports: unknown[] = []
    for await (const { prompt: report } of engine.generate({ prompt_token_ids: prompt, params, n: 2 })) {
      if (report !== null) reports.push(report.logprobs)
    }
    assert.deepEqual(reports, [scored.tokens, scored.tokens])
    for (const [i, choice] of scored.tokens.entries()) {
      if (choice === null) assert.equal(i, 0)
      else {
        const row = [...(scored.logits ?? [])].slice((i - 1) * size, i * size)
        const wanted = plainly(row, prompt[i], top)
        const numbers = (of: typeof wanted) => [of.logprob, ...of.top.map(({ logprob }) => logprob)]
        const given = {
          token: choice.token,
          logprob: choice.logprob ?? Number.NaN,
          top: [...(choice.top ?? [])],
        }
        assert.deepEqual(
          [given.token, given.top.map(({ token }) => token)],
          [prompt[i], wanted.top.map(({ token }) => token)],
        )
        for (const [j, number] of numbers(given).entries())
          assert.ok(Math.abs(number - numbers(wanted)[j]) < 1e-9)
      }
    }
  }
  await engine.close()
})
