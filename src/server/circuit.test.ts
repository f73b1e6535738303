import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createCircuit } from './circuit.ts'

it('opens after failures in a row, lets one try, and doubles its patience when that fails', () => {
  let now = 0
  const circuit = createCircuit({ failures: 2, openMs: 100, mostMs: 300 }, () => now)
  const fail = (): void => {
    circuit.begin()
    circuit.end(false)
  }
  fail()
  circuit.end(true)
  fail()
  assert.equal(circuit.state, 'closed', 'a success in between counts')
  circuit.begin()
  circuit.end(null)
  fail()
  assert.equal(circuit.ready, false)
  now = 100
  assert.equal(circuit.state, 'trying')
  circuit.begin()
  assert.equal(circuit.ready, false, 'one at a time')
  circuit.end(false)
  now = 299
  assert.equal(circuit.state, 'open')
  now = 300
  fail()
  now = 599
  assert.equal(circuit.state, 'open', 'up to the most')
  now = 600
  circuit.begin()
  circuit.end(null)
  assert.equal(circuit.ready, true, 'a client that left tells nothing')
  circuit.begin()
  circuit.end(true)
  assert.equal(circuit.state, 'closed')
})
