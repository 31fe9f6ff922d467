// The two data planes that the same scenarios run against: Groundplane, as a child process that is reached only over
// its ports, and the reference that the AppView's package exports, over Postgres, as the oracle.
//
// Both answer to one set of verbs, so that no scenario knows which of them it is talking to:
//
//   url                      gRPC address for the AppView
//   settle({ seq, bsync })   waits until everything up to these positions shows in reads
//   addLabels(labels)        an operator's labels
//   settleLabels(labeler)    waits until everything that a labeler says shows in reads
//   trustVerifier(did, on)   whose verifications count
//   suggest({ feeds, follows, entities })   the operator's curated lists, each whole
//   pause(), resume()        of ingest; the reference has neither
//   kill()                   at once, as by a power cut; Groundplane only
//   stop()

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BsyncSubscription, Database, DataPlaneServer, RepoSubscription } from '@atproto/bsky'
import { BSYNC_API_KEY, DATAPLANE_TOKEN } from './parts.mjs'

const SETTLE_LIMIT_MS = 30_000
const START_LIMIT_MS = 30_000
const STOP_LIMIT_MS = 12_000
const POLL_MS = 10
const LOG_LINES = 20

const reached = (have, want) => want === undefined || want === null || BigInt(have || 0) >= BigInt(want)

/** Polls until `ready` answers true. `state` is asked for what to say when the time is up. */
async function until(what, limitMs, ready, state) {
  const end = performance.now() + limitMs
  for (;;) {
    if (await ready()) return
    if (performance.now() > end) throw new Error(`${what} did not happen within ${limitMs} ms; ${await state()}`)
    await sleep(POLL_MS)
  }
}

/** The reference data plane: gRPC server, firehose and bsync consumers, over one Postgres database. */
export async function startReference({ port, postgresUrl, plcUrl, pds, bsyncUrl }) {
  const db = new Database({ url: postgresUrl, schema: 'appview', poolSize: 10 })
  const migrations = new Database({ url: postgresUrl, schema: 'appview' })
  await migrations.migrateToLatestOrThrow()
  await migrations.close()
  const server = await DataPlaneServer.create(db, port, plcUrl, globalThis.fetch)
  // It resolves handles by DNS and https only. The handles of this network are known to its PDS alone.
  server.idResolver.handle.resolve = async (handle) => {
    const url = new URL('/xrpc/com.atproto.identity.resolveHandle', pds.url)
    url.searchParams.set('handle', handle)
    const answer = await fetch(url)
    return answer.ok ? (await answer.json()).did : undefined
  }
  const firehose = new RepoSubscription({ service: pds.relayUrl, db, idResolver: server.idResolver })
  const cfg = { bsyncUrl, bsyncApiKey: BSYNC_API_KEY, bsyncHttpVersion: '1.1' }
  const privateState = new BsyncSubscription({ config: cfg, db })
  privateState.start()
  void firehose.start()
  return {
    name: 'reference',
    url: `http://localhost:${port}`,
    async settle({ seq, bsync }) {
      await until(
        `the reference's reading of the firehose up to ${seq}`,
        SETTLE_LIMIT_MS,
        () => reached(firehose.getCursor() ?? 0, seq),
        () => `it is at ${firehose.getCursor()}`,
      )
      await firehose.processAll()
      await privateState.processAll(bsync, SETTLE_LIMIT_MS)
    },
    async addLabels(labels) {
      const rows = labels.map(({ src, uri, cid, val, neg, cts, exp }) => ({
        src, uri, cid: cid ?? '', val, neg: !!neg, cts, exp: exp ?? null,
      }))
      for (const row of rows) {
        await db.db.insertInto('label').values(row)
          .onConflict((on) => on.columns(['src', 'uri', 'cid', 'val']).doUpdateSet({ neg: row.neg, cts: row.cts, exp: row.exp }))
          .execute()
      }
    },
    // It follows no labelers: its operators fill the table by other means.
    async settleLabels(labeler) {
      await this.addLabels(await labeler.state())
    },
    async trustVerifier(did, trusted) {
      await db.db.updateTable('actor').where('did', '=', did).set({ trustedVerifier: trusted }).execute()
    },
    async suggest({ feeds, follows, entities }) {
      const replace = async (table, rows) => {
        if (!rows) return
        await db.db.deleteFrom(table).execute()
        if (rows.length > 0) await db.db.insertInto(table).values(rows).execute()
      }
      await replace('suggested_feed', feeds?.map((uri, at) => ({ uri, order: at + 1 })))
      await replace('suggested_follow', follows?.map((did, at) => ({ did, order: at + 1 })))
      await replace('tagged_suggestion', entities)
    },
    async stop() {
      await privateState.destroy()
      await server.destroy()
      await firehose.destroy()
      await db.close()
    },
  }
}

