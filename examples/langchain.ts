// LangChain.js against `latent serve`, through its class for OpenAI with another base URL. Written after its
// documentation (js.langchain.com, @langchain/openai 1.x); latent's own tests do not install it.
// Run it: node dist/examples/langchain.js [base URL] [key]; needs `npm install @langchain/openai @langchain/core`.

/** The little of it that is used here, so that this compiles without it. */
interface LangChain {
  readonly ChatOpenAI: new (options: {
    readonly model: string
    readonly apiKey: string
    readonly temperature?: number
    readonly maxTokens?: number
    readonly configuration: { readonly baseURL: string }
  }) => {
    invoke(prompt: string): Promise<{ readonly content: unknown; readonly usage_metadata?: unknown }>
    stream(prompt: string): Promise<AsyncIterable<{ readonly content: unknown }>>
  }
}

const [baseURL = 'http://localhost:8000/v1', apiKey = 'none'] = process.argv.slice(2)
const name = '@langchain/openai'
const { ChatOpenAI } = (await import(name)) as LangChain
const model = new ChatOpenAI({
  model: 'deepseek-chat',
  apiKey,
  temperature: 0.3,
  maxTokens: 64,
  configuration: { baseURL },
})

for await (const { content } of await model.stream('Who are you?')) process.stdout.write(String(content))
const { content, usage_metadata } = await model.invoke('Write a piece of quicksort code in C++.')
console.log('\n', content, usage_metadata)
