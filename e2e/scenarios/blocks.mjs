// Blocks: what the two sides stop seeing, and what everybody else stops seeing between them.

import { deepEqual, equal, ok } from 'node:assert/strict'

const uris = (feed) => feed.map((it) => it.post.uri)

export default async function blocks(t) {
  const { ann, ben, cyd, dan } = await t.cast('ann', 'ben', 'cyd', 'dan')
  await cyd.follow(ann)
  await cyd.follow(ben)
  const annPost = await ann.post('by ann')
  const benPost = await ben.post('by ben')
  const benReply = await ben.reply(annPost, 'ben to ann')
  const benQuote = await ben.quote(annPost, 'ben quotes ann')
  await ben.like(annPost)
  await ann.block(dan)
  const block = await ann.block(ben)
  await t.settle()

  await t.see(ann, 'app.bsky.graph.getBlocks', {}, 'whom one blocks, newest first', (it) => {
    deepEqual(it.blocks.map((each) => each.did), [ben.did, dan.did])
    equal(it.blocks[0].viewer.blocking, block.uri)
  })
  await t.walk(ann, 'app.bsky.graph.getBlocks', { limit: 1 }, 'blocks', 'whom one blocks, one at a time', (all) => {
    deepEqual(all.map((each) => each.did), [ben.did, dan.did])
  })
  await t.see(ann, 'app.bsky.actor.getProfile', { actor: ben.did }, 'the blocked', (it) => {
    equal(it.viewer.blocking, block.uri)
    equal(it.viewer.blockedBy, false)
  })
  await t.see(ben, 'app.bsky.actor.getProfile', { actor: ann.did }, 'the blocker', (it) => {
    equal(it.viewer.blocking, undefined)
    equal(it.viewer.blockedBy, true)
  })
  await t.refused(ann, 'app.bsky.feed.getAuthorFeed', { actor: ben.did }, 'the feed of the blocked', { status: 400, error: 'BlockedActor' })
  await t.refused(ben, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'the feed of the blocker', { status: 400, error: 'BlockedByActor' })
  await t.see(cyd, 'app.bsky.feed.getAuthorFeed', { actor: ben.did }, 'a third sees the feed, without the reply to the blocker', (it) => {
    deepEqual(uris(it.feed).filter((uri) => uri !== benReply.uri), [benQuote.uri, benPost.uri])
  })
  await t.see(cyd, 'app.bsky.feed.getPosts', { uris: [benQuote.uri] }, 'a third sees that a quote is blocked', (it) => {
    equal(it.posts[0].embed.record.$type, 'app.bsky.embed.record#viewBlocked')
    equal(it.posts[0].embed.record.blocked, true)
    equal(it.posts[0].embed.record.author.did, ann.did)
  })
  await t.see(cyd, 'app.bsky.feed.getPostThread', { uri: annPost.uri }, 'a third sees no reply of the blocked', ({ thread }) => {
    equal(thread.post.uri, annPost.uri)
    ok(!thread.replies?.some((it) => it.post?.uri === benReply.uri))
  })
  await t.see(ann, 'app.bsky.feed.getPostThread', { uri: benPost.uri }, 'the thread of the blocked', ({ thread }) => {
    equal(thread.$type, 'app.bsky.feed.defs#blockedPost')
    equal(thread.blocked, true)
    equal(thread.author.viewer.blocking, block.uri)
  })
  await t.see(ann, 'app.bsky.feed.getPosts', { uris: [annPost.uri, benPost.uri] }, 'posts by the blocked are left out', (it) => {
    ok(it.posts.some((post) => post.uri === annPost.uri))
  })
  await t.see(ann, 'app.bsky.feed.getLikes', { uri: annPost.uri }, 'likes by the blocked', (it) => deepEqual(it.likes, []))
  await t.see(ann, 'app.bsky.feed.getQuotes', { uri: annPost.uri }, 'quotes by the blocked', (it) => deepEqual(it.posts, []))
  await t.see(ann, 'app.bsky.graph.getFollowers', { actor: cyd.did }, 'followers of a third', (it) => deepEqual(it.followers, []))
  await t.see(null, 'app.bsky.graph.getRelationships', { actor: ann.did, others: [ben.did, cyd.did] }, 'blocks among relationships', (it) => {
    equal(it.relationships[0].did, ben.did)
    equal(it.relationships[0].blocking, block.uri)
    equal(it.relationships[1].blocking, undefined)
  })
  await t.see(ben, 'app.bsky.notification.listNotifications', {}, 'no word from the blocker', (it) => {
    ok(!it.notifications.some((each) => each.author.did === ann.did))
  })
  await t.see(cyd, 'app.bsky.feed.getTimeline', {}, 'a follower of both', (it) => {
    ok(uris(it.feed).includes(benPost.uri) && uris(it.feed).includes(annPost.uri))
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.graph.block', rkey: block.uri.split('/').at(-1) },
    'a block record', (it) => equal(it.value.subject, ben.did))

  await ann.delete(block)
  await t.settle()
  await t.see(ann, 'app.bsky.graph.getBlocks', {}, 'after it is lifted', (it) => deepEqual(it.blocks.map((each) => each.did), [dan.did]))
  await t.see(ben, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'the feed is open again', (it) => {
    deepEqual(uris(it.feed), [annPost.uri])
  })
  await t.see(cyd, 'app.bsky.feed.getPosts', { uris: [benQuote.uri] }, 'the quote is whole again', (it) => {
    equal(it.posts[0].embed.record.uri, annPost.uri)
    equal(it.posts[0].embed.record.$type, 'app.bsky.embed.record#viewRecord')
  })
  await t.see(cyd, 'app.bsky.feed.getPostThread', { uri: annPost.uri }, 'the reply is back', ({ thread }) => {
    deepEqual(thread.replies.map((it) => it.post.uri), [benReply.uri])
  })
}
