// Routes of the protocols beside OpenAI's chat, over the same core: Anthropic's, OpenAI's Responses, DeepSeek's own.
import { countTokens, listForAnthropic, messages } from './anthropic.ts'
import { chatCompletions } from './chat.ts'
import { completions } from './completions.ts'
import { balance, betaCompletions } from './deepseek.ts'
import { listModels, oneModel } from './models.ts'
import {
  cancelResponse,
  createResponse,
  deleteResponse,
  getResponse,
  inputItems,
  inputTokens,
} from './responses.ts'
import type { Site } from './site.ts'
import type { Caller } from './start.ts'

type Handle = (
  site: Site,
  request: Request,
  caller: Caller,
  name: (param: string) => string,
) => Response | Promise<Response>

interface Row {
  readonly method: 'get' | 'post' | 'delete'
  readonly path: string
  readonly summary: string
  readonly handle: Handle
}

const row = (method: Row['method'], path: string, summary: string, handle: Handle): Row => ({
  ...{ method, path, summary, handle },
})

// DeepSeek mounts it there
const anthropic = ['', '/anthropic'].flatMap((base) => [
  row('post', `${base}/v1/messages`, "Anthropic's chat, streamed or whole", messages),
  row('post', `${base}/v1/messages/count_tokens`, 'What a prompt counts', countTokens),
])

const models = row('get', '/anthropic/v1/models', "What is served, in Anthropic's shape", listForAnthropic)

const responses = [
  row('post', '/v1/responses', 'Responses, streamed, whole or in the background', createResponse),
  row('post', '/v1/responses/input_tokens', 'What a prompt counts', inputTokens),
  row('get', '/v1/responses/:id', 'A stored response', (site, request, caller, name) =>
    getResponse(site, request, caller, name('id')),
  ),
  row('delete', '/v1/responses/:id', 'Forget it', (site, _, caller, name) =>
    deleteResponse(site, caller, name('id')),
  ),
  row('post', '/v1/responses/:id/cancel', 'End one in the background', (site, _, caller, name) =>
    cancelResponse(site, caller, name('id')),
  ),
  row('get', '/v1/responses/:id/input_items', 'What it answers', (site, request, caller, name) =>
    inputItems(site, request, caller, name('id')),
  ),
]

const deepseek = [
  ...['', '/beta', '/beta/v1'].flatMap((base) => [
    row('post', `${base}/chat/completions`, "Chat, where DeepSeek's clients look for it", chatCompletions),
    row('get', `${base}/models`, 'What is served', listModels),
    row('get', `${base}/models/:model{.+}`, 'One model', (site, _, __, name) =>
      oneModel(site, name('model')),
    ),
  ]),
  row('post', '/completions', 'Raw prompts', completions),
  row('post', '/beta/completions', 'Fill in the middle, at most 4096 tokens', betaCompletions),
  row('post', '/beta/v1/completions', 'Fill in the middle, at most 4096 tokens', betaCompletions),
  row('get', '/user/balance', 'Always enough', balance),
]

export const protocols: readonly Row[] = [...anthropic, models, ...responses, ...deepseek]
