// The reference data plane as a bench partner: reads a relay into Postgres and serves gRPC over HTTP/1.1.
//
//   node e2e/bench-reference.mjs --postgres URL --plc http://HOST --port PORT [--relay ws://HOST --handles http://HOST]
//
// Without a relay it serves what its tables are filled with by others.
//
// Prints one line of JSON a second: {"seq": N, "records": N}. Stops when standard input closes.

import { parseArgs } from 'node:util'
import { setInterval } from 'node:timers'
import { sql } from 'kysely'
import { Database, DataPlaneServer, RepoSubscription } from '@atproto/bsky'

const { values: args } = parseArgs({
  options: {
    postgres: { type: 'string' },
    relay: { type: 'string' },
    plc: { type: 'string' },
    handles: { type: 'string' },
    port: { type: 'string' },
  },
})

const db = new Database({ url: args.postgres, schema: 'bench', poolSize: 20 })
const migrations = new Database({ url: args.postgres, schema: 'bench' })
await migrations.migrateToLatestOrThrow()
await migrations.close()
const server = await DataPlaneServer.create(db, Number(args.port), args.plc, globalThis.fetch)
server.idResolver.handle.resolve = async (handle) => {
  const url = new URL('/xrpc/com.atproto.identity.resolveHandle', args.handles)
  url.searchParams.set('handle', handle)
  const answer = await fetch(url)
  return answer.ok ? (await answer.json()).did : undefined
}
const firehose = args.relay ? new RepoSubscription({ service: args.relay, db, idResolver: server.idResolver }) : undefined
void firehose?.start()

const tick = setInterval(async () => {
  const { rows } = await sql`select count(*)::int as n from record`.execute(db.db)
  process.stdout.write(`${JSON.stringify({ seq: firehose?.getCursor() ?? 0, records: rows[0].n })}\n`)
}, 1000)

process.stdin.resume()
process.stdin.on('end', () => {
  clearInterval(tick)
  process.exit(0)
})
