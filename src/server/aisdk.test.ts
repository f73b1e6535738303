// The AI SDK's two packages, unchanged, against a real server with the demo model.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { createDeepSeek } from '@ai-sdk/deepseek'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, generateText, jsonSchema, streamText, type ToolSet, tool } from 'ai'
import { type Fixture, idle, serveDemo, weather } from './fixture.ts'

let demo: Fixture

before(async () => {
  demo = await serveDemo()
})
after(() => demo.close())

describe('AI SDK', () => {
  const models = () => [
    createOpenAICompatible({ name: 'latent', baseURL: `${demo.url}/v1`, includeUsage: true })('demo'),
    createDeepSeek({ baseURL: `${demo.url}/v1`, apiKey: 'none' })('deepseek-chat'),
  ]

  it('text, whole and streamed, with usage and cache hits', async () => {
    for (const model of models()) {
      const whole = await generateText({ model, prompt: 'Who are you?', temperature: 0 })
      assert.match(whole.text, /demo model/)
      assert.equal(whole.finishReason, 'stop')
      assert.ok((whole.usage.inputTokens ?? 0) > 0 && (whole.usage.outputTokens ?? 0) > 0)
      const streamed = streamText({ model, prompt: 'Who are you?', temperature: 0 })
      let text = ''
      for await (const piece of streamed.textStream) text += piece
      assert.equal(text, whole.text)
      assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens)
    }
  })

  it('tools, whole and streamed', async () => {
    const schema = jsonSchema(weather.function.parameters as object)
    const tools: ToolSet = {
      weather: tool({ description: 'weather', inputSchema: schema }) as ToolSet[string],
    }
    for (const model of models()) {
      const whole = await generateText({
        model,
        prompt: 'Who are you?',
        tools,
        toolChoice: 'required',
        temperature: 0,
      })
      assert.equal(whole.toolCalls[0].toolName, 'weather')
      assert.equal(whole.finishReason, 'tool-calls')
      const streamed = streamText({
        model,
        prompt: 'Who are you?',
        tools,
        toolChoice: 'required',
        temperature: 0,
      })
      await streamed.consumeStream()
      assert.deepEqual(
        (await streamed.toolCalls).map(({ input }) => input),
        whole.toolCalls.map(({ input }) => input),
      )
    }
  })

  it('errors say what the server said', async () => {
    const [model] = models()
    await assert.rejects(generateText({ model, prompt: 'x', topP: 9, maxRetries: 0 }), (error) => {
      assert.ok(APICallError.isInstance(error))
      assert.match(error.message, /top_p/)
      return true
    })
  })

  it('an abort frees the sequence', async () => {
    const [model] = models()
    const control = new AbortController()
    const streamed = streamText({
      model,
      prompt: 'Write',
      maxOutputTokens: 3000,
      abortSignal: control.signal,
      onError: () => undefined,
    })
    let seen = 0
    for await (const _ of streamed.textStream) if (++seen === 3) control.abort()
    await idle(demo)
  })
})
