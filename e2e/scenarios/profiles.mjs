// Who somebody is: profile records, counts, edits, and what the viewer has to do with them.

import { deepEqual, equal, match, ok } from 'node:assert/strict'
import { PNG } from '../lib/media.mjs'
import { PURPOSE } from '../lib/world.mjs'

export default async function profiles(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  const bare = await t.bare('bare')
  const avatar = await ann.blob(PNG, 'image/png')
  await ann.profile({
    displayName: 'Ann the First', description: 'keeps bees', avatar, banner: avatar,
    pronouns: 'she/her', website: 'https://bees.example.test',
  })
  const annBen = await ann.follow(ben)
  const benAnn = await ben.follow(ann)
  await cyd.follow(ann)
  await ann.post('one')
  const two = await ann.post('two')
  const three = await ann.reply(two, 'three')
  await ann.list('my list', PURPOSE.curate)
  await ann.put('chat.bsky.actor.declaration', 'self', { allowIncoming: 'following' })
  await ben.put('app.bsky.notification.declaration', 'self', { allowSubscriptions: 'mutuals' })
  await ben.put('app.bsky.actor.status', 'self', {
    status: 'app.bsky.actor.status#live', durationMinutes: 90, createdAt: new Date().toISOString(),
    embed: { $type: 'app.bsky.embed.external', external: { uri: 'https://www.twitch.tv/ben', title: 'live', description: '' } },
  })
  await cyd.put('com.germnetwork.declaration', 'self', { version: '1.0.0', currentKey: { $bytes: 'AQID' } })
  await t.settle()

  const detailed = (it) => {
    equal(it.did, ann.did)
    equal(it.handle, ann.handle)
    equal(it.displayName, 'Ann the First')
    equal(it.description, 'keeps bees')
    equal(it.pronouns, 'she/her')
    equal(it.website, 'https://bees.example.test')
    match(it.avatar, new RegExp(`/img/avatar/plain/${ann.did}/${avatar.ref.$link}`))
    match(it.banner, new RegExp(`/img/banner/plain/${ann.did}/${avatar.ref.$link}`))
    deepEqual([it.followersCount, it.followsCount, it.postsCount], [2, 1, 3])
    equal(it.associated.lists, 1)
    equal(it.associated.chat.allowIncoming, 'following')
  }
  await t.see(null, 'app.bsky.actor.getProfile', { actor: ann.handle }, 'a profile by handle', (it) => {
    detailed(it)
    equal(it.viewer, undefined)
  })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: ann.did }, 'a profile by DID', detailed)
  await t.see(ben, 'app.bsky.actor.getProfile', { actor: ann.did }, 'what lies between viewer and subject', (it) => {
    equal(it.viewer.following, benAnn.uri)
    equal(it.viewer.followedBy, annBen.uri)
    equal(it.viewer.muted, false)
    equal(it.viewer.blockedBy, false)
  })
  await t.see(cyd, 'app.bsky.actor.getProfile', { actor: ben.did }, 'who the viewer follows that follows the subject', (it) => {
    equal(it.viewer.knownFollowers.count, 1)
    deepEqual(it.viewer.knownFollowers.followers.map((each) => each.did), [ann.did])
    equal(it.associated.activitySubscription.allowSubscriptions, 'mutuals')
    equal(it.status.status, 'app.bsky.actor.status#live')
    equal(it.status.isActive, true)
    equal(it.status.embed.external.uri, 'https://www.twitch.tv/ben')
  })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: bare.handle }, 'an account without a profile record', (it) => {
    equal(it.did, bare.did)
    equal(it.displayName ?? '', '')
    deepEqual([it.followersCount, it.followsCount, it.postsCount], [0, 0, 0])
  })
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: 'nobody-at-all.test' }, 'a handle that nobody has', {
    status: 400, error: 'InvalidRequest',
  })
  await t.refused(null, 'app.bsky.actor.getProfile', { actor: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' }, 'a DID that nobody has', {
    status: 400, error: 'InvalidRequest',
  })
  await t.see(cyd, 'app.bsky.actor.getProfiles', { actors: [ben.handle, 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', ann.did, bare.did] },
    'several profiles in the order asked, without the unknown', ({ profiles: all }) => {
      deepEqual(all.map((it) => it.did), [ben.did, ann.did, bare.did])
      detailed(all[1])
      equal(all[0].followersCount, 1)
    })

  await t.see(cyd, 'app.bsky.actor.getProfiles', { actors: [ann.handle, ben.handle] }, 'two by handle, each with its known followers', ({ profiles: all }) => {
    deepEqual(all.map((it) => it.did), [ann.did, ben.did])
    deepEqual(all.map((it) => it.viewer.knownFollowers?.count ?? 0), [0, 1])
  })

  await ann.profile({ displayName: 'Ann the Second', pinnedPost: two })
  await ann.delete(three)
  await cyd.pds('POST', 'com.atproto.repo.deleteRecord', {
    body: { repo: cyd.did, collection: 'app.bsky.actor.profile', rkey: 'self' },
  })
  await t.settle()
  await t.see(cyd, 'app.bsky.actor.getProfile', { actor: ann.did }, 'an edited profile', (it) => {
    equal(it.displayName, 'Ann the Second')
    equal(it.description, undefined)
    equal(it.avatar, undefined)
    equal(it.pinnedPost.uri, two.uri)
    equal(it.postsCount, 2)
  })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: cyd.did }, 'a deleted profile record leaves the account', (it) => {
    equal(it.handle, cyd.handle)
    equal(it.displayName ?? '', '')
    equal(it.followsCount, 1)
  })
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.handle, collection: 'app.bsky.actor.profile', rkey: 'self' },
    'the profile record itself', (it) => {
      equal(it.uri, `at://${ann.did}/app.bsky.actor.profile/self`)
      equal(it.value.displayName, 'Ann the Second')
      deepEqual(it.value.pinnedPost, two)
      ok(it.cid.startsWith('bafyrei'))
    })
  for (const [who, collection, key, value] of [
    [ann, 'chat.bsky.actor.declaration', 'allowIncoming', 'following'],
    [ben, 'app.bsky.notification.declaration', 'allowSubscriptions', 'mutuals'],
    [ben, 'app.bsky.actor.status', 'durationMinutes', 90],
    [cyd, 'com.germnetwork.declaration', 'version', '1.0.0'],
  ]) {
    await t.see(null, 'com.atproto.repo.getRecord', { repo: who.did, collection, rkey: 'self' }, `a record of ${collection}`, (it) => {
      equal(it.value[key], value)
      equal(it.value.$type, collection)
    })
  }
  await t.see(null, 'com.atproto.identity.resolveHandle', { handle: ann.handle }, 'a handle to its DID', (it) => {
    deepEqual(it, { did: ann.did })
  })
  await t.see(null, 'com.atproto.identity.resolveHandle', { handle: ann.handle.toUpperCase() }, 'a handle in another case', (it) => {
    deepEqual(it, { did: ann.did })
  })
}
