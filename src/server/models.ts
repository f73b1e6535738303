// What is served, and whether it can: /v1/models, /health, /ready, /version.
import { Failure } from './failure.ts'
import { canFillMiddle } from './middle.ts'
import type { Site } from './site.ts'

function card(site: Site, id: string) {
  const { config, limits, tokenizer } = site.llm
  return {
    id,
    object: 'model',
    created: site.created,
    owned_by: 'latent',
    root: site.names[0],
    parent: null,
    max_model_len: limits.max_model_len,
    // llama.cpp's
    meta: {
      n_ctx: limits.max_model_len,
      n_ctx_train: config.maxPositionEmbeddings,
      n_vocab: tokenizer.size,
      fill_in_middle: canFillMiddle(tokenizer),
    },
  }
}

export function listModels(site: Site): Response {
  return Response.json({ object: 'list', data: site.names.map((name) => card(site, name)) })
}

export function oneModel(site: Site, name: string): Response {
  if (site.names.includes(name)) return Response.json(card(site, name))
  throw new Failure(
    404,
    `the model '${name.slice(0, 100)}' is not served here; GET /v1/models lists what is`,
    {
      param: 'model',
      code: 'model_not_found',
    },
  )
}

/** vLLM's `version` is one string; so is the first member here. */
export async function version(site: Site): Promise<Response> {
  const { backend } = await site.llm.stats()
  const { limits } = site.llm
  return Response.json({
    ...{ version: site.version, backend, model: site.names[0], max_model_len: limits.max_model_len },
    node: process.versions.node,
  })
}

/** Alive: the process answers and the engine too. */
export async function health(site: Site): Promise<Response> {
  await site.llm.stats()
  return Response.json({ status: 'ok' })
}

/** Ready: warmed up, and not about to stop. */
export function ready(site: Site): Response {
  if (!site.jobs.draining && site.warm()) return Response.json({ status: 'ready' })
  const message = site.jobs.draining ? 'the server is about to stop' : 'the model is being warmed up'
  throw new Failure(503, message, { headers: { 'retry-after': '1' } })
}
