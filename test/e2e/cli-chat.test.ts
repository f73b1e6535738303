// A conversation at a terminal: `script` gives the program a pseudo-terminal, and the test types.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { onTerminal, scratch, whyNoTerminal } from '../../src/cli/trial.ts'

const skip = whyNoTerminal() ?? false
const chat = ['chat', '--greedy', '--backend', 'reference']
const ctrlC = '\u0003'
const ctrlD = '\u0004'
const ready = /› [^\n]*$/

describe('latent chat at a terminal', { skip }, () => {
  it('answers, remembers, and obeys its commands', async () => {
    const file = join(scratch(), 'chat.json')
    const { code, shown } = await onTerminal(chat, [
      [ready, 'My secret number is 977.\n'],
      [/remember that\.[\s\S]*› /, 'What is my secret number?\n'],
      [/977\.[\s\S]*› /, '/retry\n'],
      [/977\.[\s\S]*› /, '/stats\n'],
      [/backend[\s\S]*› /, '/set\n'],
      [/include_stop_str_in_output[\s\S]*› /, '/set temprature 1\n'],
      [/did you mean temperature\?[\s\S]*› /, '/set top_p 0.5\n'],
      [/top_p = 0\.5[\s\S]*› /, '/set top_p 7\n'],
      [/top_p is 7, it must be[\s\S]*› /, '/set n 2\n'],
      [/only one answer can be shown here[\s\S]*› /, '/set cache_salt mine\n'],
      [/cache_salt = mine[\s\S]*› /, '/savee\n'],
      [/did you mean \/save\?[\s\S]*› /, `/save ${file}\n`],
      [/4 messages written[\s\S]*› /, '/reset\n'],
      [/a new conversation[\s\S]*› /, `/load ${file}\n`],
      [/4 messages read[\s\S]*› /, '/help\n'],
      [/\/exit +leave[\s\S]*› /, '/exit\n'],
    ])
    assert.equal(code, 0)
    // a slow machine shows the loading bar first
    assert.match(shown, /^demo · 13\.95 M parameters, [\d,]+ tokens of context$/m)
    assert.match(shown, /temperature +0 +set here/)
    const messages: readonly { readonly role: string; readonly content: string }[] = JSON.parse(
      readFileSync(file, 'utf8'),
    )
    assert.deepEqual(
      messages.map(({ role }) => role),
      ['user', 'assistant', 'user', 'assistant'],
    )
    assert.match(messages[3].content, /977/)
  })

  it('takes many lines, stops an answer but not itself, and leaves on the second Ctrl-C', async () => {
    const { code, shown } = await onTerminal(chat, [
      [
        ready,
        '"""Read the text and answer.\n\nRosa lost a blue kite near the beach.\n\nWhere did Rosa lose the kite?"""\n',
      ],
      [/near the beach\.[\s\S]*near the beach\.[\s\S]*› /, 'Tell me a story about a frog.\n'],
      [/Long ago/, ctrlC],
      [/\(stopped\)[\s\S]*› /, '/system Answer in capital letters.\n'],
      [/this system message[\s\S]*› /, 'What is the capital of Ecuador?\n'],
      [/IS QUITO\.[\s\S]*› /, `half a line${ctrlC}`],
      [/\^C[\s\S]*› /, ctrlC],
      [/Ctrl-C again[\s\S]*› /, ctrlC],
    ])
    assert.equal(code, 0)
    assert.doesNotMatch(shown, /latent: /)
  })

  it('forgets nothing over an error', async () => {
    const file = join(scratch(), 'long.json')
    writeFileSync(file, JSON.stringify([{ role: 'user', content: 'word '.repeat(99) }]))
    const { code, shown } = await onTerminal(
      [...chat, '--max-model-len', '64'],
      [
        [ready, `/load ${file}\n`],
        [/1 message read[\s\S]*› /, '/retry\n'],
        [/the prompt has 105 tokens[\s\S]*› /, '/retry\n'],
        [/the prompt has 105 tokens[\s\S]*› /, ctrlD],
      ],
    )
    assert.equal(code, 0, shown)
  })

  it('leaves on Ctrl-D, and goes on from a file', async () => {
    const file = join(scratch(), 'begun.json')
    writeFileSync(
      file,
      JSON.stringify({ messages: [{ role: 'user', content: 'What is the capital of Ecuador?' }] }),
    )
    const { code, shown } = await onTerminal(chat, [
      [ready, `/load ${file}\n`],
      [/\/retry answers the last[\s\S]*› /, '/retry\n'],
      [/is Quito\.[\s\S]*› /, ctrlD],
    ])
    assert.equal(code, 0)
    assert.match(shown, /The capital of Ecuador is Quito\./)
  })
})
