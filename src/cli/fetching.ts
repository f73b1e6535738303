// A download as people see it: a bar a file and one in all, or a line where a file begins and ends.
// Knows the events of checkpoint/hub.ts, nothing of the network.
import type { DownloadProgress } from '../checkpoint/hub.ts'
import { describeBytes } from '../model/fields.ts'
import type { Io } from './io.ts'
import { createLive } from './live.ts'
import { bar, clock } from './style.ts'

const barWidth = 24

export function createDownloadView(io: Io, options: { readonly quiet?: boolean } = {}) {
  const live = createLive(io, options)
  const { err } = io
  const running = new Map<string, DownloadProgress>()
  let began = 0
  let before = 0

  function lines(): readonly string[] {
    const all = [...running.values()]
    const { overall } = all[all.length - 1]
    const width = Math.min(36, Math.max(10, ...all.map(({ file }) => file.length)))
    const shown = all.map((event) => line(event.file.slice(-width).padEnd(width), event.loaded, event.total))
    const pace = (overall.loaded - before) / ((performance.now() - began) / 1000)
    const rest = pace > 0 ? clock((overall.total - overall.loaded) / pace) : '-:--'
    const total = line('in all'.padEnd(width), overall.loaded, overall.total)
    const speed = err.dim(`${describeBytes(Math.max(0, Math.round(pace)))}/s · ETA ${rest}`)
    return [...shown, total, speed]
  }

  function line(name: string, loaded: number, total: number): string {
    const share = total > 0 ? loaded / total : 0
    const percent = `${Math.floor(share * 100)}%`.padStart(4)
    return `${name}  ${bar(share, barWidth, err)} ${percent}  ${describeBytes(loaded)} of ${describeBytes(total)}`
  }

  function plain(event: DownloadProgress): string {
    const { loaded, total } = event.overall
    return `fetched ${describeBytes(loaded)} of ${describeBytes(total)}`
  }

  function show(event: DownloadProgress): void {
    if (began === 0) {
      began = performance.now()
      before = event.overall.loaded
    }
    const { status, file, total } = event
    if (status === 'start' || status === 'progress') running.set(file, event)
    else running.delete(file)
    if (status === 'start' && !io.live) live.keep(`fetching ${file} (${describeBytes(total)})`)
    if (status === 'done') live.keep(`${err.green('✓')} ${file} ${err.dim(describeBytes(total))}`)
    if (running.size > 0) live.show(lines, () => plain(event))
    else live.clear()
  }

  return { show, close: live.clear }
}
