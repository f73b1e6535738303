// The byte alphabet of GPT-2: one printable letter per byte, in which every byte-level vocabulary is written.
// Knows bytes and letters, not tokens.

/** Letter of each byte: itself where it prints, else the next unused letter from U+0100 on. */
export const letters: readonly string[] = alphabet()

const byteOf: ReadonlyMap<string, number> = new Map(letters.map((letter, byte) => [letter, byte]))
const utf8 = new TextEncoder()

function alphabet(): string[] {
  const prints = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad)
  let unused = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(prints(byte) ? byte : unused++))
}

/**
 * The bytes of a vocabulary entry. One that is not written in the alphabet (a control token) stands for
 * itself.
 */
export function bytesOf(entry: string): Uint8Array {
  const bytes = new Uint8Array(entry.length)
  for (let i = 0; i < entry.length; i++) {
    const byte = byteOf.get(entry[i])
    if (byte === undefined) return utf8.encode(entry)
    bytes[i] = byte
  }
  return bytes
}

/**
 * Whether well-formed UTF-8 can contain the byte; vocabularies often leave out the thirteen that it cannot.
 */
export function occursInText(byte: number): boolean {
  return byte !== 0xc0 && byte !== 0xc1 && byte < 0xf5
}
