// Shares of a step -> the ragged Batch that the model computes, and which of its logit rows belong to whom.
import type { Batch } from '../backend/batch.ts'
import type { Share } from './scheduler.ts'

/** A row of logits: position `position` of `share`'s sequence predicts the token after it. */
export interface WantedRow {
  readonly share: Share
  readonly position: number
}

export function assemble(
  shares: readonly Share[],
  pageSize: number,
): { readonly batch: Batch; readonly wanted: readonly WantedRow[] } {
  const T = shares.reduce((sum, share) => sum + share.count, 0)
  const tableWidth = Math.max(...shares.map((share) => share.sequence.pages.length))
  const batch = {
    tokens: new Int32Array(T),
    positions: new Int32Array(T),
    slots: new Int32Array(T),
    starts: new Int32Array(shares.length + 1),
    tables: new Int32Array(shares.length * tableWidth).fill(-1),
    tableWidth,
  }
  const wanted: WantedRow[] = []
  const wantedRows: number[] = []
  let row = 0
  for (const [run, share] of shares.entries()) {
    const { sequence, count } = share
    batch.starts[run] = row
    batch.tables.set(sequence.pages, run * tableWidth)
    for (let i = 0; i < count; i++, row++) {
      const position = sequence.computed + i
      batch.tokens[row] = sequence.tokens[position]
      batch.positions[row] = position
      batch.slots[row] = sequence.pages[Math.floor(position / pageSize)] * pageSize + (position % pageSize)
      if (!isWanted(share, position)) continue
      wanted.push({ share, position })
      wantedRows.push(row)
    }
  }
  batch.starts[shares.length] = T
  return { batch: { ...batch, wanted: Int32Array.from(wantedRows) }, wanted }
}

function isWanted({ sequence }: Share, position: number): boolean {
  if (position === sequence.tokens.length - 1) return true
  return sequence.promptLogits && position < sequence.promptLength - 1 && position >= sequence.promptScored
}
