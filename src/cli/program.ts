// The commands under one name, and what they share: help, version, strictness. Knows commander, no models.
import { Command } from 'commander'
import { version } from '../llm/version.ts'
import { addBench } from './bench.ts'
import { addChat } from './chat.ts'
import { addDoctor } from './doctor.ts'
import { addDownload } from './download.ts'
import { exitCodeHelp } from './failure.ts'
import { addGenerate } from './generate.ts'
import { addInspect } from './inspect.ts'
import type { Io } from './io.ts'
import { addQuantize } from './quantize.ts'
import { addScore } from './score.ts'
import { addServe } from './serve.ts'
import { addTemplate } from './template.ts'
import { addTokenize } from './tokenize.ts'

const after = `
MODEL is a folder with a Hugging Face checkpoint, a .gguf file, a name on the hub (org/name, fetched once into the Hugging
Face cache), or \`demo\`, the tiny model that comes with latent and answers when none is named.

Examples:
  $ latent chat
  $ latent chat "Who are you?"
  $ latent generate prompts.jsonl -o answers.jsonl --max-tokens 256
  $ latent inspect DeepSeek-V2-Chat-0628 --devices 8x80GiB

${exitCodeHelp}

Errors go to stderr; under --json they are also one object on stdout: {"error":{"type","message","field"}}.

Environment:
  HF_HOME, HF_HUB_CACHE          where downloaded models are kept
  HF_TOKEN, HF_ENDPOINT          who asks which hub
  HF_HUB_OFFLINE=1               never use the network
  NO_COLOR, FORCE_COLOR          colours never, or always
  LATENT_DEBUG=1                 show where an error came from`

export function createProgram(io: Io): Command {
  const program = new Command('latent')
    .description('Runs DeepSeek-V2 models: chat, a server, batches, and a look inside.')
    .version(version(), '-v, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError: () => undefined, // failure.ts says it
      getOutHasColors: () => io.out.on,
      getErrHasColors: () => io.err.on,
    })
    .configureHelp({ styleTitle: (text) => io.out.bold(text), showGlobalOptions: false })
    .addHelpText('after', after)
  const adders = [
    ...[addChat, addServe, addGenerate, addTokenize, addTemplate, addInspect],
    ...[addDownload, addQuantize, addScore, addBench, addDoctor],
  ]
  for (const add of adders) add(program, io)
  return program
}
