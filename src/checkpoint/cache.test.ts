// The pieces of the cache that a file system without symbolic links, or a stranger's files, put to the test.
import assert from 'node:assert/strict'
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { link, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { missingFiles, point, readRef, repoFolder, writeRef } from './cache.ts'
import { selectFiles } from './select.ts'

const root = mkdtempSync(join(tmpdir(), 'latent-cache-'))
after(() => rmSync(root, { recursive: true, force: true }))

const denied = (): Promise<void> => Promise.reject(Object.assign(new Error('denied'), { code: 'EPERM' }))

test('without symbolic links a hard link stands in, and without those a copy', async () => {
  const blob = join(root, 'blob')
  writeFileSync(blob, 'contents')
  const pointer = join(root, 'snapshots', 'sha', 'file')
  await point(pointer, blob, { symlink: denied, link })
  assert.equal(lstatSync(pointer).isSymbolicLink(), false)
  assert.equal(statSync(pointer).ino, statSync(blob).ino)
  await point(pointer, blob, { symlink: denied, link: denied })
  assert.notEqual(statSync(pointer).ino, statSync(blob).ino)
  assert.equal(readFileSync(pointer, 'utf8'), 'contents')
  await point(pointer, blob, { symlink, link })
  assert.equal(lstatSync(pointer).isSymbolicLink(), true)
})

test('refs hold a commit and nothing else', async () => {
  const folder = repoFolder(root, 'org/refs')
  const sha = 'f'.repeat(40)
  assert.equal(readRef(folder, 'main'), null)
  await writeRef(folder, 'feature/x', sha)
  assert.equal(readRef(folder, 'feature/x'), sha)
  writeFileSync(join(folder.path, 'refs', 'main'), '../../elsewhere')
  assert.equal(readRef(folder, 'main'), null)
})

test('a snapshot is complete when every shard of its index is there', () => {
  const folder = join(root, 'snapshot')
  mkdirSync(folder)
  const add = (name: string, content = 'x'): void => writeFileSync(join(folder, name), content)
  assert.deepEqual(missingFiles(folder), [
    'config.json',
    'tokenizer.json',
    'model.safetensors (or its index)',
  ])
  add('config.json')
  add('tokenizer.json')
  add('model.safetensors.index.json', 'half of')
  assert.deepEqual(missingFiles(folder), ['a readable model.safetensors.index.json'])
  add('model.safetensors.index.json', '{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}')
  add('one.safetensors')
  assert.deepEqual(missingFiles(folder), ['two.safetensors'])
  add('two.safetensors')
  assert.deepEqual(missingFiles(folder), [])
})

test('globs', () => {
  const names = ['a.json', 'b.txt', 'sub/c.json', 'x+y.json', 'config.json', 'm.bin', 'model.safetensors']
  assert.deepEqual(selectFiles(names), ['config.json', 'model.safetensors'])
  assert.deepEqual(selectFiles(names, ['*.json']), ['a.json', 'sub/c.json', 'x+y.json', 'config.json'])
  assert.deepEqual(selectFiles(names, ['sub/', '?.txt']), ['b.txt', 'sub/c.json'])
  assert.deepEqual(selectFiles(names, ['x+*'], ['*y*']), [])
  assert.deepEqual(selectFiles(names, undefined, ['*.safetensors']), ['config.json'])
})
