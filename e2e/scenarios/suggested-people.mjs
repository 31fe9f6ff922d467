// People whom a suggestions service names, shown from the data plane. With such a service the AppView suggests nobody
// else, so it has one only while this scenario runs.

import { deepEqual, equal, ok } from 'node:assert/strict'

const LISTS = [
  ['app.bsky.unspecced.getSuggestedOnboardingUsers', 'app.bsky.unspecced.getOnboardingSuggestedUsersSkeleton'],
  ['app.bsky.unspecced.getSuggestedUsersForDiscover', 'app.bsky.unspecced.getSuggestedUsersSkeleton'],
  ['app.bsky.unspecced.getSuggestedUsersForExplore', 'app.bsky.unspecced.getSuggestedUsersSkeleton'],
  ['app.bsky.unspecced.getSuggestedUsersForSeeMore', 'app.bsky.unspecced.getSuggestedUsersSkeleton'],
]

export default async function suggestedPeople(t) {
  const { ann, ben, cyd, dan, eve } = await t.cast('ann', 'ben', 'cyd', 'dan', 'eve')
  await ann.follow(ben)
  await cyd.block(ann)
  await t.settle()
  await t.tell(ann, 'app.bsky.graph.muteActor', { actor: eve.did }, 'one is muted')
  await t.settle()
  const { topics, appview } = t.parts
  const dids = [eve.did, cyd.did, dan.did, ben.did, 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa']
  const follows = 'app.bsky.graph.getSuggestedFollowsByActor'
  await t.see(ann, follows, { actor: dan.did }, 'nobody without a service', (it) => deepEqual(it.suggestions, []))

  await appview.withSuggestions(async () => {
    for (const [nsid, skeleton] of LISTS) {
      topics.answer(skeleton, { dids, recIdStr: '7' })
      await t.see(ann, nsid, { limit: 10 }, 'neither whom one follows nor who blocks', (it) => {
        deepEqual(it.actors.map((each) => each.did), [eve.did, dan.did])
        equal(it.actors[0].viewer.muted, true)
        equal(it.recIdStr, '7')
      })
      await t.see(null, nsid, { limit: 10 }, 'everybody who is there, for a stranger', (it) => {
        deepEqual(it.actors.map((each) => each.did), [eve.did, cyd.did, dan.did, ben.did])
        ok(it.actors.every((each) => each.handle.endsWith('.test')))
      })
    }
    topics.answer('app.bsky.unspecced.getSuggestionsSkeleton', { actors: dids.map((did) => ({ did })), recIdStr: '8' })
    await t.see(ann, follows, { actor: dan.handle }, 'neither who blocks nor who is muted', (it) => {
      deepEqual(it.suggestions.map((each) => each.did), [dan.did, ben.did])
      equal(it.recIdStr, '8')
    })
    await t.refused(ann, follows, { actor: 'nobody.test' }, 'of nobody', { status: 400 })
  })
  topics.answer('app.bsky.unspecced.getTrendingTopics', { topics: [{ topic: 'bees', link: '/topic/bees' }], suggested: [] })
  await t.see(ann, 'app.bsky.unspecced.getTrendingTopics', {}, 'topics as they are told', (it) => equal(it.topics[0].topic, 'bees'))
}
