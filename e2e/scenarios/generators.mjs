// Feed generators: their records, their likes, the operator's suggestions, and the feeds they make.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { startFeedService } from '../lib/feed-service.mjs'
import { PNG } from '../lib/media.mjs'
import { refOf } from '../lib/world.mjs'

const uris = (it) => it.feeds.map((each) => each.uri)

export default async function generators(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  const service = await startFeedService(t.parts)
  try {
    const avatar = await ann.blob(PNG, 'image/png')
    const make = (name, more = {}) => ann.create('app.bsky.feed.generator', {
      did: service.did, displayName: name, createdAt: t.tick(), ...more,
    })
    const bees = await make('Bees', { description: 'all about bees', avatar, acceptsInteractions: true })
    const ants = await make('Ants')
    const wasps = await make('Wasps', { contentMode: 'app.bsky.feed.defs#contentModeVideo' })
    const like = await ben.like(bees)
    await cyd.like(bees)
    const first = await ben.post('first')
    const second = await cyd.post('second')
    const share = await ben.repost(second)
    const embed = await cyd.quote(bees, 'look at this feed')
    await t.settle()

    await t.see(ben, 'app.bsky.feed.getFeedGenerator', { feed: bees.uri }, 'a feed generator', (it) => {
      equal(it.view.uri, bees.uri)
      deepEqual([it.view.displayName, it.view.description, it.view.did], ['Bees', 'all about bees', service.did])
      equal(it.view.creator.did, ann.did)
      equal(it.view.likeCount, 2)
      equal(it.view.viewer.like, like.uri)
      equal(it.view.acceptsInteractions, true)
      ok(it.view.avatar.includes(avatar.ref.$link))
      equal(it.isOnline, true)
      equal(it.isValid, true)
    })
    await t.refused(null, 'app.bsky.feed.getFeedGenerator', { feed: `at://${ann.did}/app.bsky.feed.generator/none` }, 'no such generator', { status: 400 })
    await t.see(null, 'app.bsky.feed.getFeedGenerators', { feeds: [wasps.uri, `at://${ann.did}/app.bsky.feed.generator/none`, bees.uri] },
      'several generators in the order asked', (it) => {
        deepEqual(uris(it), [wasps.uri, bees.uri])
        equal(it.feeds[0].contentMode, 'app.bsky.feed.defs#contentModeVideo')
      })
    await t.see(ben, 'app.bsky.feed.getActorFeeds', { actor: ann.handle }, 'the generators of an account, newest first', (it) => {
      deepEqual(uris(it), [wasps.uri, ants.uri, bees.uri])
      equal(it.feeds[2].viewer.like, like.uri)
    })
    await t.walk(null, 'app.bsky.feed.getActorFeeds', { actor: ann.did, limit: 1 }, 'feeds', 'one at a time', (feeds) => {
      deepEqual(feeds.map((each) => each.uri), [wasps.uri, ants.uri, bees.uri])
    })
    await t.see(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'how many generators an account has', (it) => {
      equal(it.associated.feedgens, 3)
    }, { referenceBug: 'it counts lists, generators and packs only of accounts that have posted or followed' })
    await t.see(null, 'app.bsky.feed.getLikes', { uri: bees.uri }, 'who likes a generator', (it) => {
      deepEqual(it.likes.map((each) => each.actor.did), [cyd.did, ben.did])
    })
    await t.see(null, 'app.bsky.feed.getPosts', { uris: [embed.uri] }, 'a generator in a post', (it) => {
      equal(it.posts[0].embed.record.$type, 'app.bsky.feed.defs#generatorView')
      equal(it.posts[0].embed.record.displayName, 'Bees')
    })
    await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.generator', rkey: bees.uri.split('/').at(-1) },
      'a generator record', (it) => deepEqual(refOf(it), bees))

    // The feed itself: the AppView finds the service by its DID, asks it, and hydrates what it says.
    service.feeds.set(bees.uri, [
      { post: second.uri },
      { post: `at://${ann.did}/app.bsky.feed.post/3zzzzzzzzzzzz` },
      { post: second.uri, reason: { $type: 'app.bsky.feed.defs#skeletonReasonRepost', repost: share.uri } },
      { post: first.uri, feedContext: 'because' },
    ])
    await t.see(ben, 'app.bsky.feed.getFeed', { feed: bees.uri }, 'a feed made by a generator', (it) => {
      deepEqual(it.feed.map((each) => each.post.uri), [second.uri, second.uri, first.uri])
      equal(it.feed[0].reason, undefined)
      equal(it.feed[1].reason.by.did, ben.did)
      equal(it.feed[2].feedContext, 'because')
    }, { audience: service.did, headers: {} })
    await t.check('app.bsky.feed.getFeedSkeleton', 'the service was asked in the name of the viewer', () => {
      ok(service.asked.some((each) => each.feed === bees.uri && each.authorization))
    })
    await t.refused(null, 'app.bsky.feed.getFeed', { feed: `at://${ann.did}/app.bsky.feed.generator/none` }, 'the feed of no generator', { status: 400 })

    // Suggestions.
    await t.plane.suggest({ feeds: [ants.uri, wasps.uri, bees.uri] })
    await t.see(ben, 'app.bsky.feed.getSuggestedFeeds', {}, 'what the operator suggests, in order', (it) => {
      deepEqual(uris(it), [ants.uri, wasps.uri, bees.uri])
    })
    await t.walk(null, 'app.bsky.feed.getSuggestedFeeds', { limit: 2 }, 'feeds', 'two at a time', (feeds) => {
      deepEqual(feeds.map((each) => each.uri), [ants.uri, wasps.uri, bees.uri])
    })
    await t.see(ben, 'app.bsky.unspecced.getPopularFeedGenerators', {}, 'what is popular is what is suggested', (it) => {
      deepEqual(uris(it), [ants.uri, wasps.uri, bees.uri])
    })
    await t.plane.suggest({ feeds: [bees.uri] })
    await t.see(null, 'app.bsky.feed.getSuggestedFeeds', {}, 'another list in its place', (it) => deepEqual(uris(it), [bees.uri]))
    t.parts.topics.answer('app.bsky.unspecced.getSuggestedFeedsSkeleton', { feeds: [wasps.uri, bees.uri] })
    await t.see(ben, 'app.bsky.unspecced.getSuggestedFeeds', { limit: 2 }, 'what the topics service suggests', (it) => {
      deepEqual(uris(it), [wasps.uri, bees.uri])
    })

    await ann.put('app.bsky.feed.generator', ants.uri.split('/').at(-1), { did: service.did, displayName: 'Ants again', createdAt: t.tick() })
    await ann.delete(wasps)
    await ben.delete(like)
    await t.settle()
    await t.see(ben, 'app.bsky.feed.getFeedGenerators', { feeds: [ants.uri, wasps.uri, bees.uri] }, 'after an edit, a deletion and an unlike', (it) => {
      deepEqual(it.feeds.map((each) => [each.uri, each.displayName, each.likeCount]), [[ants.uri, 'Ants again', 0], [bees.uri, 'Bees', 1]])
      equal(it.feeds[1].viewer.like, undefined)
    })
  } finally {
    await service.stop()
  }
}
