// Metrics: the exposition format by a strict reader, vLLM's names and buckets, and numbers that add up.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fakeLLM, get, post } from './fake.ts'
import type { JobFacts } from './job.ts'
import { createMetrics, lengthBuckets } from './metrics.ts'
import { createCounter, exposition, histogramSamples } from './prometheus.ts'
import { createServer } from './server.ts'

interface Read {
  readonly types: ReadonlyMap<string, string>
  /** `name{labels}` as written -> value. */
  readonly values: ReadonlyMap<string, number>
}

/** The text format, strictly: every family with HELP and TYPE, once and together; histograms whole and cumulative. */
function read(text: string): Read {
  assert.ok(text.endsWith('\n'))
  const types = new Map<string, string>()
  const values = new Map<string, number>()
  let [family, helped] = ['', '']
  for (const line of text.slice(0, -1).split('\n')) {
    const help = /^# HELP ([a-zA-Z_:][\w:]*) (?:[^\\]|\\\\|\\n)+$/.exec(line)
    if (help) {
      helped = help[1]
      continue
    }
    const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line)
    if (type) {
      assert.equal(type[1], helped, 'HELP comes before TYPE')
      assert.ok(!types.has(type[1]), `${type[1]} twice`)
      family = type[1]
      types.set(family, type[2])
      continue
    }
    const sample =
      /^([a-zA-Z_:][\w:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?!\}))?)*\})? (-?\d+(?:\.\d+)?(?:e[+-]\d+)?|\+Inf|NaN)$/.exec(
        line,
      )
    assert.ok(sample, `not a sample: ${line}`)
    const [, name, labels = '', value] = sample
    const suffixes = types.get(family) === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
    assert.ok(
      suffixes.some((suffix) => name === family + suffix),
      `${name} in the family ${family}`,
    )
    assert.ok(!values.has(name + labels), `${name}${labels} twice`)
    values.set(name + labels, Number(value))
  }
  for (const [name, type] of types) if (type === 'histogram') checkHistogram(name, values)
  return { types, values }
}

function checkHistogram(name: string, values: Read['values']): void {
  const buckets = [...values].filter(([key]) => key.startsWith(`${name}_bucket`))
  const bounds = buckets.map(([key]) => /le="([^"]+)"/.exec(key)?.[1] ?? '')
  assert.equal(bounds.at(-1), '+Inf')
  const numbers = bounds.map((bound) => (bound === '+Inf' ? Infinity : Number(bound)))
  assert.deepEqual(
    numbers,
    [...numbers].sort((a, b) => a - b),
  )
  const counts = buckets.map(([, count]) => count)
  assert.deepEqual(
    counts,
    [...counts].sort((a, b) => a - b),
    `${name} is cumulative`,
  )
  const [, count] = [...values].find(([key]) => key.startsWith(`${name}_count`)) ?? []
  assert.equal(count, counts.at(-1))
}

const llm = await fakeLLM()
const engine = 'model_name="demo",engine="0"'

describe('the text format', () => {
  it('labels and help are escaped, numbers written as clients of Prometheus write them', () => {
    const counter = createCounter()
    counter.add({ path: 'a"b\\c\nd' }, 2.5)
    const text = exposition([
      { name: 'x_total', type: 'counter', help: 'a\\b\nc', samples: counter.samples() },
    ])
    assert.equal(
      text,
      '# HELP x_total a\\\\b\\nc\n# TYPE x_total counter\nx_total{path="a\\"b\\\\c\\nd"} 2.5\n',
    )
    read(text)
  })

  it('a histogram is cumulative and ends at +Inf', () => {
    assert.deepEqual(
      histogramSamples([1, 5], [2, 0, 3], 40, {}).map(({ labels, value }) => [labels.le, value]),
      [
        ['1.0', 2],
        ['5.0', 2],
        ['+Inf', 5],
        [undefined, 5],
        [undefined, 40],
      ],
    )
  })
})

