// Notifications of every reason, how many are unread, and what has been seen.

import { deepEqual, equal, ok } from 'node:assert/strict'

const LIST = 'app.bsky.notification.listNotifications'
const UNREAD = 'app.bsky.notification.getUnreadCount'
const brief = (it) => it.notifications.map((each) => [each.reason, each.author.did])

export default async function notifications(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  await ann.follow(cyd)
  const post = await ann.post('tell me')
  const cydShare = await cyd.repost(post)
  await t.settle()

  const text = `hey @${ann.handle}`
  const facets = [{
    index: { byteStart: 4, byteEnd: Buffer.byteLength(text) },
    features: [{ $type: 'app.bsky.richtext.facet#mention', did: ann.did }],
  }]
  const follow = await ben.follow(ann)
  const like = await ben.like(post)
  const share = await ben.repost(post)
  const viaLike = await ben.like(post, { via: cydShare }).then(() => cyd.like(post))
  const mention = await ben.post(text, { facets })
  const reply = await ben.reply(post, 'a reply')
  const quote = await ben.quote(post, 'a quote')
  const replyWithMention = await ben.reply(post, text, { facets })
  const ownLike = await ann.like(post)
  await ann.reply(post, 'talking to myself')
  await t.settle()

  // `like` was replaced by the like through cyd's repost, in one commit.
  const expected = [
    ['mention', ben.did, replyWithMention.uri, undefined],
    ['quote', ben.did, quote.uri, post.uri],
    ['reply', ben.did, reply.uri, post.uri],
    ['mention', ben.did, mention.uri, undefined],
    ['like', cyd.did, viaLike.uri, post.uri],
    ['like', ben.did, undefined, post.uri],
    ['repost', ben.did, share.uri, post.uri],
    ['follow', ben.did, follow.uri, undefined],
    ['repost', cyd.did, cydShare.uri, post.uri],
  ]
  await t.see(ann, LIST, {}, 'everything somebody else has done, newest first, once each', (it) => {
    deepEqual(brief(it), expected.map(([reason, did]) => [reason, did]))
    for (const [at, [, , uri, subject]] of expected.entries()) {
      if (uri) equal(it.notifications[at].uri, uri)
      equal(it.notifications[at].reasonSubject, subject)
    }
    equal(it.notifications[0].record.text, text)
    equal(it.notifications[0].author.viewer.followedBy, follow.uri)
    ok(!it.notifications.some((each) => [like.uri, ownLike.uri].includes(each.uri)))
    equal(it.priority, false)
  })
  await t.walk(ann, LIST, { limit: 2 }, 'notifications', 'the same, two at a time', (all) => {
    deepEqual(all.map((each) => each.reason), expected.map(([reason]) => reason))
  })
  await t.see(ann, LIST, { reasons: ['reply', 'quote'] }, 'of some reasons only', (it) => {
    deepEqual(brief(it), [['quote', ben.did], ['reply', ben.did]])
  })
  await t.see(ann, LIST, { priority: true }, 'from those one follows only', (it) => {
    deepEqual(brief(it), [['like', cyd.did], ['repost', cyd.did]])
    equal(it.priority, true)
  })
  await t.see(cyd, LIST, {}, 'by way of somebody\'s repost', (it) => {
    deepEqual(brief(it), [['like-via-repost', ben.did], ['follow', ann.did]])
    equal(it.notifications[0].reasonSubject, cydShare.uri)
  })
  await ben.delete(share)
  const viaShare = await ben.repost(post, { via: cydShare })
  await t.settle()
  await t.see(cyd, LIST, {}, 'a repost by way of a repost', (it) => {
    deepEqual(brief(it)[0], ['repost-via-repost', ben.did])
    equal(it.notifications[0].uri, viaShare.uri)
  })

  // Seen and unread.
  await t.see(ann, UNREAD, {}, 'all are unread at first', (it) => equal(it.count, 9))
  const middle = await t.see(ann, LIST, { limit: 3 }, 'the newest three', (it) => equal(it.notifications.length, 3))
  const seenAt = middle?.notifications[2].indexedAt ?? new Date().toISOString()
  await t.tell(ann, 'app.bsky.notification.updateSeen', { seenAt }, 'has seen all but the newest')
  await t.see(ann, UNREAD, {}, 'what came after is unread, at once', (it) => equal(it.count, 2))
  await t.see(ann, LIST, {}, 'which are read', (it) => {
    equal(it.seenAt, seenAt)
    deepEqual(it.notifications.map((each) => each.isRead), [false, false, false, true, true, true, true, true, true])
  })
  await t.tell(ann, 'app.bsky.notification.updateSeen', { seenAt: '2020-01-01T00:00:00.000Z' }, 'says an earlier time')
  await t.see(ann, UNREAD, {}, 'what was seen stays seen', (it) => equal(it.count, 2))
  await t.tell(ann, 'app.bsky.notification.updateSeen', { seenAt: new Date().toISOString() }, 'has seen everything')
  await t.see(ann, UNREAD, {}, 'nothing is unread', (it) => equal(it.count, 0))
  await t.see(ben, UNREAD, {}, 'what others have seen is theirs', (it) => equal(it.count, 0))

  // Priority.
  await t.tell(ann, 'app.bsky.notification.putPreferences', { priority: true }, 'wants to hear of those one follows only')
  await t.settle()
  await t.see(ann, LIST, {}, 'and does', (it) => {
    deepEqual(brief(it), [['like', cyd.did], ['repost', cyd.did]])
    equal(it.priority, true)
  })
  await t.tell(ann, 'app.bsky.notification.putPreferences', { priority: false }, 'wants to hear of all again')
  await t.settle()
  await t.see(ann, LIST, {}, 'and does again', (it) => equal(it.priority, false))

  // What is taken back is not told.
  await ben.delete(follow)
  await ben.delete(reply)
  await t.settle()
  await t.see(ann, LIST, {}, 'without what was taken back', (it) => {
    ok(!it.notifications.some((each) => [follow.uri, reply.uri].includes(each.uri)))
    equal(it.notifications.length, 7)
  })
  await ann.delete(post)
  await t.settle()
  await t.see(ann, LIST, {}, 'nor what was about a post that is gone', (it) => {
    deepEqual(brief(it), [['mention', ben.did], ['mention', ben.did]])
  })

  // Replies reach four levels up, each author once.
  const { dan, eve, fay, gus, hal } = await t.cast('dan', 'eve', 'fay', 'gus', 'hal')
  const root = await dan.post('level 0')
  await t.settle()
  let at = root
  for (const who of [eve, fay, gus, hal, ben]) {
    at = await who.reply(at, `by ${who.name}`, { root })
    await t.settle()
  }
  for (const [who, told] of [[dan, [eve, fay, gus, hal]], [eve, [fay, gus, hal, ben]], [hal, [ben]]]) {
    await t.see(who, LIST, { reasons: ['reply'] }, `who hears of replies below, ${who.name}`, (it) => {
      deepEqual(it.notifications.map((each) => each.author.did), told.map((each) => each.did).reverse())
    })
  }
}
