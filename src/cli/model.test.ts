// What loading shows on a terminal, and that --quiet shows nothing of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Io } from './io.ts'
import { createLoadView } from './model.ts'
import { paintFor } from './style.ts'

async function shown(options: { readonly quiet?: boolean }): Promise<string> {
  let text = ''
  const stderr = { columns: 80, write: (piece: string) => (text += piece) }
  const io = { stderr, live: true, err: paintFor(false, {}), out: paintFor(false, {}), env: {} }
  const view = createLoadView(io as unknown as Io, options)
  await new Promise((resolve) => setTimeout(resolve, 250)) // what is done at once shows nothing anyhow
  view.show({ status: 'load', loaded: 1, total: 8 })
  view.close()
  return text
}

test('a bar while loading, and nothing under --quiet', async () => {
  assert.match(await shown({}), /loading .* 1\/8 layers/)
  assert.equal(await shown({ quiet: true }), '')
})
