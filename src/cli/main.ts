#!/usr/bin/env node
// The program `latent`: hands the process to the commands and turns how they end into an exit code.
// Knows the process; what the commands do is one file each.
import { report } from './failure.ts'
import { createIo } from './io.ts'
import { createProgram } from './program.ts'

const given = process.argv.slice(2)
const args = given.length === 0 ? ['--help'] : given
const io = createIo(process)
process.exit(await run())

async function run(): Promise<number> {
  const crashed = new Promise<never>((_, reject) => process.once('uncaughtException', reject))
  let code = 0
  try {
    await Promise.race([createProgram(io).parseAsync(args, { from: 'user' }), crashed])
    code = io.exitCode
  } catch (error) {
    code = await report(error, args, io)
  }
  await io.flush()
  return code
}
