// All upstreams: which of them may take a request, who made which stored response, who serves which model, and the
// rounds that look after them. Knows no bodies.
import { RequestError } from '../tensor/error.ts'
import { choose, type Rules } from './balance.ts'
import type { CircuitRules } from './circuit.ts'
import type { Timeouts } from './dial.ts'
import { Failure } from './failure.ts'
import { type Card, createUpstream, type Upstream, type UpstreamOptions } from './upstream.ts'

export interface HealthRules {
  readonly everyMs: number
  readonly timeoutMs: number
  readonly probes: number
}

export interface FleetRules {
  readonly balance: Rules
  readonly timeouts: Timeouts
  readonly circuit: CircuitRules
  readonly health: HealthRules
}

export interface Want {
  /** Null takes any. */
  readonly model: string | null
  readonly prefix: string | null
  readonly id: string
  /** The only one that will do. */
  readonly owner: Upstream | null
}

export interface Fleet {
  readonly upstreams: readonly Upstream[]
  /** By id, each as the first upstream that serves it describes it. */
  models(): ReadonlyMap<string, Card>
  /** Throws 404 where no upstream serves it. */
  checkModel(model: unknown): string | null
  /** Null when none is left that may be asked. */
  choose(want: Want, tried: ReadonlySet<Upstream>): Upstream | null
  /** Stored responses live where they were made. */
  own(response: string, upstream: Upstream): void
  owner(response: string): Upstream | null
  /** One round over all; resolves when each has answered or failed to. */
  probe(): Promise<void>
  close(): void
}

/** Ids that are remembered; the oldest go first. */
const remembered = 100_000

export function createFleet(options: readonly UpstreamOptions[], rules: FleetRules): Fleet {
  const { health, balance } = rules
  const timers = new Map<
    Upstream,
    { readonly timer: ReturnType<typeof setTimeout>; readonly soon: boolean }
  >()
  const owners = new Map<string, Upstream>()
  let closed = false

  const probe = (upstream: Upstream): Promise<boolean> => upstream.probe(health.timeoutMs)

  /** One chain of timers an upstream, so that probes never overlap; jittered, so that gateways do not probe in step. */
  function plan(upstream: Upstream, ms: number, soon = false): void {
    clearTimeout(timers.get(upstream)?.timer)
    if (closed) return
    const timer = setTimeout(
      () => {
        timers.delete(upstream)
        void probe(upstream).then((answered) => again(upstream, answered))
      },
      ms * (0.8 + 0.4 * Math.random()),
    )
    timer.unref()
    timers.set(upstream, { timer, soon })
  }

  // one that is down should be back soon, and one that fell silent should be known for it before its requests wait long
  const again = (upstream: Upstream, answered: boolean): void =>
    plan(upstream, answered && upstream.mark === 'up' ? health.everyMs : Math.min(health.everyMs, 1000))

  const doubt = (upstream: Upstream): void => {
    if (timers.get(upstream)?.soon === false) plan(upstream, Math.min(health.everyMs, 100), true)
  }

  const rule = { timeouts: rules.timeouts, circuit: rules.circuit, probes: health.probes }
  const upstreams = options.map((one) => createUpstream(one, rule, doubt))
  const twice = upstreams.find(({ name }, i) => upstreams.findIndex((one) => one.name === name) < i)
  if (twice) throw new RequestError(`--upstream ${twice.name} is given twice`)
  for (const upstream of upstreams) plan(upstream, health.everyMs)

  function models(): ReadonlyMap<string, Card> {
    return new Map(upstreams.toReversed().flatMap((one) => [...(one.models ?? [])]))
  }

  function checkModel(model: unknown): string | null {
    if (model === undefined || model === null || model === '') return null
    if (typeof model !== 'string') {
      throw new Failure(400, `model must be a name, ${JSON.stringify(model)} given`, { param: 'model' })
    }
    if (upstreams.some((one) => one.models?.has(model) ?? true)) return model
    const names = [...models().keys()].map((name) => `'${name}'`).join(', ')
    const message = `the model '${model.slice(0, 100)}' is not served here; there is ${names}`
    throw new Failure(404, message, { param: 'model', code: 'model_not_found' })
  }

  function pick({ model, prefix, id, owner }: Want, tried: ReadonlySet<Upstream>): Upstream | null {
    const able = (owner ? [owner] : upstreams).filter(
      (one) => !tried.has(one) && (owner !== null || model === null || (one.models?.has(model) ?? true)),
    )
    // where nothing better is left, a try is better than a refusal; only what is down is down
    const classes = [
      able.filter(({ mark, circuit }) => mark === 'up' && circuit.ready),
      able.filter(({ mark }) => mark === 'draining'),
      able.filter(({ mark }) => mark === 'up'),
    ]
    const best = classes.find((list) => list.length > 0) ?? []
    const candidates = best.map((one) => ({
      name: one.name,
      load: balance.by === 'tokens' ? one.tokens : one.running,
      one,
    }))
    return choose(candidates, { prefix, tie: id }, balance)?.one ?? null
  }

  return {
    upstreams,
    models,
    checkModel,
    choose: pick,
    own(response, upstream) {
      owners.delete(response)
      owners.set(response, upstream)
      if (owners.size > remembered) owners.delete(owners.keys().next().value as string)
    },
    owner: (response) => owners.get(response) ?? null,
    async probe() {
      await Promise.all(upstreams.map(probe))
    },
    close() {
      closed = true
      for (const { timer } of timers.values()) clearTimeout(timer)
      for (const upstream of upstreams) upstream.close()
    },
  }
}
