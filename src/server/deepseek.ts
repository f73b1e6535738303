// What DeepSeek's own API has beside OpenAI's: FIM completions under /beta, and the balance of an account, which is
// asked by programs before they start. https://api-docs.deepseek.com
import { complete } from './completions.ts'
import type { Site } from './site.ts'
import type { Caller } from './start.ts'

/** Fill in the middle; DeepSeek ends these answers after 4K tokens. */
export function betaCompletions(site: Site, request: Request, caller: Caller): Promise<Response> {
  return complete(site, request, caller, { usual: 4096, most: 4096 })
}

/** Nothing is charged here, so there is always enough. */
export function balance(): Response {
  const none = { total_balance: '0.00', granted_balance: '0.00', topped_up_balance: '0.00' }
  return Response.json({ is_available: true, balance_infos: [{ currency: 'USD', ...none }] })
}
