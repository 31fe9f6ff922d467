// The real labelers: Ozone over Postgres, and Skyware's over a file of its own. Both in this process and unmodified.

import { Buffer } from 'node:buffer'
import { OzoneService, Database as OzoneDatabase, envToCfg, envToSecrets } from '@atproto/ozone'
import { LabelerServer } from '@skyware/labeler'
import { ADMIN_PASSWORD } from './parts.mjs'

const OZONE_SCHEMA = 'ozone'
const BASIC = `Basic ${Buffer.from(`admin:${ADMIN_PASSWORD}`).toString('base64')}`

const hexOf = async (key) => Buffer.from(await key.export()).toString('hex')

/** A label as both labelers and the data plane can be compared by it. */
const label = ({ src, uri, cid, val, neg, cts, exp }) => ({
  src, uri, cid: cid || undefined, val, neg: Boolean(neg), cts, exp: exp ?? undefined,
})

/**
 * Starts Ozone over `postgresUrl`, signing with `key` for `did`.
 *
 * With `appview` it also tells that AppView about takedowns. Its daemon, which ends what has a term, is not started:
 * labels that end do so by their own time.
 */
export async function startOzone({ port, publicUrl, postgresUrl, plcUrl, did, key, appview }) {
  const migrations = new OzoneDatabase({ url: postgresUrl, schema: OZONE_SCHEMA })
  await migrations.migrateToLatestOrThrow()
  await migrations.close()
  const env = {
    devMode: true,
    version: 'e2e',
    port,
    publicUrl: publicUrl ?? `http://localhost:${port}`,
    serverDid: did,
    signingKeyHex: await hexOf(key),
    adminPassword: ADMIN_PASSWORD,
    adminDids: [],
    moderatorDids: [],
    triageDids: [],
    didPlcUrl: plcUrl,
    dbPostgresUrl: postgresUrl,
    dbPostgresSchema: OZONE_SCHEMA,
    // Nobody is asked about accounts and records unless there is an AppView.
    appviewUrl: appview?.url ?? 'http://localhost:9',
    appviewDid: appview?.did ?? did,
    appviewPushEvents: Boolean(appview),
  }
  const service = await OzoneService.create(envToCfg(env), envToSecrets(env))
  await service.start()
  const { db } = service.ctx
  return {
    did,
    url: `http://localhost:${port}`,
    /** A moderation event, over its public API, by its administrator. */
    async emit(subject, event) {
      const answer = await fetch(`http://localhost:${port}/xrpc/tools.ozone.moderation.emitEvent`, {
        method: 'POST',
        headers: { authorization: BASIC, 'content-type': 'application/json' },
        body: JSON.stringify({
          subject: subject.uri
            ? { $type: 'com.atproto.repo.strongRef', uri: subject.uri, cid: subject.cid }
            : { $type: 'com.atproto.admin.defs#repoRef', did: subject.did },
          createdBy: did,
          event,
        }),
      })
      if (!answer.ok) throw new Error(`Ozone answered ${answer.status} to ${JSON.stringify(event)}: ${await answer.text()}`)
    },
    /** Gives and takes back labels: one event. */
    label(subject, create, negate, hours) {
      return this.emit(subject, {
        $type: 'tools.ozone.moderation.defs#modEventLabel',
        createLabelVals: create,
        negateLabelVals: negate,
        ...(hours === undefined ? {} : { durationInHours: hours }),
      })
    },
    /** Waits until everybody is told what has to be told. */
    processAll: () => service.ctx.backgroundQueue.processAll(),
    /** Position of its newest label. */
    head: async () => (await service.ctx.sequencer.curr()) ?? 0,
    /** Every label that stands, as its database has it: it keeps one row for each. */
    async state() {
      const rows = await db.db.selectFrom('label').selectAll().execute()
      return rows.map(label)
    },
    /** What it answers about one subject. */
    async query(uri) {
      const url = new URL(`http://localhost:${port}/xrpc/com.atproto.label.queryLabels`)
      url.searchParams.set('uriPatterns', uri)
      url.searchParams.set('limit', '250')
      const answer = await fetch(url)
      if (!answer.ok) throw new Error(`queryLabels answered ${answer.status}: ${await answer.text()}`)
      return (await answer.json()).labels.map(label)
    },
    stop: () => service.destroy(),
  }
}

/** Starts Skyware's labeler over the file `dbPath`, signing with `key` for `did`. */
export async function startSkyware({ port, did, key, dbPath }) {
  const server = new LabelerServer({ did, signingKey: await hexOf(key), dbPath })
  await new Promise((resolve, reject) => {
    server.start({ port, host: '127.0.0.1' }, (error) => (error ? reject(error) : resolve()))
  })
  const rows = async () => (await server.db.execute('select * from labels order by id')).rows
  return {
    did,
    url: `http://127.0.0.1:${port}`,
    create: (it) => server.createLabel(it),
    async head() {
      const { rows: [row] } = await server.db.execute('select max(id) as id from labels')
      return Number(row.id ?? 0)
    },
    /** Everything it ever said, in the order of its stream. */
    said: async () => (await rows()).map((row) => ({ ...label(row), seq: Number(row.id) })),
    /**
     * Every label of its own that stands. It keeps no such state itself, so this is the protocol's rule over everything
     * it has said: for each label the latest by its own time, and of two at the same time the one said last.
     */
    async state() {
      const standing = new Map()
      for (const it of (await this.said()).filter((each) => each.src === did)) {
        const key = JSON.stringify([it.uri, it.cid, it.val])
        const before = standing.get(key)
        if (!before || Date.parse(before.cts) <= Date.parse(it.cts)) standing.set(key, it)
      }
      return [...standing.values()].map(label)
    },
    /** Moves everything that stands to a new file, numbered from 1, as after a clean-up or an import. */
    async renumberInto(other) {
      for (const it of await this.state()) await other.create(it)
    },
    async stop() {
      for (const sockets of server.connections.values()) for (const socket of sockets) socket.terminate()
      await new Promise((resolve) => server.close(resolve))
      server.db.close()
    },
  }
}
