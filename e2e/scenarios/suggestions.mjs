// Whom and what the operator puts forward, and the small questions that every client asks at its start.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { BSYNC_API_KEY } from '../lib/parts.mjs'
import { authWithApiKey, createClient } from '@atproto/bsync'

export default async function suggestions(t) {
  const { ann, ben, cyd, dan } = await t.cast('ann', 'ben', 'cyd', 'dan')
  await ann.follow(ben)
  const post = await ben.post('trending')
  await t.settle()

  // Nothing was put forward yet: the graph decides.
  await t.walk(cyd, 'app.bsky.actor.getSuggestions', { limit: 100 }, 'actors', 'whom others follow, each once', (all) => {
    const dids = all.map((each) => each.did)
    ok(dids.includes(ben.did) && !dids.includes(cyd.did))
    equal(new Set(dids).size, dids.length)
  }, { referenceBug: 'without a list it suggests nobody' })
  await t.walk(ann, 'app.bsky.actor.getSuggestions', { limit: 100 }, 'actors', 'but nobody whom one follows', (all) => {
    ok(all.every((each) => each.did !== ben.did && each.did !== ann.did))
  })

  await t.plane.suggest({ follows: [ben.did, cyd.did, dan.did, 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'] })
  await t.see(null, 'app.bsky.actor.getSuggestions', { limit: 10 }, 'whom the operator suggests', (it) => {
    deepEqual(it.actors.map((each) => each.did).slice(0, 2).sort(), [ben.did, cyd.did].sort())
    deepEqual(it.actors.map((each) => each.did).sort(), [ben.did, cyd.did, dan.did].sort())
  })
  await t.see(ann, 'app.bsky.actor.getSuggestions', { limit: 10 }, 'nobody that one follows already', (it) => {
    deepEqual(it.actors.map((each) => each.did).sort(), [cyd.did, dan.did].sort())
  })
  await t.walk(null, 'app.bsky.actor.getSuggestions', { limit: 1 }, 'actors', 'one at a time, each at least once', (all) => {
    deepEqual([...new Set(all.map((each) => each.did))].sort(), [ben.did, cyd.did, dan.did].sort())
  })
  const entities = [
    { tag: 'science', subject: ben.did, subjectType: 'actor' },
    { tag: 'art', subject: `at://${cyd.did}/app.bsky.feed.generator/art`, subjectType: 'feed' },
  ]
  await t.plane.suggest({ entities })
  await t.see(null, 'app.bsky.unspecced.getTaggedSuggestions', {}, 'suggestions by tag', (it) => {
    const byTag = (a, b) => (a.tag < b.tag ? -1 : 1)
    deepEqual(it.suggestions.toSorted(byTag), entities.toSorted(byTag))
  })
  await t.plane.suggest({ entities: [] })
  await t.see(null, 'app.bsky.unspecced.getTaggedSuggestions', {}, 'no suggestions', (it) => deepEqual(it.suggestions, []))

  // What the topics service names, hydrated from the data plane.
  const dids = [cyd.did, ben.did, dan.did]
  const { topics } = t.parts
  topics.answer('app.bsky.unspecced.getSuggestedUsersSkeleton', { dids })
  await t.see(ann, 'app.bsky.unspecced.getSuggestedUsers', { limit: 10 }, 'suggested by topic', (it) => {
    deepEqual(it.actors.map((each) => each.did).filter((did) => did !== ben.did), [cyd.did, dan.did])
    ok(it.actors.every((each) => each.handle.endsWith('.test')))
  })
  topics.answer('app.bsky.unspecced.getTrendsSkeleton', {
    trends: [{
      topic: 'bees', displayName: 'Bees', link: '/topic/bees', startedAt: new Date().toISOString(), postCount: 5, dids: [cyd.did, ben.did],
    }],
  })
  await t.see(ann, 'app.bsky.unspecced.getTrends', {}, 'a trend and who is in it', (it) => {
    equal(it.trends[0].topic, 'bees')
    deepEqual(it.trends[0].actors.map((each) => each.did), [cyd.did, ben.did])
  })

  // Age assurance reaches the data plane as operations of bsync.
  const bsync = createClient({
    httpVersion: '1.1', baseUrl: t.parts.bsync.url, interceptors: [authWithApiKey(BSYNC_API_KEY)],
  })
  const assure = (status, access) => bsync.putOperation({
    actorDid: ann.did,
    namespace: 'app.bsky.ageassurance.defs#event',
    key: `${Date.now()}`,
    method: 1,
    payload: Buffer.from(JSON.stringify({
      $type: 'app.bsky.ageassurance.defs#event', createdAt: '2026-01-02T03:04:05.678Z', attemptId: `a-${status}`, status, access,
      countryCode: 'GB',
    })),
  })
  const state = (what, check) => t.see(ann, 'app.bsky.ageassurance.getState', { countryCode: 'GB' }, what, (it) => check(it.state))
  await state('before any assurance', (it) => deepEqual([it.status, it.access], ['unknown', 'unknown']))
  await assure('pending', 'unknown')
  await t.settle()
  await state('begun', (it) => {
    equal(it.status, 'pending')
    equal(it.lastInitiatedAt, '2026-01-02T03:04:05.678Z')
  })
  await assure('assured', 'full')
  await t.settle()
  await state('done', (it) => deepEqual([it.status, it.access], ['assured', 'full']))
  await t.see(ann, 'app.bsky.unspecced.getAgeAssuranceState', {}, 'the same in the older words', (it) => equal(it.status, 'assured'))
  await t.see(null, 'app.bsky.ageassurance.getConfig', {}, 'what holds where', (it) => ok(Array.isArray(it.regions)))

  // Internal and plain endpoints.
  await t.see(t.admin, 'internal.bsky.actor.getProfiles', { dids: [dan.did, ann.did], viewer: ann.did }, 'profiles for other services', (it) => {
    deepEqual(it.profiles.map((each) => each.did), [dan.did, ann.did])
  })
  await t.check('/xrpc/_health', 'the AppView finds its data plane well', async () => {
    const answer = await fetch(`${t.parts.appview.url}/xrpc/_health`)
    equal(answer.status, 200)
    deepEqual(await answer.json(), { version: 'e2e' })
  })
  await t.see(null, 'app.bsky.unspecced.getConfig', {}, 'what the AppView is set up for', (it) => equal(it.checkEmailConfirmed, false))
  await t.check('/external/sitemap', 'the sitemap', async () => {
    const answer = await fetch(`${t.parts.appview.url}/external/sitemap/users.xml.gz`)
    equal(answer.status, 200)
    // fetch undoes the compression by itself.
    ok((await answer.text()).includes('<sitemapindex'))
  })
  await t.check('/external/sitemap', 'the latest page of the sitemap lists who has just come', async () => {
    const site = `${t.parts.appview.url}/external/sitemap`
    const index = await (await fetch(`${site}/users.xml.gz`)).text()
    const pages = [...index.matchAll(/<loc>https:\/\/bsky\.app\/sitemap\/users\/([^<]+)<\/loc>/g)].map((it) => it[1])
    const answer = await fetch(`${site}/users/${pages.at(-1)}`)
    equal(answer.status, 200)
    ok((await answer.text()).includes(`<loc>https://bsky.app/profile/${ann.handle}</loc>`))
  }, { referenceBug: 'its sitemap is made up' })
  await t.check('/external/sitemap', 'a page of the sitemap that is not there', async () => {
    const answer = await fetch(`${t.parts.appview.url}/external/sitemap/users/1999-01-01/1.xml.gz`)
    equal(answer.status, 404)
  })
  await t.see(null, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'what was said stays said', (it) => equal(it.posts.length, 1))
}
