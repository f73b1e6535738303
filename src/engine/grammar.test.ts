// Answers held to grammars: by themselves, beside others, when their thread dies, when nobody waits any more.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { RequestError } from '../tensor/error.ts'
import type { Engine, EngineRequest, TokenEvent } from './engine.ts'
import { createGrammars } from './grammar.ts'
import type { GrammarRequest } from './masking.ts'
import { openModel } from './open.ts'
import { type SamplingFields, samplingParams } from './sampling.ts'
import { createDice, type Dice, engineFor } from './workload.ts'

const tiny = fileURLToPath(new URL('../../../test/data/golden/v2-tiny/', import.meta.url))
const opened = await openModel(tiny, { backend: 'reference' })
const { vocabSize, eosTokenIds } = opened.config

/** Tokens of one to three letters; id 2 is a control token. Only ASCII: those letters stand for themselves. */
const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789"{}[]:,.- _+ABC'.replace(' ', '')
const spelled = Array.from({ length: vocabSize }, (_, id) => {
  if (id === 2) return '<c>'
  const at = id - 3
  if (at < 0) return ''
  if (at < alphabet.length) return alphabet[at]
  return (
    alphabet[at % alphabet.length] +
    alphabet[(at * 7) % alphabet.length] +
    (at % 3 === 0 ? alphabet[at % 11] : '')
  )
})
const vocabulary = pack()
const sizes = { pageSize: 4, max_num_batched_tokens: 24, jobs: [], prefixCaching: true }
const roomy = engineFor(opened, opened.backend, { ...sizes, pages: 64, max_num_seqs: 4 })
const tight = engineFor(opened, opened.backend, { ...sizes, pages: 30, max_num_seqs: 16 })
after(async () => {
  await tight.close()
  await roomy.close()
})

function pack(): SharedArrayBuffer {
  const letters = Array.from({ length: 256 }, (_, byte) =>
    byte > 32 && byte < 127 ? String.fromCharCode(byte) : String.fromCharCode(0x100 + byte),
  )
  const json = JSON.stringify({ letters, tokens: spelled, controls: [{ id: 2, content: '<c>' }] })
  const bytes = new TextEncoder().encode(json)
  const shared = new SharedArrayBuffer(bytes.length)
  new Uint8Array(shared).set(bytes)
  return shared
}

function grammar(outputs: object): GrammarRequest {
  return { outputs: JSON.stringify(outputs), lead: '', vocabulary }
}

function request(outputs: object | null, fields: SamplingFields = {}, n = 1): EngineRequest {
  return {
    prompt_token_ids: [5, 6, 7, 8, 9],
    params: samplingParams({ seed: 1, max_tokens: 20, ...fields }, { size: vocabSize }),
    n,
    grammar: outputs && grammar(outputs),
  }
}

interface Ended {
  readonly ids: number[]
  readonly text: string
  readonly finish: string | null
}

async function answers(engine: Engine, asked: EngineRequest, signal?: AbortSignal): Promise<Ended[]> {
  const events: TokenEvent[] = []
  for await (const event of engine.generate(asked, signal)) events.push(event)
  return Array.from({ length: asked.n ?? 1 }, (_, index) => {
    const own = events.filter((event) => event.index === index)
    const ids = own.flatMap(({ choice }) => (choice ? [choice.token] : []))
    const text = ids
      .filter((id) => !eosTokenIds.includes(id))
      .map((id) => spelled[id])
      .join('')
    return { ids, text, finish: own.at(-1)?.finish ?? null }
  })
}

function randomOutputs(dice: Dice): object | null {
  return dice.of([
    null,
    { regex: '[a-f]{2,6}(x|y)' },
    { choice: ['abc', 'abd', 'b', 'zebra'] },
    { json: { type: 'integer', minimum: dice.from(0, 9), maximum: 99 } },
    { json: { type: 'array', items: { enum: [1, 'a'] }, maxItems: 2 } },
  ])
}

