// Who holds which page of the latent cache, and which pages hold a known prefix. Counts pages; never sees their contents.
//
//   free ──take──▶ held (1 or more sequences) ──last release──▶ free, or cached when published
//   cached ──share──▶ held                     cached ──take, oldest first──▶ free
//
// At any time every page is in exactly one of the three: free + cached + held == total.

interface Page {
  holders: number
  /** The key it is published under, or null. */
  key: string | null
  /** Unique number of that publication: what the key of the following page is built on. */
  link: number
}

/** What a prefix is known by: the publication before it (0 at the start), its salt there, and its own tokens: exact. */
function keyOf(link: number, tokens: readonly number[], salt: string): string {
  return `${link}:${link === 0 ? salt : ''}:${tokens.join(',')}` // a salt may hold anything; links and tokens are numbers
}

export interface PoolCounts {
  readonly total: number
  readonly free: number
  readonly cached: number
  readonly held: number
}

export class PagePool {
  readonly pageSize: number
  readonly #pages: Page[]
  readonly #free: number[]
  /** Published pages that nobody holds, oldest release first. */
  readonly #cached = new Set<number>()
  readonly #index = new Map<string, number>()
  readonly #prefixes: boolean
  #links = 0

  constructor(total: number, pageSize: number, prefixes: boolean = true) {
    this.pageSize = pageSize
    this.#pages = Array.from({ length: total }, () => ({ holders: 0, key: null, link: 0 }))
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i)
    this.#prefixes = prefixes
  }

  get counts(): PoolCounts {
    const total = this.#pages.length
    const free = this.#free.length
    const cached = this.#cached.size
    return { total, free, cached, held: total - free - cached }
  }

  /** Pages that `take` could give now. */
  get available(): number {
    return this.#free.length + this.#cached.size
  }

  /** A page of one's own, forgetting the oldest cached prefix when none is free; null when all are held. */
  take(): number | null {
    let page = this.#free.pop()
    if (page === undefined) {
      page = this.#cached.values().next().value
      if (page === undefined) return null
      this.#cached.delete(page)
      this.#forget(page)
    }
    this.#pages[page].holders = 1
    return page
  }

  /** Finds and holds the pages of the longest known prefix of `tokens`, whole pages only. */
  share(tokens: readonly number[], salt: string): { readonly pages: number[]; readonly link: number } {
    const pages: number[] = []
    let link = 0
    if (!this.#prefixes) return { pages, link }
    for (let end = this.pageSize; end <= tokens.length; end += this.pageSize) {
      const found = this.#index.get(keyOf(link, tokens.slice(end - this.pageSize, end), salt))
      if (found === undefined) break
      const page = this.#pages[found]
      if (page.holders++ === 0) this.#cached.delete(found)
      pages.push(found)
      link = page.link
    }
    return { pages, link }
  }

  /**
   * Makes a full page findable as the one that follows `link`. Returns the link for the next page. Where the same
   * prefix is known already, the older page stays the known one.
   */
  publish(page: number, link: number, tokens: readonly number[], salt: string): number {
    if (!this.#prefixes) return 0
    const key = keyOf(link, tokens, salt)
    const known = this.#index.get(key)
    if (known !== undefined) return this.#pages[known].link
    this.#index.set(key, page)
    this.#pages[page].key = key
    this.#pages[page].link = ++this.#links
    return this.#links
  }

  /** Gives a sequence's pages back; the last ones are forgotten first, since they are no use without the earlier. */
  release(pages: readonly number[]): void {
    for (const number of [...pages].reverse()) {
      const page = this.#pages[number]
      if (page.holders === 0) throw new Error(`page ${number} was released twice`)
      if (--page.holders > 0) continue
      if (page.key === null) this.#free.push(number)
      else this.#cached.add(number)
    }
  }

  /** Forgets every cached prefix that nobody holds. */
  clear(): void {
    for (const page of this.#cached) {
      this.#forget(page)
      this.#free.push(page)
    }
    this.#cached.clear()
  }

  #forget(number: number): void {
    const page = this.#pages[number]
    if (page.key !== null) this.#index.delete(page.key)
    page.key = null
    page.link = 0
  }
}
