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

  // What people type.
  const bird = await t.cast('ostrich').then((cast) => cast.ostrich)
  const tagged = await bird.post('Plain words about a Quetzalcoatlus, see example.com/wings', {
    langs: ['pt-BR'],
    facets: [
      { index: { byteStart: 0, byteEnd: 5 }, features: [{ $type: 'app.bsky.richtext.facet#tag', tag: 'Pterosaur' }] },
      { index: { byteStart: 6, byteEnd: 11 }, features: [{ $type: 'app.bsky.richtext.facet#mention', did: quokka.did }] },
      { index: { byteStart: 42, byteEnd: 59 }, features: [{ $type: 'app.bsky.richtext.facet#link', uri: 'https://www.example.com/wings' }] },
    ],
  })
  const answer = await bird.reply(tagged, 'quetzalcoatlus wings are words, plain ones', { langs: ['en'] })
  const tokyo = await bird.post('昨日、東京タワーに行きました', { langs: ['ja'] })
  const bangkok = await bird.post('ฉันชอบกรุงเทพมหานครมาก', { langs: ['th'] })
  const quoting = await wombat.quote(one, 'look, a platypus-like thing')
  await quokka.like(answer)
  await wombat.like(answer)
  await wombat.follow(bird)
  await t.settle()
  const typed = (q, what, expected, options = LAG) =>
    t.see(null, 'app.bsky.feed.searchPosts', { q }, what, (it) => deepEqual(uris(it), expected.map((each) => each.uri)), options)
  const NEWER = { ...LAG, referenceBug: 'it looks for a piece of the text as it was typed' }
  await typed('QUETZALCOATLUS', 'posts in whatever case', [answer, tagged], NEWER)
  await typed('"plain words" quetzalcoatlus', 'a phrase', [tagged], NEWER)
  await typed('quetzalcoatlus -plain', 'without a word that both have', [], NEWER)
  await typed('quetzalcoatlus -about', 'without a word that one has', [answer], NEWER)
  await typed('#pterosaur', 'a tag', [tagged], NEWER)
  await typed('quetzalcoatlus lang:pt', 'a language', [tagged], NEWER)
  await typed('domain:example.com quetzalcoatlus', 'a host', [tagged], NEWER)
  await typed(`quetzalcoatlus mentions:${quokka.handle}`, 'a mention', [tagged], NEWER)
  await typed(`quetzalcoatlus from:@${bird.handle.toUpperCase()}`, 'an author as people write it', [answer, tagged], NEWER)
  await typed('quetzalcoatlus from:nobody-at-all.test', 'an author whom nobody knows', [], NEWER)
  await typed('quetzalcoatlus until:2020-01-01', 'before anybody wrote it', [], NEWER)
  await typed('東京', 'Japanese', [tokyo])
  await typed('กรุงเทพ', 'Thai', [bangkok])

  const filtered = (params, what, expected) =>
    t.see(quokka, 'app.bsky.feed.searchPostsV2', { sort: 'recent', ...params }, what, (it) => {
      deepEqual(uris(it), expected.map((each) => each.uri))
      ok(it.hitsTotal >= expected.length)
    }, V2)
  await filtered({ query: 'quetzalcoatlus', authors: [bird.handle] }, 'an author by handle', [answer, tagged])
  await filtered({ query: 'quetzalcoatlus', authors: ['nobody-at-all.test'] }, 'an author whom nobody knows', [])
  await filtered({ query: 'quetzalcoatlus', hashtags: ['pterosaur'] }, 'a tag', [tagged])
  await filtered({ query: 'quetzalcoatlus', excludeHashtags: ['pterosaur'] }, 'without a tag', [answer])
  await filtered({ query: 'quetzalcoatlus', mentions: [quokka.did] }, 'a mention', [tagged])
  await filtered({ query: 'quetzalcoatlus', urls: ['https://example.com/wings'] }, 'a link', [tagged])
  await filtered({ query: 'quetzalcoatlus', excludeReplies: true }, 'without replies', [tagged])
  await filtered({ query: 'quetzalcoatlus', repliesOnly: true }, 'replies alone', [answer])
  await filtered({ replyParentUri: tagged.uri }, 'answers to a post, without a word', [answer])
  await filtered({ embeddedAtUris: [one.uri] }, 'posts that quote a post', [quoting])
  await t.see(quokka, 'app.bsky.feed.searchPostsV2', { query: 'quetzalcoatlus', sort: 'top' }, 'the liked one first', (it) => {
    deepEqual(uris(it), [answer.uri, tagged.uri])
  }, V2)
  await t.see(quokka, 'app.bsky.feed.searchPostsV2', { query: '東京' }, 'the languages of a question', (it) => {
    deepEqual(it.detectedQueryLanguages, ['zh', 'ja'])
  }, V2)
  await t.see(wombat, 'app.bsky.feed.searchPostsV2', { query: 'quetzalcoatlus', sort: 'recent', following: true }, 'of those whom one follows', (it) => {
    deepEqual(uris(it), [answer.uri, tagged.uri])
  }, V2)
  await t.see(quokka, 'app.bsky.feed.searchPostsV2', { query: 'quetzalcoatlus', sort: 'recent', following: true }, 'of those whom one follows: nobody', (it) => {
    deepEqual(uris(it), [])
  }, V2)
  await t.refused(quokka, 'app.bsky.feed.searchPostsV2', { sort: 'recent' }, 'a question that asks nothing', { status: 400 }, V2)
  for (const sort of ['recent', 'top']) {
    await t.walk(quokka, 'app.bsky.feed.searchPostsV2', { query: 'quetzalcoatlus', sort, limit: 1 }, 'posts', `one at a time, ${sort}`, (all) => {
      deepEqual(all.map((each) => each.uri), [answer.uri, tagged.uri])
    }, V2)
  }
  await t.walk(quokka, 'app.bsky.feed.searchPosts', { q: 'quetzalcoatlus', sort: 'top', limit: 1 }, 'posts', 'one at a time, by the first generation of the endpoint', (all) => {
    deepEqual(all.map((each) => each.uri), [answer.uri, tagged.uri])
  }, V2)

  // What has changed is found as it is now.
  await quokka.profile({ displayName: 'Splendid Numbat' })
  await t.settle()
  await t.see(null, 'app.bsky.actor.searchActors', { q: 'splendid numbat' }, 'an account by its new name', (it) => {
    deepEqual(it.actors.map((each) => each.did), [quokka.did])
  }, { ...LAG, referenceBug: 'it looks at handles only' })
  await t.see(null, 'app.bsky.actor.searchActors', { q: 'marsupial' }, 'not by its old one', (it) => deepEqual(it.actors, []), LAG)

  // What is gone is not found.
  await wombat.delete(two)
  await quokka.delete(pack)
  await t.settle()
  await t.see(null, 'app.bsky.feed.searchPosts', { q: 'zyzzyva' }, 'without a deleted post', (it) => deepEqual(uris(it), [one.uri]), LAG)
  await t.see(null, 'app.bsky.graph.searchStarterPacks', { q: 'zyzzyva' }, 'without a deleted pack', (it) => deepEqual(it.starterPacks, []), LAG)
}
