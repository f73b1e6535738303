// Breaks lines between words as the words come, so that a terminal does not break them anywhere. Knows columns.

export interface Wrap {
  push(text: string): string
  /** The word that is still held back. */
  flush(): string
}

/** A word is held until what follows it shows its end; letters that may be broken anywhere (CJK) are not. */
export function createWrap(columns: () => number): Wrap {
  let column = 0
  let blank = '' // between the last word and the one that is held
  let word = ''
  let width = 0

  function flush(): string {
    const breaks = blank !== '' && column > 0 && column + blank.length + width >= columns()
    const text = (breaks ? '\n' : blank) + word
    column = breaks ? width : column + blank.length + width
    blank = word = ''
    width = 0
    return text
  }

  function push(text: string): string {
    let out = ''
    for (const letter of text) {
      if (letter === '\n') {
        out += `${flush()}\n`
        column = 0
      } else if (letter === ' ' || letter === '\t') {
        if (word !== '') out += flush()
        blank += letter
      } else {
        word += letter
        width += isWide(letter) ? 2 : 1
        if (isWide(letter)) out += flush()
      }
    }
    return out
  }

  return { push, flush }
}

const isWide = (letter: string): boolean => (letter.codePointAt(0) ?? 0) >= 0x2e80
