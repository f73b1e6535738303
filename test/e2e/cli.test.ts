// The program's commands as a person runs them, one process each, on the demo model and the goldens.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.ts'
import { fakeHub, sha } from '../../src/checkpoint/fakehub.ts'
import { latent, root, scratch } from '../../src/cli/trial.ts'
import { floats } from '../../src/tensor/tensor.ts'

const slow = ['--backend', 'reference'] // needs no compiler
const quito = 'What is the capital of Ecuador?'
const golden = join(root, 'test/data/golden/v2-tiny')

describe('latent chat', () => {
  it('answers what was asked, in plain letters', async () => {
    const { code, stdout, stderr } = await latent(['chat', quito, '--greedy', '--stats', ...slow])
    assert.equal(stdout, 'The capital of Ecuador is Quito.\n')
    assert.match(stderr, /^demo answers, a tiny model/)
    assert.match(stderr, /^8 tokens at [\d.,]+ tok\/s · prompt of 10, \d+ ms/m)
    assert.ok(!stderr.includes('\u001b'), 'no colours in a pipe')
    assert.equal(code, 0)
  })

  it('joins the prompt and what is piped in, and honours system, stop and the model', async () => {
    const lines = 'Rosa lost a blue kite near the beach.\n\nWhere did Rosa lose the kite?\n'
    const piped = await latent(['chat', 'Read', 'the text and answer.', '--greedy', ...slow], {
      stdin: lines,
    })
    assert.equal(piped.stdout, 'Rosa lost it near the beach.\n')
    const args = [
      'chat',
      '-m',
      'demo',
      '-s',
      'Answer in capital letters.',
      '--greedy',
      '--stop',
      'QUI',
      ...slow,
    ]
    const { stdout, stderr } = await latent(args, { stdin: quito })
    assert.equal(stdout, 'THE CAPITAL OF ECUADOR IS \n')
    assert.equal(stderr, '')
  })

  it('gives one JSON object', async () => {
    const { stdout } = await latent([
      'chat',
      quito,
      '--json',
      '--temperature',
      '0',
      '--max-tokens',
      '3',
      ...slow,
    ])
    const { timings, usage, ...rest } = JSON.parse(stdout)
    assert.deepEqual(rest, {
      model: 'demo',
      text: 'The capital of',
      finish_reason: 'length',
      stop_reason: null,
    })
    assert.equal(usage.completion_tokens, 3)
    assert.equal(typeof timings.predicted_per_second, 'number')
  })

  it('gives under --json what else was asked for', async () => {
    const several = ['--n', '2', '--logprobs', '1', '--prompt-logprobs', '0', '--no-prefix-caching']
    const args = ['chat', quito, '--json', '--max-tokens', '2', '--seed', '1', ...several, ...slow]
    const { answers, logprobs, prompt_logprobs, usage } = JSON.parse((await latent(args)).stdout)
    assert.equal(answers.length, 2)
    assert.deepEqual(answers[0].logprobs, logprobs)
    assert.deepEqual([logprobs.length, logprobs[0].top.length], [2, 1])
    assert.equal(prompt_logprobs.length, usage.prompt_tokens)
  })

  it('colours on demand', async () => {
    const { stderr } = await latent(['chat', ' ', ...slow], { env: { FORCE_COLOR: '1' } })
    assert.match(stderr, /\u001b\[31mlatent:\u001b\[39m the prompt is empty/)
  })
})

describe('latent tokenize and template', () => {
  it('goes from text to ids and back', async () => {
    const ids = (await latent(['tokenize', 'What is YaRN?'])).stdout
    assert.equal(ids, '346,272,1599,35\n')
    assert.equal((await latent(['tokenize', '--decode', ids.trim()])).stdout, 'What is YaRN?\n')
    const special = ['tokenize', '--special', '--bos', '<｜User｜>', '--json']
    assert.deepEqual(JSON.parse((await latent(special)).stdout), {
      model: 'demo',
      text: '<｜begin▁of▁sentence｜><｜User｜>',
      ids: [0, 2],
      pieces: ['<｜begin▁of▁sentence｜>', '<｜User｜>'],
      count: 2,
    })
    assert.equal((await latent(['tokenize', '--count'], { stdin: 'What is YaRN?' })).stdout, '4\n')
    assert.match((await latent(['tokenize', 'What is', '--pieces'])).stdout, /^ 1 +272 +" is" +20 69 73$/m)
  })

  it('renders a conversation in the order of its flags', async () => {
    const turns = ['template', '-s', 'Be brief.', '-u', 'Hi', '-a', 'Hello.', '-u', 'Who are you?']
    const shown =
      '<｜begin▁of▁sentence｜>Be brief.\n\n<｜User｜>Hi<｜Assistant｜>Hello.<｜end▁of▁sentence｜><｜User｜>Who are you?'
    assert.equal((await latent([...turns, '--no-generation-prompt'])).stdout, `${shown}\n`)
    const { prompt, ids, messages } = JSON.parse((await latent([...turns, '--json'])).stdout)
    assert.equal(prompt, `${shown}<｜Assistant｜>`)
    assert.deepEqual([ids[0], ids.at(-1), messages.length], [0, 3, 4])
    const source = await latent(['template', '--source', '--chat-template', 'deepseek-v2-chat'])
    assert.match(source.stdout, /User: /)
    assert.equal(source.stderr, 'built into latent\n')
  })
})

describe('latent inspect', () => {
  it('knows the 236B without the hub', async () => {
    const args = ['inspect', 'DeepSeek-V2-Chat-0628', '--devices', '8x80GiB', '--context', '32k']
    const { code, stdout, stderr } = await latent(args)
    assert.equal(code, 0)
    assert.match(stderr, /latent's own copy/)
    assert.match(stdout, /^235,741,434,880 parameters, 2\d\.\d\d B of them active/m)
    assert.match(stdout, /^all weights .* 471\.48 GB$/m)
    assert.match(stdout, /32,768 tokens, 69,120 bytes a token in bf16/)
    assert.match(stdout, /Both of its programs run on 8 x 80 GB/)
    assert.match(stdout, /^device 0 .* embed_tokens, layers 0-10$/m)
    assert.match(stdout, /It fits; 6 of the 8 devices are enough\.\n$/)
    const small = await latent([
      'inspect',
      'DeepSeek-V2-Chat-0628',
      '--json',
      '--max-memory',
      '0=75GB,1=75GB',
    ])
    assert.equal(small.code, 4)
    const plan = JSON.parse(small.stdout)
    assert.equal(plan.card.devices, 8)
    assert.equal(plan.parameters.total, 235_741_434_880)
    assert.equal(plan.latentBytesPerToken, 69_120)
    assert.equal(plan.fits, false)
    assert.equal(plan.placement.length, 2)
    assert.ok(plan.advice.length > 0)
  })

  it('reads headers where there are weights, and a lone config.json', async () => {
    const demo = JSON.parse((await latent(['inspect', '--json', '--context', '1k'])).stdout)
    assert.equal(demo.headers.dtypes.bf16.bytes, demo.weightBytes)
    assert.equal(demo.context, 1024)
    const lone = await latent(['inspect', join(golden, 'config.json'), '--weights', 'q8_0'])
    assert.match(lone.stdout, /in q8_0/)
  })
})

describe('latent score', () => {
  it('agrees with the goldens, without a tokenizer', async () => {
    const folder = scratch()
    const logits = join(folder, 'logits.safetensors')
    const { prompts } = JSON.parse(readFileSync(join(golden, 'expected.json'), 'utf8'))
    const ids: readonly number[] = prompts[7]
    const args = [
      'score',
      golden,
      '--ids',
      ids.join(','),
      '--top',
      '2',
      '--logits',
      logits,
      '--json',
      ...slow,
    ]
    const { code, stdout, stderr } = await latent(args)
    assert.equal(code, 0, stderr)
    const scored = JSON.parse(stdout)
    assert.deepEqual(scored.ids, ids)
    assert.equal(scored.logprobs[0], null)
    assert.equal(scored.tokens[3].logprob, scored.logprobs[3])
    assert.deepEqual([scored.tokens[3].piece, scored.tokens[3].top.length], [null, 2])
    const sum = scored.logprobs.slice(1).reduce((a: number, b: number) => a + b)
    assert.ok(Math.abs(sum - scored.total) < 1e-9)
    const ours = openCheckpoint(folder).read('logits')
    const want = floats(openCheckpoint(join(golden, 'expected')).read('logits.7'))
    assert.deepEqual(ours.shape, [7, 512])
    const got = floats(ours).slice(-want.length)
    assert.ok(want.every((value, i) => Math.abs(value - got[i]) < 1e-4))
  })

  it('reads text', async () => {
    const { stdout } = await latent(['score', '--text', 'What is YaRN?', ...slow])
    assert.match(stdout, /^ 3 +1599 +" YaRN" +-\d+\.\d{4} +\d+\.\d\d%$/m)
    assert.match(stdout, /total -[\d.]+, perplexity [\d.]+\n$/)
  })
})

describe('latent download', () => {
  it('fetches once, and says where it is', async () => {
    const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
    const files = {
      'config.json': bytes('{}'),
      'model.safetensors': new Uint8Array(5000),
      'code.py': bytes('x'),
    }
    await using hub = await fakeHub('org/tiny', { main: sha('a') }, files)
    const home = join(scratch(), 'home')
    mkdirSync(home)
    const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: home }
    const { code, stdout, stderr } = await latent(['download', 'org/tiny', '--token', 'secret'], { env })
    assert.equal(code, 0, stderr)
    assert.equal(stdout, `${join(home, 'hub/models--org--tiny/snapshots', sha('a'))}\n`)
    assert.match(stderr, /fetching model\.safetensors \(5\.00 kB\)[\s\S]*2 files fetched/)
    assert.equal(hub.asked[0].authorization, 'Bearer secret')
    const again = await latent(['download', 'org/tiny', '--json', '-q', '--include', '*.json'], { env })
    assert.deepEqual(JSON.parse(again.stdout), {
      repo: 'org/tiny',
      revision: 'main',
      path: stdout.trim(),
      files: [{ file: 'config.json', bytes: 2, cached: true }],
    })
    assert.equal(again.stderr, '')
    const absent = await latent(['download', 'org/none'], { env })
    assert.equal(absent.code, 3)
  })
})

describe('latent bench', () => {
  it('prints a table, CSV or JSON', async () => {
    const args = ['bench', '-p', '8', '-n', '2', '-b', '1,2', '-r', '2', ...slow]
    const { model, backend, cpu, versions, results } = JSON.parse((await latent([...args, '--json'])).stdout)
    assert.deepEqual(
      [model, backend, typeof cpu, typeof versions.node],
      ['demo', 'reference', 'string', 'string'],
    )
    const names = results.map(({ name, batch }: { name: string; batch: number }) => `${name} ${batch}`)
    assert.deepEqual(names, ['pp8 1', 'tg2 1', 'pp8 2', 'tg2 2'])
    assert.ok(
      results.every((one: { samples: number[]; mean: number }) => one.samples.length === 2 && one.mean > 0),
    )
    const quick = ['bench', '-p', '4', '-n', '0', '-r', '1', '--no-warmup', ...slow]
    assert.match(
      (await latent(quick)).stdout,
      /\| demo +\|.*\| reference \| +\d+ \| +1 \| pp4 +\| +[\d.,]+ ± 0\.00 \|/,
    )
    assert.match(
      (await latent([...quick, '-o', 'csv'])).stdout,
      /^"demo",reference,\d+,1,pp4,[\d.]+,0\.000$/m,
    )
  })

  it('measures at a depth, and with several counts of threads', async () => {
    const args = ['bench', '-p', '8', '-n', '2', '-d', '0,70', '-t', '1,2', '-r', '1', '--json', ...slow]
    const { stdout, stderr, code } = await latent(args)
    assert.equal(code, 0, stderr)
    const results = JSON.parse(stdout).results as readonly {
      readonly name: string
      readonly threads: number
      readonly depth: number
      readonly mean: number
    }[]
    const names = ['pp8', 'tg2', 'pp8 @ d70', 'tg2 @ d70']
    assert.deepEqual(
      results.map(({ name, threads }) => `${name} ${threads}`),
      [1, 2].flatMap((threads) => names.map((name) => `${name} ${threads}`)),
    )
    assert.deepEqual([results[0].depth, results[2].depth], [0, 70])
    assert.ok(results.every(({ mean }) => mean > 0))
  })
})