/** `groundplane serve` as a child that ends with us, its output in a file, ready to answer. */
async function serveAsChild({ bin, name, admin, args, logFile }) {
  const log = await open(logFile, 'a')
  const child = spawn(bin, ['serve', ...args, '--exit-on-stdin-eof'], { stdio: ['pipe', log.fd, log.fd] })
  const exited = new Promise((resolve) => {
    child.once('error', (error) => resolve({ error }))
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  let gone
  void exited.then((how) => { gone = how })
  // Its death shows in `gone`; a write to the pipe of a dead child must not end us as well.
  child.stdin.on('error', () => {})

  /** The end of its log: the folder may be gone by the time somebody reads that it failed. */
  const logEnd = () => `its log ends with\n${readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n')}`
  const alive = () => {
    if (gone) throw new Error(`${name} ended with ${JSON.stringify(gone)}; ${logEnd()}`)
  }
  const stop = async () => {
    child.stdin.end()
    child.kill('SIGTERM')
    const how = await Promise.race([exited, sleep(STOP_LIMIT_MS, 'late', { ref: false })])
    if (how === 'late') {
      child.kill('SIGKILL')
      await exited
      throw new Error(`${name} was still there ${STOP_LIMIT_MS} ms after SIGTERM; ${logEnd()}`)
    }
    await log.close()
    if (how.error) throw new Error(`${bin} cannot be started: ${how.error.message}`)
    if (how.code !== 0) throw new Error(`${name} ended with ${JSON.stringify(how)} and not with 0; ${logEnd()}`)
  }
  try {
    await until(`readiness of ${name}`, START_LIMIT_MS, async () => {
      alive()
      return fetch(`${admin}/readyz`).then((answer) => answer.ok, () => false)
    }, logEnd)
  } catch (error) {
    await stop().catch(() => {})
    throw error
  }
  const kill = async () => {
    alive()
    child.kill('SIGKILL')
    await exited
    await log.close()
  }
  return { alive, logEnd, stop, kill }
}

/** A process that only reads, over the cluster that the environment names. */
export async function startReader({ bin, port, adminPort, dir, plcUrl, pds, number }) {
  const admin = `http://127.0.0.1:${adminPort}`
  const { alive, logEnd, stop } = await serveAsChild({
    bin, admin, name: `reader ${number}`, logFile: path.join(dir, `reader-${number}.log`),
    args: [
      '--roles', 'read',
      '--listen', `127.0.0.1:${port}`,
      '--admin-listen', `127.0.0.1:${adminPort}`,
      '--data-dir', path.join(dir, `reader-${number}`),
      '--plc-url', plcUrl,
      '--handle-resolver-url', pds.url,
      '--allow-private-networks',
      '--auth-token', DATAPLANE_TOKEN,
    ],
  })
  return {
    url: `http://127.0.0.1:${port}`,
    stop,
    /** Waits until it has heard everything that the writer had told at this moment. */
    async hear() {
      const from = performance.now()
      await until(`reader ${number} hearing of what has changed`, SETTLE_LIMIT_MS, async () => {
        alive()
        const { feed } = await (await fetch(`${admin}/status`)).json()
        // Its last look began after we did.
        return feed?.behind_batches === 0 && feed.silent_ms + 200 < performance.now() - from
      }, logEnd)
    },
  }
}

/** Lets a plane be settled only when those that read beside it have heard of it. */
export function settleWithReaders(plane, readers) {
  for (const verb of ['settle', 'settleLabels', 'addLabels', 'trustVerifier', 'suggest']) {
    const alone = plane[verb].bind(plane)
    plane[verb] = async (...given) => {
      const answer = await alone(...given)
      await Promise.all(readers.map((reader) => reader.hear()))
      return answer
    }
  }
}

/**
 * Groundplane as a child process, ready to answer. Started anew over the same folder it goes on where it was.
 *
 * Without `pds` it follows no repos, without `bsyncUrl` no private state. With `backfill`, a PDS, it reads whole what that
 * one lists. `apart`, it shares nothing with others: neither the cluster nor the memcached that the environment names.
 */
export async function startGroundplane({ bin, port, adminPort, dir, plcUrl, pds, backfill, bsyncUrl, labelerUrls = [], apart = false }) {
  const url = `http://127.0.0.1:${port}`
  const admin = `http://127.0.0.1:${adminPort}`
  const dataDir = path.join(dir, 'groundplane')
  const logFile = path.join(dir, 'groundplane.log')
  await mkdir(dataDir, { recursive: true })
  const { alive, stop, kill } = await serveAsChild({
    bin, admin, name: 'groundplane', logFile,
    args: [
      '--listen', `127.0.0.1:${port}`,
      '--admin-listen', `127.0.0.1:${adminPort}`,
      '--data-dir', dataDir,
      '--plc-url', plcUrl,
      ...(pds ? ['--relay-url', pds.relayUrl, '--relay-start', 'oldest', '--handle-resolver-url', pds.url] : []),
      ...(backfill ? ['--backfill', backfill.url, ...(pds ? [] : ['--handle-resolver-url', backfill.url])] : []),
      ...(bsyncUrl ? ['--bsync-url', bsyncUrl, '--bsync-api-key', BSYNC_API_KEY] : []),
      ...labelerUrls.flatMap((labeler) => ['--labeler-url', labeler]),
      ...(apart ? ['--store', 'embedded', '--memcached', ''] : []),
      '--auth-token', DATAPLANE_TOKEN,
      '--allow-private-networks',
    ],
  })
  const ask = async (method, at, body) => {
    alive()
    const answer = await fetch(admin + at, {
      method,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${at} on the admin port answered ${answer.status}: ${text}`)
    return text
  }

  let last
  const status = async () => (last = JSON.parse(await ask('GET', '/status')))
  return {
    name: 'groundplane',
    bin,
    url,
    admin,
    token: DATAPLANE_TOKEN,
    logFile,
    status,
    ask,
    async settle({ seq, bsync }) {
      await until(`settling at seq ${seq}, bsync ${JSON.stringify(bsync)}`, SETTLE_LIMIT_MS, async () => {
        const now = await status()
        const firehose = Array.isArray(now.firehose) ? now.firehose[0] : now.firehose
        return reached(firehose?.seq, seq) && now.pending === 0
          && ['op', 'mute', 'notif'].every((log) => reached(now.bsync?.[log], bsync[log]))
      }, () => `status is ${JSON.stringify(last)}`)
    },
    async settleLabels(labeler) {
      const head = await labeler.head()
      await until(`reading labels up to ${head}`, SETTLE_LIMIT_MS, async () => {
        const now = await status()
        return reached(now.labelers[0].seq, head) && now.pending === 0
      }, () => `status is ${JSON.stringify(last.labelers)}`)
    },
    /** Waits until everything that is listed was read, and what follows from it is done. */
    async backfilled() {
      await until('the end of the backfill', SETTLE_LIMIT_MS, async () => {
        const now = await status()
        return now.backfill.done && now.pending === 0
      }, () => `status is ${JSON.stringify(last.backfill)}`)
    },
    /** What is kept on an account, a value each. */
    exportOf: async (did) => (await ask('GET', `/admin/export/${did}`)).split('\n').filter(Boolean).map((line) => JSON.parse(line)),
    addLabels: (labels) => ask('POST', '/admin/labels', labels),
    trustVerifier: (did, trusted) => ask('PUT', `/admin/actors/${did}/trusted-verifier`, { trusted }),
    async suggest({ feeds, follows, entities }) {
      if (feeds) await ask('PUT', '/admin/suggested/feeds', feeds)
      if (follows) await ask('PUT', '/admin/suggested/follows', follows)
      if (entities) await ask('PUT', '/admin/suggested/entities', entities)
    },
    /** Stands still: events wait at the relay until `resume`. */
    pause: () => ask('POST', '/admin/ingest/pause'),
    resume: () => ask('POST', '/admin/ingest/resume'),
    kill,
    stop,
  }
}
