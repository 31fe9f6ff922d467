// What becomes of accounts: other handles, absence, return, deletion.

import { deepEqual, equal, ok } from 'node:assert/strict'

export default async function accounts(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  await cyd.follow(ann)
  await cyd.follow(ben)
  const annPost = await ann.post('by ann')
  const benPost = await ben.post('by ben')
  const benReply = await ben.reply(annPost, 'ben to ann')
  await ben.like(annPost)
  await t.settle()

  // A new handle.
  const old = ann.handle
  const handle = `renamed-${t.number}.test`
  await ann.pds('POST', 'com.atproto.identity.updateHandle', { body: { handle } })
  await t.settle()
  await t.see(null, 'app.bsky.actor.getProfile', { actor: handle }, 'an account by its new handle', (it) => {
    equal(it.did, ann.did)
    equal(it.handle, handle)
  })
  await t.see(null, 'app.bsky.feed.getPosts', { uris: [annPost.uri] }, 'posts under the new handle', (it) => {
    equal(it.posts[0].author.handle, handle)
  })
  await t.see(null, 'com.atproto.identity.resolveHandle', { handle }, 'the new handle leads to the account', (it) => equal(it.did, ann.did))
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: old }, 'the old handle leads nowhere', { status: 400 })

  // The old handle is taken over by somebody else.
  await ben.pds('POST', 'com.atproto.identity.updateHandle', { body: { handle: old } })
  await t.settle()
  await t.see(null, 'app.bsky.actor.getProfile', { actor: old }, 'a handle that has changed hands', (it) => equal(it.did, ben.did))

  // Away and back.
  await ann.pds('POST', 'com.atproto.server.deactivateAccount', { body: {} })
  await t.settle()
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account that is away', { status: 400, error: 'AccountDeactivated' })
  await t.see(cyd, 'app.bsky.feed.getPosts', { uris: [annPost.uri, benPost.uri] }, 'nor are its posts there', (it) => {
    deepEqual(it.posts.map((each) => each.uri), [benPost.uri])
  })
  await t.see(cyd, 'app.bsky.feed.getTimeline', {}, 'nor in timelines', (it) => {
    ok(!it.feed.some((each) => each.post.author.did === ann.did))
    ok(it.feed.some((each) => each.post.uri === benPost.uri))
  })
  await t.see(cyd, 'app.bsky.graph.getFollows', { actor: cyd.did }, 'nor among follows', (it) => deepEqual(it.follows.map((each) => each.did), [ben.did]))
  await ann.pds('POST', 'com.atproto.server.activateAccount')
  await t.settle()
  await t.see(cyd, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account that is back', (it) => {
    equal(it.handle, handle)
    equal(it.postsCount, 1)
    equal(it.followersCount, 1)
  })
  await t.see(cyd, 'app.bsky.feed.getPosts', { uris: [annPost.uri] }, 'and its posts', (it) => {
    equal(it.posts[0].likeCount, 1)
    equal(it.posts[0].replyCount, 1)
  })

  // Taken down by its host.
  await t.pdsAdmin('com.atproto.admin.updateSubjectStatus', {
    subject: { $type: 'com.atproto.admin.defs#repoRef', did: ann.did }, takedown: { applied: true, ref: 'test' },
  })
  await t.settle()
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account that its host took down', { status: 400, error: 'AccountTakedown' })
  await t.pdsAdmin('com.atproto.admin.updateSubjectStatus', {
    subject: { $type: 'com.atproto.admin.defs#repoRef', did: ann.did }, takedown: { applied: false },
  })
  await t.settle()
  await t.see(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account that its host gave back', (it) => equal(it.did, ann.did))

  // Gone for good.
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: annPost.uri }, 'before it goes', ({ thread }) => {
    deepEqual(thread.replies.map((it) => it.post.uri), [benReply.uri])
  })
  await t.pdsAdmin('com.atproto.admin.deleteAccount', { did: ben.did })
  await t.settle()
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: ben.did }, 'a deleted account', { status: 400 })
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: old }, 'a deleted account by its handle', { status: 400 })
  await t.see(null, 'app.bsky.feed.getPosts', { uris: [benPost.uri, benReply.uri] }, 'the posts of a deleted account', (it) => deepEqual(it.posts, []))
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: annPost.uri }, 'a thread without its replies', ({ thread }) => {
    deepEqual(thread.replies ?? [], [])
  })
  await t.see(null, 'app.bsky.feed.getLikes', { uri: annPost.uri }, 'nor likes of a deleted account', (it) => deepEqual(it.likes, []))
  await t.see(cyd, 'app.bsky.feed.getTimeline', {}, 'nor in timelines', (it) => {
    deepEqual(it.feed.map((each) => each.post.uri), [annPost.uri])
  })
  await t.see(cyd, 'app.bsky.graph.getFollows', { actor: cyd.did }, 'follows of a deleted account are not listed', (it) => {
    deepEqual(it.follows.map((each) => each.did), [ann.did])
  })
}
