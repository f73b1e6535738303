// JSON files as a checkpoint needs them: an object or a reason why not, and keys that stand twice.
// Knows nothing of what the keys mean.

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The object a text holds, or the reason why it holds none. */
export function parseObject(text: string): Record<string, unknown> | string {
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
    return `is JSON but not an object (${Array.isArray(value) ? 'a list' : value === null ? 'null' : typeof value})`
  } catch (error) {
    return `is not valid JSON (${error instanceof Error ? error.message : String(error)})`
  }
}

/**
 * Keys that stand twice in one object of valid JSON, as paths. JSON.parse keeps the last silently, so a file could show
 * one tensor to a checker and another to a loader.
 */
export function duplicateKeys(text: string): string[] {
  const found: string[] = []
  const open: { readonly seen: Set<string>; last: string }[] = []
  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    if (c === '{') open.push({ seen: new Set(), last: '' })
    else if (c === '}') open.pop()
    else if (c === '"') {
      const end = closingQuote(text, at)
      const top = open.at(-1)
      if (top !== undefined && isKey(text, end)) {
        top.last = String(JSON.parse(text.slice(at, end + 1)))
        if (top.seen.has(top.last)) found.push(open.map((object) => object.last).join(' > '))
        top.seen.add(top.last)
      }
      at = end
    }
  }
  return found
}

function closingQuote(text: string, start: number): number {
  let end = text.indexOf('"', start + 1)
  for (;;) {
    let slashes = 0
    while (text[end - 1 - slashes] === '\\') slashes++
    if (slashes % 2 === 0) return end
    end = text.indexOf('"', end + 1)
  }
}

function isKey(text: string, end: number): boolean {
  let at = end + 1
  while (' \n\r\t'.includes(text[at] ?? '.')) at++
  return text[at] === ':'
}
