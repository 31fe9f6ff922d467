// Thread gates of every rule, hidden replies, and post gates.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { PURPOSE } from '../lib/world.mjs'

const RULE = 'app.bsky.feed.threadgate'
const DISABLE = { $type: 'app.bsky.feed.postgate#disableRule' }
const shown = (thread) => (thread.replies ?? []).map((it) => it.post.author.did)

export default async function gates(t) {
  const { ann, ben, cyd, dan, eve } = await t.cast('ann', 'ben', 'cyd', 'dan', 'eve')
  // cyd is followed by ann, dan follows ann, eve is on a list of hers, ben is mentioned.
  await ann.follow(cyd)
  await dan.follow(ann)
  const list = await ann.list('may reply', PURPOSE.curate)
  await ann.listItem(list, eve)
  const rules = [
    ['nobody', [], []],
    ['the mentioned', [{ $type: `${RULE}#mentionRule` }], [ben]],
    ['whom the author follows', [{ $type: `${RULE}#followingRule` }], [cyd]],
    ['who follows the author', [{ $type: `${RULE}#followerRule` }], [dan]],
    ['members of a list', [{ $type: `${RULE}#listRule`, list: list.uri }], [eve]],
    ['mentioned or followed', [{ $type: `${RULE}#mentionRule` }, { $type: `${RULE}#followingRule` }], [ben, cyd]],
    ['everybody, by a gate without rules', undefined, [ben, cyd, dan, eve]],
  ]
  const text = `hello @${ben.handle}`
  const mention = [{
    index: { byteStart: 6, byteEnd: Buffer.byteLength(text) },
    features: [{ $type: 'app.bsky.richtext.facet#mention', did: ben.did }],
  }]
  const roots = []
  for (const [, allow] of rules) {
    const root = await ann.post(text, { facets: mention })
    await ann.threadgate(root, { allow })
    roots.push(root)
  }
  await t.settle()
  for (const root of roots) {
    for (const who of [ann, ben, cyd, dan, eve]) await who.reply(root, `${who.name} replies`)
  }
  await t.settle()
  for (const [at, [what, allow, may]] of rules.entries()) {
    const root = roots[at]
    await t.see(null, 'app.bsky.feed.getPostThread', { uri: root.uri }, `replies where ${what} may`, (it) => {
      const expected = [ann, ...may].map((who) => who.did).sort()
      deepEqual(shown(it.thread).sort(), expected)
      equal(it.thread.post.replyCount, expected.length)
      equal(it.thread.post.threadgate.record.post, root.uri)
      deepEqual(it.threadgate?.record.allow, allow)
      if (what === 'members of a list') equal(it.thread.post.threadgate.lists[0].name, 'may reply')
    })
    for (const who of [ben, dan]) {
      await t.see(who, 'app.bsky.feed.getPosts', { uris: [root.uri] }, `whether ${who.name} may reply where ${what} may`, (it) => {
        equal(it.posts[0].viewer.replyDisabled ?? false, !may.includes(who))
      })
    }
  }
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: roots[1].uri }, 'a gated thread, flat', (it) => {
    deepEqual(it.thread.filter((each) => each.depth === 1).map((each) => each.value.post.author.did).sort(), [ann.did, ben.did].sort())
    equal(it.threadgate.uri, roots[1].uri.replace('feed.post', 'feed.threadgate'))
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: RULE, rkey: roots[0].uri.split('/').at(-1) },
    'a gate record', (it) => deepEqual(it.value.allow, []))
  await t.see(ann, 'app.bsky.notification.listNotifications', { reasons: ['reply'] }, 'forbidden replies are not announced', (it) => {
    const forbidden = it.notifications.filter((each) => each.record.reply.root.uri === roots[0].uri)
    deepEqual(forbidden, [])
    ok(it.notifications.some((each) => each.record.reply.root.uri === roots[6].uri))
  })

  // A gate set later hides nothing that was there before, and hidden replies go to the other replies.
  const open = await ann.post('open at first')
  await t.settle()
  const kept = await ben.reply(open, 'kept')
  const hidden = await cyd.reply(open, 'to be hidden')
  await t.settle()
  await ann.threadgate(open, { allow: [], hiddenReplies: [hidden.uri] })
  await t.settle()
  const late = await dan.reply(open, 'too late')
  await t.settle()
  await t.see(dan, 'app.bsky.unspecced.getPostThreadV2', { anchor: open.uri }, 'the hidden reply is set apart', (it) => {
    deepEqual(it.thread.map((each) => each.uri), [open.uri, kept.uri])
    equal(it.hasOtherReplies, true)
  })
  await t.see(dan, 'app.bsky.unspecced.getPostThreadOtherV2', { anchor: open.uri }, 'and found among the others', (it) => {
    deepEqual(it.thread.map((each) => each.uri), [hidden.uri])
    equal(it.thread[0].value.hiddenByThreadgate, true)
  })
  await t.see(dan, 'app.bsky.feed.getPostThread', { uri: open.uri }, 'a reply that came too late', ({ thread }) => {
    ok(!thread.replies.some((it) => it.post.uri === late.uri))
    ok(thread.replies.some((it) => it.post.uri === kept.uri))
    deepEqual(thread.post.threadgate.record.hiddenReplies, [hidden.uri])
  })
  await t.see(ann, 'app.bsky.notification.listNotifications', { reasons: ['reply'] }, 'one does not hear of what one hid', (it) => {
    const here = it.notifications.filter((each) => each.record.reply.root.uri === open.uri)
    deepEqual(here.map((each) => each.uri), [kept.uri])
  })
  await ann.pds('POST', 'com.atproto.repo.deleteRecord', { body: { repo: ann.did, collection: RULE, rkey: open.uri.split('/').at(-1) } })
  await t.settle()
  await t.see(dan, 'app.bsky.feed.getPosts', { uris: [open.uri] }, 'without the gate', (it) => {
    equal(it.posts[0].viewer.replyDisabled ?? false, false)
    equal(it.posts[0].threadgate, undefined)
  })

  // Post gates.
  const quotable = await ann.post('quote me')
  await t.settle()
  const early = await ben.quote(quotable, 'early quote')
  const detached = await cyd.quote(quotable, 'quote to be detached')
  await t.settle()
  await ann.postgate(quotable, { embeddingRules: [DISABLE], detachedEmbeddingUris: [detached.uri] })
  await t.settle()
  const violating = await dan.quote(quotable, 'forbidden quote')
  const own = await ann.quote(quotable, 'own quote')
  await t.settle()
  const embedOf = (ref, what, type) => t.see(eve, 'app.bsky.feed.getPosts', { uris: [ref.uri] }, what, (it) => {
    equal(it.posts[0].embed.record.$type, `app.bsky.embed.record#${type}`)
  })
  await embedOf(early, 'a quote from before the gate', 'viewRecord')
  await embedOf(detached, 'a detached quote', 'viewDetached')
  await embedOf(violating, 'a quote against the gate', 'viewDetached')
  await embedOf(own, 'a quote by the author', 'viewRecord')
  await t.see(eve, 'app.bsky.feed.getPosts', { uris: [quotable.uri] }, 'nobody may quote it', (it) => {
    equal(it.posts[0].viewer.embeddingDisabled, true)
  })
  await t.see(ann, 'app.bsky.feed.getPosts', { uris: [quotable.uri] }, 'nobody but the author', (it) => {
    equal(it.posts[0].viewer.embeddingDisabled, false)
  })
  await t.see(ann, 'app.bsky.notification.listNotifications', { reasons: ['quote'] }, 'a forbidden quote is not announced', (it) => {
    ok(!it.notifications.some((each) => each.uri === violating.uri))
    ok(it.notifications.some((each) => each.uri === early.uri))
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.postgate', rkey: quotable.uri.split('/').at(-1) },
    'a post gate record', (it) => deepEqual(it.value.detachedEmbeddingUris, [detached.uri]))
}
