import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestError } from '../tensor/error.ts'
import {
  describeBytes,
  describeCount,
  parseBytes,
  parseCount,
  parseDevices,
  parseMaxMemory,
} from './fields.ts'

test('bytes', () => {
  const cases: readonly (readonly [unknown, number])[] = [
    ['75GB', 75e9],
    ['75 gb', 75e9],
    ['80GiB', 80 * 2 ** 30],
    ['80gib', 80 * 2 ** 30],
    ['512MiB', 2 ** 29],
    ['1.5 TB', 1.5e12],
    ['10kB', 10_000],
    ['7 B', 7],
    [1024, 1024],
    ['1024', 1024],
    [0, 0],
  ]
  for (const [given, bytes] of cases) assert.equal(parseBytes(given), bytes, String(given))
})

test('lengths: k is 1024', () => {
  const cases: readonly (readonly [unknown, number])[] = [
    ['32k', 32768],
    ['128K', 131072],
    ['1M', 1048576],
    ['1.5k', 1536],
    ['163840', 163840],
    ['163,840', 163840],
    ['163_840', 163840],
    [4096, 4096],
  ]
  for (const [given, count] of cases) assert.equal(parseCount(given), count, String(given))
})

test('devices', () => {
  assert.equal(parseDevices('8x80GiB').length, 8)
  assert.deepEqual(parseDevices('2x24GiB, 1x80GB'), [
    { name: 'device 0', bytes: 24 * 2 ** 30 },
    { name: 'device 1', bytes: 24 * 2 ** 30 },
    { name: 'device 2', bytes: 80e9 },
  ])
  assert.deepEqual(parseDevices('141GB'), [{ name: 'device 0', bytes: 141e9 }])
})

test('max_memory', () => {
  const { devices, cpu } = parseMaxMemory({ 0: '75GB', 1: 1024, cpu: '200GB' })
  assert.deepEqual(
    [...devices],
    [
      [0, 75e9],
      [1, 1024],
    ],
  )
  assert.equal(cpu, 200e9)
  assert.equal(parseMaxMemory({ 0: '1GB' }).cpu, null)
})

const refused: readonly (readonly [title: string, call: () => unknown, message: RegExp])[] = [
  [
    'no unit known',
    () => parseBytes('75 gigs', 'reserve'),
    /reserve is "75 gigs"; wanted bytes such as 75GB/,
  ],
  ['GB or GiB', () => parseBytes('80G'), /80GiB \(2\^30\)/],
  ['bits', () => parseBytes('75Gb'), /bits or bytes\? For bytes write GB/],
  ['negative bytes', () => parseBytes(-1), /size is -1/],
  ['not a number', () => parseBytes(Number.NaN), /size is NaN/],
  ['nothing', () => parseBytes(undefined), /size is undefined/],
  ['an object', () => parseBytes(['75GB']), /size is \["75GB"\]/],
  ['too many bytes', () => parseBytes('99999TB'), /more bytes than can be counted/],
  ['no tokens', () => parseCount(0, 'context'), /context is 0; wanted a whole number above 0/],
  ['half a token', () => parseCount('0.3'), /count is "0.3"/],
  ['a wrong unit', () => parseCount('32kB'), /count is "32kB"/],
  ['an empty length', () => parseCount(''), /count is ""/],
  ['a negative length', () => parseCount('-4'), /count is "-4"/],
  ['a huge length', () => parseCount('9000M'), /count is "9000M"/],
  ['devices without size', () => parseDevices('8'), /devices is "8"; wanted count x size/],
  ['no devices', () => parseDevices('0x80GB'), /wanted count x size/],
  ['too many devices', () => parseDevices('99999999999x80GB'), /at most 1024/],
  ['an empty part', () => parseDevices('8x80GB,'), /wanted count x size/],
  ['a bad size', () => parseDevices('8x80XB'), /devices is "80XB"; wanted bytes/],
  ['max_memory as text', () => parseMaxMemory('75GB'), /max_memory is "75GB"; wanted \{ 0: '75GB'/],
  ['an empty max_memory', () => parseMaxMemory({}), /max_memory is \{\}/],
  ['disk', () => parseMaxMemory({ disk: '1TB' }), /names "disk".*mapped from the files/],
  [
    'a named device',
    () => parseMaxMemory({ 'cuda:0': '1TB' }),
    /names "cuda:0"; wanted device numbers or cpu/,
  ],
  ['a bad entry', () => parseMaxMemory({ 0: 'lots' }), /max_memory\[0\] is "lots"/],
]

for (const [title, call, message] of refused) {
  test(`refused: ${title}`, () => {
    assert.throws(call, (error) => {
      assert.ok(error instanceof RequestError)
      assert.match(error.message, message)
      assert.notEqual(error.field, null)
      return true
    })
  })
}

test('sizes for people', () => {
  assert.equal(describeBytes(471_482_869_760), '471.48 GB')
  assert.equal(describeBytes(69_120), '69.12 kB')
  assert.equal(describeBytes(999), '999 B')
  assert.equal(describeBytes(0), '0 B')
  assert.equal(describeBytes(1.5e12), '1.50 TB')
  assert.equal(describeCount(235_741_434_880), '235.74 B')
})
