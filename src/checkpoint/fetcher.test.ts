// Bad networks: everything a connection, a server or a disk can do to a download.
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { CheckpointError } from '../tensor/error.ts'
import { type Asked, type FakeHub, fakeHub, fast, gitHash, sha, sha256, type Vice } from './fakehub.ts'
import { type DownloadOptions, download } from './hub.ts'

const root = mkdtempSync(join(tmpdir(), 'latent-fetch-'))
after(() => rmSync(root, { recursive: true, force: true }))

const repo = 'org/name'
const weights = Uint8Array.from({ length: 400_000 }, (_, i) => (i * 7 + (i >> 9)) & 255)
const config = Buffer.from('{"model_type":"deepseek_v2"}')
const files = { 'model.safetensors': weights, 'config.json': config }
const blobName = sha256(weights)

interface Setting {
  readonly hub: FakeHub
  readonly folder: string
  readonly blob: string
  readonly lock: string
  readonly get: (options?: DownloadOptions) => Promise<string>
}

async function within(action: (setting: Setting) => Promise<void>): Promise<void> {
  await using hub = await fakeHub(repo, { main: sha('e') }, files)
  const cache = mkdtempSync(join(root, 'cache-'))
  const folder = join(cache, 'models--org--name')
  const blob = join(folder, 'blobs', blobName)
  const lock = join(cache, '.locks', 'models--org--name', `${blobName}.lock`)
  mkdirSync(dirname(blob), { recursive: true })
  mkdirSync(dirname(lock), { recursive: true })
  const get = (options: DownloadOptions = {}): Promise<string> =>
    download(repo, hub.settings(cache), { timing: fast, ...options })
  await action({ hub, folder, blob, lock, get })
}

const isBody = (asked: Asked): boolean => asked.host === 'storage' && asked.method === 'GET'
const bodies = (hub: FakeHub): Asked[] => hub.asked.filter(isBody)
const onBody =
  (vice: (nth: number) => Vice | undefined) =>
  (asked: Asked, nth: number): Vice | undefined =>
    isBody(asked) ? vice(nth) : undefined

async function arrives({ get, folder }: Setting): Promise<void> {
  const path = await get()
  assert.deepEqual(readFileSync(join(path, 'model.safetensors')), Buffer.from(weights))
  assert.deepEqual(readFileSync(join(path, 'config.json')), config)
  assert.deepEqual(readdirSync(join(folder, 'blobs')).sort(), [blobName, gitHash(config)].sort())
}

async function fails({ get, folder }: Setting, pattern: RegExp): Promise<void> {
  await assert.rejects(get(), (error) => {
    assert.ok(error instanceof CheckpointError, String(error))
    assert.match(error.message, pattern)
    return true
  })
  assert.equal(existsSync(join(folder, 'refs')), false)
}

test('a dropped connection resumes where it ended', () =>
  within(async (setting) => {
    setting.hub.vice = onBody((nth) => (nth < 3 ? { dropAfter: 90_000 } : undefined))
    await arrives(setting)
    const ranges = bodies(setting.hub).map(({ range }) => Number(range?.slice(6, -1) ?? 0))
    assert.equal(ranges.length, 4)
    assert.ok(
      ranges.every((from, i) => i === 0 || from > ranges[i - 1]),
      ranges.join(),
    )
  }))

test('progress buys patience: more drops than tries', () =>
  within(async (setting) => {
    setting.hub.vice = onBody(() => ({ dropAfter: 40_000 }))
    await arrives(setting)
    assert.ok(bodies(setting.hub).length >= 9)
  }))

test('a server that ignores ranges starts again from zero', () =>
  within(async (setting) => {
    setting.hub.vice = onBody((nth) => (nth === 0 ? { dropAfter: 90_000 } : { ignoreRange: true }))
    await arrives(setting)
  }))

