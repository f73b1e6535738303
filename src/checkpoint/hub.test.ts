// Downloads into the real cache layout, and models by name, against a hub on this machine.
import assert from 'node:assert/strict'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { etagOf, type FakeHub, fakeHub, fast, sha } from './fakehub.ts'
import { type DownloadProgress, download, findSnapshot, hubSettings, resolveModel } from './hub.ts'

const root = mkdtempSync(join(tmpdir(), 'latent-hub-'))
after(() => rmSync(root, { recursive: true, force: true }))
const freshCache = (): string => mkdtempSync(join(root, 'cache-'))

const text = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))
const noise = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 255)

const repo = 'org/tiny-model'
const files: Record<string, Uint8Array> = {
  'config.json': text({ model_type: 'deepseek_v2' }),
  'tokenizer.json': text({ vocab: {} }),
  'model-00001-of-000002.safetensors': noise(200_000, 1),
  'model-00002-of-000002.safetensors': noise(300_000, 2),
  'model.safetensors.index.json': text({
    weight_map: { a: 'model-00001-of-000002.safetensors', b: 'model-00002-of-000002.safetensors' },
  }),
  'pytorch_model.bin': noise(5000, 3),
  'modeling.py': text('code'),
  'model.gguf': noise(5000, 4),
  'README.md': text('words'),
  'original/extra.safetensors': noise(2000, 5),
}
const modelNames = Object.keys(files).slice(0, 5).sort()
const revisions = { main: sha('a'), 'v1.0': sha('b'), 'refs/pr/3': sha('c') }
const open = (): Promise<FakeHub> => fakeHub(repo, revisions, files)
const refusal = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CheckpointError, String(error))
  assert.match(error.message, pattern)
  return true
}

