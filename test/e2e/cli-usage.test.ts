// What the program says to what cannot be meant: exit codes, words, and where they go.
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { latent, root, scratch } from '../../src/cli/trial.ts'

const folder = scratch()
const file = (name: string, text: string): string => {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}
mkdirSync(join(folder, 'empty'))
file('there.gguf', '')
const quantizing = (out: string, type: string, model = 'demo'): readonly string[] => [
  ...['quantize', model, join(folder, out)],
  ...['--type', type],
]
const golden = join(root, 'test/data/golden/v2-tiny')
const big = ['chat', 'x', '--max-model-len', '32k', '--cache-bytes', '1MB', '--backend', 'reference']

/** Arguments, exit code, what stderr says. */
const malformed: readonly (readonly [readonly string[], number, RegExp])[] = [
  [['chta'], 2, /^latent: unknown command 'chta'; did you mean chat\?/],
  [['help', 'chta'], 2, /^Usage: latent/],
  [['--verison'], 2, /did you mean --version\?/],
  [['chat', 'x', '--temprature', '1'], 2, /unknown option '--temprature'; did you mean --temperature\?/],
  [['chat', 'x', '--max_tokens', '1'], 2, /did you mean --max-tokens\?/],
  [['chat', 'x', '--temperature'], 2, /option '--temperature <number>' argument missing/],
  [['chat', 'x', '--temperature', 'warm'], 2, /--temperature is 'warm', wanted a number/],
  [['chat', 'x', '--temperature', '-1'], 2, /temperature is -1, it must be a finite number, 0 or more/],
  [['chat', 'x', '--top-p', '1.5'], 2, /top_p is 1\.5, it must be a number above 0 and at most 1/],
  [
    ['chat', 'x', '--greedy', '--temperature', '1'],
    2,
    /'--greedy' cannot be used with option '--temperature/,
  ],
  [['chat', 'x', '--logit-bias', '{1:2}'], 2, /--logit-bias is not JSON/],
  [['chat', 'x', '--stop-token-ids', 'a,b'], 2, /wanted whole numbers from 0 such as 1,2,3/],
  [['chat', 'x', '--min-tokens', '9', '--max-tokens', '2'], 2, /min_tokens is 9, above max_tokens/],
  [['chat', 'x', '--backend', 'referense'], 2, /wanted one of .*; did you mean reference\?/],
  [['chat', 'x', '--backend', 'gpu'], 2, /^latent: --backend is 'gpu'/],
  [['chat', 'x', '--n', '2'], 2, /^latent: n is 2, and only one answer can be shown here; add --json/],
  [['chat', 'x', '--priority', '0.5'], 2, /priority must be a whole number/],
  [['chat', 'x', '--logprobs', '-2'], 2, /logprobs is -2, it must be/],
  [['chat', 'x', '--kv-dtype', 'int4'], 2, /--kv-dtype is 'int4', wanted one of f32, bf16, q8/],
  [['chat', 'x', '--max-model-len', 'long'], 2, /--max-model-len is "long"; wanted a whole number/],
  [['chat', 'x', '--cache-bytes', '2GB2'], 2, /--cache-bytes is "2GB2"; wanted bytes/],
  [['chat', 'x', '--chat-template', 'deepseek-v2-chta'], 2, /did you mean deepseek-v2-chat\?/],
  [['chat'], 2, /the prompt is empty/],
  [['chat', 'x', '-m', '/no/such/folder'], 3, /no model at '\/no\/such\/folder'/],
  [['chat', 'x', '-m', join(folder, 'empty')], 3, /has no config\.json/],
  [['chat', 'x', '-m', golden], 3, /tokenizer\.json/],
  [big, 4, /holds \d+ tokens, max_model_len is 32768; raise cache_bytes/],
  [['generate'], 2, /missing required argument 'input'/],
  [['generate', '/no/such.jsonl'], 2, /cannot read the rows in \/no\/such\.jsonl: there is no such file/],
  [
    ['generate', file('self.jsonl', '{"prompt": "a"}'), '-o', join(folder, 'self.jsonl')],
    2,
    /is the input itself/,
  ],
  [['generate', file('blank.jsonl', '\n\n')], 2, /has no rows/],
  [
    ['generate', file('bad.jsonl', '{"prompt": "a"}\n{]\n')],
    2,
    /a row that cannot be run[\s\S]*line 2: not JSON/,
  ],
  [
    ['generate', file('one.jsonl', '{"prompt": "a"}'), '-o', '/no/such/out.jsonl'],
    2,
    /^latent: cannot write \/no\/such\/out\.jsonl: there is no folder \/no\/such; make it first/,
  ],
  [['tokenize'], 2, /there is no text/],
  [['tokenize', '--decode', '1,x'], 2, /--decode is '1,x'/],
  [['tokenize', '--decode', '9999'], 2, /token id 9999 is not in the vocabulary/],
  [['tokenize', '--decode', '1', 'text'], 2, /leave one of them out/],
  [['template', '--messages', '{"a":'], 2, /--messages is not JSON/],
  [['template', '--messages', '[]'], 2, /wanted a list of at least one message/],
  [['template', '--messages', '[{"role": "user"}]'], 2, /messages\[0\]\.content/],
  [['template', '--messages', '[]', '--user', 'x'], 2, /take one/],
  [['template', '--tools', '{}'], 2, /--tools must be a JSON list/],
  [['inspect', 'DeepSeek-V2', '--devices', '8x80'], 2, /--devices is "8x80"; wanted /],
  [['inspect', 'DeepSeek-V2', '--max-memory', '0'], 2, /--max-memory\[0\]/],
  [['inspect', 'DeepSeek-V2', '--context', '1M'], 2, /context is 1048576; wanted 1 to 163840/],
  [['inspect', 'DeepSeek-V2', '--weights', 'q8'], 2, /did you mean q8_0\?/],
  [['inspect', 'DeepSeek-V9'], 3, /no model at 'DeepSeek-V9'/],
  [['inspect', file('other.json', '{"model_type": "llama"}')], 3, /llama/],
  [['download'], 2, /missing required argument 'repo'/],
  [['download', 'tiny'], 2, /'tiny' is not a name on the hub, wanted org\/name/],
  [['download', 'a/b', '--parallel', '0'], 2, /--parallel is '0', wanted a whole number from 1/],
  [['download', 'a/b', 'c'], 2, /too many arguments/],
  [['quantize', 'demo', join(folder, 'x.gguf')], 2, /required option '-t, --type <type>' not specified/],
  [quantizing('x.gguf', 'q4_k'), 2, /--type is 'q4_k', wanted one of .*; did you mean q4_k_m\?/],
  [quantizing('x.gguf', 'q8_1'), 2, /did you mean q8_0\?/],
  [quantizing('x.bin', 'q8_0'), 2, /let it end in \.gguf/],
  [quantizing('nowhere/x.gguf', 'q8_0'), 2, /there is no folder .*nowhere; make it first/],
  [quantizing('x-00001-of-00002.gguf', 'q8_0'), 2, /a part of several; call it x\.gguf/],
  [quantizing('there.gguf', 'q8_0'), 2, /there\.gguf: it exists; --force replaces it/],
  [quantizing('x.gguf', 'q8_0', join(folder, 'empty')), 3, /has no config\.json/],
  [['doctor', 'demo', 'more'], 2, /too many arguments/],
  [['score'], 2, /^latent: give --ids or --text$/m],
  [['score', '--ids', '1', '--text', 'x'], 2, /give --ids or --text, not both/],
  [
    ['score', '--ids', '1', '--logits', '/no/such/l.safetensors'],
    2,
    /there is no folder \/no\/such; make it/,
  ],
  [['score', golden, '--text', 'x'], 3, /has no tokenizer\.json; fetch the model/],
  [['score', '--ids', '5000'], 2, /token id 5000 is outside 0 \.\. 4095/],
  [['bench', '-p', '0', '-n', '0'], 2, /nothing to measure/],
  [['bench', '-p', '-5'], 2, /--prompt is '-5'/],
  [['bench', '--output', 'xml'], 2, /--output is 'xml', wanted one of md, csv, json/],
  [['bench', '-p', '64', '--max-model-len', '64', '--backend', 'reference'], 4, /pp64 takes 65 tokens/],
  [
    ['bench', '-d', '60', '-p', '8', '--max-model-len', '64', '--backend', 'reference'],
    4,
    /pp8 @ d60 takes 69/,
  ],
  [['bench', '-t', '-1'], 2, /--threads is '-1'/],
]