test('ignored ranges and drops at one place end after some tries', () =>
  within(async (setting) => {
    setting.hub.vice = onBody(() => ({ dropAfter: 90_000, ignoreRange: true }))
    await fails(setting, /cannot download model.safetensors: gave up after 4 tries/)
  }))

test('an .incomplete from before is resumed', () =>
  within(async (setting) => {
    writeFileSync(`${setting.blob}.incomplete`, weights.subarray(0, 150_000))
    await arrives(setting)
    assert.deepEqual(
      bodies(setting.hub).map(({ range }) => range),
      ['bytes=150000-'],
    )
  }))

test('a whole .incomplete is only verified', () =>
  within(async (setting) => {
    writeFileSync(`${setting.blob}.incomplete`, weights)
    await arrives(setting)
    assert.equal(bodies(setting.hub).length, 0)
  }))

test('an .incomplete that is too long or of other bytes is started anew', async () => {
  for (const before of [new Uint8Array(500_000), new Uint8Array(400_000), new Uint8Array(100_000)]) {
    await within(async (setting) => {
      writeFileSync(`${setting.blob}.incomplete`, before)
      await arrives(setting)
    })
  }
})

test('416 starts anew', () =>
  within(async (setting) => {
    writeFileSync(`${setting.blob}.incomplete`, weights.subarray(0, 150_000))
    setting.hub.vice = onBody((nth) => (nth === 0 ? { status: 416 } : undefined))
    await arrives(setting)
    assert.deepEqual(
      bodies(setting.hub).map(({ range }) => range),
      ['bytes=150000-', undefined],
    )
  }))

test('a corrupt file is fetched once more', () =>
  within(async (setting) => {
    setting.hub.vice = onBody((nth) => (nth === 0 ? { corrupt: true } : undefined))
    await arrives(setting)
    assert.equal(bodies(setting.hub).length, 2)
  }))

test('a file that stays corrupt is removed and reported', () =>
  within(async (setting) => {
    setting.hub.vice = onBody(() => ({ corrupt: true }))
    await fails(setting, /model.safetensors came corrupt twice \(sha256 [0-9a-f]{64}, wanted [0-9a-f]{64}\)/)
    assert.equal(existsSync(setting.blob), false)
    assert.equal(existsSync(`${setting.blob}.incomplete`), false)
    assert.equal(existsSync(setting.lock), false)
  }))

