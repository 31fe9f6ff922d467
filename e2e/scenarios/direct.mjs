// RPCs that the contract has and the AppView does not call today: asked directly, over data written as everywhere.

import { deepEqual, equal, ok } from 'node:assert/strict'
import { Timestamp } from '@bufbuild/protobuf'
import { Code } from '@connectrpc/connect'
import { PURPOSE } from '../lib/world.mjs'
import { planeClient } from '../transport.mjs'

const ABSENT = { referenceBug: 'it does not have this RPC' }

export default async function direct(t) {
  const { ann, ben, cyd, dan } = await t.cast('ann', 'ben', 'cyd', 'dan')
  const plane = await planeClient(t.plane.url, t.parts.httpVersion)
  const post = await ann.post('about to be liked')
  const likes = [await ben.like(post), await cyd.like(post)]
  const reposts = [await ben.repost(post)]
  const other = await ann.post('and reposted')
  reposts.push(await ben.repost(other))
  const block = await ann.block(ben)
  const list = await ann.list('foes', PURPOSE.mod)
  const item = await ann.listItem(list, cyd)
  await ann.listItem(list, dan)
  const listBlock = await ann.listBlock(list)
  const verified = await dan.verify(ann)
  await t.settle()

  const ask = (rpc, what, run, options) => t.check(`(rpc) ${rpc}`, what, () => run((request) => plane[rpc](request)), options)
  const pages = async (call, request, key) => {
    const all = []
    for (let cursor = ''; ;) {
      const answer = await call({ ...request, cursor })
      all.push(...answer[key])
      if (!answer.cursor) return all
      ok(answer.cursor !== cursor, 'the cursor moves')
      cursor = answer.cursor
    }
  }

  await ask('ping', 'is there', (call) => call({}))
  await ask('getLikesBySubject', 'likes, newest first', async (call) => {
    const expected = [likes[1].uri, likes[0].uri]
    const { uris, cursor } = await call({ subject: { uri: post.uri }, limit: 10 })
    deepEqual([uris, cursor], [expected, ''])
    deepEqual(await pages(call, { subject: { uri: post.uri }, limit: 1 }, 'uris'), expected)
  })
  await ask('getActorReposts', 'reposts of an account, newest first', async (call) => {
    deepEqual(await pages(call, { actorDid: ben.did, limit: 1 }, 'uris'), [reposts[1].uri, reposts[0].uri])
  })
  await ask('getListCount', 'how many are on a list', async (call) => equal((await call({ listUri: list.uri })).count, 2))
  await ask('getListBlockRecords', 'a list block record', async (call) => {
    const { records } = await call({ uris: [item.uri, listBlock.uri] })
    deepEqual(records.map((it) => it.cid), ['', listBlock.cid])
  })
  await ask('getProfileRecords', 'a profile record', async (call) => {
    const { records: [it] } = await call({ uris: [`at://${ann.did}/app.bsky.actor.profile/self`] })
    equal(JSON.parse(Buffer.from(it.record).toString()).displayName, 'ann of direct')
  })
  await ask('getBidirectionalBlock', 'a block, whoever asks', async (call) => {
    equal((await call({ actorDid: ann.did, targetDid: ben.did })).blockUri, block.uri)
    equal((await call({ actorDid: ben.did, targetDid: ann.did })).blockUri, block.uri)
    equal((await call({ actorDid: ben.did, targetDid: cyd.did })).blockUri, '')
  })
  await ask('getBidirectionalBlockViaList', 'a list block, whoever asks', async (call) => {
    equal((await call({ actorDid: cyd.did, targetDid: ann.did })).listUri, list.uri)
    equal((await call({ actorDid: ann.did, targetDid: cyd.did })).listUri, list.uri)
    equal((await call({ actorDid: ben.did, targetDid: ann.did })).listUri, '')
  })
  await ask('getIdentityByHandle', 'who a handle is', async (call) => equal((await call({ handle: ann.handle })).did, ann.did))
  await ask('getVerificationsIssued', 'verifications by an account', async (call) => {
    const { verifications } = await call({ actorDid: dan.did, limit: 10 })
    deepEqual(verifications.map((it) => [it.subjectDid, it.rkey]), [[ann.did, verified.uri.split('/').at(-1)]])
  }, ABSENT)
  await ask('getVerificationsReceived', 'verifications of an account', async (call) => {
    const { verifications } = await call({ subjectDid: ann.did, limit: 10 })
    deepEqual(verifications.map((it) => [it.actorDid, it.rkey]), [[dan.did, verified.uri.split('/').at(-1)]])
  }, ABSENT)

  // Mutes that come by this contract and not by bsync.
  const muted = async () => {
    const it = await plane.getActorMutesActor({ actorDid: ann.did, targetDid: ben.did })
    return [it.muted, it.mutedOnlyReposts, it.mutedOnlyQuoteposts]
  }
  await ask('createActorMute', 'mutes, in part and whole', async (call) => {
    await call({ actorDid: ann.did, subjectDid: ben.did, onlyReposts: true })
    deepEqual(await muted(), [false, true, false])
    await call({ actorDid: ann.did, subjectDid: ben.did })
    deepEqual(await muted(), [true, false, false])
  })
  await ask('createActorMute', 'nobody mutes oneself', (call) => call({ actorDid: ann.did, subjectDid: ann.did }).then(
    () => { throw new Error('it was allowed') },
    (error) => ok([Code.InvalidArgument, Code.Internal, Code.Unknown].includes(error.code), Code[error.code]),
  ))
  await ask('deleteActorMute', 'unmutes', async (call) => {
    await call({ actorDid: ann.did, subjectDid: ben.did })
    deepEqual(await muted(), [false, false, false])
  })
  await ask('clearActorMutes', 'unmutes everybody', async (call) => {
    await plane.createActorMute({ actorDid: ann.did, subjectDid: ben.did })
    await plane.createActorMute({ actorDid: ann.did, subjectDid: cyd.did })
    deepEqual((await plane.getMutes({ actorDid: ann.did, limit: 10 })).dids.sort(), [ben.did, cyd.did].sort())
    await call({ actorDid: ann.did })
    deepEqual((await plane.getMutes({ actorDid: ann.did, limit: 10 })).dids, [])
  })
  const viaList = async (who) => (await plane.getActorMutesActorViaList({ actorDid: ben.did, targetDid: who.did })).listUri
  await ask('createActorMutelistSubscription', 'mutes a list', async (call) => {
    await call({ actorDid: ben.did, subjectUri: list.uri })
    await call({ actorDid: ben.did, subjectUri: list.uri })
    deepEqual([await viaList(cyd), await viaList(ann)], [list.uri, ''])
    equal((await plane.getMutelistSubscription({ actorDid: ben.did, listUri: list.uri })).subscribed, true)
  })
  await ask('deleteActorMutelistSubscription', 'unmutes a list', async (call) => {
    await call({ actorDid: ben.did, subjectUri: list.uri })
    equal(await viaList(cyd), '')
  })
  await ask('clearActorMutelistSubscriptions', 'unmutes all lists', async (call) => {
    await plane.createActorMutelistSubscription({ actorDid: ben.did, subjectUri: list.uri })
    await call({ actorDid: ben.did })
    deepEqual((await plane.getMutelistSubscriptions({ actorDid: ben.did, limit: 10 })).listUris, [])
  })
  const threadMuted = async () => (await plane.getThreadMutesOnSubjects({ actorDid: ben.did, threadRoots: [other.uri, post.uri] })).muted
  await ask('createThreadMute', 'mutes a thread', async (call) => {
    await call({ actorDid: ben.did, threadRoot: post.uri })
    deepEqual(await threadMuted(), [false, true])
  }, ABSENT)
  await ask('deleteThreadMute', 'unmutes a thread', async (call) => {
    await call({ actorDid: ben.did, threadRoot: post.uri })
    deepEqual(await threadMuted(), [false, false])
  }, ABSENT)
  await ask('clearThreadMutes', 'unmutes all threads', async (call) => {
    await plane.createThreadMute({ actorDid: ben.did, threadRoot: other.uri })
    await call({ actorDid: ben.did })
    deepEqual(await threadMuted(), [false, false])
  }, ABSENT)

  // Takedowns.
  await ask('getRecordTakedown', 'whether a record is taken down', async (call) => {
    deepEqual([(await call({ recordUri: post.uri })).takenDown], [false])
    await plane.takedownRecord({ recordUri: post.uri, ref: 'case-9', seen: Timestamp.now() })
    const it = await call({ recordUri: post.uri })
    deepEqual([it.takenDown, it.takedownRef], [true, 'case-9'])
    await plane.untakedownRecord({ recordUri: post.uri, seen: Timestamp.now() })
    equal((await call({ recordUri: post.uri })).takenDown, false)
  })
  await ask('getActorTakedown', 'whether an account is taken down', async (call) => {
    await plane.takedownActor({ did: dan.did, ref: '', seen: Timestamp.now() })
    const it = await call({ did: dan.did })
    equal(it.takenDown, true)
    ok(it.takedownRef)
    await plane.untakedownActor({ did: dan.did, seen: Timestamp.now() })
    equal((await call({ did: dan.did })).takenDown, false)
  })
  await ask('updateActorUpstreamStatus', 'what the host says of an account', async (call) => {
    await call({ actorDid: dan.did, active: false, upstreamStatus: 'suspended' })
    equal((await plane.getActors({ dids: [dan.did] })).actors[0].upstreamStatus, 'suspended')
  })
  await ask('getFeedGeneratorStatus', 'has a place for each, empty where there is no feed generator', async (call) => {
    const uris = [post.uri, `at://${dan.did}/app.bsky.feed.generator/none`, post.uri]
    deepEqual((await call({ uris })).status, ['', '', ''])
  }, ABSENT)
}
