// The formats of strings that are enforced, as patterns. Some are narrower than their standard (no leap seconds, mail
// addresses of the usual letters); none is wider.

const year = '[0-9]{4}'
const day = '(?:0[1-9]|1[0-9]|2[0-8])'
const date = `${year}-(?:(?:0[13578]|1[02])-(?:${day}|29|30|31)|(?:0[469]|11)-(?:${day}|29|30)|02-${day})`
const time = '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?'
const zone = '(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])'
const byte = '(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9][0-9]|[0-9])'
/** Labels of host names are at most 63 letters; those of URIs and mail addresses have no limit of their own. */
const label = '[a-zA-Z0-9]{1,16}(?:-[a-zA-Z0-9]{1,16})?'
const host = '[a-zA-Z0-9]+(?:[.-][a-zA-Z0-9]+)*'
const name = '[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*'
const mailbox = '[a-zA-Z0-9_+-]+'
const path = '(?:/[a-zA-Z0-9._~-]*)*'
const rest = '(?:\\?[a-zA-Z0-9=&._~-]*)?(?:#[a-zA-Z0-9._~-]*)?'
const uri = `https?://${host}(?::[1-9][0-9]{1,3})?${path}${rest}`
const group = '[0-9a-fA-F]{1,4}'

export const formats: Readonly<Record<string, string>> = {
  date,
  time: `${time}${zone}`,
  'date-time': `${date}T${time}${zone}`,
  duration: 'P(?:[0-9]{1,4}D(?:T[0-9]{1,4}[HMS])?|[0-9]{1,4}[YMW]|T[0-9]{1,4}[HMS])',
  uuid: '[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}',
  ipv4: `${byte}(?:\\.${byte}){3}`,
  ipv6: `(?:${group}:){7}${group}`,
  email: `${mailbox}(?:\\.${mailbox})*@${name}(?:\\.${name})+`,
  hostname: `${label}(?:\\.${label}){0,3}`,
  uri,
  url: uri,
  // OpenAPI's, which validators know too
  byte: '(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?',
  'uri-reference': `(?:${uri}|/[a-zA-Z0-9._~-]+(?:/[a-zA-Z0-9._~-]+)*/?${rest})`,
}

/** Formats of JSON Schema's own vocabulary that no pattern here enforces; names outside it are annotations. */
export const unenforced: readonly string[] = [
  'idn-email',
  'idn-hostname',
  'iri',
  'iri-reference',
  'uri-template',
  'json-pointer',
  'relative-json-pointer',
  'regex',
]