test('a small file is checked against its git hash', () =>
  within(async (setting) => {
    setting.hub.vice = (asked) =>
      asked.path.endsWith('config.json') && asked.method === 'GET' ? { corrupt: true } : undefined
    await fails(setting, /config.json came corrupt twice \(git hash/)
  }))

test('silence ends a connection, and the next one resumes', () =>
  within(async (setting) => {
    setting.hub.vice = onBody((nth) => (nth === 0 ? { stallAfter: 90_000 } : undefined))
    await arrives(setting)
    assert.match(bodies(setting.hub)[1].range ?? '', /^bytes=\d+-$/)
  }))

test('slow is not silent', () =>
  within(async (setting) => {
    setting.hub.vice = onBody(() => ({ trickle: 60 })) // twice the patience in all
    await arrives(setting)
    assert.equal(bodies(setting.hub).length, 1)
  }))

test('eternal silence is given up', () =>
  within(async (setting) => {
    setting.hub.vice = onBody(() => ({ stallAfter: 0 }))
    await assert.rejects(
      setting.get({ timing: { ...fast, stall: 60 } }),
      /cannot download model.safetensors: gave up after 4 tries: nothing came for 0.06 s/,
    )
  }))

test('500, 503 and an expired storage address pass', async () => {
  for (const status of [500, 503, 403]) {
    await within(async (setting) => {
      setting.hub.vice = onBody((nth) => (nth < 2 ? { status } : undefined))
      await arrives(setting)
    })
  }
})

test('500 on the questions passes, too; for ever is given up', () =>
  within(async (setting) => {
    setting.hub.vice = (asked) => (asked.host === 'hub' ? { status: 502 } : undefined)
    await fails(setting, /cannot look up org\/name at revision main: gave up after 3 tries.*502/)
    setting.hub.vice = (asked, nth) =>
      asked.method === 'GET' ? undefined : nth < 2 ? { status: 500 } : undefined
    await arrives(setting)
  }))

test('429 waits as long as the server asks', () =>
  within(async (setting) => {
    const limited = { status: 429, headers: { 'retry-after': '0.25' } }
    setting.hub.vice = onBody((nth) => (nth === 0 ? limited : undefined))
    const start = performance.now()
    await arrives(setting)
    assert.ok(performance.now() - start >= 240)
    setting.hub.vice = () => ({ status: 429, headers: { 'retry-after': '7200' } })
    await assert.rejects(setting.get(), /429, try again in 7200 s/)
  }))

test('401, 403 and 404 are final and say what mends them', async () => {
  const cases: readonly (readonly [number, RegExp])[] = [
    [401, /refuses \(401\): the repository is gated.*set HF_TOKEN/],
    [403, /refuses \(403\).*accept its terms.*set HF_TOKEN/],
    [404, /no such repository or revision/],
    [410, /answered 410/],
  ]
  for (const [status, pattern] of cases) {
    await within(async (setting) => {
      setting.hub.vice = () => ({ status })
      await fails(setting, pattern)
      assert.equal(setting.hub.asked.length, 1)
    })
  }
})

test('no hub at all, and a hub that is something else', async () => {
  await within(async (setting) => {
    await setting.hub[Symbol.asyncDispose]()
    await fails(setting, /gave up after 3 tries: fetch failed \(.*ECONNREFUSED/)
  })
  await within(async (setting) => {
    setting.hub.vice = (asked) => (asked.method === 'GET' ? { status: 200 } : undefined)
    await fails(setting, /does not answer like a Hugging Face hub/)
  })
})

test('an abort ends it at once, keeps what came, and lets go of the lock', () =>
  within(async (setting) => {
    const controller = new AbortController()
    setting.hub.vice = onBody((nth) => (nth === 0 ? { stallAfter: 90_000 } : undefined))
    const progress = ({ file, loaded }: { file: string; loaded: number }): void => {
      if (file === 'model.safetensors' && loaded >= 90_000) controller.abort(new Error('enough'))
    }
    await assert.rejects(setting.get({ signal: controller.signal, progress }), /^Error: enough$/)
    assert.equal(readFileSync(`${setting.blob}.incomplete`).length, 90_000)
    assert.equal(existsSync(setting.lock), false)
    await arrives(setting)
    assert.equal(bodies(setting.hub)[1].range, 'bytes=90000-')
    await assert.rejects(setting.get({ signal: controller.signal }), /^Error: enough$/)
  }))

test('a lock left behind is taken over; a live one is waited for', () =>
  within(async (setting) => {
    const old = new Date(Date.now() - 3_600_000)
    writeFileSync(setting.lock, '') // as filelock leaves them
    utimesSync(setting.lock, old, old)
    await arrives(setting)

    rmSync(setting.folder, { recursive: true })
    mkdirSync(dirname(setting.blob), { recursive: true })
    writeFileSync(setting.lock, `999999999 ${hostname()} 0`) // no such process
    await arrives(setting)

    rmSync(setting.folder, { recursive: true })
    mkdirSync(dirname(setting.blob), { recursive: true })
    writeFileSync(setting.lock, `1 another-machine 0`)
    let released = false
    setTimeout(() => {
      released = true
      rmSync(setting.lock)
    }, 150)
    await arrives(setting)
    assert.ok(released)
  }))

test('a blob of the wrong length in the cache is replaced', () =>
  within(async (setting) => {
    writeFileSync(setting.blob, 'short')
    await arrives(setting)
  }))
