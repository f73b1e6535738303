// The pre-tokenizers that a GGUF file names by one word (tokenizer.ggml.pre), as the steps of a tokenizer.json.
// Source: DeepSeek's published tokenizer.json, llama.cpp's llama-vocab.cpp. Letters are numeric escapes: a text channel
// that normalizes Unicode would turn U+212A into K, and its range into another one, without anybody seeing it.

type Step = Readonly<Record<string, unknown>>

const cased = [
  'A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}',
  '\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}',
  '\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}',
  '\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}',
  '\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}',
  '\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}',
  '\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}',
  '\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}',
  '\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}',
  '\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}',
  '\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}',
  '\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}',
  '\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}',
  '\u{1E900}-\u{1E943}',
].join('')

const split = (regex: string): Step => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
})
const digits: Step = { type: 'Digits', individual_digits: true }
const byteLevel: Step = {
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: false,
}
const cjk = split('[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+')
const lineEnds = split('[\r\n]')

const steps: Readonly<Record<string, readonly Step[]>> = {
  'deepseek-llm': [
    lineEnds,
    split(`\\s?[${cased}]+`),
    split('\\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+'),
    split('\\s+$'),
    cjk,
    digits,
    byteLevel,
  ],
  'deepseek-coder': [lineEnds, split('\\s?\\p{L}+'), split('\\s?\\p{P}+'), cjk, digits, byteLevel],
  'deepseek-v3': [
    split('\\p{N}{1,3}'),
    split('[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+'),
    split(
      '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+' +
        '| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+',
    ),
    byteLevel,
  ],
}

export const preTokenizerNames = Object.keys(steps)

/** The pre_tokenizer of a tokenizer.json for a name, or null for a name that is not known. */
export function preTokenizerOf(name: string): Step | null {
  const found = Object.hasOwn(steps, name) ? steps[name] : undefined
  return found === undefined ? null : { type: 'Sequence', pretokenizers: found }
}

/** The name for a tokenizer.json's pre_tokenizer, or null where llama.cpp has no word for it. */
export function preTokenizerName(preTokenizer: unknown): string | null {
  const given = essence(preTokenizer)
  return preTokenizerNames.find((name) => essence(preTokenizerOf(name)) === given) ?? null
}

/** What a pre_tokenizer does, however its line ends are spelled and its fields are ordered. */
function essence(preTokenizer: unknown): string {
  const list = (preTokenizer as { pretokenizers?: unknown } | null)?.pretokenizers
  const fields = (Array.isArray(list) ? list : []).map((step: Step) => [
    ...[step.type, step.behavior, step.invert, step.individual_digits],
    ...[step.add_prefix_space, step.use_regex],
    JSON.stringify(step.pattern)?.replaceAll('\\\\r', '\\r').replaceAll('\\\\n', '\\n'),
  ])
  return JSON.stringify(fields)
}
