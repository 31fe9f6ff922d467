// Timelines and author feeds: what belongs in them, in which order, and page by page.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { MP4, PNG } from '../lib/media.mjs'

const uris = (feed) => feed.map((it) => (it.reason?.$type?.endsWith('#reasonRepost') ? `repost ${it.reason.uri}` : it.post.uri))
const repostOf = (ref) => `repost ${ref.uri}`
const list = (...refs) => refs.map((it) => it.uri ?? it)

export default async function feeds(t) {
  const { ann, ben, cyd, dan } = await t.cast('ann', 'ben', 'cyd', 'dan')
  await dan.follow(ann)
  await dan.follow(ben)
  const png = await ann.blob(PNG, 'image/png')
  const mp4 = await ann.blob(MP4, 'video/mp4')

  const danPost = await dan.post('dan himself')
  const cydPost = await cyd.post('by a stranger')
  const a1 = await ann.post('a1')
  const picture = await ann.post('picture', { embed: { $type: 'app.bsky.embed.images', images: [{ image: png, alt: '' }] } })
  const film = await ann.post('film', { embed: { $type: 'app.bsky.embed.video', video: mp4 } })
  const self = await ann.reply(a1, 'self reply')
  const toStranger = await ann.reply(cydPost, 'reply to a stranger')
  const share = await ann.repost(cydPost)
  const b1 = await ben.post('b1')
  const toSelf = await ann.reply(toStranger, 'on and on', { root: cydPost })
  const shareOfReply = await ben.repost(self)
  const quoteWithPicture = await ann.post('quote with picture', {
    embed: {
      $type: 'app.bsky.embed.recordWithMedia',
      record: { $type: 'app.bsky.embed.record', record: b1 },
      media: { $type: 'app.bsky.embed.images', images: [{ image: png, alt: '' }] },
    },
  })
  const replyWithPicture = await ann.reply(b1, 'reply with picture', { embed: { $type: 'app.bsky.embed.images', images: [{ image: png, alt: '' }] } })
  await t.settle()

  const timeline = list(replyWithPicture, quoteWithPicture, repostOf(shareOfReply), toSelf, b1, repostOf(share), toStranger, self, film, picture, a1, danPost)
  await t.see(dan, 'app.bsky.feed.getTimeline', {}, 'what those one follows and oneself have said', (it) => {
    deepEqual(uris(it.feed), timeline)
    const shared = it.feed.find((each) => each.reason?.uri === share.uri)
    equal(shared.post.uri, cydPost.uri)
    equal(shared.reason.by.did, ann.did)
    const reply = it.feed.find((each) => each.post.uri === toSelf.uri)
    equal(reply.reply.root.uri, cydPost.uri)
    equal(reply.reply.parent.uri, toStranger.uri)
    equal(reply.reply.grandparentAuthor.did, cyd.did)
  })
  for (const limit of [1, 2, 5]) {
    await t.walk(dan, 'app.bsky.feed.getTimeline', { limit }, 'feed', `the same, ${limit} at a time`, (feed) => deepEqual(uris(feed), timeline))
  }
  await t.see(cyd, 'app.bsky.feed.getTimeline', {}, 'who follows nobody sees what is own', (it) => deepEqual(uris(it.feed), list(cydPost)))
  await t.see(dan, 'app.bsky.feed.getTimeline', { cursor: '1::x' }, 'a cursor of old', (it) => deepEqual(it.feed, []))

  const all = list(replyWithPicture, quoteWithPicture, toSelf, repostOf(share), toStranger, self, film, picture, a1)
  const filters = {
    posts_with_replies: all,
    posts_no_replies: list(quoteWithPicture, repostOf(share), film, picture, a1),
    posts_with_media: list(replyWithPicture, quoteWithPicture, picture),
    posts_with_video: list(film),
    posts_and_author_threads: list(quoteWithPicture, repostOf(share), self, film, picture, a1),
  }
  for (const [filter, expected] of Object.entries(filters)) {
    await t.see(null, 'app.bsky.feed.getAuthorFeed', { actor: ann.handle, filter }, `an author's feed, ${filter}`, (it) => {
      deepEqual(uris(it.feed), expected)
    })
  }
  await t.see(null, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'an author\'s feed, nothing said', (it) => deepEqual(uris(it.feed), all))
  for (const limit of [1, 4]) {
    await t.walk(null, 'app.bsky.feed.getAuthorFeed', { actor: ann.did, limit }, 'feed', `the same, ${limit} at a time`, (feed) => deepEqual(uris(feed), all))
  }
  await t.refused(null, 'app.bsky.feed.getAuthorFeed', { actor: 'nobody-at-all.test' }, 'the feed of nobody', { status: 400 })

  await ann.profile({ displayName: 'ann', pinnedPost: a1 })
  await t.settle()
  await t.see(null, 'app.bsky.feed.getAuthorFeed', { actor: ann.did, includePins: true, limit: 3 }, 'the pinned post comes first', (it) => {
    deepEqual(uris(it.feed).slice(0, 3), [a1.uri, ...all.slice(0, 2)])
    equal(it.feed[0].reason.$type, 'app.bsky.feed.defs#reasonPin')
    equal(it.feed[0].post.viewer, undefined)
  })
  await t.see(null, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'unless pins are not asked for', (it) => deepEqual(uris(it.feed), all))
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [a1.uri] }, 'a pinned post says so to its author alone', (it) => {
    equal(it.posts[0].viewer.pinned, undefined)
  })
  await t.see(ann, 'app.bsky.feed.getPosts', { uris: [a1.uri] }, 'a pinned post says so to its author', (it) => {
    equal(it.posts[0].viewer.pinned, true)
  })

  // What is taken back leaves at once; so do those one follows no more.
  await ann.delete(share)
  await ann.delete(film)
  await t.settle()
  const gone = new Set([repostOf(share), film.uri])
  await t.see(dan, 'app.bsky.feed.getTimeline', {}, 'without what was taken back', (it) => {
    deepEqual(uris(it.feed), timeline.filter((each) => !gone.has(each)))
  })
  await cyd.delete(cydPost)
  await t.settle()
  await t.see(null, 'app.bsky.feed.getAuthorFeed', { actor: ann.did, filter: 'posts_with_replies' }, 'replies outlive what they reply to', (it) => {
    const reply = it.feed.find((each) => each.post.uri === toStranger.uri)
    ok(reply)
    equal(reply.reply.parent.$type, 'app.bsky.feed.defs#notFoundPost')
  })
  const { body } = await dan.pds('GET', 'com.atproto.repo.listRecords', { params: { repo: dan.did, collection: 'app.bsky.graph.follow' } })
  await dan.delete(body.records.find((it) => it.value.subject === ann.did))
  await t.settle()
  await t.see(dan, 'app.bsky.feed.getTimeline', {}, 'without who is followed no more', (it) => {
    deepEqual(uris(it.feed), list(repostOf(shareOfReply), b1, danPost))
  })
  await dan.follow(ann)
  await t.settle()
  await t.see(dan, 'app.bsky.feed.getTimeline', {}, 'a follow brings back what was said before it', (it) => {
    ok(uris(it.feed).includes(a1.uri))
    equal(it.feed[0].post.uri, replyWithPicture.uri)
  })

  // Many posts, so that pages cross, and a busy account is throttled in its own timeline only where the rules say so.
  const many = await ben.createMany('app.bsky.feed.post', Array.from({ length: 60 }, (_, at) => ({ text: `many ${at}`, createdAt: t.tick() })))
  const newest = many.map((it) => it.uri).reverse()
  await t.settle()
  await t.walk(dan, 'app.bsky.feed.getTimeline', { limit: 7 }, 'feed', 'a long timeline, seven at a time', (feed) => {
    deepEqual(uris(feed).slice(0, 60), newest)
    equal(new Set(uris(feed)).size, feed.length)
  })
  await t.walk(null, 'app.bsky.feed.getAuthorFeed', { actor: ben.did, limit: 30 }, 'feed', 'a long author feed', (feed) => {
    deepEqual(uris(feed), [...newest, repostOf(shareOfReply), b1.uri])
  })
}
