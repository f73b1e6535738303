// Which upstream made a stored response. The gateway remembers those it passed on; of others (it was started anew, say)
// it asks the upstreams, so that nothing has to be written into ids or onto a disk.
import { Failure } from './failure.ts'
import type { Fleet } from './fleet.ts'
import { forthHeaders } from './hop.ts'
import type { Upstream } from './upstream.ts'

export function finder(fleet: Fleet) {
  async function has(upstream: Upstream, response: string, request: Request, id: string): Promise<Upstream> {
    const answer = await upstream.send({
      method: 'GET',
      path: `/v1/responses/${encodeURIComponent(response)}`,
      headers: forthHeaders(request, id),
      body: null,
      signal: request.signal,
    })
    for await (const _ of answer.body); // to its end, so that the connection can be used again
    if (answer.status === 200) return upstream
    throw new Failure(answer.status, 'not here')
  }

  /** Throws 404 where no upstream has it. */
  return async function find(response: string, request: Request, id: string): Promise<Upstream> {
    const known = fleet.owner(response)
    if (known) return known
    const asked = fleet.upstreams.filter(({ mark }) => mark !== 'down')
    try {
      const found = await Promise.any(asked.map((upstream) => has(upstream, response, request, id)))
      fleet.own(response, found)
      return found
    } catch {
      const missing = fleet.upstreams.length - asked.length
      const more = missing > 0 ? `; ${missing} of the engines behind this gateway cannot be asked now` : ''
      throw new Failure(404, `there is no response '${response.slice(0, 100)}' here${more}`, {
        param: 'previous_response_id',
        code: 'previous_response_not_found',
      })
    }
  }
}
