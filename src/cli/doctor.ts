// `latent doctor`: what was found on this machine, what is used and why. Knows the order of things; machine.ts,
// cached.ts and patient.ts look.
import type { Command } from 'commander'
import { describeSection, type Section } from './finding.ts'
import type { Io } from './io.ts'
import { plural } from './style.ts'

interface DoctorFlags {
  readonly revision?: string
  readonly json?: boolean
}

const examples = `
Each line is marked ok, note (worth knowing) or problem, and says what mends it. The exit code is 1 where there is a problem.
The native kernels are built if they are not; models are neither loaded nor downloaded, and a token is never shown.

Examples:
  $ latent doctor
  $ latent doctor ./v2-lite-q4_k_m.gguf
  $ latent doctor deepseek-ai/DeepSeek-V2-Lite-Chat --json | jq .model.fit

With --json the answer is one object: {ok, system, backend, hub, models, model, findings: [{section, mark, label, text}]}.`

export function addDoctor(program: Command, io: Io): void {
  program
    .command('doctor')
    .summary('what works here, and why not')
    .description(
      'Says what was found on this machine, what is used and why; of a model, whether it would run.',
    )
    .argument('[model]', 'folder, .gguf file, hub name or `demo`')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option('--json', 'one JSON object instead of text')
    .addHelpText('after', examples)
    .action((model: string | undefined, flags: DoctorFlags) => examine(io, model, flags))
}

async function examine(io: Io, model: string | undefined, flags: DoctorFlags): Promise<void> {
  const { examineBackend, examineSystem } = await import('./machine.ts')
  const { examineCache, examineHub } = await import('./cached.ts')
  const [system, backend, hub, models] = [
    examineSystem(),
    await examineBackend(io),
    examineHub(io),
    examineCache(io),
  ] as const
  const patient = model === undefined ? null : await examinePatient(io, model, flags.revision)
  const sections: readonly Section<unknown>[] = [system, backend, hub, models, ...(patient ? [patient] : [])]
  const findings = sections.flatMap((section) =>
    section.findings.map((finding) => ({ section: section.title, ...finding })),
  )
  const problems = findings.filter(({ mark }) => mark === 'problem').length
  const notes = findings.filter(({ mark }) => mark === 'note').length
  if (problems > 0) io.leave(1)
  if (flags.json) {
    const data = { system: system.data, backend: backend.data, hub: hub.data, models: models.data }
    const answer = { ok: problems === 0, ...data, model: patient?.data ?? null, findings }
    return await io.write(`${JSON.stringify(answer)}\n`)
  }
  const count = [
    problems > 0 ? io.out.red(plural(problems, 'problem')) : io.out.green('no problems'),
    ...(notes > 0 ? [plural(notes, 'note')] : []),
  ]
  const lines = [...sections.flatMap((section) => [...describeSection(section, io), '']), count.join(', ')]
  await io.write(`${lines.join('\n')}\n`)
}

async function examinePatient(io: Io, model: string, revision?: string) {
  const { examineModel } = await import('./patient.ts')
  return examineModel(io, model, revision)
}
