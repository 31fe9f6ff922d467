// Takedowns by the administrator of the AppView: accounts, records, blobs.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { PNG } from '../lib/media.mjs'

const UPDATE = 'com.atproto.admin.updateSubjectStatus'
const STATUS = 'com.atproto.admin.getSubjectStatus'

export default async function moderation(t) {
  const { ann, ben } = await t.cast('ann', 'ben')
  const png = await ann.blob(Buffer.concat([PNG, Buffer.from(`${t.number}`)]), 'image/png')
  const post = await ann.post('bad picture', { embed: { $type: 'app.bsky.embed.images', images: [{ image: png, alt: '' }] } })
  const other = await ann.post('good')
  const reply = await ann.reply(await ben.post('a question'), 'an answer')
  await ben.follow(ann)
  await t.settle()

  const repo = { $type: 'com.atproto.admin.defs#repoRef', did: ann.did }
  const record = { $type: 'com.atproto.repo.strongRef', ...post }
  const blob = { $type: 'com.atproto.admin.defs#repoBlobRef', did: ann.did, cid: png.ref.$link, recordUri: post.uri }
  const set = (subject, applied, what) => t.tell(t.admin, UPDATE, { subject, takedown: { applied, ref: 'case-7' } }, what)

  await t.see(t.admin, STATUS, { did: ann.did }, 'nothing is taken down', (it) => {
    equal(it.subject.did, ann.did)
    equal(it.takedown?.applied ?? false, false)
  })
  await t.refused(ben, STATUS, { did: ann.did }, 'only the administrator may ask', { status: 401 })

  await set(record, true, 'takes a record down')
  await t.settle()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri, other.uri] }, 'a record taken down', (it) => {
    deepEqual(it.posts.map((each) => each.uri), [other.uri])
  })
  await t.see(t.admin, STATUS, { uri: post.uri }, 'its status', (it) => {
    equal(it.subject.uri, post.uri)
    deepEqual(it.takedown, { applied: true, ref: 'case-7' })
  })
  await t.see(ben, 'app.bsky.feed.getTimeline', {}, 'not in timelines', (it) => {
    ok(!it.feed.some((each) => each.post.uri === post.uri))
    ok(it.feed.some((each) => each.post.uri === other.uri))
  })
  await t.see(t.admin, 'app.bsky.feed.getPostThread', { uri: post.uri }, 'the administrator still sees it', ({ thread }) => {
    equal(thread.post.uri, post.uri)
  })
  await t.refused(ben, 'app.bsky.feed.getPostThread', { uri: post.uri }, 'nobody else does', { status: 400, error: 'NotFound' })
  await t.see(t.admin, 'app.bsky.feed.getAuthorFeed', { actor: ann.did }, 'nor in author feeds but for the administrator', (it) => {
    ok(it.feed.some((each) => each.post.uri === post.uri))
  })
  await t.refused(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.post', rkey: post.uri.split('/').at(-1) },
    'the record itself', { status: 400 })
  await set(record, false, 'puts it back')
  await t.settle()
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [post.uri] }, 'a record put back', (it) => equal(it.posts.length, 1))
  await t.see(t.admin, STATUS, { uri: post.uri }, 'its status then', (it) => equal(it.takedown?.applied ?? false, false))

  await set(blob, true, 'takes a blob down')
  await t.settle()
  await t.see(t.admin, STATUS, { did: ann.did, blob: png.ref.$link }, 'the status of a blob', (it) => {
    equal(it.subject.cid, png.ref.$link)
    equal(it.takedown.applied, true)
  })
  const blobPath = `/blob/${ann.did}/${png.ref.$link}`
  await t.check('/blob', 'a blob taken down is not served', async () => {
    const answer = await fetch(t.parts.appview.url + blobPath)
    equal(answer.status, 404)
  })
  await set(blob, false, 'puts the blob back')
  await t.settle()
  await t.check('/blob', 'a blob is fetched from where its owner lives', async () => {
    const answer = await fetch(t.parts.appview.url + blobPath)
    equal(answer.status, 200)
    ok(Buffer.from(await answer.arrayBuffer()).subarray(0, PNG.length).equals(PNG))
  })

  await set(repo, true, 'takes an account down')
  await t.settle()
  await t.refused(ben, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account taken down', { status: 400, error: 'AccountTakedown' })
  await t.see(t.admin, STATUS, { did: ann.did }, 'the status of the account', (it) => {
    deepEqual(it.takedown, { applied: true, ref: 'case-7' })
  })
  await t.see(ben, 'app.bsky.feed.getPosts', { uris: [other.uri, reply.uri] }, 'the posts of an account taken down', (it) => deepEqual(it.posts, []))
  await t.see(null, 'app.bsky.graph.getFollows', { actor: ben.did }, 'nor among follows', (it) => deepEqual(it.follows, []))
  await t.see(t.admin, 'com.atproto.admin.getAccountInfos', { dids: [ben.did, ann.did] }, 'what the administrator is told of accounts', (it) => {
    deepEqual(it.infos.map((each) => [each.did, each.handle]), [[ben.did, ben.handle], [ann.did, ann.handle]])
  })
  await set(repo, false, 'gives the account back')
  await t.settle()
  await t.see(ben, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an account given back', (it) => equal(it.postsCount, 3))
}