describe('answers held to a grammar', () => {
  it('match it, and end by themselves where nothing more may come', async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const [{ text, finish }] = await answers(
        roomy,
        request({ regex: '[a-c]{2,4}!?x'.replace('!?', '') }, { seed }),
      )
      assert.match(text, /^[a-c]{2,4}x$/)
      assert.equal(finish, 'stop')
    }
  })

  it('each of n follows its own, with ignore_eos and min_tokens too', async () => {
    const asked = request(
      { choice: ['a', 'bb', 'ccc'] },
      { ignore_eos: true, min_tokens: 15, temperature: 3 },
      6,
    )
    const all = await answers(roomy, asked)
    for (const { text, finish } of all) {
      assert.ok(['a', 'bb', 'ccc'].includes(text), text)
      assert.equal(finish, 'stop')
    }
    assert.ok(new Set(all.map(({ text }) => text)).size > 1)
  })

  it('end of sequence comes only where the grammar may end', async () => {
    const bias = Object.fromEntries(eosTokenIds.map((id) => [id, 100]))
    const [{ text, ids }] = await answers(roomy, request({ regex: 'abc[a-z]*' }, { logit_bias: bias }))
    assert.match(text, /^abc[a-z]{0,2}$/, 'at once where a token comes to an end')
    assert.ok(eosTokenIds.includes(ids.at(-1)!))
  })

  it('cut off by max_tokens it says length, unless the last token was the last of the grammar', async () => {
    const [cut] = await answers(roomy, request({ regex: 'z{40}' }, { max_tokens: 3 }))
    assert.equal(cut.finish, 'length')
    const whole = await answers(roomy, request({ choice: ['q'] }, { max_tokens: 1 }))
    assert.deepEqual([whole[0].text, whole[0].finish], ['q', 'stop'])
  })

  it('stop tokens, logprobs before masks, and no control tokens', async () => {
    const asked = request({ regex: '[a-z<>]{5}' }, { logprobs: vocabSize, logit_bias: { 2: 100 } })
    const events: TokenEvent[] = []
    for await (const event of roomy.generate(asked)) events.push(event)
    assert.ok(events.every(({ choice }) => choice?.token !== 2))
    const [first] = events
    assert.equal(first.choice?.top?.length, vocabSize)
    const free = await roomy.generate(request(null, { logprobs: vocabSize, logit_bias: { 2: 100 } })).next()
    assert.deepEqual(first.choice?.top, (free.value as TokenEvent).choice?.top)
  })

  it('what excludes every token is an error that names both rules', async () => {
    const asked = request({ regex: '[a-c]+' }, { allowed_token_ids: [40] })
    await assert.rejects(answers(roomy, asked), /allowed_token_ids and structured_outputs/)
  })

  it('free text with constrained regions', async () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'integer' } },
      required: ['a'],
      additionalProperties: false,
    }
    const tag = {
      triggers: ['ab'],
      structures: [{ begin: 'abc', schema, end: 'x' }],
      at_least_one: true,
      stop_after_first: true,
    }
    const [{ text, finish }] = await answers(roomy, request({ structural_tag: tag }, { max_tokens: 35 }))
    if (finish === 'stop') assert.match(text, /^abc\{ ?"a": ?-?\d+ ?\}x$/)
    assert.ok('abc{'.startsWith(text.slice(0, 4)), text)
    const free = await answers(
      roomy,
      request({ structural_tag: { ...tag, at_least_one: false, stop_after_first: false } }),
    )
    assert.ok(free[0].ids.length > 0)
  })

  it('the tokens are those of an answer alone, whoever else is served', async () => {
    const jobs = Array.from({ length: 64 }, (_, i) => {
      const dice = createDice(i)
      const fields = {
        seed: i,
        temperature: dice.of([0, 1, 2]),
        max_tokens: dice.from(1, 12),
        ignore_eos: dice.chance(0.3),
      }
      const own = request(randomOutputs(dice), fields, dice.of([1, 1, 2]))
      return { ...own, prompt_token_ids: Array.from({ length: dice.from(1, 20) }, () => dice.from(3, 60)) }
    })
    const alone: Ended[][] = []
    for (const job of jobs) alone.push(await answers(roomy, job))
    for (let first = 0; first < jobs.length; first += 16) {
      const together = await Promise.all(jobs.slice(first, first + 16).map((job) => answers(tight, job)))
      assert.deepEqual(together, alone.slice(first, first + 16))
    }
    const { preemptions, grammars, pages } = await tight.stats()
    assert.ok(preemptions > 0, 'some were preempted')
    assert.ok(grammars.cached > 5, 'some grammars were known already')
    assert.equal(pages.free + pages.cached, pages.total)
  })

  it('a grammar that the library aborts on fails its own request; the others go on', async () => {
    const long = answers(roomy, request({ regex: '[a-z]{30,34}' }, { max_tokens: 34 }))
    const before = (await roomy.stats()).grammars.restarts
    const broken = Array.from({ length: 4 }, (_, i) =>
      assert.rejects(
        answers(roomy, request({ grammar: `root ::= missing${i}` })),
        (error) => error instanceof RequestError && /Rule "missing\d" is not defined/.test(error.message),
      ),
    )
    await Promise.all(broken)
    assert.match((await long)[0].text, /^[a-z]{30,}$/)
    assert.ok((await roomy.stats()).grammars.restarts > before)
    assert.match((await answers(roomy, request({ regex: 'a[bc]' })))[0].text, /^a[bc]$/)
  })

  it('an abort while compiling throws its reason at once', async () => {
    const abort = new AbortController()
    const waiting = answers(tight, request({ regex: `(${'[a-z]{1,9}x?'.repeat(40)})` }), abort.signal)
    abort.abort(new Error('enough'))
    await assert.rejects(waiting, /enough/)
  })
})

