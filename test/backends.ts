// Which backends the tests that cross them run on: the reference everywhere, cpu where it can be built at all. Without a
// compiler, or on a processor that has no kernels yet, its cases are skipped with the reason; a compiler that is there
// and fails is no such reason, and fails them.
import { buildCpu, findCompiler } from '../src/backend/build.ts'

const noCpu = await whyNoCpu()

async function whyNoCpu(): Promise<string | null> {
  const built = await buildCpu()
  if (built.path !== null) return null
  const couldBe = process.arch === 'x64' && (await findCompiler()) !== null
  return couldBe ? null : built.reason
}

/** Options of a test or suite on this backend: skipped, with the reason, where the backend cannot be. */
export function on(backend: string): { readonly skip: string | false } {
  return { skip: backend === 'cpu' && noCpu !== null ? noCpu : false }
}
