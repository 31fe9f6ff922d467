// The real Ozone as the moderation service: its labels through the stream, its takedowns through the AppView.

import { deepEqual, equal, ok } from 'node:assert/strict'

const DEFS = 'tools.ozone.moderation.defs'

export default async function ozone(t) {
  const { ann, ben } = await t.cast('ann', 'ben')
  const post = await ann.post('seen by the moderators')
  await t.settle()
  const { ozone } = t.parts
  const account = { did: ann.did }
  const ours = (it) => it.labels.filter((each) => each.src === ozone.did).map((each) => each.val).sort()

  await ozone.label(post, ['rude', 'spam'], [])
  await ozone.label(account, ['loud', 'ünïcode-嘘'], [])
  await ozone.label(post, ['for-an-hour'], [], 1)
  await t.settleLabels()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'labels of Ozone', ({ posts: [it] }) => {
    deepEqual(ours(it), ['for-an-hour', 'rude', 'spam'])
    const ends = Date.parse(it.labels.find((each) => each.val === 'for-an-hour').exp)
    ok(ends > Date.now() && ends <= Date.now() + 3_600_000)
    ok(it.labels.every((each) => each.cid === post.cid))
    deepEqual(ours(it.author), ['loud', 'ünïcode-嘘'])
  })
  await ozone.label(post, [], ['spam'])
  await ozone.label(account, ['loud'], ['ünïcode-嘘'])
  await t.settleLabels()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'labels that Ozone took back', ({ posts: [it] }) => {
    deepEqual(ours(it), ['for-an-hour', 'rude'])
    deepEqual(ours(it.author), ['loud'])
  })
  await ozone.label(post, ['spam'], [])
  await t.settleLabels()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'a label that Ozone gave anew', ({ posts: [it] }) => {
    deepEqual(ours(it), ['for-an-hour', 'rude', 'spam'])
  })

  // Of records Ozone takes down by label alone.
  const redact = { headers: { 'atproto-accept-labelers': `${ozone.did};redact` } }
  await ozone.emit(post, { $type: `${DEFS}#modEventTakedown` })
  await t.settleLabels()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'a post that Ozone took down', (it) => deepEqual(it.posts, []), redact)
  await ozone.emit(post, { $type: `${DEFS}#modEventReverseTakedown` })
  await t.settleLabels()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'a post that Ozone gave back', (it) => equal(it.posts.length, 1), redact)

  // Of accounts it tells the AppView as well, which tells the data plane.
  await ozone.emit(account, { $type: `${DEFS}#modEventTakedown` })
  await t.settleLabels()
  await t.refused(ben, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account that Ozone took down', { status: 400, error: 'AccountTakedown' })
  await ozone.emit(account, { $type: `${DEFS}#modEventReverseTakedown` })
  await t.settleLabels()
  await t.see(ben, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account that Ozone gave back', (it) => equal(it.did, ann.did))
}
