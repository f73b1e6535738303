// Text and ids without the model: /tokenize, /detokenize, /apply-template (vLLM's and llama.cpp's members both).
import { z } from 'zod'
import { encodeChat } from '../llm/prompt.ts'
import { flag, parse, readBody } from './body.ts'
import { envelope, readChat } from './chat.ts'
import { Failure } from './failure.ts'
import { checkModel, type Site } from './site.ts'

export const tokenizing = z.looseObject({
  prompt: z.string({ error: 'must be text' }).nullish(),
  content: z.string({ error: 'must be text' }).nullish(),
  add_special_tokens: flag,
  add_special: flag,
  parse_special: flag,
  with_pieces: flag,
  return_token_strs: flag,
})

export async function tokenize(site: Site, request: Request): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const { tokenizer, limits } = site.llm
  const body = parse(tokenizing, fields)
  const ids = Array.isArray(fields.messages) ? chatIds(site, fields) : textIds(site, body, fields.model)
  const pieces = body.with_pieces === true && ids.map((id) => ({ id, piece: tokenizer.piece(id) }))
  return Response.json({
    tokens: pieces || ids,
    count: ids.length,
    max_model_len: limits.max_model_len,
    ...(body.return_token_strs === true && { token_strs: ids.map((id) => tokenizer.piece(id)) }),
  })
}

function textIds(site: Site, body: z.output<typeof tokenizing>, model: unknown): readonly number[] {
  checkModel(site, model)
  const text = body.prompt ?? body.content
  if (text === undefined || text === null) {
    throw new Failure(400, 'there is nothing to tokenize; send prompt (or content), or messages', {
      param: 'prompt',
    })
  }
  // vLLM adds them unless told not to, llama.cpp (which says `content`) only when told to
  const addSpecialTokens = body.add_special_tokens ?? body.add_special ?? (body.content ?? null) === null
  return site.llm.tokenizer.encode(text, { addSpecialTokens, parseSpecial: body.parse_special ?? true })
}

function chatIds(site: Site, fields: Readonly<Record<string, unknown>>): readonly number[] {
  const { messages, options } = readChat(site, fields, parse(envelope, fields))
  return encodeChat(messages, options, site.llm.template)
}

export const detokenizing = z.looseObject({
  tokens: z.array(z.int('must be a token id'), { error: 'must be a list of token ids' }),
  skip_special_tokens: flag,
})

export async function detokenize(site: Site, request: Request): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  checkModel(site, fields.model)
  const { tokens, skip_special_tokens } = parse(detokenizing, fields)
  const text = site.llm.tokenizer.decode(tokens, { skipSpecialTokens: skip_special_tokens === true })
  return Response.json({ prompt: text, content: text })
}

/** The conversation as the model reads it. */
export async function applyTemplate(site: Site, request: Request): Promise<Response> {
  const fields = await readBody(request, site.maxBody)
  const { messages, options } = readChat(site, fields, parse(envelope, fields))
  const ids = encodeChat(messages, options, site.llm.template)
  return Response.json({ prompt: site.llm.tokenizer.decode(ids), count: ids.length, tokens: ids })
}
