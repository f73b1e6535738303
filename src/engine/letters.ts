// What no mask of a grammar lets through though the grammar itself would: bytes that are no UTF-8, and the letters that a
// request bars. Looks at tokens and at how the answer's last letter began, because a letter may take several tokens.

export interface Filter {
  /** Clears the bits of tokens that would spell something barred after `tail`, the bytes of an unfinished letter. */
  apply(words: Int32Array, tail: string): void
}

/** Bytes of text as a string of one character each. */
export type Bytes = string

const noUtf8 = [
  '[\\xc0\\xc1\\xf5-\\xff]',
  '\\xe0[\\x80-\\x9f]',
  '\\xed[\\xa0-\\xbf]',
  '\\xf0[\\x80-\\x8f]',
  '\\xf4[\\x90-\\xbf]',
]

export function createFilter(tokens: readonly Bytes[], barred: readonly string[], size: number): Filter {
  const spelled = barred.map((letter) => Buffer.from(letter, 'utf8').toString('latin1'))
  const escaped = spelled.map((bytes) => [...bytes].map((byte) => `\\x${hex(byte)}`).join(''))
  const wrong = new RegExp([...noUtf8, ...escaped].join('|'))
  const clean = new Int32Array(Math.ceil(size / 32)).fill(-1)
  const inner: number[] = [] // tokens that go on with a letter another one began
  for (const [id, bytes] of tokens.entries()) {
    if (wrong.test(bytes)) clear(clean, id)
    if (bytes >= '\x80' && bytes < '\xc0') inner.push(id)
  }
  const afterTail = new Map<string, readonly number[]>()
  const wrongAfter = (tail: string): readonly number[] => {
    const known = afterTail.get(tail) ?? inner.filter((id) => wrong.test(tail + tokens[id]))
    afterTail.set(tail, known)
    return known
  }
  return {
    apply(words, tail) {
      for (let i = 0; i < words.length; i++) words[i] &= clean[i]
      if (tail !== '') for (const id of wrongAfter(tail)) clear(words, id)
    },
  }
}

function clear(words: Int32Array, id: number): void {
  words[id >> 5] &= ~(1 << (id & 31))
}

function hex(byte: string): string {
  return byte.charCodeAt(0).toString(16).padStart(2, '0')
}

/** The bytes at the end that begin a letter and do not finish it. */
export function unfinished(bytes: Bytes): Bytes {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const code = bytes.charCodeAt(bytes.length - back)
    if (code < 0x80) return ''
    if (code < 0xc0) continue
    const length = code >= 0xf0 ? 4 : code >= 0xe0 ? 3 : 2
    return back < length ? bytes.slice(-back) : ''
  }
  return ''
}
