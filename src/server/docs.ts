// The page of GET /docs: what the server takes, to be read without a script, a font or a picture from anywhere.
import { createHash } from 'node:crypto'

interface Listed {
  readonly method: string
  readonly path: string
  readonly summary: string
  readonly open?: boolean
}

interface Table {
  readonly applied: readonly { readonly field: string; readonly as: string }[]
  readonly ignored: readonly { readonly field: string; readonly why: string }[]
}

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { padding: 1rem; overflow-x: auto; border: 1px solid; border-radius: 6px }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid; vertical-align: top }
`

/** The one style and nothing else: no script, no form, no frame. */
export const docsPolicy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`,
  ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
].join('; ')

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const html = (text: string): string => text.replace(/[&<>"]/g, (sign) => escapes[sign])
const code = (text: string): string => `<code>${html(text)}</code>`
const row = (...cells: readonly string[]): string =>
  `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`
const table = (head: readonly string[], rows: readonly string[]): string =>
  `<table><tr>${head.map((cell) => `<th>${html(cell)}</th>`).join('')}</tr>${rows.join('')}</table>`

const examples = [
  `curl http://localhost:8000/v1/chat/completions \\
  -H 'content-type: application/json' -H "authorization: Bearer $KEY" \\
  -d '{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}'`,
  `curl -N http://localhost:8000/v1/chat/completions \\
  -H 'content-type: application/json' -H "authorization: Bearer $KEY" \\
  -d '{"messages": [{"role": "user", "content": "Hello"}], "stream": true, "stream_options": {"include_usage": true}}'`,
  `curl http://localhost:8000/v1/completions \\
  -H 'content-type: application/json' -H "authorization: Bearer $KEY" \\
  -d '{"prompt": "Once upon a time", "max_tokens": 32, "temperature": 0}'`,
  `curl http://localhost:8000/tokenize \\
  -H 'content-type: application/json' -H "authorization: Bearer $KEY" -d '{"prompt": "Hello"}'`,
]

export function docsPage(all: readonly Listed[], { applied, ignored }: Table, version: string): string {
  const endpoints = all.map(({ method, path, summary, open }) =>
    row(code(`${method.toUpperCase()} ${path}`), html(summary), open === true ? 'no' : 'yes'),
  )
  const taken = applied.map(({ field, as }) => row(code(field), field === as ? '' : `as ${code(as)}`))
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>latent</title><style>${style}</style></head>
<body>
<h1>latent ${html(version)}</h1>
<p>The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>
<h2>Endpoints</h2>
<p>Where the server has keys, the last column says which endpoints need one
(<code>authorization: Bearer</code> or <code>x-api-key</code>).</p>
${table(['endpoint', 'what', 'key'], endpoints)}
<h2>Examples</h2>
${examples.map((example) => `<pre>${html(example)}</pre>`).join('\n')}
<h2>Fields that are applied</h2>
${table(['field', ''], taken)}
<h2>Fields that are accepted and change nothing</h2>
<p>The answer names them in <code>warnings</code> and <code>x-latent-warnings</code>, and so it does with
fields that nothing knows (<code>--strict</code> refuses those).</p>
${table(
  ['field', 'why'],
  ignored.map(({ field, why }) => row(code(field), html(why))),
)}
</body>
</html>
`
}
