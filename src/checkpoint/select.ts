// Which files of a repository to download.
// Knows names and globs; not what a file holds.

/** What a model needs to run: never pickles, code or other formats, and nothing from subfolders. */
const modelFiles = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  '*.safetensors',
  '*.safetensors.index.json',
]

export function selectFiles(
  names: readonly string[],
  include?: readonly string[],
  exclude: readonly string[] = [],
): string[] {
  const wanted = (include ?? modelFiles).map(glob)
  const unwanted = exclude.map(glob)
  return names.filter((name) => {
    if (include === undefined && name.includes('/')) return false
    return wanted.some((pattern) => pattern.test(name)) && !unwanted.some((pattern) => pattern.test(name))
  })
}

/** As the Hugging Face tools read them: `*` crosses folders, and a folder's name with a slash means all in it. */
function glob(pattern: string): RegExp {
  const whole = pattern.endsWith('/') ? `${pattern}*` : pattern
  const source = whole
    .replaceAll(/[.+^${}()|\\[\]]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`, 's')
}
