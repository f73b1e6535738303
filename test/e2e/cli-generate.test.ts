// `latent generate` as a person runs it, one process each, on the demo model.
import assert from 'node:assert/strict'
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.ts'
import { latent, root, scratch } from '../../src/cli/trial.ts'

const slow = ['--backend', 'reference'] // needs no compiler

/** Every logit after this token is NaN. */
function spoilToken(directory: string, id: number): void {
  const { file, start, shape } = openCheckpoint(directory).tensors.get('model.embed_tokens.weight') ?? {}
  assert.ok(file !== undefined && start !== undefined && shape !== undefined)
  const path = join(directory, file)
  const bytes = readFileSync(path)
  const row = shape[1] * 2 // bf16
  for (let i = 0; i < row; i += 2) bytes.writeUInt16LE(0x7fc0, start + id * row + i)
  writeFileSync(path, bytes)
}

describe('latent generate', () => {
  const folder = scratch()
  const output = join(folder, 'out.jsonl')
  const skills = readFileSync(join(root, 'models/demo/skills.jsonl'), 'utf8').split('\n').slice(0, 6)
  const known = skills.map((line) => JSON.parse(line))
  const input = join(folder, 'in.jsonl')
  const rows = known.map(({ messages, prompt_ids }, i) =>
    i % 2 === 0 ? { id: `r${i}`, messages, metadata: { i } } : { prompt_ids, max_tokens: i === 3 ? 2 : 64 },
  )
  writeFileSync(input, rows.map((row) => `${JSON.stringify(row)}\n\n`).join(''))
  const run = (...more: readonly string[]) =>
    latent(['generate', input, '-o', output, '--greedy', '--max-tokens', '64', ...slow, ...more])

  it('answers in order, and goes on from a torn file', async () => {
    const { code, stdout, stderr } = await run()
    assert.deepEqual([code, stdout], [0, ''], stderr)
    assert.match(stderr, /6 of 6 rows done · \d+ tokens in /)
    const whole = readFileSync(output, 'utf8')
    const answers = whole
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    assert.deepEqual(
      answers.map((row) => row.index),
      [0, 1, 2, 3, 4, 5],
    )
    for (const [i, answer] of answers.entries()) {
      assert.deepEqual(answer.output_ids, i === 3 ? known[i].output_ids.slice(0, 2) : known[i].output_ids)
      assert.equal(answer.finish_reason, i === 3 ? 'length' : 'stop')
      assert.equal(answer.usage.completion_tokens, answer.output_ids.length)
    }
    assert.equal(answers[0].text, known[0].output_text)
    assert.deepEqual([answers[2].id, answers[2].metadata], ['r2', { i: 2 }])

    const lines = whole.split('\n')
    writeFileSync(output, `${lines.slice(0, 4).join('\n')}\n${lines[4].slice(0, 20)}`)
    const again = await run('--concurrency', '1')
    assert.match(
      again.stderr,
      /4 of 6 rows are there already\nan earlier run was cut off[\s\S]*2 of 2 rows done/,
    )
    assert.equal(readFileSync(output, 'utf8'), whole)
    rows[1] = { prompt_ids: known[1].prompt_ids, max_tokens: 1 }
    writeFileSync(input, rows.map((row) => JSON.stringify(row)).join('\n'))
    const changed = await run()
    assert.match(
      changed.stderr,
      /5 of 6 rows are there already\n1 row is run again: the input or the options/,
    )
    const now = readFileSync(output, 'utf8').split('\n')
    assert.equal(JSON.parse(now[1]).output_ids.length, 1)
    assert.deepEqual(now.toSpliced(1, 1), whole.split('\n').toSpliced(1, 1))
    const nothing = await run('--overwrite', '--max-tokens', '0', '-q')
    assert.equal(nothing.stderr, '')
    assert.notEqual(readFileSync(output, 'utf8'), whole)
  })

  it('leaves a file to go on from when it is interrupted', async () => {
    const many = join(folder, 'many.jsonl')
    const part = join(folder, 'part.jsonl')
    writeFileSync(many, `${JSON.stringify({ prompt: 'a', max_tokens: 8, ignore_eos: true })}\n`.repeat(400))
    const stopped = await latent(['generate', many, '-o', part, '--concurrency', '1', ...slow], {
      during(child) {
        const timer = setInterval(() => {
          if (!existsSync(part) || readFileSync(part).length === 0) return
          clearInterval(timer)
          child.kill('SIGINT')
        }, 20)
        child.on('close', () => clearInterval(timer))
      },
    })
    assert.equal(stopped.code, 130)
    assert.match(stopped.stderr, /the same command goes on from here: .*part\.jsonl\nlatent: interrupted\n$/)
    const left = readFileSync(part, 'utf8')
    assert.ok(
      left.endsWith('}\n') &&
        left.split('\n').every((line, i) => line === '' || JSON.parse(line).index === i),
    )
  })

  it('names the line of a bad row before anything runs, or passes over it', async () => {
    const stdin = [
      '{"prompt": "a", "max_tokens": 1}',
      '{"prompt": "a", "temprature": 1}',
      '{"prompt": "a", "prompt_ids": [1]}',
      '{"id": 9, "prompt": 5}',
      '{"prompt_ids": [5000]}',
      '{"messages": []}',
      '{"prompt": "a", "top_p": 2}',
      'nonsense',
    ].join('\n')
    const refused = await latent(['generate', '-', ...slow], { stdin })
    assert.equal(refused.code, 2)
    assert.equal(refused.stdout, '')
    assert.match(refused.stderr, /line 2: 'temprature' is not a field of a row; did you mean 'temperature'\?/)
    assert.match(
      refused.stderr,
      /line 3: wanted one of messages, prompt and prompt_ids; the row has prompt and/,
    )
    assert.match(refused.stderr, /line 8: not JSON/)
    const { code, stdout } = await latent(['generate', '-', '--skip-bad', ...slow], { stdin })
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    assert.equal(code, 0)
    assert.deepEqual(
      answers.map(({ index }) => index),
      [0, 1, 2, 3, 4, 5, 6, 7],
    )
    assert.equal(answers[0].output_ids.length, 1)
    assert.deepEqual(
      answers.slice(1).map(({ error }) => typeof error),
      Array(7).fill('string'),
    )
    assert.equal(answers[3].id, 9)
    assert.match(answers[4].error, /token id 5000 is outside 0 \.\. 4095/)
  })

  it('passes over a row that fails while it runs', async () => {
    const broken = scratch()
    cpSync(join(root, 'models/demo'), broken, { recursive: true })
    spoilToken(broken, 5)
    const stdin = '{"prompt_ids": [6]}\n\n{"id": "b", "prompt_ids": [5]}\n{"prompt_ids": [7]}'
    const args = ['generate', '-', '-m', broken, '--greedy', '--max-tokens', '1', '-q', ...slow]
    const stopped = await latent(args, { stdin })
    assert.equal(stopped.code, 1)
    assert.match(stopped.stderr, /^latent: stdin, line 3: the model produced NaN/)
    const { code, stdout } = await latent([...args, '--skip-bad'], { stdin })
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    assert.equal(code, 0)
    assert.match(answers[1].error, /^the model produced NaN/)
    assert.deepEqual([answers[1].id, answers[2].index, answers[2].output_ids.length], ['b', 2, 1])
  })

  it('writes to a pipe by its name, and takes the fields of a row', async () => {
    const stdin = '{"prompt_ids": [6], "n": 1, "bad_token_ids": [[9]], "logprobs": null}'
    const more = ['--n', '2', '--logprobs', '0', '--max-tokens', '1']
    const { stdout } = await latent(['generate', '-', '-o', '/dev/stdout', ...more, ...slow], { stdin })
    const { output_ids, logprobs, key } = JSON.parse(stdout)
    assert.deepEqual([output_ids.length, logprobs.length], [1, 1])
    assert.match(key, /^[0-9a-f]{16}$/)
  })

  it('gives all answers of a row that asks for several', async () => {
    const stdin = '{"prompt": "Once", "n": 2, "max_tokens": 2, "seed": 1, "logprobs": 0}'
    const { outputs, usage } = JSON.parse((await latent(['generate', '-', '-q', ...slow], { stdin })).stdout)
    assert.deepEqual(
      outputs.map((one: { output_ids: number[] }) => one.output_ids.length),
      [2, 2],
    )
    assert.equal(outputs[1].logprobs.length, 2)
    assert.equal(usage.completion_tokens, 4)
  })
})
