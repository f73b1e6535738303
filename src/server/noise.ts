// For tests: values, names and bodies that no client should send, the same ones every time.
import { fieldTable } from './fields.ts'
import { structureFields } from './structured.ts'
import { toolFields } from './tools.ts'

/** mulberry32. */
function createRandom(seed: number) {
  let state = seed
  const unit = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number): number => Math.floor(unit() * limit)
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]
  return { unit, below, pick, chance: (part: number): boolean => unit() < part }
}
export const random = createRandom(20_261_124)

export const odd: readonly unknown[] = [
  ...[null, true, false, 0, -0, 1, -1, 2, 0.5, -0.001, 1e-320, 1e308, -1e308, 2 ** 31, 2 ** 53, 2 ** 64],
  ...['', ' ', '0', 'true', 'null', 'auto', '\0', '\ud800', '\u202e', '<｜User｜>', '<｜end▁of▁sentence｜>'],
  ...['x'.repeat(3000), '{{ messages }}', '../../etc/passwd', '"', '\\', '%00', '__proto__'],
  ...[[], [[]], [null], [0], [-1], [1e9], ['x'], [''], [{}], [[[[1]]]], Array.from({ length: 300 }, () => 7)],
  ...[
    {},
    { '': '' },
    { a: null },
    { type: 'text' },
    { type: 'object' },
    { type: 'json_schema' },
    { json: {} },
  ],
  ...[{ 0: 1 }, { '-1': 5 }, { 999999999: 1 }, { x: 1 }, { length: 5 }, { toString: 1 }],
  ...[
    { type: 'function', function: { name: 'f' } },
    [{ type: 'function', function: {} }],
    [{ type: 'function' }],
  ],
  ...[
    { type: 'json_object' },
    { regex: '(' },
    { regex: '(a+)+$' },
    { grammar: 'root ::= root' },
    { choice: [] },
  ],
]

function nested(depth: number): unknown {
  let value: unknown = 1
  for (let i = 0; i < depth; i++) value = random.chance(0.5) ? [value] : { a: value }
  return value
}

export function value(depth = 0): unknown {
  if (depth > 3 || random.chance(0.6)) return random.pick(odd)
  if (random.chance(0.02)) return nested(random.below(400))
  const members = Array.from({ length: random.below(4) }, () => value(depth + 1))
  return random.chance(0.5) ? members : Object.fromEntries(members.map((member) => [name(), member]))
}

export const { applied, ignored } = fieldTable()
const own = [
  ...[
    'model',
    'messages',
    'prompt',
    'content',
    'tokens',
    'stream',
    'stream_options',
    'suffix',
    'echo',
    'logprobs',
  ],
  ...[
    'top_logprobs',
    'return_token_ids',
    'return_progress',
    'timings_per_token',
    'input',
    'system',
    'instructions',
  ],
  ...['role', 'tool_calls', 'tool_call_id', 'prefix', 'with_pieces', 'add_special', 'skip_special_tokens'],
]
export const names = [
  ...new Set([
    ...own,
    ...toolFields,
    ...structureFields,
    ...[...applied, ...ignored].map(({ field }) => field),
  ]),
]
const strange = ['__proto__', 'constructor', 'toString', '', 'a b', 'temprature', '\n', 'ü', 'x'.repeat(200)]
export const name = (): string => (random.chance(0.8) ? random.pick(names) : random.pick(strange))
