// The data plane spoken to directly, by the client library that the AppView and bsync use, in the version they use.
//
//   node e2e/transport.mjs --url http://127.0.0.1:2585 [--http-version 1.1|2] [--token TOKEN]
//
// Works against any data: it asks for what is not there. `scenarios/transport.mjs` calls it with something that is.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Empty, MethodKind, Timestamp } from '@bufbuild/protobuf'
import { Code, ConnectError, createPromiseClient } from '@connectrpc/connect'
import { createGrpcTransport } from '@connectrpc/connect-node'
import { generated } from './lib/generated.mjs'

const URIS_MANY = 20_000
/** One more than a request may hold. */
const URIS_TOO_MANY = 100_001
const CALLS_PARALLEL = 200
const MISSING_DID = 'did:plc:bbbbbbbbbbbbbbbbbbbbbbbb'
const missingPost = (number) => `at://${MISSING_DID}/app.bsky.feed.post/3aaaaaa${String(number).padStart(6, '2').replace(/[0189]/g, 'z')}`

/** A client of the data plane as the AppView makes one, without its retries. */
export async function planeClient(url, httpVersion) {
  const { Service } = await generated('@atproto/bsky', 'bsky_connect.js')
  return createPromiseClient(Service, createGrpcTransport({ baseUrl: url, httpVersion, acceptCompression: [] }))
}

/**
 * Runs all checks. `check(name, run)` is called for each and does not throw.
 *
 * `known` may name a post that is there (`uri`, `cid`), and an account that is there (`did`, `handle`).
 * `bsyncHop` is false for a server that takes no HTTP/2.
 */
