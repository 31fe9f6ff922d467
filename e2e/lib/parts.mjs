// The real parts around a data plane: PLC directory, PDS, bsync and the AppView, all in this process and unmodified.
//
// The data plane itself is not here: `planes.mjs` starts it. The order matters: PLC and PDS first, since a data plane
// may dial them at once; then the plane; then the AppView, which only dials when it is asked something.

import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { Client as PlcClient } from '@did-plc/lib'
import plcServer from '@did-plc/server'
import { BsyncService, envToCfg as bsyncConfig } from '@atproto/bsync'
import { BskyAppView, ServerConfig } from '@atproto/bsky'
import { P256Keypair, Secp256k1Keypair } from '@atproto/crypto'
import { PDS } from '@atproto/pds'

export const ADMIN_PASSWORD = 'admin-pass'
export const BSYNC_API_KEY = 'bsync-api-key'
export const DATAPLANE_TOKEN = 'bsync-to-dataplane-token'
const SEARCH_V2 = 'second-generation'
/** What makes the AppView use the second generation of search RPCs for one request. */
export const SEARCH_V2_HEADERS = { 'x-bsky-search-v2-override': SEARCH_V2 }

/** Ports that were free a moment ago, all different: they are held together and let go together. */
export async function freePorts(count) {
  const held = await Promise.all(
    Array.from({ length: count }, () => new Promise((resolve, reject) => {
      const server = createServer()
      server.once('error', reject)
      server.listen(0, () => resolve(server))
    })),
  )
  const ports = held.map((server) => server.address().port)
  await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** Starts the PLC directory, over its own in-memory database. */
export async function startPlc(port) {
  const server = plcServer.PlcServer.create({ db: plcServer.Database.mock(), port })
  await server.start()
  const url = `http://localhost:${port}`
  return { url, client: new PlcClient(url), stop: () => server.destroy() }
}

/** Enters a service (no repo behind it) in the PLC directory; `services` is by fragment. */
export async function createServiceDid(plc, handle, services) {
  const key = await Secp256k1Keypair.create({ exportable: true })
  const [first] = Object.values(services)
  const did = await plc.client.createDid({
    signingKey: key.did(),
    rotationKeys: [key.did()],
    handle,
    pds: first.endpoint,
    signer: key,
  })
  await plc.client.updateData(did, key, (data) => {
    Object.assign(data.services, services)
    data.verificationMethods.atproto_label = key.did()
    return data
  })
  return { did, key }
}

/** Starts a PDS whose accounts live under `.test`. */
export async function startPds({ port, plcUrl, appview, mod, dir }) {
  const rotation = await Secp256k1Keypair.create({ exportable: true })
  const data = path.join(dir, 'pds')
  const blobs = path.join(dir, 'blobs')
  await mkdir(data, { recursive: true })
  await mkdir(blobs, { recursive: true })
  const server = await PDS.fromEnv({
    devMode: true,
    port,
    hostname: 'localhost',
    dataDirectory: data,
    blobstoreDiskLocation: blobs,
    didPlcUrl: plcUrl,
    recoveryDidKey: (await Secp256k1Keypair.create()).did(),
    adminPassword: ADMIN_PASSWORD,
    jwtSecret: 'jwt-secret',
    serviceHandleDomains: ['.test'],
    bskyAppViewUrl: appview.url,
    bskyAppViewDid: appview.did,
    bskyAppViewCdnUrlPattern: `${appview.url}/img/%s/plain/%s/%s`,
    modServiceUrl: appview.url,
    modServiceDid: mod.did,
    plcRotationKeyK256PrivateKeyHex: Buffer.from(await rotation.export()).toString('hex'),
    inviteRequired: false,
    disableSsrfProtection: true,
    rateLimitsEnabled: false,
  })
  await server.start()
  const { ctx } = server
  return {
    url: `http://localhost:${port}`,
    relayUrl: `ws://localhost:${port}`,
    ctx,
    /** The newest sequence number of its firehose, once what it does in the background is done. */
    async head() {
      await ctx.backgroundQueue.processAll()
      return (await ctx.sequencer.curr()) ?? 0
    },
    /** The signing key of an account, to speak to the AppView in its name as the PDS does. */
    keypair: (did) => ctx.actorStore.keypair(did),
    stop: () => server.destroy(),
  }
}

/** Starts bsync over Postgres. `planeUrl` is called over HTTP/2 when a user has seen notifications. */
export async function startBsync({ port, postgresUrl, planeUrl }) {
  const config = bsyncConfig({
    port,
    apiKeys: [BSYNC_API_KEY],
    dbUrl: postgresUrl,
    dbSchema: 'bsync',
    dbPoolSize: 5,
    ...(planeUrl ? { dataplaneUrls: [planeUrl], dataplaneAuthToken: DATAPLANE_TOKEN } : {}),
  })
  const service = await BsyncService.create(config)
  await service.ctx.db.migrateToLatestOrThrow()
  await service.start()
  return {
    url: `http://localhost:${port}`,
    ctx: service.ctx,
    /** The newest id of each of its three logs, as decimal text; an empty log has none. */
    async heads() {
      const max = async (table) => {
        const { rows } = await service.ctx.db.pool.query(`select max(id)::text as id from bsync.${table}`)
        return rows[0].id ?? undefined
      }
      const [op, mute, notif] = await Promise.all([max('operation'), max('mute_op'), max('notif_op')])
      return { op, mute, notif }
    },
    stop: () => service.destroy(),
  }
}

/** Starts the AppView against the hosts of a data plane. */
export async function startAppView({ port, did, plcUrl, planeUrls, httpVersion, bsyncUrl, mod, topicsUrl, contactsUrl, dir }) {
  const config = new ServerConfig({
    version: 'e2e',
    port,
    publicUrl: `http://localhost:${port}`,
    serverDid: did,
    didPlcUrl: plcUrl,
    dataplaneUrls: planeUrls,
    dataplaneHttpVersion: httpVersion,
    bsyncUrl,
    bsyncApiKey: BSYNC_API_KEY,
    bsyncHttpVersion: '1.1',
    modServiceDid: mod.did,
    labelsFromIssuerDids: [mod.did],
    adminPasswords: [ADMIN_PASSWORD],
    alternateAudienceDids: [],
    etcdHosts: [],
    bigThreadUris: new Set(),
    maxThreadParents: 50,
    // The network lives on this machine: DID documents and feed generators are on loopback.
    disableSsrfProtection: true,
    searchTagsHide: new Set(),
    searchTagsHideAll: new Set(),
    threadTagsBumpDown: new Set(),
    threadTagsHide: new Set(),
    visibilityTagHide: '',
    visibilityTagRankPrefix: '',
    debugFieldAllowedDids: new Set(),
    draftsLimit: 500,
    notificationsDelayMs: 0,
    feedGenSkeletonTimeout: 5000,
    irisFeedUris: new Set(),
    irisStagingFeedUris: new Set(),
    searchV2OverrideHeader: SEARCH_V2,
    blobCacheLocation: path.join(dir, 'blob-cache'),
    topicsUrl,
    irisUrl: topicsUrl,
    rolodexUrl: contactsUrl,
    rolodexHttpVersion: '1.1',
    // The service that looks at proofs of age: the stand-in takes what it is sent.
    kws: {
      apiOrigin: topicsUrl, authOrigin: topicsUrl, redirectUrl: topicsUrl, userAgent: 'e2e', clientId: 'e2e',
      apiKey: 'key', verificationSecret: 's', webhookSecret: 's', ageVerifiedWebhookSecret: 's', ageVerifiedRedirectSecret: 's',
    },
    clientCheckEmailConfirmed: false,
  })
  const server = BskyAppView.create({ config, signingKey: await P256Keypair.create() })
  await server.start()
  const { ctx } = server
  return {
    url: `http://localhost:${port}`,
    did,
    ctx,
    /** Runs something while the AppView has a suggestions service: the stand-in for the topics service is one as well. */
    withSuggestions: async (run) => {
      ctx.opts.suggestionsClient = ctx.topicsClient
      try {
        await run()
      } finally {
        ctx.opts.suggestionsClient = undefined
      }
    },
    stop: () => server.destroy(),
  }
}
