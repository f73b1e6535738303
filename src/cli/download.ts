// `latent download`: a model of the hub into the Hugging Face cache. Knows flags; checkpoint/hub.ts fetches.
import { homedir } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { DownloadProgress } from '../checkpoint/hub.ts'
import { describeBytes } from '../model/fields.ts'
import { RequestError } from '../tensor/error.ts'
import { createDownloadView } from './fetching.ts'
import type { Io } from './io.ts'
import { collect, wholeOf } from './parse.ts'
import { clock, plural } from './style.ts'

interface DownloadFlags {
  readonly revision?: string
  readonly include?: readonly string[]
  readonly exclude?: readonly string[]
  readonly cacheDir?: string
  readonly token?: string
  readonly parallel?: number
  readonly quiet?: boolean
  readonly json?: boolean
}

const examples = `
What is there already is not fetched again, and what was cut short goes on where it stopped. The folder of the snapshot
is printed on stdout, everything else on stderr.

Examples:
  $ latent download deepseek-ai/DeepSeek-V2-Lite-Chat
  $ latent download deepseek-ai/DeepSeek-V2-Lite-Chat --include config.json --include 'tokenizer*'
  $ MODEL=$(latent download my-org/my-model --revision v1.0 --quiet) && latent chat -m "$MODEL"

With --json the answer is one object: {repo, revision, path, files: [{file, bytes, cached}]}.
A token given with --token can be read by other users of this machine; HF_TOKEN cannot.`

export function addDownload(program: Command, io: Io): void {
  program
    .command('download')
    .summary('fetch a model from the hub')
    .description('Fetches a model into the Hugging Face cache and prints its folder.')
    .argument('<repo>', 'org/name')
    .option('--revision <name>', 'branch, tag or commit (default: main)')
    .option('--include <glob>', 'only these files (repeatable; default: what a model needs)', collect)
    .option('--exclude <glob>', 'not these files (repeatable)', collect)
    .option('--cache-dir <folder>', 'another cache than that of HF_HUB_CACHE or HF_HOME')
    .option('--token <token>', 'another token than HF_TOKEN')
    .option('--parallel <n>', 'files at a time (default: 4)', wholeOf('--parallel', 1))
    .option('-q, --quiet', 'no progress')
    .option('--json', 'one JSON object instead of the folder')
    .addHelpText('after', examples)
    .action((repo: string, flags: DownloadFlags) => fetchModel(io, repo, flags))
}

async function fetchModel(io: Io, repo: string, flags: DownloadFlags): Promise<void> {
  if (!/^[^/\s]+\/[^/\s]+$/.test(repo)) {
    throw new RequestError(`'${repo}' is not a name on the hub, wanted org/name`, 'repo')
  }
  const { download, hubSettings } = await import('../checkpoint/hub.ts')
  const settings = hubSettings(io.env, homedir())
  const view = createDownloadView(io, { quiet: flags.quiet ?? false })
  const files = new Map<string, { file: string; bytes: number; cached: boolean }>()
  const progress = (event: DownloadProgress): void => {
    const { status, file, loaded } = event
    if (status === 'done' || status === 'cached')
      files.set(file, { file, bytes: loaded, cached: status === 'cached' })
    view.show(event)
  }
  const began = performance.now()
  try {
    const { revision, include, exclude, parallel, cacheDir, token } = flags
    const path = await download(
      repo,
      {
        ...settings,
        ...(cacheDir !== undefined && { cache: resolve(cacheDir) }),
        ...(token !== undefined && { token }),
      },
      { revision, include, exclude, parallel, progress, signal: io.signal },
    )
    view.close()
    const list = [...files.values()].sort((a, b) => (a.file < b.file ? -1 : 1))
    if (!flags.quiet) io.note(io.err.dim(summary(list, (performance.now() - began) / 1000)))
    const answer = JSON.stringify({ repo, revision: revision ?? 'main', path, files: list })
    await io.write(`${flags.json ? answer : path}\n`)
  } finally {
    view.close()
  }
}

function summary(
  files: readonly { readonly bytes: number; readonly cached: boolean }[],
  seconds: number,
): string {
  const fetched = files.filter((file) => !file.cached)
  const bytes = fetched.reduce((sum, file) => sum + file.bytes, 0)
  const there = files.length - fetched.length
  const known = there > 0 ? `, ${there} already there` : ''
  return `${plural(fetched.length, 'file')} fetched (${describeBytes(bytes)} in ${clock(seconds)})${known}`
}
