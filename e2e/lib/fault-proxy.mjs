// A TCP proxy that breaks what goes through it: cut off in the middle of a frame, fallen silent with both ends open,
// or merely slow. By a seed, as far as the network lets it.

import { createServer, connect } from 'node:net'

/** Bytes towards the client before something happens to a connection. */
const BYTES_MIN = 300
const BYTES_MAX = 30_000
/** How long a connection is silent before it is cut, or goes on. */
const SILENCE_MS_MIN = 50
const SILENCE_MS_MAX = 900

export class FaultProxy {
  #server
  #open = new Set()
  #dice
  /** Whether anything is broken at all. */
  faulty = true
  disconnects = 0
  halfOpen = 0
  pauses = 0

  /** `dice` answers numbers from 0 up to 1. */
  constructor({ port, target, dice }) {
    this.port = port
    this.target = target
    this.#dice = dice
  }

  async start() {
    this.#server = createServer((client) => this.#serve(client))
    await new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.port, '127.0.0.1', resolve)
    })
    return this
  }

  /** Cuts every connection now. */
  cutAll() {
    for (const cut of this.#open) cut()
  }

  async stop() {
    for (const cut of [...this.#open]) cut(false)
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #between = (least, most) => least + Math.floor(this.#dice() * (most - least))

  #serve(client) {
    const upstream = connect(this.target, '127.0.0.1')
    let over = false
    const cut = (counts = true) => {
      if (over) return
      over = true
      this.#open.delete(cut)
      if (counts) this.disconnects += 1
      // A reset, as from a broken path: what is under way is lost.
      client.resetAndDestroy()
      upstream.destroy()
    }
    this.#open.add(cut)
    for (const [one, other] of [[client, upstream], [upstream, client]]) {
      one.on('error', () => cut(false))
      one.on('close', () => {
        // Bytes before an orderly end arrive.
        if (!over) other.end()
        over = true
        this.#open.delete(cut)
      })
    }
    client.pipe(upstream)

    let left = this.#between(BYTES_MIN, BYTES_MAX)
    upstream.on('data', (chunk) => {
      if (over) return
      if (!this.faulty || chunk.length < left) {
        left -= chunk.length
        if (!client.write(chunk)) {
          upstream.pause()
          client.once('drain', () => upstream.resume())
        }
        return
      }
      const [now, later] = [chunk.subarray(0, left), chunk.subarray(left)]
      client.write(now)
      left = this.#between(BYTES_MIN, BYTES_MAX)
      const fate = this.#dice()
      if (fate < 0.5) return cut()
      upstream.pause()
      const silence = this.#between(SILENCE_MS_MIN, SILENCE_MS_MAX)
      if (fate < 0.8) {
        this.halfOpen += 1
        setTimeout(cut, silence)
      } else {
        this.pauses += 1
        setTimeout(() => {
          if (over) return
          client.write(later)
          upstream.resume()
        }, silence)
      }
    })
  }
}
