// Threads in both generations: order, depth, ancestors, the author's own chain, and holes.

import { deepEqual, equal, ok } from 'node:assert/strict'

const texts = (node) => (node.replies ?? []).map((it) => it.post?.record.text ?? it.$type)
const items = (it) => it.thread.map((each) => [each.depth, each.value.post?.record.text ?? each.value.$type.split('#')[1]])

export default async function threads(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  const root = await ann.post('root')
  const b1 = await ben.reply(root, 'b1')
  const c1 = await cyd.reply(root, 'c1')
  const b2 = await ben.reply(b1, 'b2', { root })
  const c2 = await cyd.reply(b2, 'c2', { root })
  // The author's own chain beside the others.
  const a1 = await ann.reply(root, 'a1')
  const a2 = await ann.reply(a1, 'a2', { root })
  const a3 = await ann.reply(a2, 'a3', { root })
  const a1late = await ann.reply(root, 'a1 late')
  // A reply that names another root than its parent's.
  const stray = await ben.post('stray root')
  const wrong = await cyd.reply(b1, 'wrong root', { root: stray })
  await t.settle()

  await t.see(ann, 'app.bsky.feed.getPostThread', { uri: root.uri }, 'a thread from its root, replies newest first', ({ thread }) => {
    equal(thread.post.uri, root.uri)
    equal(thread.post.replyCount, 4)
    equal(thread.parent, undefined)
    deepEqual(texts(thread), ['a1 late', 'a1', 'c1', 'b1'])
    const under = thread.replies.find((it) => it.post.uri === b1.uri)
    deepEqual(texts(under), ['b2'])
    equal(under.post.replyCount, 2, 'replies with a wrong root count')
    deepEqual(texts(under.replies[0]), ['c2'])
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: root.uri, depth: 1 }, 'one level deep', ({ thread }) => {
    deepEqual(texts(thread), ['a1 late', 'a1', 'c1', 'b1'])
    ok(thread.replies.every((it) => !it.replies?.length))
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: root.uri, depth: 0 }, 'no level deep', ({ thread }) => {
    deepEqual(texts(thread), [])
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: c2.uri }, 'the ancestors of a deep reply', ({ thread }) => {
    equal(thread.post.uri, c2.uri)
    const line = []
    for (let at = thread.parent; at; at = at.parent) line.push(at.post.record.text)
    deepEqual(line, ['b2', 'b1', 'root'])
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: c2.uri, parentHeight: 1 }, 'one ancestor', ({ thread }) => {
    equal(thread.parent.post.uri, b2.uri)
    equal(thread.parent.parent, undefined)
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: `at://${ann.handle}/app.bsky.feed.post/${root.uri.split('/').at(-1)}` },
    'a thread by the handle of its author', ({ thread }) => equal(thread.post.uri, root.uri))
  await t.refused(null, 'app.bsky.feed.getPostThread', { uri: `at://${ann.did}/app.bsky.feed.post/3zzzzzzzzzzzz` }, 'a post that is not there', {
    status: 400, error: 'NotFound',
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: wrong.uri }, 'a reply with a wrong root stands alone', ({ thread }) => {
    equal(thread.post.uri, wrong.uri)
    equal(thread.parent, undefined)
  })

  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: root.uri, below: 10, sort: 'oldest' }, 'a flat thread, oldest first, the author first', (it) => {
    deepEqual(items(it), [
      [0, 'root'], [1, 'a1'], [2, 'a2'], [3, 'a3'], [1, 'a1 late'], [1, 'b1'], [2, 'b2'], [3, 'c2'], [1, 'c1'],
    ])
    equal(it.hasOtherReplies, false)
    const by = new Map(it.thread.map((each) => [each.uri, each.value]))
    deepEqual([root, a1, a2, a3].map(({ uri }) => by.get(uri).opThread), [true, true, true, true])
    deepEqual([a1late, b1, c1].map(({ uri }) => by.get(uri).opThread), [false, false, false])
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: root.uri, below: 10, sort: 'newest' }, 'a flat thread, the author\'s chain first, then newest first', (it) => {
    deepEqual(items(it).filter(([depth]) => depth === 1).map(([, text]) => text), ['a1', 'a1 late', 'c1', 'b1'])
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: b2.uri, sort: 'oldest' }, 'from the middle, with ancestors', (it) => {
    deepEqual(items(it), [[-2, 'root'], [-1, 'b1'], [0, 'b2'], [1, 'c2']])
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: b2.uri, above: false }, 'from the middle, without ancestors', (it) => {
    deepEqual(items(it), [[0, 'b2'], [1, 'c2']])
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: root.uri, below: 1, branchingFactor: 2, sort: 'oldest' }, 'two branches', (it) => {
    deepEqual(items(it).map(([depth]) => depth), [0, 1, 1, 1, 1], 'the first level is not cut')
    equal(it.thread[1].value.moreReplies, 1)
  })
  await ben.like(c1)
  await cyd.like(c1)
  await cyd.like(b1)
  await ann.follow(cyd)
  await t.settle()
  await t.see(ann, 'app.bsky.unspecced.getPostThreadV2', { anchor: root.uri, sort: 'top' }, 'by likes', (it) => {
    const order = items(it).filter(([depth]) => depth === 1).map(([, text]) => text)
    ok(order.indexOf('c1') < order.indexOf('b1'), order.join(' '))
  })

  await t.see(ann, 'app.bsky.unspecced.getPostThreadV2', { anchor: b1.uri }, 'who of those one follows likes the anchor', (it) => {
    const anchor = it.thread.find((each) => each.depth === 0)
    equal(anchor.value.post.viewer.knownLikers.count, 1)
    deepEqual(anchor.value.post.viewer.knownLikers.actors.map((each) => each.did), [cyd.did])
  })

  // Holes: a deleted reply hides what hangs under it, and shows as missing from below.
  await ben.delete(b2)
  await ann.delete(a2)
  await t.settle()
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: root.uri }, 'a deleted reply takes its branch along', ({ thread }) => {
    const under = thread.replies.find((it) => it.post.uri === b1.uri)
    deepEqual(texts(under), [])
    equal(under.post.replyCount, 1)
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: c2.uri }, 'from below, the deleted parent is missing', ({ thread }) => {
    equal(thread.parent.$type, 'app.bsky.feed.defs#notFoundPost')
    equal(thread.parent.uri, b2.uri)
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: c2.uri }, 'from below, flat', (it) => {
    deepEqual(items(it), [[-1, 'threadItemNotFound'], [0, 'c2']])
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: a1.uri, sort: 'oldest' }, 'the chain goes on through a deleted link', (it) => {
    const by = new Map(it.thread.map((each) => [each.uri, each.value]))
    equal(by.get(root.uri).opThread, true)
    equal(by.get(a1.uri).opThread, true)
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: a3.uri, sort: 'oldest' }, 'what hangs under a deleted link is on the chain', (it) => {
    const by = new Map(it.thread.map((each) => [each.uri, each.value]))
    equal(by.get(a3.uri).opThread, true)
  })
  await t.see(null, 'app.bsky.unspecced.getPostThreadV2', { anchor: `at://${ann.did}/app.bsky.feed.post/3zzzzzzzzzzzz` }, 'nothing there', (it) => {
    deepEqual(items(it), [[0, 'threadItemNotFound']])
  })

  // Deep: more levels than anybody shows.
  let at = await cyd.post('deep 0')
  const deepRoot = at
  const writers = [ann, ben, cyd]
  for (let level = 1; level <= 14; level += 1) {
    at = await writers[level % 3].reply(at, `deep ${level}`, { root: deepRoot })
  }
  await t.settle()
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: deepRoot.uri, depth: 100 }, 'fourteen levels down', ({ thread }) => {
    let levels = 0
    for (let node = thread; node.replies?.[0]; [node] = node.replies) levels += 1
    equal(levels, 14)
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: deepRoot.uri }, 'six levels down where nothing is said', ({ thread }) => {
    let levels = 0
    for (let node = thread; node.replies?.[0]; [node] = node.replies) levels += 1
    equal(levels, 6)
  })
  await t.see(null, 'app.bsky.feed.getPostThread', { uri: at.uri }, 'fourteen levels up', ({ thread }) => {
    let levels = 0
    for (let node = thread; node.parent; node = node.parent) levels += 1
    equal(levels, 14)
  })
}
