// The five ways latent can refuse. A message says what was given, what was wanted, and what mends it.
// Knows nothing of HTTP, exit codes or terminals: floors above translate.

/** Two tensors (or a tensor and a rule) disagree on a size. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError'
}

/** A model's files cannot be used: missing, damaged, lying, of another family, or not downloadable. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError'
  /** Every problem found, one a line; `message` holds them all too. */
  readonly problems: readonly string[]

  constructor(headline: string, problems: readonly string[] = []) {
    super(
      problems.length === 0 ? headline : `${headline}\n${problems.map((line) => `  - ${line}`).join('\n')}`,
    )
    this.problems = problems
  }
}

/** What a caller asked for is not a valid request (a prompt, a message, a sampling field, an option). */
export class RequestError extends Error {
  override readonly name = 'RequestError'
  /** The field at fault as the caller spells it, or null. */
  readonly field: string | null

  constructor(message: string, field: string | null = null) {
    super(message)
    this.field = field
  }
}

/** The request is valid but this engine has not the memory or the length for it. */
export class CapacityError extends Error {
  override readonly name = 'CapacityError'
}

/** A backend could not be opened, or failed while computing. */
export class KernelError extends Error {
  override readonly name = 'KernelError'
}
