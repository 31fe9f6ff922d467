// The reference data plane as a bench partner: reads a relay into Postgres and serves gRPC over HTTP/1.1.
//
//   node e2e/bench-reference.mjs --postgres URL --plc http://HOST --port PORT [--relay ws://HOST --handles http://HOST]
//
// Without a relay it serves what its tables are filled with by others.
//
// With `--posts FILE` it reads no relay; its tables are filled with the posts of the file, a line each of
// {"uri", "cid", "json"}, as its own indexer would write them.
//
// Prints one line of JSON a second: {"seq": N, "records": N}. Stops when standard input closes.

import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
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
    posts: { type: 'string' },
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
const reads = args.relay && !args.posts
const firehose = reads ? new RepoSubscription({ service: args.relay, db, idResolver: server.idResolver }) : undefined
if (args.posts) await fill(args.posts)
void firehose?.start()

/// Fills the tables that GetPostRecords reads.
async function fill(file) {
  const now = new Date().toISOString()
  let [records, posts] = [[], []]
  const flush = async () => {
    if (records.length === 0) return
    await db.db.insertInto('record').values(records).execute()
    await db.db.insertInto('post').values(posts).execute()
    records = []
    posts = []
  }
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const { uri, cid, json } = JSON.parse(line)
    const post = JSON.parse(json)
    const did = uri.split('/')[2]
    records.push({ uri, cid, did, json, indexedAt: now })
    posts.push({
      uri,
      cid,
      creator: did,
      text: post.text,
      replyRoot: post.reply?.root.uri ?? null,
      replyRootCid: post.reply?.root.cid ?? null,
      replyParent: post.reply?.parent.uri ?? null,
      replyParentCid: post.reply?.parent.cid ?? null,
      createdAt: post.createdAt,
      indexedAt: now,
    })
    if (records.length === 500) await flush()
  }
  await flush()
  await sql`vacuum analyze record, post`.execute(db.db)
}

const tick = setInterval(async () => {
  const { rows } = await sql`select count(*)::int as n from record`.execute(db.db)
  process.stdout.write(`${JSON.stringify({ seq: firehose?.getCursor() ?? 0, records: rows[0].n })}\n`)
}, 1000)

process.stdin.resume()
process.stdin.on('end', () => {
  clearInterval(tick)
  process.exit(0)
})
