// A second data plane that saw no event reads a real PDS whole, and knows what the one knows that followed it.
//
// The reference has nothing of the kind, so there is nothing to hold this against but ourselves.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { startGroundplane } from '../lib/planes.mjs'
import { PURPOSE } from '../lib/world.mjs'

const SUBJECT = 'com.atproto.sync.getRepo'

/** Lines of an export without the times at which something came in. */
const timeless = (lines) => lines
  .map(({ indexedAt, sortAt, ...rest }) => JSON.stringify(rest))
  .sort()

const of = (lines, ...types) => timeless(lines.filter((line) => line.uri || types.includes(line.type)))

export default async function backfill(t) {
  if (t.plane.name !== 'groundplane') return
  const { ann, ben, cleo, dan } = await t.cast('ann', 'ben', 'cleo', 'dan')
  await ann.profile({ displayName: 'Ann', description: 'who was here before' })
  const first = await ann.post('first')
  const reply = await ben.reply(first, 'a reply')
  await cleo.reply(reply, 'and one to that', { root: first })
  await ben.quote(first, 'a quote')
  await ben.like(first)
  await cleo.like(first)
  await cleo.repost(first)
  await ben.follow(ann)
  await cleo.follow(ann)
  await ann.follow(ben)
  await ben.block(dan)
  const list = await ann.list('friends', PURPOSE.curate)
  await ann.listItem(list, ben)
  await ben.delete(await ben.post('regretted'))
  await dan.post('not for you')
  await t.settle()
  const followed = await Promise.all([ann, ben, cleo].map((who) => t.plane.exportOf(who.did)))
  // Two pages of records, more than one job's worth.
  await ann.createMany('app.bsky.feed.post', Array.from({ length: 250 }, (_, n) => ({
    text: `one of many, number ${n}`, createdAt: new Date(Date.now() - 60_000 + n).toISOString(),
  })))
  await dan.pds('POST', 'com.atproto.server.deactivateAccount', { body: {} })
  await t.settle()

  const dir = await mkdtemp(path.join(os.tmpdir(), 'groundplane-e2e-backfill-'))
  const [port, adminPort] = await t.parts.freePorts(2)
  const { plc, pds } = t.parts
  const late = await startGroundplane({ bin: t.plane.bin, port, adminPort, dir, plcUrl: plc.url, backfill: pds, apart: true })
  try {
    await late.backfilled()
    const { backfill: told } = await late.status()
    await t.check(SUBJECT, 'the list of a PDS was read to its end, and nothing failed', async () => {
      ok(told.lists[0].whole && told.read >= 3 && told.left === 0, JSON.stringify(told))
      equal(told.given_up, 0)
      equal(await late.ask('GET', '/admin/backfill/failures'), '')
    })
    for (const [at, who] of [ann, ben, cleo].entries()) {
      await t.check(SUBJECT, `records, counts and notifications of ${who.name} are those of the one that saw every event`, async () => {
        const [here, there] = await Promise.all([late.exportOf(who.did), t.plane.exportOf(who.did)])
        ok(of(here).length >= of(followed[at]).length)
        deepEqual(of(here, 'counts', 'notification'), of(there, 'counts', 'notification'))
        equal(here.find((line) => line.type === 'actor').handle, who.handle)
      })
    }
    await t.check(SUBJECT, 'who is away is known to be, and has nothing to show', async () => {
      const lines = await late.exportOf(dan.did)
      equal(lines.find((line) => line.type === 'actor').upstreamStatus, 'deactivated')
      equal(of(lines).length, 0)
    })
  } finally {
    await late.stop()
    await rm(dir, { recursive: true, force: true })
  }
}
