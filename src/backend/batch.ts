// The rows of one step, as everything below the engine sees them. One row is one token of one sequence; the rows of
// a sequence are neighbours and form a run. There are no phases: a run has one row when decoding, many when new.

export interface Batch {
  /** Token id of each row [T]. */
  readonly tokens: Int32Array
  /** Position of each row in its sequence, from 0 [T]. */
  readonly positions: Int32Array
  /** Where each row's latent is stored: page * pageSize + offset [T]. */
  readonly slots: Int32Array
  /** First row of each run, and T at the end [S + 1]. */
  readonly starts: Int32Array
  /** Block table: the pages of each run's sequence in order, `tableWidth` entries a run, unused ones -1 [S W]. */
  readonly tables: Int32Array
  readonly tableWidth: number
  /** The rows whose logits are wanted [R]. */
  readonly wanted: Int32Array
}

/** Number of rows T. */
export function rows(batch: Batch): number {
  return batch.tokens.length
}
