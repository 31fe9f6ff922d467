// The reference data plane and a bsync beside it, for `cargo xtask parity`: one process over one Postgres.
//
//   node e2e/parity-reference.mjs --postgres URL --relay ws://HOST --plc http://HOST --handles http://HOST
//     --port PORT --bsync-port PORT --together FILE
//
// Reads one command as a line of JSON from standard input, answers each with a line {"id", "result" | "error"}, and
// tells its progress once a second as {"seq", "records"}. Stops when standard input closes.
//
// FILE holds the numbers of events that may be worked at beside one another. Everything else is done alone and in
// order: what the reference makes of a reply depends on what it knows when the reply comes, so an answer can only be
// compared if that is always the same.

import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setInterval } from 'node:timers'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { sql } from 'kysely'
import { BsyncSubscription, Database, DataPlaneServer, RepoSubscription } from '@atproto/bsky'
import { BSYNC_API_KEY, startBsync } from './lib/parts.mjs'

/** Events of different repos that are worked at together. */
const TOGETHER_MAX = 8
const POLL_MS = 5
const SETTLE_LIMIT_MS = 120_000

const { values: args } = parseArgs({
  options: {
    postgres: { type: 'string' },
    relay: { type: 'string' },
    plc: { type: 'string' },
    handles: { type: 'string' },
    port: { type: 'string' },
    'bsync-port': { type: 'string' },
    together: { type: 'string' },
  },
})

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`)

const bsync = await startBsync({ port: Number(args['bsync-port']), postgresUrl: args.postgres })
const db = new Database({ url: args.postgres, schema: 'parity', poolSize: 20 })
const migrations = new Database({ url: args.postgres, schema: 'parity' })
await migrations.migrateToLatestOrThrow()
await migrations.close()
const server = await DataPlaneServer.create(db, Number(args.port), args.plc, globalThis.fetch)
server.idResolver.handle.resolve = async (handle) => {
  const url = new URL('/xrpc/com.atproto.identity.resolveHandle', args.handles)
  url.searchParams.set('handle', handle)
  const answer = await fetch(url)
  return answer.ok ? (await answer.json()).did : undefined
}

const firehose = new RepoSubscription({ service: args.relay, db, idResolver: server.idResolver })
// One count at a time: two that look at the same rows at once may store the older figure last.
firehose.background.queue.concurrency = 1
await firehose.start()
workInOrder(firehose.current.runner, new Set(JSON.parse(readFileSync(args.together, 'utf8'))))

const privateState = new BsyncSubscription({
  config: { bsyncUrl: bsync.url, bsyncApiKey: BSYNC_API_KEY, bsyncHttpVersion: '1.1' },
  db,
})
privateState.start()

/** Replaces the runner's queues by one that keeps the order, save for events that may be worked at together. */
function workInOrder(runner, together) {
  const waiting = []
  const busy = new Set()
  let alone = false
  const next = () => {
    while (waiting.length > 0 && !alone) {
      const { did, seq, work } = waiting[0]
      const beside = together.has(seq)
      if (beside ? busy.has(did) || busy.size >= TOGETHER_MAX : busy.size > 0) return
      waiting.shift()
      alone = !beside
      busy.add(did)
      void work().finally(() => {
        busy.delete(did)
        if (!beside) alone = false
        next()
      })
    }
  }
  runner.trackEvent = (did, seq, handler) => new Promise((resolve, reject) => {
    const item = runner.consecutive.push(seq)
    const work = async () => {
      await handler()
      runner.cursor = item.complete().at(-1) ?? runner.cursor
    }
    waiting.push({ did, seq, work: () => work().then(resolve, reject) })
    next()
  })
  runner.processAll = async () => {
    while (waiting.length > 0 || busy.size > 0) await sleep(POLL_MS)
  }
}

const commands = {
  /** Waits until every event up to `seq` has had all its effects. */
  async settle({ seq }) {
    while ((firehose.getCursor() ?? 0) < seq) await sleep(POLL_MS)
    await firehose.processAll()
  },
  /** Waits until everything that bsync has is applied; answers with its heads. */
  async settleBsync() {
    const heads = await bsync.heads()
    await privateState.processAll(heads, SETTLE_LIMIT_MS)
    return heads
  },
  async addLabels({ labels }) {
    for (const { src, uri, cid, val, neg, cts, exp } of labels) {
      const row = { src, uri, cid: cid ?? '', val, neg: !!neg, cts, exp: exp ?? null }
      await db.db.insertInto('label').values(row)
        .onConflict((on) => on.columns(['src', 'uri', 'cid', 'val']).doUpdateSet({ neg: row.neg, cts: row.cts, exp: row.exp }))
        .execute()
    }
  },
  async trustVerifiers({ dids }) {
    await db.db.updateTable('actor').where('did', 'in', dids).set({ trustedVerifier: true }).execute()
  },
  async suggest({ feeds, follows, entities }) {
    await db.db.insertInto('suggested_feed').values(feeds.map((uri, at) => ({ uri, order: at + 1 }))).execute()
    await db.db.insertInto('suggested_follow').values(follows.map((did, at) => ({ did, order: at + 1 }))).execute()
    await db.db.insertInto('tagged_suggestion').values(entities).execute()
  },
  async tagRecord({ uri, tags }) {
    await db.db.updateTable('record').where('uri', '=', uri).set({ tags: sql`${JSON.stringify(tags)}::jsonb` }).execute()
  },
  /** Puts the time of the event in the place of the clock's: when replies of a thread's author were deleted. */
  async dateDeletions({ deletions, standing }) {
    for (const uri of standing) {
      await db.db.updateTable('op_thread_reply').where('uri', '=', uri).set({ deletedAt: null }).execute()
    }
    for (const { uri, time } of deletions) {
      await db.db.updateTable('op_thread_reply').where('uri', '=', uri).where('deletedAt', 'is not', null)
        .set({ deletedAt: time }).execute()
    }
  },
}

const tick = setInterval(async () => {
  say({ seq: firehose.getCursor() ?? 0 })
}, 1000)

say({ ready: true })
const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const { id, command, ...given } = JSON.parse(line)
  try {
    say({ id, result: (await commands[command](given)) ?? null })
  } catch (error) {
    say({ id, error: String(error?.stack ?? error) })
  }
})
lines.on('close', () => {
  clearInterval(tick)
  process.exit(0)
})
