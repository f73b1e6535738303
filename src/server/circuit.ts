// Whether an upstream that failed may be asked again: after some failures in a row nobody asks for a while, then one
// request tries, and its fate decides. Knows no network.

export interface CircuitRules {
  /** Failures in a row that open it. */
  readonly failures: number
  /** How long it stays open at first; each failed trial doubles it, up to `mostMs`. */
  readonly openMs: number
  readonly mostMs: number
}

export interface Circuit {
  readonly state: 'closed' | 'open' | 'trying'
  /** Whether a request may go through now. */
  readonly ready: boolean
  /** A request goes through; where it is the one that tries, nobody else does until it is known how it went. */
  begin(): void
  /** `null` says nothing about the upstream: the client left, or asked for something wrong. */
  end(good: boolean | null): void
}

export function createCircuit(rules: CircuitRules, clock: () => number = () => performance.now()): Circuit {
  let failures = 0
  let openMs = rules.openMs
  let until: number | null = null
  let trying = false

  const state = (): Circuit['state'] => (until === null ? 'closed' : clock() < until ? 'open' : 'trying')

  function open(): void {
    openMs = until === null ? rules.openMs : Math.min(openMs * 2, rules.mostMs)
    until = clock() + openMs
  }

  return {
    get state() {
      return state()
    },
    get ready() {
      return state() === 'closed' || (state() === 'trying' && !trying)
    },
    begin() {
      if (state() === 'trying') trying = true
    },
    end(good) {
      const now = state()
      if (now !== 'open') trying = false
      if (good === null) return
      failures = good ? 0 : failures + 1
      if (good) until = null
      // those that were under way when it opened tell nothing new
      else if (now === 'trying' || (now === 'closed' && failures >= rules.failures)) open()
    },
  }
}
