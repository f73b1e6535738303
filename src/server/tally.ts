// What the gateway counts, as Prometheus reads it (https://prometheus.io/docs/instrumenting/exposition_formats).
// The sums over all upstreams bear vLLM's names, so that its dashboards work.
import { createHistogram, secondsOf } from './histogram.ts'
import type { Upstream } from './upstream.ts'

type Kind = 'counter' | 'gauge'
type Row = readonly [name: string, kind: Kind, help: string, value: (upstream: Upstream) => number]

const rows: readonly Row[] = [
  ['up', 'gauge', 'Whether it takes requests', ({ mark }) => (mark === 'up' ? 1 : 0)],
  ['draining', 'gauge', 'Whether it answers but takes none', ({ mark }) => (mark === 'draining' ? 1 : 0)],
  ['circuit_open', 'gauge', 'Whether failures keep requests away', ({ circuit }) => (circuit.ready ? 0 : 1)],
  ['in_flight', 'gauge', 'Requests under way', ({ running }) => running],
  ['requests_total', 'counter', 'Requests sent', ({ counts }) => counts.requests],
  ['retries_total', 'counter', 'Requests that another upstream had failed', ({ counts }) => counts.retries],
  ['failovers_total', 'counter', 'Requests that went on to another', ({ counts }) => counts.failovers],
  ['cut_streams_total', 'counter', 'Streams that broke after a token', ({ counts }) => counts.cut],
  ['unreachable_total', 'counter', 'Connections that failed', ({ counts }) => counts.unreachable],
  ['timeouts_total', 'counter', 'Requests that took too long', ({ counts }) => counts.timeouts],
  ['errors_total', 'counter', 'Other failures', ({ counts }) => counts.errors],
]

const sums: readonly Row[] = [
  ['num_requests_running', 'gauge', 'Requests under way', ({ running }) => running],
  [
    'prompt_tokens_total',
    'counter',
    'Tokens of prompts, as answers say',
    ({ counts }) => counts.promptTokens,
  ],
  [
    'generation_tokens_total',
    'counter',
    'Tokens made, as answers say',
    ({ counts }) => counts.generationTokens,
  ],
]

const head = (name: string, kind: Kind | 'histogram', help: string): readonly string[] => [
  `# HELP ${name} ${help}`,
  `# TYPE ${name} ${kind}`,
]
const label = ({ name }: Upstream): string => `upstream="${name.replace(/["\\\n]/g, '_')}"`

export function expose(upstreams: readonly Upstream[], requests: ReadonlyMap<string, number>): string {
  const lines: string[] = []
  for (const [name, kind, help, value] of rows) {
    const full = `latent_gateway_upstream_${name}`
    lines.push(...head(full, kind, help), ...upstreams.map((one) => `${full}{${label(one)}} ${value(one)}`))
  }
  const first = 'latent_gateway_upstream_time_to_first_token_seconds'
  lines.push(...head(first, 'histogram', 'From the request to its first token'))
  lines.push(...upstreams.flatMap((one) => one.firstToken.lines(first, label(one))))
  const all = 'latent_gateway_requests_total'
  lines.push(...head(all, 'counter', 'Requests by how they ended'))
  lines.push(...[...requests].map(([labels, count]) => `${all}{${labels}} ${count}`))
  for (const [name, kind, help, value] of sums) {
    const total = upstreams.reduce((sum, one) => sum + value(one), 0)
    lines.push(...head(`vllm:${name}`, kind, help), `vllm:${name} ${total}`)
  }
  const merged = [
    ['vllm:time_to_first_token_seconds', 'firstToken'],
    ['vllm:e2e_request_latency_seconds', 'whole'],
  ] as const
  for (const [name, member] of merged) {
    const parts = upstreams.map((one) => one[member])
    lines.push(...head(name, 'histogram', 'Over all upstreams'))
    lines.push(...createHistogram(secondsOf[member], parts).lines(name, ''))
  }
  return `${lines.join('\n')}\n`
}