export async function transport({ url, httpVersion, token, known, bsyncHop = true, check }) {
  const { Service } = await generated('@atproto/bsky', 'bsky_connect.js')
  const make = (options = {}) => createGrpcTransport({
    baseUrl: url,
    httpVersion,
    acceptCompression: [],
    ...options,
    interceptors: [
      (next) => (req) => {
        req.header.set('x-atlantis-caller', 'appview')
        return next(req)
      },
      ...(options.interceptors ?? []),
    ],
  })
  const wire = make()
  const client = createPromiseClient(Service, wire)
  const code = async (call) => {
    try {
      await call
    } catch (error) {
      ok(error instanceof ConnectError, `not an answer of the protocol: ${error}`)
      return error.code
    }
    throw new Error('it was answered, and not refused')
  }

  await check('ping', async () => {
    equal((await client.ping({})).getType().typeName, 'bsky.PingResponse')
  })
  await check('empty batch', async () => {
    const answer = await client.getPostRecords({ uris: [] })
    deepEqual([answer.records.length, answer.meta.length], [0, 0])
  })
  await check('missing record', async () => {
    const { records: [it], meta } = await client.getPostRecords({ uris: [missingPost(1)] })
    equal(it.cid, '')
    equal(it.takenDown, false)
    equal(it.indexedAt, undefined)
    ok(['', 'null'].includes(Buffer.from(it.record).toString()))
    deepEqual([meta.length, meta[0].violatesThreadGate, meta[0].hasThreadGate], [1, false, false])
  })
  if (known) {
    await check('a record that is there', async () => {
      const { records: [it] } = await client.getPostRecords({ uris: [known.uri] })
      equal(it.cid, known.cid)
      equal(JSON.parse(Buffer.from(it.record).toString()).$type, 'app.bsky.feed.post')
      ok(it.indexedAt instanceof Timestamp && it.indexedAt.nanos % 1_000_000 === 0)
    })
    await check('positions and duplicates', async () => {
      const uris = [known.uri, missingPost(2), known.uri, missingPost(2), known.uri]
      const { records, meta } = await client.getPostRecords({ uris })
      deepEqual(records.map((it) => it.cid), [known.cid, '', known.cid, '', known.cid])
      equal(meta.length, 5)
    })
    await check('identity, both ways', async () => {
      const byDid = await client.getIdentityByDid({ did: known.did })
      equal(byDid.did, known.did)
      equal(byDid.handle, known.handle)
      ok(JSON.parse(Buffer.from(byDid.keys).toString()).atproto)
      ok(JSON.parse(Buffer.from(byDid.services).toString()).atproto_pds)
      equal((await client.getIdentityByHandle({ handle: known.handle })).did, known.did)
    })
    await check('actor and handle', async () => {
      const { actors } = await client.getActors({ dids: [MISSING_DID, known.did] })
      deepEqual(actors.map((it) => [it.exists, it.handle]), [[false, ''], [true, known.handle]])
      deepEqual((await client.getDidsByHandles({ handles: ['nobody.test', known.handle] })).dids, ['', known.did])
    })
  }
  await check('identity of nobody is NOT_FOUND', async () => {
    equal(await code(client.getIdentityByDid({ did: MISSING_DID })), Code.NotFound)
  })
  await check('a malformed URI in a batch is a missing record', async () => {
    const uris = ['not a uri', missingPost(3), 'at://', '', 'at://x/y/z', ...(known ? [known.uri] : [])]
    const { records, meta } = await client.getPostRecords({ uris })
    deepEqual([records.length, meta.length], [uris.length, uris.length])
    deepEqual(records.map((it) => it.cid), uris.map((uri) => (uri === known?.uri ? known.cid : '')))
  }, { referenceBug: 'it fails the whole call' })
  await check('a URI of another collection is a missing record', async () => {
    const { records } = await client.getLikeRecords({ uris: [known?.uri ?? missingPost(4), missingPost(5)] })
    deepEqual(records.map((it) => it.cid), ['', ''])
  })
  await check('a malformed cursor', async () => {
    for (const cursor of ['nonsense', '1::2::3', '🦀', 'x'.repeat(5000)]) {
      equal(await code(client.getFollowers({ actorDid: MISSING_DID, limit: 5, cursor })), Code.InvalidArgument, cursor.slice(0, 20))
    }
  }, { referenceBug: 'it says that the fault is its own, or takes it' })
  await check('an empty request of every call that reads', async () => {
    // Nothing asked, nothing answered; or told what is missing. Never a fault of the server's own.
    const fine = [undefined, Code.InvalidArgument, Code.NotFound, Code.Unimplemented]
    for (const [name, { name: rpc }] of Object.entries(Service.methods)) {
      if (!/^(Get|Search)/.test(rpc)) continue
      const was = await client[name]({}).then(() => undefined, (error) => error.code)
      ok(fine.includes(was), `${rpc}: ${Code[was]}`)
    }
  }, { referenceBug: 'some of them fail' })
  await check(`${URIS_TOO_MANY} URIs in one request are refused`, async () => {
    const uris = Array.from({ length: URIS_TOO_MANY }, (_, at) => missingPost(at))
    equal(await code(client.getPostRecords({ uris })), Code.ResourceExhausted)
    await client.ping({})
  }, { referenceBug: 'it has no bound of its own' })
  await check('an unknown RPC is UNIMPLEMENTED', async () => {
    const method = { name: 'GetTheMoon', I: Empty, O: Empty, kind: MethodKind.Unary }
    equal(await code(wire.unary(Service, method, undefined, undefined, {}, new Empty())), Code.Unimplemented)
  })
  await check('an unknown service is UNIMPLEMENTED', async () => {
    const service = { ...Service, typeName: 'moon.Service' }
    equal(await code(wire.unary(service, Service.methods.ping, undefined, undefined, {}, {})), Code.Unimplemented)
  })
  await check(`${URIS_MANY} URIs in one request`, async () => {
    const uris = Array.from({ length: URIS_MANY }, (_, at) => missingPost(at))
    if (known) uris[12_345] = known.uri
    const { records, meta } = await client.getPostRecords({ uris })
    deepEqual([records.length, meta.length], [URIS_MANY, URIS_MANY])
    equal(records.filter((it) => it.cid).length, known ? 1 : 0)
    if (known) equal(records[12_345].cid, known.cid)
  })
  await check(`${CALLS_PARALLEL} calls at once`, async () => {
    const answers = await Promise.all(Array.from({ length: CALLS_PARALLEL }, (_, at) => {
      switch (at % 4) {
        case 0: return client.getPostRecords({ uris: [missingPost(at), missingPost(at + 1)] }).then((it) => it.records.length === 2)
        case 1: return client.getActors({ dids: [MISSING_DID] }).then((it) => it.actors.length === 1)
        case 2: return client.getRelationships({ actorDid: MISSING_DID, targetDids: [MISSING_DID] }).then((it) => it.relationships.length === 1)
        default: return client.getFollowers({ actorDid: MISSING_DID, limit: 10 }).then((it) => it.followers.length === 0)
      }
    }))
    equal(answers.filter(Boolean).length, CALLS_PARALLEL)
  })
  await check('small calls beside a large one', async () => {
    const large = client.getPostRecords({ uris: Array.from({ length: URIS_MANY }, (_, at) => missingPost(at)) })
    const small = await Promise.all(Array.from({ length: 50 }, () => client.ping({})))
    equal(small.length, 50)
    equal((await large).records.length, URIS_MANY)
  })
  await check('a call that the client gives up', async () => {
    const abort = new AbortController()
    const call = client.getPostRecords({ uris: Array.from({ length: URIS_MANY }, (_, at) => missingPost(at)) }, { signal: abort.signal })
    setTimeout(() => abort.abort(), 1)
    await call.catch((error) => equal(error.code, Code.Canceled))
    await client.ping({})
  })
  await check('a deadline', async () => {
    const answer = await client.getActors({ dids: [MISSING_DID] }, { timeoutMs: 10_000 })
    equal(answer.actors.length, 1)
  })
  await check('compression that the client offers', async () => {
    const plain = createPromiseClient(Service, make({ acceptCompression: undefined }))
    const { records } = await plain.getPostRecords({ uris: Array.from({ length: 500 }, (_, at) => missingPost(at)) })
    equal(records.length, 500)
  })

  if (!bsyncHop) return
  // bsync's own client, made by bsync's own code: HTTP/2 always, with a token.
  const { createDataplaneClient } = await generated('@atproto/bsync', 'dataplane.js')
  const bsync = (authToken) => createDataplaneClient({ baseUrl: url, authToken, rejectUnauthorized: true })
  const who = known?.did ?? MISSING_DID
  await check('bsync says what was seen', async () => {
    const at = new Date(Date.now() - 1000)
    await bsync(token).updateNotificationSeen({ actorDid: who, timestamp: Timestamp.fromDate(at) })
    const { timestamp } = await client.getNotificationSeen({ actorDid: who })
    equal(timestamp.toDate().toISOString(), at.toISOString())
    const earlier = new Date(at.getTime() - 60_000)
    await bsync(token).updateNotificationSeen({ actorDid: who, timestamp: Timestamp.fromDate(earlier) })
    equal((await client.getNotificationSeen({ actorDid: who })).timestamp.toDate().toISOString(), at.toISOString())
  })
  await check('a wrong token is UNAUTHENTICATED', async () => {
    equal(await code(bsync('wrong').updateNotificationSeen({ actorDid: who, timestamp: Timestamp.now() })), Code.Unauthenticated)
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values: args } = parseArgs({
    options: {
      url: { type: 'string', default: 'http://127.0.0.1:2585' },
      'http-version': { type: 'string' },
      token: { type: 'string' },
    },
  })
  let passed = 0
  let failed = 0
  for (const httpVersion of args['http-version'] ? [args['http-version']] : ['1.1', '2']) {
    await transport({
      url: args.url,
      httpVersion,
      token: args.token,
      bsyncHop: args.token !== undefined,
      check: async (name, run) => {
        try {
          await run()
          passed += 1
        } catch (error) {
          failed += 1
          process.stdout.write(`FAILED over HTTP/${httpVersion}: ${name}\n${error.stack}\n`)
        }
      },
    })
  }
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  process.exit(failed === 0 ? 0 : 1)
}
