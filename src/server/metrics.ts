// GET /metrics: what the server does, under vLLM's names and with its buckets, so that dashboards made for vLLM show
// latent too; `latent:` where vLLM has no name. The engine's own counters are read when somebody asks.
import type { EngineStats } from '../engine/engine.ts'
import type { Answered, JobEnd, JobFacts, Observer, Outcome } from './job.ts'
import {
  contentType,
  createCounter,
  createHistogram,
  exposition,
  type Family,
  histogramSamples,
  type Labels,
} from './prometheus.ts'

export interface MetricsParts {
  readonly model: string
  readonly maxModelLen: number
  stats(): Promise<EngineStats>
  /** Sequences that run or wait, as the server counts them. */
  sequences(): number
}

export interface Metrics {
  readonly observer: Observer
  text(): Promise<string>
}

/** Seconds; vllm/v1/metrics/loggers.py. */
const firstToken = [
  ...[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75],
  ...[1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560],
]
const betweenTokens = [
  ...[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75],
  ...[1, 2.5, 5, 7.5, 10, 20, 40, 80],
]
const latency = [
  ...[0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50],
  ...[60, 120, 240, 480, 960, 1920, 7680],
]
const answerTimes = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

/** 1, 2, 5, 10 ... up to `most`. */
export function lengthBuckets(most: number): readonly number[] {
  const found: number[] = []
  for (let ten = 1; ; ten *= 10) {
    for (const digit of [1, 2, 5]) {
      if (digit * ten > most) return found
      found.push(digit * ten)
    }
  }
}

/** vLLM's reasons: a tool call is a stop, a timeout an abort. */
const reasons: Readonly<Record<Outcome, string>> = {
  stop: 'stop',
  tool_calls: 'stop',
  length: 'length',
  abort: 'abort',
  timeout: 'abort',
  error: 'error',
}

function createHistograms(lengths: readonly number[]) {
  return {
    time_to_first_token_seconds: createHistogram(firstToken),
    inter_token_latency_seconds: createHistogram(betweenTokens),
    request_time_per_output_token_seconds: createHistogram(betweenTokens),
    e2e_request_latency_seconds: createHistogram(latency),
    request_queue_time_seconds: createHistogram(latency),
    request_inference_time_seconds: createHistogram(latency),
    request_prefill_time_seconds: createHistogram(latency),
    request_decode_time_seconds: createHistogram(latency),
    request_prompt_tokens: createHistogram(lengths),
    request_generation_tokens: createHistogram(lengths),
    request_params_n: createHistogram([1, 2, 5, 10, 20]),
    request_params_max_tokens: createHistogram(lengths),
  }
}
type Histograms = ReturnType<typeof createHistograms>

const histogramHelp: { readonly [K in keyof Histograms]: string } = {
  time_to_first_token_seconds: 'Time to first token in seconds.',
  inter_token_latency_seconds:
    'Time between two tokens of a request in seconds (of requests for one answer).',
  request_time_per_output_token_seconds: 'Mean time of a token after the first, by request, in seconds.',
  e2e_request_latency_seconds: 'Time of a whole request in seconds.',
  request_queue_time_seconds: 'Time in the queue in seconds.',
  request_inference_time_seconds: 'Time from the first step to the last token in seconds.',
  request_prefill_time_seconds: 'Time of the prompt in seconds.',
  request_decode_time_seconds: 'Time from the first token to the last in seconds.',
  request_prompt_tokens: 'Tokens of the prompt, by request.',
  request_generation_tokens: 'Tokens of the answers, by request.',
  request_params_n: 'The n of requests.',
  request_params_max_tokens: 'The max_tokens of requests that say one.',
}

export function createMetrics(parts: MetricsParts): Metrics {
  const labels: Labels = { model_name: parts.model, engine: '0' }
  const histograms = createHistograms(lengthBuckets(parts.maxModelLen))
  const finished = createCounter(
    [...new Set(Object.values(reasons))].map((finished_reason) => ({ ...labels, finished_reason })),
  )
  const outcomes = createCounter()
  const cached = createCounter([labels])
  const http = createCounter()
  const httpSeconds = createHistogram(answerTimes)

  function end(job: JobEnd): void {
    finished.add({ ...labels, finished_reason: reasons[job.outcome] })
    outcomes.add({ model_name: parts.model, endpoint: job.endpoint, outcome: job.outcome })
    if (job.result !== null) cached.add(labels, job.result.usage.prompt_tokens_details.cached_tokens)
    observeEnd(histograms, job)
  }

  function answered({ route, method, status, seconds }: Answered): void {
    // paths and methods that strangers make up would each be a new series
    const handler = route ?? 'none'
    const known = /^(GET|HEAD|POST|DELETE|OPTIONS)$/.test(method) ? method : 'OTHER'
    http.add({ handler, method: known, status: `${Math.floor(status / 100)}xx` })
    httpSeconds.observe(seconds)
  }

  function token({ n }: JobFacts, ms: number, first: boolean): void {
    if (first) histograms.time_to_first_token_seconds.observe(ms / 1000)
    else if (n === 1) histograms.inter_token_latency_seconds.observe(ms / 1000)
  }

  async function text(): Promise<string> {
    return exposition([
      ...engineFamilies(await parts.stats(), labels),
      {
        name: 'vllm:request_success_total',
        type: 'counter',
        help: 'Finished requests.',
        samples: finished.samples(),
      },
      {
        name: 'vllm:prompt_tokens_cached_total',
        type: 'counter',
        help: 'Prompt tokens of finished requests that were found in the cache.',
        samples: cached.samples(),
      },
      ...Object.entries(histograms).map(
        ([name, histogram]): Family => ({
          name: `vllm:${name}`,
          type: 'histogram',
          help: histogramHelp[name as keyof Histograms],
          samples: histogram.samples(labels),
        }),
      ),
      {
        name: 'latent:requests_total',
        type: 'counter',
        help: 'Generations by endpoint and how they ended.',
        samples: outcomes.samples(),
      },
      gauge('latent:sequences', 'Answers asked for that have not ended.', labels, parts.sequences()),
      {
        name: 'http_requests_total',
        type: 'counter',
        help: 'HTTP requests by route, method and status.',
        samples: http.samples(),
      },
      {
        name: 'http_request_duration_seconds',
        type: 'histogram',
        help: 'Time from a request to the head of its answer in seconds.',
        samples: httpSeconds.samples({}),
      },
      ...processFamilies(),
    ])
  }

  return { observer: { token, end, answered }, text }
}

