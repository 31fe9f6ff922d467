// Labels: from the operator and from a labeler, negated, expired, on accounts and on records; and labeler services.

import { deepEqual, equal, ok } from 'node:assert/strict'

const vals = (it) => it.labels.map((each) => each.val).sort()

export default async function labels(t) {
  const { ann, ben, lab } = await t.cast('ann', 'ben', 'lab')
  const post = await ann.post('label me')
  const own = await ann.post('my own label', {
    labels: { $type: 'com.atproto.label.defs#selfLabels', values: [{ val: 'porn' }] },
  })
  const service = await lab.put('app.bsky.labeler.service', 'self', {
    policies: { labelValues: ['odd', 'even'], labelValueDefinitions: [] }, createdAt: t.tick(),
    subjectTypes: ['record'], subjectCollections: ['app.bsky.feed.post'], reasonTypes: ['com.atproto.moderation.defs#reasonSpam'],
  })
  const like = await ben.like(service)
  await t.settle()
  const mod = t.parts.mod.did
  const cts = () => t.tick()
  await t.plane.addLabels([
    { src: mod, uri: post.uri, val: 'spam', cts: cts() },
    { src: mod, uri: post.uri, cid: post.cid, val: 'rude', cts: cts() },
    { src: mod, uri: post.uri, val: 'old-news', cts: cts(), exp: '2020-01-01T00:00:00.000Z' },
    { src: mod, uri: post.uri, val: 'fresh', cts: cts(), exp: '2090-01-01T00:00:00.000Z' },
    { src: lab.did, uri: post.uri, val: 'odd', cts: cts() },
    { src: mod, uri: ann.did, val: 'loud', cts: cts() },
    { src: mod, uri: `at://${ann.did}/app.bsky.actor.profile/self`, val: 'garish', cts: cts() },
  ])

  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'the operator\'s labels, without the expired', ({ posts: [it] }) => {
    deepEqual(vals(it), ['fresh', 'rude', 'spam'])
    ok(it.labels.every((each) => each.src === mod && each.uri === post.uri))
    equal(it.labels.find((each) => each.val === 'rude').cid, post.cid)
    deepEqual(vals(it.author), ['garish', 'loud'])
  })
  const accept = { 'atproto-accept-labelers': `${lab.did}` }
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'the labels of the labeler one asks for', ({ posts: [it] }, headers) => {
    deepEqual(vals(it), ['odd'])
    ok(headers.get('atproto-content-labelers').includes(lab.did))
  }, { headers: accept })
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'the labels of both', ({ posts: [it] }) => {
    deepEqual(vals(it), ['fresh', 'odd', 'rude', 'spam'])
  }, { headers: { 'atproto-accept-labelers': `${lab.did}, ${mod};redact` } })
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [own.uri] }, 'an author\'s own label', ({ posts: [it] }) => {
    deepEqual(vals(it), ['porn'])
    equal(it.labels[0].src, ann.did)
  })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'labels of account and profile', (it) => {
    deepEqual(vals(it), ['garish', 'loud'])
  })

  // Negation is by time, whatever comes first.
  const late = t.tick()
  const early = new Date(Date.parse(late) - 60_000).toISOString()
  await t.plane.addLabels([{ src: mod, uri: post.uri, val: 'spam', neg: true, cts: t.tick() }])
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'a label taken back', ({ posts: [it] }) => {
    deepEqual(vals(it), ['fresh', 'rude'])
  })
  await t.plane.addLabels([{ src: mod, uri: post.uri, val: 'rude', cid: post.cid, neg: true, cts: late }])
  await t.plane.addLabels([{ src: mod, uri: post.uri, val: 'rude', cid: post.cid, cts: early }])
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'an older label after its negation', ({ posts: [it] }) => {
    deepEqual(vals(it), ['fresh'])
  }, { referenceBug: 'it keeps whatever came last' })
  await t.plane.addLabels([{ src: mod, uri: post.uri, val: 'spam', cts: t.tick() }])
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'a label given anew', ({ posts: [it] }) => ok(vals(it).includes('spam')))

  // What the operator hides is hidden.
  const bad = await ann.post('bad')
  await t.settle()
  await t.plane.addLabels([{ src: mod, uri: bad.uri, val: '!takedown', cts: t.tick() }])
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [bad.uri] }, 'a post taken down by label, for who heeds such labels', (it) => {
    deepEqual(it.posts, [])
  }, { headers: { 'atproto-accept-labelers': `${mod};redact` } })
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [bad.uri] }, 'a post taken down by label, for who does not', (it) => {
    equal(it.posts.length, 1)
  }, { headers: { 'atproto-accept-labelers': mod } })

  // Labeler services.
  await t.see(ben, 'app.bsky.labeler.getServices', { dids: [lab.did, ann.did] }, 'labelers, briefly', (it) => {
    deepEqual(it.views.map((each) => each.uri), [service.uri])
    equal(it.views[0].$type, 'app.bsky.labeler.defs#labelerView')
    equal(it.views[0].creator.did, lab.did)
    equal(it.views[0].likeCount, 1)
    equal(it.views[0].viewer.like, like.uri)
  })
  await t.see(ben, 'app.bsky.labeler.getServices', { dids: [lab.did], detailed: true }, 'labelers at length', (it) => {
    equal(it.views[0].$type, 'app.bsky.labeler.defs#labelerViewDetailed')
    deepEqual(it.views[0].policies.labelValues, ['odd', 'even'])
    deepEqual(it.views[0].subjectTypes, ['record'])
    deepEqual(it.views[0].reasonTypes, ['com.atproto.moderation.defs#reasonSpam'])
  })
  await t.see(ben, 'app.bsky.actor.getProfile', { actor: lab.did }, 'an account that is a labeler', (it) => {
    equal(it.associated.labeler, true)
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: lab.did, collection: 'app.bsky.labeler.service', rkey: 'self' }, 'a labeler record', (it) => {
    deepEqual(it.value.policies.labelValues, ['odd', 'even'])
  })
  await lab.delete(service)
  await t.settle()
  await t.see(ben, 'app.bsky.labeler.getServices', { dids: [lab.did] }, 'a labeler no more', (it) => deepEqual(it.views, []))
  await t.see(ben, 'app.bsky.actor.getProfile', { actor: lab.did }, 'an account that is a labeler no more', (it) => {
    equal(it.associated.labeler ?? false, false)
  })
}