test('settings: the variables of the Hugging Face tools, in their order', () => {
  const cacheOf = (env: Record<string, string>): string => hubSettings(env, '/home/me').cache
  assert.equal(cacheOf({}), '/home/me/.cache/huggingface/hub')
  assert.equal(cacheOf({ XDG_CACHE_HOME: '/x' }), '/x/huggingface/hub')
  assert.equal(cacheOf({ XDG_CACHE_HOME: '/x', HF_HOME: '~/hf' }), '/home/me/hf/hub')
  assert.equal(cacheOf({ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }), '/old')
  assert.equal(cacheOf({ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/new' }), '/new')
  assert.equal(cacheOf({ HF_HUB_CACHE: '' }), '/home/me/.cache/huggingface/hub')

  const home = freshCache()
  assert.equal(hubSettings({ HF_HOME: home }, '/').token, null)
  writeFileSync(join(home, 'token'), 'hf_stored\n')
  writeFileSync(join(home, 'other'), 'hf_other')
  const tokenOf = (env: Record<string, string>): string | null =>
    hubSettings({ HF_HOME: home, ...env }, '/').token
  assert.equal(tokenOf({}), 'hf_stored')
  assert.equal(tokenOf({ HF_TOKEN_PATH: join(home, 'other') }), 'hf_other')
  assert.equal(tokenOf({ HUGGING_FACE_HUB_TOKEN: 'hf_old' }), 'hf_old')
  assert.equal(tokenOf({ HUGGING_FACE_HUB_TOKEN: 'hf_old', HF_TOKEN: ' hf_new\n' }), 'hf_new')

  assert.equal(hubSettings({}, '/').endpoint, 'https://huggingface.co')
  assert.equal(hubSettings({ HF_ENDPOINT: 'https://mirror/' }, '/').endpoint, 'https://mirror')
  for (const value of ['1', 'true', 'YES', 'On']) {
    assert.equal(hubSettings({ HF_HUB_OFFLINE: value }, '/').offline, true)
    assert.equal(hubSettings({ TRANSFORMERS_OFFLINE: value }, '/').offline, true)
  }
  assert.equal(hubSettings({ HF_HUB_OFFLINE: '0' }, '/').offline, false)
})

test('a download leaves the cache of the Hugging Face tools, byte for byte', async () => {
  await using hub = await open()
  const cache = freshCache()
  const path = await download(repo, hub.settings(cache), { timing: fast })
  const folder = join(cache, 'models--org--tiny-model')
  assert.equal(path, join(folder, 'snapshots', sha('a')))
  assert.deepEqual(readdirSync(folder).sort(), ['blobs', 'refs', 'snapshots'])
  assert.equal(readFileSync(join(folder, 'refs', 'main'), 'utf8'), sha('a'))
  assert.deepEqual(readdirSync(path).sort(), modelNames)
  assert.deepEqual(readdirSync(join(folder, 'blobs')).sort(), modelNames.map((n) => etagOf(files[n])).sort())
  for (const name of modelNames) {
    assert.equal(readlinkSync(join(path, name)), `../../blobs/${etagOf(files[name])}`)
    assert.deepEqual(readFileSync(join(path, name)), Buffer.from(files[name]))
  }
  assert.deepEqual(readdirSync(join(cache, '.locks', 'models--org--tiny-model')), [])
})

test('the second download asks for the list and nothing else', async () => {
  await using hub = await open()
  const settings = hub.settings(freshCache())
  await download(repo, settings, { timing: fast })
  hub.asked.length = 0
  const events: DownloadProgress[] = []
  await download(repo, settings, { timing: fast, progress: (event) => events.push(event) })
  assert.deepEqual(
    hub.asked.map(({ method, path }) => `${method} ${path}`),
    [`GET /api/models/${repo}/revision/main`],
  )
  assert.deepEqual(events.map(({ file }) => file).sort(), modelNames)
  assert.ok(events.every(({ status }) => status === 'cached'))
})

test('progress starts, grows, ends, and adds up', async () => {
  await using hub = await open()
  const events: DownloadProgress[] = []
  await download(repo, hub.settings(freshCache()), { timing: fast, progress: (event) => events.push(event) })
  const total = modelNames.reduce((sum, name) => sum + files[name].length, 0)
  assert.deepEqual(events.at(-1)?.overall, { loaded: total, total, files: modelNames.length })
  for (const name of modelNames) {
    const own = events.filter(({ file }) => file === name)
    assert.equal(own[0].status, 'start')
    assert.equal(own.at(-1)?.status, 'done')
    assert.ok(own.every(({ loaded }, i) => i === 0 || loaded >= own[i - 1].loaded))
    assert.ok(own.every((event) => event.total === files[name].length))
  }
})

test('the token goes to the hub and never to another host', async () => {
  await using hub = await open()
  await download(repo, hub.settings(freshCache(), { token: 'hf_secret' }), { timing: fast })
  const storage = hub.asked.filter(({ host }) => host === 'storage')
  const home = hub.asked.filter(({ host }) => host === 'hub')
  assert.equal(storage.length, 2)
  assert.ok(storage.every(({ authorization }) => authorization === undefined))
  assert.ok(home.every(({ authorization }) => authorization === 'Bearer hf_secret'))
})

test('include and exclude choose files; folders are kept', async () => {
  await using hub = await open()
  const settings = hub.settings(freshCache())
  const include = ['*.safetensors', 'config.json']
  const path = await download(repo, settings, { include, exclude: ['model-00002*'], timing: fast })
  assert.deepEqual(readdirSync(path).sort(), ['config.json', 'model-00001-of-000002.safetensors', 'original'])
  const nested = join(path, 'original', 'extra.safetensors')
  assert.equal(readlinkSync(nested), `../../../blobs/${etagOf(files['original/extra.safetensors'])}`)
  assert.deepEqual(readFileSync(nested), Buffer.from(files['original/extra.safetensors']))
  await assert.rejects(
    download(repo, settings, { include: ['*.onnx'], timing: fast }),
    refusal(/no file to download .wanted \*\.onnx/),
  )
})

test('revisions: a branch, a tag, a pull request, a commit', async () => {
  await using hub = await open()
  const settings = hub.settings(freshCache())
  const folder = join(settings.cache, 'models--org--tiny-model')
  const options = { include: ['config.json'], timing: fast }
  for (const [revision, commit] of Object.entries(revisions)) {
    const path = await download(repo, settings, { ...options, revision })
    assert.equal(path, join(folder, 'snapshots', commit))
    assert.equal(readFileSync(join(folder, 'refs', revision), 'utf8'), commit)
    assert.equal(findSnapshot(repo, settings, revision), path)
  }
  await download(repo, settings, { ...options, revision: sha('a') })
  assert.deepEqual(readdirSync(join(folder, 'refs')).sort(), ['main', 'refs', 'v1.0'])
  assert.equal(findSnapshot(repo, settings, sha('a')), join(folder, 'snapshots', sha('a')))
  assert.equal(findSnapshot(repo, settings, sha('d')), null)
  assert.equal(findSnapshot(repo, settings, '../main'), null)
  const get = (revision: string) => download(repo, settings, { ...options, revision })
  await assert.rejects(get('v9'), refusal(/revision v9: no such revision/))
  await assert.rejects(get('../x'), refusal(/not a branch, tag or commit/))
})

test('two downloads of one repository at once fetch each blob once', async () => {
  await using hub = await open()
  const settings = hub.settings(freshCache())
  const [one, two] = await Promise.all([
    download(repo, settings, { timing: fast }),
    download(repo, settings, { timing: fast }),
  ])
  assert.equal(one, two)
  for (const name of modelNames) {
    assert.deepEqual(readFileSync(join(one, name)), Buffer.from(files[name]))
    const host = files[name].length > 1000 ? 'storage' : 'hub'
    assert.equal(hub.gets(`/${name}`).filter((asked) => asked.host === host).length, 1, name)
  }
})

test('names that leave their folder are refused', async () => {
  for (const name of [
    '../evil.safetensors',
    '/etc/evil.safetensors',
    'a/../../evil.safetensors',
    'C:\\evil.safetensors',
  ]) {
    await using hub = await fakeHub(repo, revisions, { ...files, [name]: noise(10, 1) })
    const cache = freshCache()
    const attempt = download(repo, hub.settings(cache), { include: ['*'], timing: fast })
    await assert.rejects(attempt, refusal(/leave their folder[\s\S]*evil/))
    assert.deepEqual(readdirSync(cache), [])
  }
})

test('resolveModel: a path, then a complete snapshot, then the hub', async () => {
  await using hub = await open()
  const settings = hub.settings(freshCache())
  const options = { timing: fast }
  assert.equal(await resolveModel(root, settings), root)
  const path = await resolveModel(repo, settings, options)
  hub.asked.length = 0
  assert.equal(await resolveModel(repo, settings, options), path)
  assert.equal(await resolveModel(repo, { ...settings, offline: true }), path)
  assert.equal(hub.asked.length, 0)
  rmSync(join(path, 'model-00002-of-000002.safetensors'))
  await assert.rejects(
    resolveModel(repo, { ...settings, offline: true }),
    refusal(
      /is not whole in the cache[\s\S]*HF_HUB_OFFLINE[\s\S]*model-00002-of-000002.safetensors is missing/,
    ),
  )
  assert.equal(await resolveModel(repo, settings, options), path)
  assert.equal(hub.gets('/model-00002').length, 0) // the blob was still there
})

test('resolveModel says what mends it', async () => {
  await using hub = await open()
  const settings = hub.settings(freshCache())
  const offline = { ...settings, offline: true }
  await assert.rejects(resolveModel('./nowhere', settings), refusal(/no model at '.\/nowhere'.*org\/name/))
  await assert.rejects(resolveModel('a/b/c', settings), refusal(/no such path/))
  await assert.rejects(
    resolveModel(repo, offline),
    refusal(/HF_HUB_OFFLINE.*`latent download org\/tiny-model`/),
  )
  await assert.rejects(download(repo, offline), refusal(/HF_HUB_OFFLINE/))
  await assert.rejects(
    resolveModel('org/other', settings, { timing: fast }),
    refusal(/no such .*HF_TOKEN.*404/),
  )
  const badEndpoint = { ...settings, endpoint: 'nonsense' }
  await assert.rejects(resolveModel(repo, badEndpoint), refusal(/HF_ENDPOINT/))
  await using bare = await fakeHub(repo, revisions, { 'config.json': text({}), 'x.safetensors': noise(9, 1) })
  await assert.rejects(
    resolveModel(repo, bare.settings(freshCache()), { timing: fast }),
    refusal(/not a model[\s\S]*no tokenizer\.json[\s\S]*no model\.safetensors/),
  )
})

test('a cache that cannot be written is named', async () => {
  await using hub = await open()
  const cache = freshCache()
  mkdirSync(join(cache, 'models--org--tiny-model'))
  writeFileSync(join(cache, 'models--org--tiny-model', 'blobs'), 'in the way')
  await assert.rejects(
    download(repo, hub.settings(cache), { timing: fast }),
    refusal(/cannot write to the cache at .*blobs/),
  )
})