describe('grammars', () => {
  it('start no thread before one is wanted, know what they compiled, and give up on what takes too long', async () => {
    const grammars = createGrammars({ vocabSize, eosTokenIds, patience: 1500 })
    assert.equal(grammars.counts.threads, 0)
    await grammars.prepare(grammar({ regex: 'a+' }))
    await grammars.prepare(grammar({ regex: 'a+' }))
    assert.deepEqual(grammars.counts, { compiled: 1, cached: 1, restarts: 0, threads: 1 })
    const matcher = (await grammars.prepare(grammar({ regex: '[a-c]*x' }))).open()
    await matcher.settled()
    const mask = [...matcher.words]
    const bomb = Array.from(
      { length: 60 },
      (_, i) => `r${i} ::= (r${i + 1} | "a" r${i + 1} | r${i + 1} "b" r${i + 1}){1,9}`,
    )
    const text = `root ::= r0{0,200}\n${bomb.join('\n')}\nr60 ::= [a-z]{0,300} [a-y]{0,300}\n`
    await assert.rejects(
      grammars.prepare(grammar({ grammar: text })),
      (error) => error instanceof RequestError && /structured_outputs/.test(error.message),
    )
    matcher.advance(spelled.indexOf('a'))
    grammars.flush()
    await matcher.settled()
    assert.deepEqual([...matcher.words], mask, 'the same place in the grammar')
    await grammars.close()
  })

  it('a matcher moves with its tokens when its thread dies', { timeout: 60_000 }, async () => {
    const grammars = createGrammars({ vocabSize, eosTokenIds })
    const prepared = await grammars.prepare(grammar({ choice: ['abc'] }))
    const all = Array.from({ length: 3 }, () => prepared.open())
    const others = await Promise.all(
      ['x+', 'y+'].map(async (regex) => (await grammars.prepare(grammar({ regex }))).open()),
    )
    for (const matcher of [...all, ...others]) await matcher.settled()
    all[0].advance(spelled.indexOf('a'))
    grammars.flush()
    await all[0].settled()
    // all threads follow somebody now, so that a grammar that aborts takes one of them along
    await Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        assert.rejects(grammars.prepare(grammar({ grammar: `root ::= no${i}` }))),
      ),
    )
    all[0].advance(spelled.indexOf('b'))
    grammars.flush()
    for (const matcher of [...all, ...others]) await matcher.settled()
    const allows = (words: Int32Array, letter: string): boolean => {
      const id = spelled.indexOf(letter)
      return ((words[id >> 5] >>> (id & 31)) & 1) === 1
    }
    assert.deepEqual(
      ['a', 'b', 'c'].map((letter) => allows(all[0].words, letter)),
      [false, false, true],
    )
    assert.deepEqual(
      ['a', 'b', 'c'].map((letter) => allows(all[1].words, letter)),
      [true, false, false],
    )
    assert.ok(grammars.counts.restarts >= 6)
    await grammars.close()
  })
})