function observeEnd(histograms: Histograms, { n, maxTokens, seconds, result }: JobEnd): void {
  histograms.request_params_n.observe(n)
  if (maxTokens !== null) histograms.request_params_max_tokens.observe(maxTokens)
  if (result === null) return
  const { usage, timings } = result
  const [queue, prefill, decode] = [timings.queued_ms, timings.prompt_ms, timings.predicted_ms]
  histograms.e2e_request_latency_seconds.observe(seconds)
  histograms.request_queue_time_seconds.observe(queue / 1000)
  histograms.request_prefill_time_seconds.observe(prefill / 1000)
  histograms.request_decode_time_seconds.observe(decode / 1000)
  histograms.request_inference_time_seconds.observe((prefill + decode) / 1000)
  histograms.request_prompt_tokens.observe(usage.prompt_tokens)
  histograms.request_generation_tokens.observe(usage.completion_tokens)
  const later = result.token_ids.length - 1
  if (later > 0) histograms.request_time_per_output_token_seconds.observe(decode / later / 1000)
}

const gauge = (name: string, help: string, labels: Labels, value: number): Family => ({
  name,
  type: 'gauge',
  help,
  samples: [{ labels, value }],
})

const total = (name: string, help: string, labels: Labels, value: number): Family => ({
  ...gauge(`${name}_total`, help, labels, value),
  type: 'counter',
})

function engineFamilies(stats: EngineStats, labels: Labels): readonly Family[] {
  const { pages, limits } = stats
  const tokens = stats.promptTokens + stats.outputTokens
  const pageSize = pages.total > 0 ? Math.round(limits.cache_tokens / pages.total) : 0
  const config = {
    engine: '0',
    block_size: String(pageSize),
    num_gpu_blocks: String(pages.total),
    cache_bytes: String(limits.cache_bytes),
    cache_tokens: String(limits.cache_tokens),
    backend: stats.backend,
  }
  return [
    gauge('vllm:num_requests_running', 'Sequences that run.', labels, stats.running),
    gauge('vllm:num_requests_waiting', 'Sequences that wait.', labels, stats.waiting),
    gauge(
      'vllm:kv_cache_usage_perc',
      'Part of the cache that running sequences hold; 1 is all.',
      labels,
      pages.total > 0 ? pages.held / pages.total : 0,
    ),
    gauge('vllm:cache_config_info', 'The latent cache, in its labels.', config, 1),
    total('vllm:prefix_cache_queries', 'Prompt tokens looked up in the cache.', labels, stats.prefixQueries),
    total('vllm:prefix_cache_hits', 'Prompt tokens found in the cache.', labels, stats.prefixHits),
    total(
      'vllm:num_preemptions',
      'Sequences that gave their pages back and waited.',
      labels,
      stats.preemptions,
    ),
    total('vllm:prompt_tokens', 'Prompt tokens, those from the cache included.', labels, stats.promptTokens),
    total('vllm:generation_tokens', 'Tokens generated.', labels, stats.outputTokens),
    {
      name: 'vllm:iteration_tokens_total',
      type: 'histogram',
      help: 'Tokens a step of the engine. The engine counts steps and tokens, so there is one bucket.',
      samples: histogramSamples([], [stats.steps], tokens, labels),
    },
    {
      name: 'latent:pages',
      type: 'gauge',
      help: 'Pages of the latent cache: free, cached (kept for their prefix), held by sequences.',
      samples: (['free', 'cached', 'held'] as const).map((state) => ({
        labels: { ...labels, state },
        value: pages[state],
      })),
    },
  ]
}

/** Names of Prometheus's own clients. */
function processFamilies(): readonly Family[] {
  const { user, system } = process.cpuUsage()
  const started = Date.now() / 1000 - process.uptime()
  return [
    {
      ...gauge('process_cpu_seconds_total', 'CPU time in seconds.', {}, (user + system) / 1e6),
      type: 'counter',
    },
    gauge('process_resident_memory_bytes', 'Memory in use in bytes.', {}, process.memoryUsage.rss()),
    gauge('process_start_time_seconds', 'When the process began, in seconds since 1970.', {}, started),
  ]
}

/** GET /metrics. */
export async function scrape(site: { metrics(): Promise<string> }): Promise<Response> {
  return new Response(await site.metrics(), { headers: { 'content-type': contentType } })
}
