// Bytes that the reference data plane keeps for records of one kind after the other.
//
//   node e2e/footprint-reference.mjs --postgres URL --records FILE
//
// The file has a line of {"kind", "uri", "cid", "record", "at"} for each record; kinds come one after the other. Each is
// indexed as the reference does with a live event; for each kind a line of {"kind", "records", "bytes"} is printed, with
// what its tables and their indexes have grown by.

import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { sql } from 'kysely'
import { Database, RepoSubscription } from '@atproto/bsky'
import { parseCid } from '@atproto/lex-data'
import { lexParse } from '@atproto/lex-json'
import { AtUri } from '@atproto/syntax'

/** Records indexed at the same time. */
const AT_ONCE = 16

const { values: args } = parseArgs({ options: { postgres: { type: 'string' }, records: { type: 'string' } } })

const db = new Database({ url: args.postgres, schema: 'bench', poolSize: 20 })
const migrations = new Database({ url: args.postgres, schema: 'bench' })
await migrations.migrateToLatestOrThrow()
await migrations.close()
const { indexingSvc, background } = new RepoSubscription({ service: 'ws://127.0.0.1:9', db, idResolver: {} })

/** Bytes of all tables and indexes, dead rows removed. */
async function bytes() {
  await background.processAll()
  const tables = await sql`select tablename as name from pg_tables where schemaname = 'bench'`.execute(db.db)
  for (const { name } of tables.rows) await sql`vacuum full ${sql.table(`bench.${name}`)}`.execute(db.db)
  const size = await sql`
    select sum(pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass))::bigint as n
    from pg_tables where schemaname = 'bench'`.execute(db.db)
  return Number(size.rows[0].n)
}

let [kind, records, before, flying] = [undefined, 0, await bytes(), new Set()]

async function finish() {
  await Promise.all(flying)
  if (kind === undefined) return
  const after = await bytes()
  process.stdout.write(`${JSON.stringify({ kind, records, bytes: after - before })}\n`)
  ;[records, before] = [0, after]
}

for await (const line of createInterface({ input: createReadStream(args.records) })) {
  const it = JSON.parse(line)
  if (it.kind !== kind) {
    await finish()
    kind = it.kind
  }
  const record = lexParse(JSON.stringify(it.record))
  const done = indexingSvc
    .indexRecord(new AtUri(it.uri), parseCid(it.cid), record, 'create', it.at)
    .finally(() => flying.delete(done))
  flying.add(done)
  records += 1
  if (flying.size >= AT_ONCE) await Promise.race(flying)
}
await finish()
process.exit(0)
