// `latent doctor` as a person runs it: on this machine, on one without a compiler, with a cache that holds something.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { latent, root, scratch } from '../../src/cli/trial.ts'

interface Said {
  readonly section: string
  readonly mark: string
  readonly label: string
  readonly text: string
  readonly mend?: string
}

const folder = scratch()
const bare = join(folder, 'bare')
mkdirSync(bare)
const nothing = { PATH: bare } // no compiler, and nothing to wait for

function cacheOf(): string {
  const cache = join(folder, 'hub')
  for (const [name, lacks] of [
    ['models--org--whole', null],
    ['models--org--half', 'model.safetensors'],
  ] as const) {
    const snapshot = join(cache, name, 'snapshots', 'a'.repeat(40))
    mkdirSync(join(cache, name, 'refs'), { recursive: true })
    writeFileSync(join(cache, name, 'refs', 'main'), 'a'.repeat(40))
    cpSync(join(root, 'test/data/golden/lite-tiny'), snapshot, { recursive: true })
    cpSync(join(root, 'models/demo/tokenizer.json'), join(snapshot, 'tokenizer.json'))
    if (lacks !== null) rmSync(join(snapshot, lacks))
  }
  return cache
}

describe('latent doctor', () => {
  it('says what is here and what is used, in words', async () => {
    const { code, stdout } = await latent(['doctor', 'demo'], { env: { HF_TOKEN: 'hf_secret' } })
    for (const section of ['System', 'Backend', 'Hugging Face', 'Models in the cache', 'Model demo']) {
      assert.ok(stdout.includes(`\n${section}\n`) || stdout.startsWith(`${section}\n`), section)
    }
    assert.match(stdout, new RegExp(`^ {2}ok {7}Node +${process.versions.node}$`, 'm'))
    assert.match(stdout, /^ {2}\w+ +backend +auto is (cpu|reference)/m)
    assert.match(stdout, /^ {2}ok +token +set, by HF_TOKEN$/m)
    assert.match(
      stdout,
      /^ {2}ok +formats +every tensor is there, in 1 file:\n +bf16 {2}358 tensors {2}27\.91 MB$/m,
    )
    assert.match(stdout, /27\.91 MB of weights and .* of latents \(f32\) for [\d,]+ tokens fit in /)
    assert.ok(!stdout.includes('hf_secret') && !stdout.includes('\u001b'))
    assert.equal(code, /\d problem/.test(stdout) ? 1 : 0)
  })

  const skip = process.arch === 'x64' ? false : 'there are no kernels to build for this processor'
  it('says so where there is no compiler, and how to get one', { skip }, async () => {
    const { code, stdout } = await latent(['doctor'], { env: nothing })
    assert.equal(code, 1)
    assert.match(stdout, /^ {2}problem {2}compiler +none was found \(looked for g\+\+ and clang\+\+\)/m)
    if (process.platform === 'linux') assert.match(stdout, /→ apt install g\+\+/)
    assert.match(stdout, /^ {2}problem {2}kernels +not built: /m)
    assert.match(stdout, /^ {2}problem {2}backend +auto is reference, which is slow: it needs no kernels/m)
    assert.match(stdout, /\n3 problems(, \d notes?)?\n$/)
  })

  it('gives the same as one JSON object, and knows the cache', async () => {
    const env = {
      ...nothing,
      HF_HUB_CACHE: cacheOf(),
      HF_HUB_OFFLINE: '1',
      HF_ENDPOINT: 'https://me:pw@hub.test',
    }
    const { stdout } = await latent(['doctor', 'org/whole', '--json'], { env })
    const answer = JSON.parse(stdout)
    const { system, backend, hub, models, model, findings } = answer
    assert.deepEqual(Object.keys(answer), ['ok', 'system', 'backend', 'hub', 'models', 'model', 'findings'])
    assert.equal(answer.ok, false)
    assert.equal(system.node, process.versions.node)
    assert.ok(system.cores >= 1 && system.memory >= system.free_memory)
    assert.deepEqual([backend.compiler, backend.library, backend.auto], [null, null, 'reference'])
    const { free, ...asked } = hub
    assert.ok(free === null || free > 0)
    assert.deepEqual(asked, {
      cache: env.HF_HUB_CACHE,
      endpoint: 'https://hub.test',
      token: false,
      offline: true,
    })
    const found = models.map(({ bytes, ...rest }: { bytes: number }) => ({ ...rest, some: bytes > 0 }))
    const kind = { family: 'deepseek_v2', gguf: [], some: true }
    assert.deepEqual(found, [
      { name: 'org/half', complete: false, missing: ['model.safetensors (or its index)'], ...kind },
      { name: 'org/whole', complete: true, missing: [], ...kind },
    ])
    assert.deepEqual(Object.keys(model), ['model', 'path', 'opens', 'dtypes', 'fit'])
    assert.ok(model.fit.fits && model.fit.weight_bytes > 0 && model.fit.longest === model.fit.positions)
    const half = findings.find(({ label }: Said) => label === 'org/half')
    assert.deepEqual([half.mark, half.mend], ['note', 'latent download org/half'])
  })

  it('tells why a model would not open', async () => {
    const env = { ...nothing, HF_HUB_CACHE: cacheOf() }
    const said = async (model: string): Promise<readonly Said[]> => {
      const { stdout, code } = await latent(['doctor', model, '--json'], { env })
      assert.equal(code, 1)
      return JSON.parse(stdout).findings.filter(
        ({ section, mark }: Said) => section.startsWith('Model ') && mark === 'problem',
      )
    }
    const [missing] = await said('org/other')
    assert.deepEqual([missing.text, missing.mend], ['it is not in the cache', 'latent download org/other'])
    assert.match((await said('org/half'))[0].text, /lacks model\.safetensors/)
    assert.match((await said('./nowhere/at/all'))[0].text, /no such path/)
    const damaged = join(folder, 'damaged.gguf')
    writeFileSync(damaged, 'GGUF')
    assert.match((await said(damaged))[0].text, /cannot open the GGUF model/)
    assert.match((await said(bare))[0].text, /has no config\.json/)
  })
})
