// The log of the parts, read back where it explains an error answer.

import { open, stat } from 'node:fs/promises'
import { statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const ERROR_LEVEL = 50
const BYTES_MAX = 256 * 1024
const ENTRIES_MAX = 3
const STACK_LINES_MAX = 6

export class LogTail {
  constructor(file) {
    this.file = file
  }

  /** A place in the log to read from later. */
  mark() {
    return statSync(this.file).size
  }

  /** The errors that were logged since, each with the top of its stack. */
  async since(mark) {
    await sleep(50)
    const { size } = await stat(this.file)
    const length = Math.min(size - mark, BYTES_MAX)
    if (length <= 0) return ''
    const file = await open(this.file)
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, mark)
    await file.close()
    const entries = []
    for (const line of buffer.toString('utf8').split('\n')) {
      try {
        const { level, err, msg } = JSON.parse(line)
        if (level >= ERROR_LEVEL && err) entries.push(stackOf(err) || msg)
      } catch {
        // The first or last line may be half a line.
      }
    }
    return [...new Set(entries)].slice(0, ENTRIES_MAX).join('\n')
  }
}

function stackOf(err) {
  const own = (err.stack ?? err.message ?? '').split('\n').slice(0, STACK_LINES_MAX).join('\n')
  const cause = err.cause?.stack ?? err.cause?.message
  return cause ? `${own}\ncaused by ${cause.split('\n').slice(0, STACK_LINES_MAX).join('\n')}` : own
}
