// Who follows whom, and what follows from it.

import { deepEqual, equal, ok } from 'node:assert/strict'

const dids = (accounts) => accounts.map((it) => it.did)

export default async function graph(t) {
  const { ann, ben, cyd, dan, eve } = await t.cast('ann', 'ben', 'cyd', 'dan', 'eve')
  const annBen = await ann.follow(ben)
  const annCyd = await ann.follow(cyd)
  await ann.follow(dan)
  const benEve = await ben.follow(eve)
  await cyd.follow(eve)
  const eveAnn = await eve.follow(ann)
  await dan.follow(ann)
  const unknown = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  await ann.follow({ did: unknown })
  await t.settle()

  await t.see(ann, 'app.bsky.graph.getFollows', { actor: ann.handle }, 'whom one follows, newest first, without the unknown', (it) => {
    equal(it.subject.did, ann.did)
    deepEqual(dids(it.follows), [dan.did, cyd.did, ben.did])
    equal(it.follows[2].viewer.following, annBen.uri)
    equal(it.follows[0].viewer.followedBy !== undefined, true)
  })
  await t.walk(null, 'app.bsky.graph.getFollows', { actor: ann.did, limit: 1 }, 'follows', 'whom one follows, one at a time', (all) => {
    deepEqual(dids(all), [dan.did, cyd.did, ben.did])
  })
  await t.see(null, 'app.bsky.graph.getFollowers', { actor: ann.did }, 'who follows one, newest first', (it) => {
    equal(it.subject.handle, ann.handle)
    deepEqual(dids(it.followers), [dan.did, eve.did])
  })
  await t.walk(ben, 'app.bsky.graph.getFollowers', { actor: eve.did, limit: 1 }, 'followers', 'followers, one at a time', (all) => {
    deepEqual(dids(all), [cyd.did, ben.did])
  })
  await t.see(ann, 'app.bsky.graph.getKnownFollowers', { actor: eve.handle }, 'followers that the viewer follows', (it) => {
    equal(it.subject.did, eve.did)
    deepEqual(dids(it.followers).sort(), [ben.did, cyd.did].sort())
  })
  await t.see(dan, 'app.bsky.graph.getKnownFollowers', { actor: eve.did }, 'no follower that the viewer follows', (it) => {
    deepEqual(it.followers, [])
  })
  await t.see(null, 'app.bsky.graph.getRelationships', { actor: ann.did, others: [ben.did, eve.did, unknown, cyd.did] },
    'what lies between one and several others, in order', (it) => {
      equal(it.actor, ann.did)
      deepEqual(it.relationships.map((each) => each.did), [ben.did, eve.did, unknown, cyd.did])
      deepEqual(it.relationships.map((each) => each.following), [annBen.uri, undefined, it.relationships[2].following, annCyd.uri])
      deepEqual(it.relationships.map((each) => each.followedBy), [undefined, eveAnn.uri, undefined, undefined])
    })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'follows of the unknown count', (it) => {
    deepEqual([it.followersCount, it.followsCount], [2, 4])
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ben.did, collection: 'app.bsky.graph.follow', rkey: benEve.uri.split('/').at(-1) },
    'a follow record', (it) => equal(it.value.subject, eve.did))

  // The same follow once more, by applyWrites (createRecord would delete the earlier one in the same commit).
  const [again] = await ben.createMany('app.bsky.graph.follow', [{ subject: eve.did, createdAt: t.tick() }])
  await t.settle()
  const between = async (what, following, followersCount) => {
    await t.see(ben, 'app.bsky.actor.getProfile', { actor: eve.did }, what, (it) => {
      equal(it.viewer.following, following)
      equal(it.followersCount, followersCount)
    })
  }
  await between('a second follow of the same changes nothing', benEve.uri, 2)
  await ben.delete(benEve)
  await t.settle()
  await between('the second stands when the first is taken back', again.uri, 2)
  await t.see(null, 'app.bsky.graph.getFollowers', { actor: eve.did }, 'the promoted follow keeps its own place', (it) => {
    deepEqual(dids(it.followers), [ben.did, cyd.did])
  })
  await ben.delete(again)
  await t.settle()
  await between('the last follow is taken back', undefined, 1)
  await t.see(ann, 'app.bsky.graph.getKnownFollowers', { actor: eve.did }, 'known followers after that', (it) => {
    deepEqual(dids(it.followers), [cyd.did])
  })

  // A follow that claims an old time sorts there.
  await ben.follow(eve, { createdAt: '2020-01-01T00:00:00.000Z' })
  await t.settle()
  await t.see(null, 'app.bsky.graph.getFollowers', { actor: eve.did }, 'a back-dated follow is the oldest', (it) => {
    deepEqual(dids(it.followers), [cyd.did, ben.did])
    ok(it.cursor === undefined)
  })
}