describe('malformed invocations', { concurrency: 2 }, () => {
  for (const [args, code, words] of malformed) {
    it(args.join(' ').replaceAll(root, '').replaceAll(folder, '') || '(nothing)', async () => {
      const outcome = await latent(args)
      assert.match(outcome.stderr, words)
      assert.equal(outcome.code, code, outcome.stderr)
      assert.equal(outcome.stdout, '')
      assert.ok(!/\n {4}at |\u001b/.test(outcome.stderr), 'neither a stack nor colours')
    })
  }
})

describe('usage', { concurrency: 2 }, () => {
  it('prints help and version', async () => {
    const help = await latent(['--help'])
    assert.match(help.stdout, /Exit codes:[\s\S]*130 {2}interrupted/)
    assert.deepEqual(await latent([]), help)
    for (const command of [
      'chat',
      'generate',
      'tokenize',
      'template',
      'inspect',
      'download',
      'score',
      'bench',
      'quantize',
      'doctor',
    ]) {
      const { code, stdout } = await latent(['help', command])
      assert.equal(code, 0)
      assert.ok(
        stdout.split('\n').filter((line) => line.startsWith('  $ ')).length >= 2,
        `${command} has examples`,
      )
    }
    assert.match((await latent(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/)
  })

  it('puts errors on stdout too under --json', async () => {
    const wrong = await latent(['score', '--json', '--ids', '5000'])
    const { error } = JSON.parse(wrong.stdout)
    assert.deepEqual([wrong.code, error.type, error.field], [2, 'RequestError', 'ids'])
    assert.match(error.message, /outside 0 \.\. 4095/)
    const usage = await latent(['chat', '--json', '--what'])
    assert.equal(JSON.parse(usage.stdout).error.type, 'UsageError')
  })

  it('shows a stack on request', async () => {
    const { stderr } = await latent(['score'], { env: { LATENT_DEBUG: '1' } })
    assert.match(stderr, /^latent: give --ids[\s\S]*\n {4}at /)
  })

  it('ends without a word when nobody reads on', async () => {
    const stdin = 'word '.repeat(200_000)
    const { stderr, code } = await latent(['tokenize', '--pieces'], {
      stdin,
      during: (child) => void child.stdout?.once('data', () => child.stdout?.destroy()),
    })
    assert.deepEqual([stderr, code], ['', 0])
  })
})
