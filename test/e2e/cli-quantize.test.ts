// `latent quantize` as a person runs it: the demo model in fewer bits still answers, and nothing is lost on the way.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, it } from 'node:test'
import { latent, onTerminal, root, scratch, whyNoTerminal } from '../../src/cli/trial.ts'

const folder = scratch()
const at = (name: string): string => join(folder, name)
const slow = ['--backend', 'reference'] // needs no compiler
const answer = /^I am a tiny demo model with the DeepSeek-V2 architecture\./

async function ask(model: string): Promise<string> {
  return (await latent(['chat', '--model', model, '--greedy', 'Who are you?', ...slow])).stdout
}

describe('latent quantize', () => {
  it('writes q8_0 as one JSON object says, and the file answers', async () => {
    const out = at('q8.gguf')
    const { code, stdout, stderr } = await latent(['quantize', 'demo', out, '--type', 'Q8_0', '--json'])
    assert.equal(code, 0, stderr)
    const { seconds, source, ...rest } = JSON.parse(stdout)
    assert.ok(seconds > 0 && source.endsWith(join('models', 'demo')))
    assert.deepEqual([rest.path, rest.type, rest.bytes], [out, 'q8_0', statSync(out).size])
    const { f32, q8_0, ...others } = rest.formats
    assert.deepEqual(others, {})
    assert.equal(f32.tensors + q8_0.tensors, rest.tensors)
    assert.ok(f32.bytes + q8_0.bytes < rest.bytes)
    assert.match(stderr, /^demo as q8_0: 135 tensors, 14\.91 MB \(95 q8_0, 40 f32\)$/m)
    assert.match(stderr, /^15\.03 MB written in 0:\d\d \([\d.,]+ MB\/s\)$/m)
    assert.match(await ask(out), answer)
  })

  it('writes q4_k_m on threads as alone, from a folder; the file answers', async () => {
    const args = ['quantize', join(root, 'models/demo'), at('q4.gguf'), '-t', 'q4_k_m', '-q']
    const { code, stdout, stderr } = await latent(args)
    assert.deepEqual([code, stdout, stderr], [0, `${at('q4.gguf')}\n`, ''])
    const threaded = await latent(['quantize', 'demo', at('q4-2.gguf'), '-t', 'q4_k_m', '--threads', '2'])
    assert.equal(threaded.code, 0, threaded.stderr)
    assert.ok(readFileSync(at('q4.gguf')).equals(readFileSync(at('q4-2.gguf'))))
    assert.match(await ask(at('q4.gguf')), answer)
  })

  it('keeps what is there, unless it is told to replace it; never the model itself', async () => {
    const out = at('kept.gguf')
    writeFileSync(out, 'mine')
    const refused = await latent(['quantize', 'demo', out, '-t', 'q8_0'])
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /kept\.gguf: it exists; --force replaces it/)
    assert.equal(readFileSync(out, 'utf8'), 'mine')
    const forced = await latent(['quantize', 'demo', out, '-t', 'q8_0', '--force'])
    assert.equal(forced.code, 0, forced.stderr)
    const size = statSync(out).size
    const same = await latent(['quantize', out, out, '-t', 'q4_0', '--force', '--json'])
    const { error } = JSON.parse(same.stdout)
    assert.deepEqual([same.code, error.type, error.field], [2, 'RequestError', 'out'])
    assert.match(error.message, /is the model that is being read/)
    assert.equal(statSync(out).size, size)
  })

  it('leaves nothing behind when it is interrupted', async () => {
    const out = at('stopped.gguf')
    const { code, stdout, stderr } = await latent(['quantize', 'demo', out, '-t', 'q4_k_m'], {
      during: (child) => void child.stderr?.once('data', () => child.kill('SIGINT')),
    })
    assert.deepEqual([code, stdout], [130, ''])
    assert.match(stderr, /latent: interrupted$/m)
    assert.ok(!existsSync(out))
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith(basename(out))),
      [],
    )
  })

  it('draws a bar on a terminal', { skip: whyNoTerminal() ?? false }, async () => {
    const { code, shown } = await onTerminal(['quantize', 'demo', at('bar.gguf'), '-t', 'q4_k_m'], [])
    assert.equal(code, 0)
    assert.match(
      shown,
      /━─+ +\d+% {2}[\d.]+ MB of 9\.21 MB · [\d.]+ MB\/s · ETA 0:0\d\n(blk\.\d+|token_embd|output)/,
    )
  })
})