describe('GET /metrics', () => {
  /** vLLM's, and process_* as every client has them. */
  const names = [
    ...['num_requests_running', 'num_requests_waiting', 'kv_cache_usage_perc', 'cache_config_info'],
    ...['prefix_cache_queries_total', 'prefix_cache_hits_total', 'num_preemptions_total'],
    ...['prompt_tokens_total', 'generation_tokens_total', 'request_success_total'],
    ...['time_to_first_token_seconds', 'inter_token_latency_seconds', 'e2e_request_latency_seconds'],
    ...['request_queue_time_seconds', 'request_prefill_time_seconds', 'request_decode_time_seconds'],
    ...['request_inference_time_seconds', 'iteration_tokens_total', 'request_params_n'],
    ...['request_params_max_tokens', 'request_prompt_tokens', 'request_generation_tokens'],
  ]

  it("has all of vLLM's names, before the first request too", async () => {
    const { app } = createServer(llm)
    const answer = await app(get('/metrics'))
    assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
    const { types, values } = read(await answer.text())
    assert.deepEqual(
      names.filter((name) => !types.has(`vllm:${name}`)),
      [],
    )
    for (const reason of ['stop', 'length', 'abort', 'error']) {
      assert.equal(values.get(`vllm:request_success_total{${engine},finished_reason="${reason}"}`), 0)
    }
    assert.equal(values.get(`latent:pages{${engine},state="free"}`), 64)
    assert.ok((values.get('process_resident_memory_bytes') ?? 0) > 1e6)
  })

  it('numbers add up', async () => {
    const { app } = createServer(await fakeLLM())
    const ask = (fields: object) => app(post('/v1/completions', { prompt: 'a b', max_tokens: 3, ...fields }))
    await (await ask({})).text()
    await (await ask({ stream: true, n: 2, max_tokens: 5 })).text()
    await (await ask({ stream: true })).body?.cancel()
    await (await app(get('/nothing/at/all'))).text()
    await (await app(post('/tokenize', {}))).text()
    await new Promise((resolve) => setTimeout(resolve, 20))
    const { values } = read(await (await app(get('/metrics'))).text())
    const value = (name: string) => values.get(name)
    assert.equal(value(`vllm:request_success_total{${engine},finished_reason="length"}`), 2)
    assert.equal(value(`vllm:request_success_total{${engine},finished_reason="abort"}`), 1)
    assert.equal(value(`vllm:request_params_n_count{${engine}}`), 3)
    assert.equal(value(`vllm:request_params_n_bucket{${engine},le="1.0"}`), 2)
    assert.equal(value(`vllm:request_generation_tokens_sum{${engine}}`), 3 + 10)
    assert.equal(value(`vllm:request_params_max_tokens_sum{${engine}}`), 3 + 5 + 3)
    assert.equal(value(`latent:requests_total{model_name="demo",endpoint="completions",outcome="abort"}`), 1)
    assert.equal(value(`http_requests_total{handler="/v1/completions",method="POST",status="2xx"}`), 3)
    assert.equal(value(`http_requests_total{handler="none",method="GET",status="4xx"}`), 1)
    assert.equal(value(`http_requests_total{handler="/tokenize",method="POST",status="4xx"}`), 1)
    assert.equal(value(`latent:sequences{${engine}}`), 0)
  })

  it('paths and methods of strangers make no new series', async () => {
    const { app } = createServer(llm)
    for (let i = 0; i < 50; i++) await app(new Request(`http://localhost/x${i}`, { method: `M${i}` }))
    const { values } = read(await (await app(get('/metrics'))).text())
    assert.equal(values.get('http_requests_total{handler="none",method="OTHER",status="4xx"}'), 50)
    assert.equal([...values.keys()].filter((key) => key.startsWith('http_requests_total')).length, 1)
  })
})

describe('cost', () => {
  it('a token costs well under two microseconds', () => {
    const { observer } = createMetrics({
      model: 'm',
      maxModelLen: 131_072,
      stats: () => llm.stats(),
      sequences: () => 0,
    })
    const facts: JobFacts = { id: '1', endpoint: 'chat', key: null, n: 1, maxTokens: 1, stream: true }
    const count = 200_000
    const start = performance.now()
    for (let i = 0; i < count; i++) observer.token?.(facts, 30_000, false)
    const each = ((performance.now() - start) * 1000) / count
    assert.ok(each < 2, `${each} us`)
  })

  it("buckets of lengths are vLLM's", () => {
    assert.deepEqual(lengthBuckets(100), [1, 2, 5, 10, 20, 50, 100])
    assert.deepEqual(lengthBuckets(99), [1, 2, 5, 10, 20, 50])
  })
})
