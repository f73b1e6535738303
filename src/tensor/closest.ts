// The nearest known word to a misspelt one, for "did you mean". Knows letters, not what the words name.

/**
 * The candidate nearest to `word` by edit distance, the first of equals; null where none is near enough to be
 * meant.
 */
export function closest(word: string, candidates: Iterable<string>): string | null {
  const given = plain(word)
  let best: string | null = null
  let least = Infinity
  for (const candidate of candidates) {
    const distance = levenshtein(given, plain(candidate))
    // Two letters in five may be wrong: further off, a suggestion misleads more often than it helps.
    const near = distance <= 0.4 * Math.max(given.length, candidate.length)
    if (near && distance < least) {
      best = candidate
      least = distance
    }
  }
  return best
}

/** `topP`, `top-p` and `TOP_P` are the same slip. */
function plain(word: string): string {
  return word.toLowerCase().replaceAll('-', '_')
}

/** How many letters to insert, delete or replace to turn `a` into `b`. */
export function levenshtein(a: string, b: string): number {
  // row[j] is the distance from the first i letters of a to the first j letters of b.
  const row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    let diagonal = row[0]
    row[0] = i
    for (let j = 1; j <= b.length; j++) {
      const replaced = diagonal + (a[i - 1] === b[j - 1] ? 0 : 1)
      diagonal = row[j]
      row[j] = Math.min(replaced, row[j] + 1, row[j - 1] + 1)
    }
  }
  return row[b.length]
}
