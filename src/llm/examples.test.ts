// The programs of examples/ as their readers run them: compiled, in a process of their own, on the demo model.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

async function run(name: string, ...words: string[]): Promise<string> {
  const path = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [path, ...words])
  assert.equal(stderr, '')
  return stdout
}

describe('examples', { concurrency: 2 }, () => {
  it("the card's program for transformers", async () => {
    assert.match(await run('transformers', 'demo'), /quicksort/)
  })

  it("the card's program for vLLM", async () => {
    const printed = await run('vllm', 'demo')
    assert.match(printed, /^\[\n.*demo model/)
    assert.match(printed, /quicksort/)
  })

  it('a chat', async () => {
    assert.match(await run('chat', 'demo'), /\n\d+ tokens \(\w+\), [\d.]+ tokens a second\n$/)
  })

  it('several completions', async () => {
    const printed = await run('complete', 'demo')
    assert.match(printed, /Once upon a time\|/)
    assert.match(printed, /the same answer again: true\n$/)
  })

  it('a plan', async () => {
    const printed = await run('plan')
    assert.match(printed, /235\.74 B parameters/)
    assert.match(printed, /7 hold it/)
  })
})
