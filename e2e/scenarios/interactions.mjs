// Likes and reposts: counts, lists, the viewer's own, and what happens when the same is said twice.

import { deepEqual, equal, ok } from 'node:assert/strict'

export default async function interactions(t) {
  const { ann, ben, cyd, dan } = await t.cast('ann', 'ben', 'cyd', 'dan')
  const post = await ann.post('like me')
  const other = await ann.post('and me')
  const benLike = await ben.like(post)
  const cydLike = await cyd.like(post)
  const danLike = await dan.like(post)
  const benOther = await ben.like(other)
  const benRepost = await ben.repost(post)
  const cydRepost = await cyd.repost(post)
  const viaLike = await dan.like(other, { via: benRepost })
  await t.settle()

  const counts = async (ref, what, likes, reposts, viewer) => {
    await t.see(ben, 'app.bsky.feed.getPosts', { uris: [ref.uri] }, what, ({ posts: [it] }) => {
      deepEqual([it.likeCount, it.repostCount], [likes, reposts])
      equal(it.viewer.like, viewer?.like)
      equal(it.viewer.repost, viewer?.repost)
    })
  }
  await counts(post, 'counts and the viewer\'s own', 3, 2, { like: benLike.uri, repost: benRepost.uri })
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [other.uri, post.uri] }, 'two posts, each with the viewer\'s own', ({ posts: all }) => {
    deepEqual(all.map((it) => [it.viewer.like, it.viewer.repost]), [[benOther.uri, undefined], [benLike.uri, benRepost.uri]])
  })
  await counts(other, 'counts of the other post', 2, 0, { like: benOther.uri })

  await t.see(ben, 'app.bsky.feed.getLikes', { uri: post.uri }, 'who likes, newest first', (it) => {
    deepEqual(it.likes.map((like) => like.actor.did), [dan.did, cyd.did, ben.did])
    ok(it.likes.every((like) => like.createdAt && like.indexedAt))
    equal(it.cursor, undefined)
  })
  await t.walk(null, 'app.bsky.feed.getLikes', { uri: post.uri, limit: 1 }, 'likes', 'who likes, one at a time', (likes) => {
    deepEqual(likes.map((like) => like.actor.did), [dan.did, cyd.did, ben.did])
  })
  await t.see(null, 'app.bsky.feed.getLikes', { uri: post.uri, cid: post.cid }, 'likes of one version', (it) => {
    equal(it.likes.length, 3)
    equal(it.cid, post.cid)
  })
  await t.see(ben, 'app.bsky.feed.getRepostedBy', { uri: post.uri }, 'who reposts, newest first', (it) => {
    deepEqual(it.repostedBy.map((actor) => actor.did), [cyd.did, ben.did])
  })
  await t.walk(null, 'app.bsky.feed.getRepostedBy', { uri: post.uri, limit: 1 }, 'repostedBy', 'who reposts, one at a time', (all) => {
    deepEqual(all.map((actor) => actor.did), [cyd.did, ben.did])
  })
  await t.see(ben, 'app.bsky.feed.getActorLikes', { actor: ben.handle }, 'what one likes oneself, newest first', (it) => {
    deepEqual(it.feed.map((item) => item.post.uri), [other.uri, post.uri])
    equal(it.feed[0].post.viewer.like, benOther.uri)
  })
  await t.refused(ben, 'app.bsky.feed.getActorLikes', { actor: cyd.did }, 'the likes of others are theirs', { status: 400 })
  await t.see(null, 'app.bsky.feed.getLikes', { uri: `at://${ann.did}/app.bsky.feed.post/3zzzzzzzzzzzz` }, 'likes of nothing', (it) => {
    deepEqual(it.likes, [])
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: dan.did, collection: 'app.bsky.feed.like', rkey: viaLike.uri.split('/').at(-1) },
    'a like says by way of what', (it) => deepEqual(it.value.via, benRepost))
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ben.did, collection: 'app.bsky.feed.repost', rkey: benRepost.uri.split('/').at(-1) },
    'a repost record', (it) => deepEqual(it.value.subject, post))

  // The same like and the same repost once more: they change nothing, until the first is taken back.
  // By applyWrites: createRecord would delete the earlier one in the same commit.
  const [again] = await ben.createMany('app.bsky.feed.like', [{ subject: post, createdAt: t.tick() }])
  const [repostAgain] = await ben.createMany('app.bsky.feed.repost', [{ subject: post, createdAt: t.tick() }])
  await t.settle()
  await counts(post, 'a second like and repost of the same count nothing', 3, 2, { like: benLike.uri, repost: benRepost.uri })
  await t.see(null, 'app.bsky.feed.getLikes', { uri: post.uri }, 'a second like is not listed', (it) => equal(it.likes.length, 3))
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ben.did, collection: 'app.bsky.feed.like', rkey: again.uri.split('/').at(-1) },
    'yet its record is kept', (it) => equal(it.uri, again.uri))
  await ben.delete(benLike)
  await ben.delete(benRepost)
  await t.settle()
  await counts(post, 'the second stands when the first is taken back', 3, 2, { like: again.uri, repost: repostAgain.uri })
  await t.see(null, 'app.bsky.feed.getLikes', { uri: post.uri }, 'the promoted like keeps its own place', (it) => {
    deepEqual(it.likes.map((like) => like.actor.did), [ben.did, dan.did, cyd.did])
  })
  const third = await ben.like(post)
  await t.settle()
  await counts(post, 'a like that replaces another in one commit', 3, 2, { like: third.uri, repost: repostAgain.uri })
  await t.refused(null, 'com.atproto.repo.getRecord', { repo: ben.did, collection: 'app.bsky.feed.like', rkey: again.uri.split('/').at(-1) },
    'the replaced like is gone', { status: 400 })
  await ben.delete(third)
  await ben.delete(repostAgain)
  await t.settle()
  await counts(post, 'the last like and repost are taken back', 2, 1, undefined)
  await t.see(ben, 'app.bsky.feed.getActorLikes', { actor: ben.did }, 'what is liked no more', (it) => {
    deepEqual(it.feed.map((item) => item.post.uri), [other.uri])
  })

  // A like of what has gone stays the liker's, but shows nowhere.
  await ann.delete(other)
  await dan.delete(danLike)
  await cyd.delete(cydRepost)
  await t.settle()
  await counts(post, 'others take theirs back', 1, 0, undefined)
  await t.see(ben, 'app.bsky.feed.getActorLikes', { actor: ben.did }, 'likes of what has gone', (it) => deepEqual(it.feed, []))
  await t.see(null, 'app.bsky.feed.getLikes', { uri: post.uri }, 'who is left', (it) => {
    deepEqual(it.likes.map((like) => like.actor.did), [cyd.did])
    ok(cydLike.uri.startsWith(`at://${cyd.did}/`))
  })
}
