// The way a client really goes: every call to the PDS, which passes it on to the AppView and lays what the data plane
// does not have yet over the answer. That works only if the data plane says truthfully how far it has got.

import { deepEqual, equal, ok } from 'node:assert/strict'

export default async function throughThePds(t) {
  const { ann, ben } = await t.cast('ann', 'ben')
  await ann.follow(ben)
  const first = await ann.post('first')
  const benPost = await ben.post('by ben')
  await t.settle()
  const pass = async (as, nsid, params, what, check) => t.check(`${nsid} by the PDS`, what, async () => {
    const { body, headers } = await as.pds('GET', nsid, { params })
    await check(body, headers)
  }, { eventually: !t.plane.pause })
  const rev = async (who) => {
    const { body } = await who.pds('GET', 'com.atproto.sync.getLatestCommit', { params: { did: who.did } })
    return body.rev
  }
  const latest = await rev(ann)
  await t.see(ann, 'app.bsky.feed.getTimeline', {}, 'how far the viewer\'s own repo is known', (it, headers) => {
    equal(headers.get('atproto-repo-rev'), latest)
  })
  for (const [nsid, params] of [
    ['app.bsky.feed.getAuthorFeed', { actor: ann.did }],
    ['app.bsky.feed.getActorLikes', { actor: ann.did }],
    ['app.bsky.feed.getPostThread', { uri: first.uri }],
    ['app.bsky.actor.getProfile', { actor: ann.did }],
    ['app.bsky.feed.getListFeed', { list: `at://${ann.did}/app.bsky.graph.list/none` }],
    ['app.bsky.actor.getProfiles', { actors: [ann.did] }],
  ]) {
    await t.see(ann, nsid, params, 'and so it says beside every answer that a PDS may patch', (it, headers) => {
      equal(headers.get('atproto-repo-rev') ?? latest, latest)
    })
  }
  await pass(ann, 'app.bsky.feed.getTimeline', {}, 'a timeline by way of the PDS', (it) => {
    deepEqual(it.feed.map((each) => each.post.uri), [benPost.uri, first.uri])
  })
  await pass(ann, 'app.bsky.actor.getProfile', { actor: ann.handle }, 'a profile by way of the PDS', (it) => {
    equal(it.did, ann.did)
    equal(it.postsCount, 1)
  })
  // While the data plane stands still, so that there is something to lay over. The reference cannot be told to: it
  // races, and is given the time that it needs.
  await t.plane.pause?.()
  await ann.post('second')
  await ann.profile({ displayName: 'Ann anew' })
  await pass(ann, 'app.bsky.actor.getProfile', { actor: ann.did }, 'one sees one\'s own edit at once, however far the data plane is', (it) => {
    equal(it.displayName, 'Ann anew')
  })
  await pass(ann, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'and one\'s own post, once', (it) => {
    deepEqual(it.feed.map((each) => each.post.record.text), ['second', 'first'])
  })
  if (t.plane.pause) {
    await t.see(ann, 'app.bsky.feed.getTimeline', {}, 'while it stands still, the data plane knows no more than it did', (it, headers) => {
      equal(headers.get('atproto-repo-rev'), latest)
      equal(it.feed.length, 2)
    })
  }
  await t.plane.resume?.()
  await t.settle()
  const now = await rev(ann)
  await t.see(ann, 'app.bsky.feed.getTimeline', {}, 'once it is there, the data plane says so', (it, headers) => {
    equal(headers.get('atproto-repo-rev'), now)
    ok(now > latest)
    equal(it.feed.length, 3)
  })
  await pass(ann, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'and it is not told twice', (it) => {
    deepEqual(it.feed.map((each) => each.post.record.text), ['second', 'first'])
  })
  await pass(ben, 'app.bsky.notification.listNotifications', {}, 'notifications by way of the PDS', (it) => {
    deepEqual(it.notifications.map((each) => [each.reason, each.author.did]), [['follow', ann.did]])
  })
  await pass(ben, 'app.bsky.feed.getPostThread', { uri: first.uri }, 'a thread by way of the PDS', (it) => {
    equal(it.thread.post.uri, first.uri)
  })

  // An edit of a post: the record changes, what stands about it stays.
  await ben.like(first)
  await t.settle()
  const edited = await ann.put('app.bsky.feed.post', first.uri.split('/').at(-1), { text: 'first, edited', createdAt: t.tick() })
  await t.settle()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [first.uri] }, 'an edited post', ({ posts: [it] }) => {
    equal(it.cid, edited.cid)
    equal(it.record.text, 'first, edited')
    equal(it.likeCount, 1)
    ok(it.viewer.like)
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.post', rkey: first.uri.split('/').at(-1), cid: edited.cid },
    'the edited record by its CID', (it) => equal(it.value.text, 'first, edited'))
  await t.refused(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.post', rkey: first.uri.split('/').at(-1), cid: first.cid },
    'the record before the edit', { status: 400 })
}
