// Starter packs: their lists and feeds, and who has joined through them.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { PURPOSE } from '../lib/world.mjs'

export default async function starterPacks(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  const list = await ann.list('beginners', PURPOSE.reference)
  const benItem = await ann.listItem(list, ben)
  await ann.listItem(list, cyd)
  const feed = await ann.create('app.bsky.feed.generator', { did: t.parts.mod.did, displayName: 'A feed', createdAt: t.tick() })
  const pack = await ann.starterPack('Begin here', list, { description: 'good people', feeds: [{ uri: feed.uri }] })
  const other = await ann.starterPack('Or here', list)
  await t.settle()

  await t.see(cyd, 'app.bsky.graph.getStarterPack', { starterPack: pack.uri }, 'a starter pack, whole', ({ starterPack: it }) => {
    equal(it.uri, pack.uri)
    equal(it.record.name, 'Begin here')
    equal(it.creator.did, ann.did)
    equal(it.list.uri, list.uri)
    equal(it.list.listItemCount, 2)
    deepEqual(it.listItemsSample.map((each) => each.subject.did).sort(), [ben.did, cyd.did].sort())
    deepEqual(it.feeds.map((each) => each.uri), [feed.uri])
    deepEqual([it.joinedAllTimeCount, it.joinedWeekCount], [0, 0])
  })
  await t.see(null, 'app.bsky.graph.getStarterPack', { starterPack: `at://${ann.handle}/app.bsky.graph.starterpack/${pack.uri.split('/').at(-1)}` },
    'a starter pack by the handle of its maker', ({ starterPack: it }) => equal(it.uri, pack.uri))
  await t.refused(null, 'app.bsky.graph.getStarterPack', { starterPack: `at://${ann.did}/app.bsky.graph.starterpack/3zzzzzzzzzzzz` }, 'no such pack', { status: 400 })

  // Two join through it, of which one once, and one follows through it.
  const dan = await t.bare('dan')
  const eve = await t.bare('eve')
  await dan.profile({ displayName: 'dan', joinedViaStarterPack: pack, createdAt: new Date().toISOString() })
  await eve.profile({ displayName: 'eve', joinedViaStarterPack: pack, createdAt: '2023-05-05T00:00:00.000Z' })
  await dan.follow(ben, { via: pack })
  await t.settle()
  await t.see(null, 'app.bsky.graph.getStarterPacks', { uris: [other.uri, `at://${ann.did}/app.bsky.graph.starterpack/3zzzzzzzzzzzz`, pack.uri] },
    'several packs, with how many joined', (it) => {
      deepEqual(it.starterPacks.map((each) => each.uri), [other.uri, pack.uri])
      deepEqual(it.starterPacks.map((each) => each.joinedAllTimeCount), [0, 2])
      deepEqual(it.starterPacks.map((each) => each.joinedWeekCount), [0, 1])
    })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: dan.did }, 'through which pack somebody joined', (it) => {
    equal(it.joinedViaStarterPack.uri, pack.uri)
    equal(it.joinedViaStarterPack.record.name, 'Begin here')
    equal(it.joinedViaStarterPack.creator.did, ann.did)
  })
  await t.see(null, 'app.bsky.graph.getActorStarterPacks', { actor: ann.handle }, 'the packs of an account, newest first', (it) => {
    deepEqual(it.starterPacks.map((each) => each.uri), [other.uri, pack.uri])
  })
  await t.walk(null, 'app.bsky.graph.getActorStarterPacks', { actor: ann.did, limit: 1 }, 'starterPacks', 'one at a time', (all) => {
    deepEqual(all.map((each) => each.uri), [other.uri, pack.uri])
  })
  await t.see(ann, 'app.bsky.graph.getStarterPacksWithMembership', { actor: ben.did }, 'which of one\'s packs hold somebody', (it) => {
    deepEqual(it.starterPacksWithMembership.map((each) => [each.starterPack.uri, each.listItem?.uri]), [
      [other.uri, benItem.uri], [pack.uri, benItem.uri],
    ])
  })
  await t.see(ann, 'app.bsky.actor.getProfile', { actor: ann.did }, 'how many packs an account has', (it) => {
    equal(it.associated.starterPacks, 2)
    equal(it.associated.lists, 1)
  }, { referenceBug: 'it counts lists, generators and packs only of accounts that have posted or followed' })
  await t.see(ann, 'app.bsky.notification.listNotifications', {}, 'their maker hears who joined', (it) => {
    const joined = it.notifications.filter((each) => each.reason === 'starterpack-joined')
    deepEqual(joined.map((each) => each.author.did).sort(), [dan.did, eve.did].sort())
    ok(joined.every((each) => each.reasonSubject === pack.uri))
  })
  t.parts.topics.answer('app.bsky.unspecced.getOnboardingSuggestedStarterPacksSkeleton', { starterPacks: [other.uri, pack.uri] })
  await t.see(null, 'app.bsky.unspecced.getOnboardingSuggestedStarterPacks', { limit: 2 }, 'packs for newcomers', (it) => {
    deepEqual(it.starterPacks.map((each) => each.uri), [other.uri, pack.uri])
  })
  t.parts.topics.answer('app.bsky.unspecced.getSuggestedStarterPacksSkeleton', { starterPacks: [pack.uri] })
  await t.see(null, 'app.bsky.unspecced.getSuggestedStarterPacks', { limit: 2 }, 'suggested packs', (it) => {
    deepEqual(it.starterPacks.map((each) => each.uri), [pack.uri])
  })
  const shared = await cyd.quote(pack, 'join here')
  await t.settle()
  await t.see(null, 'app.bsky.feed.getPosts', { uris: [shared.uri] }, 'a pack in a post', (it) => {
    equal(it.posts[0].embed.record.$type, 'app.bsky.graph.defs#starterPackViewBasic')
    equal(it.posts[0].embed.record.joinedAllTimeCount, 2)
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.graph.starterpack', rkey: pack.uri.split('/').at(-1) },
    'a pack record', (it) => equal(it.value.list, list.uri))

  await ann.delete(other)
  await t.settle()
  await t.see(null, 'app.bsky.graph.getActorStarterPacks', { actor: ann.did }, 'a deleted pack', (it) => {
    deepEqual(it.starterPacks.map((each) => each.uri), [pack.uri])
  })
}
