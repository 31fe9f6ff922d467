// Search of both generations. An index may lag, so these look again for a while.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { SEARCH_V2_HEADERS } from '../lib/parts.mjs'
import { PURPOSE } from '../lib/world.mjs'

const LAG = { eventually: true }
const V2 = { eventually: true, headers: SEARCH_V2_HEADERS, referenceBug: 'its second generation only reshapes the first' }

export default async function search(t) {
  const { quokka, wombat } = await t.cast('quokka', 'wombat')
  await quokka.profile({ displayName: 'Marvellous Marsupial' })
  const one = await quokka.post('a zyzzyva sat on the fence')
  const two = await wombat.post('another zyzzyva and a grasshopper', { langs: ['en'] })
  const three = await wombat.post('nothing but a grasshopper')
  const feed = await quokka.create('app.bsky.feed.generator', { did: t.parts.mod.did, displayName: 'Zyzzyva watch', createdAt: t.tick() })
  const list = await quokka.list('zs', PURPOSE.reference)
  const pack = await quokka.starterPack('Zyzzyva friends', list)
  await t.settle()

  const uris = (it) => it.posts.map((each) => each.uri)
  await t.see(null, 'app.bsky.feed.searchPosts', { q: 'zyzzyva' }, 'posts with a word, newest first', (it) => {
    deepEqual(uris(it), [two.uri, one.uri])
    equal(it.posts[1].author.displayName, 'Marvellous Marsupial')
  }, LAG)
  await t.see(null, 'app.bsky.feed.searchPosts', { q: `grasshopper from:${wombat.handle}` }, 'posts with a word by an author', (it) => {
    deepEqual(uris(it), [three.uri, two.uri])
  }, LAG)
  await t.see(null, 'app.bsky.feed.searchPosts', { q: `zyzzyva ${quokka.did}` }, 'posts with a word by a DID', (it) => deepEqual(uris(it), [one.uri]), LAG)
  await t.see(null, 'app.bsky.feed.searchPosts', { q: 'qwertzuiopasdf' }, 'a word that nobody wrote', (it) => deepEqual(uris(it), []), LAG)
  await t.walk(null, 'app.bsky.feed.searchPosts', { q: 'zyzzyva', limit: 1 }, 'posts', 'one at a time', (all) => {
    deepEqual(all.map((each) => each.uri), [two.uri, one.uri])
  }, LAG)
  await t.see(null, 'app.bsky.actor.searchActors', { q: quokka.handle.slice(0, 8) }, 'accounts by the beginning of a handle', (it) => {
    ok(it.actors.some((each) => each.did === quokka.did))
    ok(!it.actors.some((each) => each.did === wombat.did))
  }, LAG)
  await t.see(null, 'app.bsky.actor.searchActorsTypeahead', { q: 'quok' }, 'accounts while one types', (it) => {
    ok(it.actors.some((each) => each.did === quokka.did && each.handle === quokka.handle))
  }, LAG)
  await t.see(null, 'app.bsky.actor.searchActors', { q: 'Marsupial' }, 'accounts by display name', (it) => {
    deepEqual(it.actors.map((each) => each.did), [quokka.did])
  }, { ...LAG, referenceBug: 'it looks at handles only' })
  await t.see(null, 'app.bsky.unspecced.getPopularFeedGenerators', { query: 'zyzzyva' }, 'generators by name', (it) => {
    deepEqual(it.feeds.map((each) => each.uri), [feed.uri])
  }, LAG)
  await t.see(null, 'app.bsky.graph.searchStarterPacks', { q: 'zyzzyva' }, 'starter packs by name', (it) => {
    deepEqual(it.starterPacks.map((each) => each.uri), [pack.uri])
  }, LAG)

  // The second generation.
  await t.see(quokka, 'app.bsky.feed.searchPostsV2', { query: 'zyzzyva', sort: 'recent' }, 'posts, with how many there are', (it) => {
    deepEqual(uris(it), [two.uri, one.uri])
    ok(it.hitsTotal >= 2)
  }, V2)
  await t.see(quokka, 'app.bsky.feed.searchPosts', { q: 'grasshopper', author: wombat.handle }, 'posts by an author, a filter of the request', (it) => {
    deepEqual(uris(it).sort(), [three.uri, two.uri].sort())
  }, V2)
  await t.see(quokka, 'app.bsky.actor.searchActors', { q: 'marsupial' }, 'accounts by display name, whatever the case', (it) => {
    deepEqual(it.actors.map((each) => each.did), [quokka.did])
  }, V2)
  await t.see(quokka, 'app.bsky.actor.searchActorsTypeahead', { q: 'marsup' }, 'accounts by display name while one types', (it) => {
    ok(it.actors.some((each) => each.did === quokka.did))
  }, V2)
  await t.see(quokka, 'app.bsky.graph.searchStarterPacksV2', { q: 'zyzzyva' }, 'starter packs', (it) => {
    deepEqual(it.starterPacks.map((each) => each.uri), [pack.uri])
    ok(it.hitsTotal >= 1)
  }, V2)

  // What is gone is not found.
  await wombat.delete(two)
  await quokka.delete(pack)
  await t.settle()
  await t.see(null, 'app.bsky.feed.searchPosts', { q: 'zyzzyva' }, 'without a deleted post', (it) => deepEqual(uris(it), [one.uri]), LAG)
  await t.see(null, 'app.bsky.graph.searchStarterPacks', { q: 'zyzzyva' }, 'without a deleted pack', (it) => deepEqual(it.starterPacks, []), LAG)
}
