// One pass: the network is put together, the scenarios run one after another, each on accounts of its own.

import pg from 'pg'
import { startContactsService } from './contacts-service.mjs'
import { gaps } from './coverage.mjs'
import { startOzone } from './labelers.mjs'
import { Ledger } from './ledger.mjs'
import { LogTail } from './log-tail.mjs'
import { Mutants } from './mutants.mjs'
import { createServiceDid, freePorts, startAppView, startBsync, startPds, startPlc } from './parts.mjs'
import { settleWithReaders, startGroundplane, startReader, startReference } from './planes.mjs'
import { startTopics } from './topics.mjs'
import { Clock, World } from './world.mjs'

/** A database of its own for this pass, in the cluster at `url`. */
export async function freshDatabase(url) {
  const name = `e2e_${process.pid}_${Date.now()}`
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`create database ${name}`)
  } finally {
    await client.end()
  }
  const own = new URL(url)
  own.pathname = `/${name}`
  return own.toString()
}

/** `started` is given each part with its `stop` as soon as it runs, so that a failure half way leaves nothing. */
export async function runPass({ args, httpVersion, scenarios, mayFail, dir, partsLog, started, home }) {
  const begin = performance.now()
  const seconds = () => `${((performance.now() - begin) / 1000).toFixed(1)} s`
  const up = async (name, part) => {
    const running = await part
    started.push({ name, stop: () => running.stop() })
    if (args.verbose) process.stderr.write(`${seconds()}: ${name} is up\n`)
    return running
  }

  const postgresUrl = await freshDatabase(args.postgres)
  const [plcPort, pdsPort, bsyncPort, planePort, adminPort, appviewPort, topicsPort, contactsPort, ozonePort] = await freePorts(9)
  const plc = await up('plc', startPlc(plcPort))
  const appviewUrl = `http://localhost:${appviewPort}`
  const { did: appviewDid } = await createServiceDid(plc, 'appview.test', {
    bsky_appview: { type: 'BskyAppView', endpoint: appviewUrl },
    bsky_notif: { type: 'BskyNotificationService', endpoint: appviewUrl },
  })
  const mod = await createServiceDid(plc, 'mod.test', {
    atproto_labeler: { type: 'AtprotoLabeler', endpoint: `http://localhost:${ozonePort}` },
  })
  const pds = await up('pds', startPds({ port: pdsPort, plcUrl: plc.url, appview: { url: appviewUrl, did: appviewDid }, mod, dir }))
  const topics = await up('topics', startTopics(topicsPort))
  const contacts = await up('contacts', startContactsService(contactsPort))
  // Only one scenario looks at it, and it takes seconds to set up.
  const ozone = scenarios.includes('ozone')
    ? await up('ozone', startOzone({ port: ozonePort, postgresUrl, plcUrl: plc.url, ...mod, appview: { url: appviewUrl, did: appviewDid } }))
    : undefined

  const reference = args.plane === 'reference'
  const bsync = await up('bsync', startBsync({
    port: bsyncPort,
    postgresUrl,
    // The reference cannot speak HTTP/2, which is all that bsync speaks; it is handed a client below instead.
    planeUrl: reference ? undefined : `http://127.0.0.1:${planePort}`,
  }))
  const about = { port: planePort, plcUrl: plc.url, pds, bsyncUrl: bsync.url, dir }
  const plane = await up(args.plane, reference
    ? startReference({ ...about, postgresUrl })
    : startGroundplane({ ...about, adminPort, bin: args.bin, labelerUrls: ozone ? [ozone.url] : [] }))
  const readers = []
  for (let n = 1; n <= Number(args.readers); n += 1) {
    const [port, readerAdminPort] = await freePorts(2)
    readers.push(await up(`reader ${n}`, startReader({ bin: args.bin, port, adminPort: readerAdminPort, dir, plcUrl: plc.url, pds, number: n })))
  }
  if (readers.length > 0) settleWithReaders(plane, readers)
  const appview = await up('appview', startAppView({
    port: appviewPort, did: appviewDid, plcUrl: plc.url, planeUrls: [...readers.map((reader) => reader.url), plane.url], httpVersion,
    bsyncUrl: bsync.url, mod, topicsUrl: topics.url, contactsUrl: contacts.url, dir,
  }))
  if (reference) bsync.ctx.dataplaneClients = [appview.ctx.dataplane]
  process.stderr.write(`${plane.name} over HTTP/${httpVersion}: all parts are up after ${seconds()}\n`)

  const ledger = new Ledger()
  const parts = { plc, pds, bsync, appview, mod, ozone, topics, contacts, freePorts, httpVersion }
  const clock = new Clock()
  const logTail = new LogTail(partsLog)
  const mutants = args.mutants ? new Mutants(appview.ctx.dataplane) : undefined
  for (const [at, scenario] of scenarios.entries()) {
    const world = new World({ parts, plane, ledger, clock, logTail, scenario, number: at + 1, mayFail: mayFail.includes(scenario), mutants })
    const from = performance.now()
    const before = ledger.totals
    try {
      const { default: run } = await import(new URL(`${scenario}.mjs`, home))
      await run(world)
    } catch (error) {
      ledger.called('(scenario)')
      if (world.mayFail) ledger.waive('(scenario)', scenario, 'runs to its end', 'not built yet', error)
      else ledger.failed('(scenario)', scenario, 'runs to its end', error)
    }
    const { passed, failed } = ledger.totals
    const ms = Math.round(performance.now() - from)
    process.stderr.write(`${scenario}: ${passed - before.passed} passed, ${failed - before.failed} failed, ${ms} ms\n`)
  }
  if (!args.only) {
    for (const [nsid, why] of gaps((nsid) => ledger.looked(nsid))) ledger.failed(nsid, '(coverage)', 'every endpoint is looked at', new Error(why))
  }
  process.stderr.write(`${plane.name} over HTTP/${httpVersion}: done after ${seconds()}\n`)
  mutants?.print(process.stderr)
  return ledger
}
