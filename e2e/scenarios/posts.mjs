// What a post shows: text and facets, every kind of embed, and how posts are looked up.

import { deepEqual, equal, match, ok } from 'node:assert/strict'
import { MP4, PNG } from '../lib/media.mjs'
import { PURPOSE, refOf } from '../lib/world.mjs'

const IMAGES = 'app.bsky.embed.images'
const VIDEO = 'app.bsky.embed.video'

export default async function posts(t) {
  const { ann, ben, cyd } = await t.cast('ann', 'ben', 'cyd')
  const png = await ann.blob(PNG, 'image/png')
  const mp4 = await ann.blob(MP4, 'video/mp4')
  const cid = png.ref.$link
  const images = { $type: IMAGES, images: [{ image: png, alt: 'a pixel', aspectRatio: { width: 1, height: 1 } }, { image: png, alt: 'again' }] }
  const external = { $type: 'app.bsky.embed.external', external: { uri: 'https://example.test/a', title: 'A page', description: 'about', thumb: png } }

  const text = `hello @${ben.handle}, see https://example.test #bees`
  const slice = (part) => {
    const at = Buffer.from(text).indexOf(part)
    return { byteStart: at, byteEnd: at + Buffer.byteLength(part) }
  }
  const facets = [
    { index: slice(`@${ben.handle}`), features: [{ $type: 'app.bsky.richtext.facet#mention', did: ben.did }] },
    { index: slice('https://example.test'), features: [{ $type: 'app.bsky.richtext.facet#link', uri: 'https://example.test' }] },
    { index: slice('#bees'), features: [{ $type: 'app.bsky.richtext.facet#tag', tag: 'bees' }] },
  ]
  const rich = await ann.post(text, { facets, langs: ['en', 'de'], tags: ['honey'] })
  const pictures = await ann.post('pictures', { embed: images })
  const link = await ann.post('a link', { embed: external })
  const sited = await ann.post('a link to a document', {
    embed: { ...external, external: { ...external.external, associatedRefs: [{ uri: `at://${ann.did}/site.standard.document/3zzzzzzzzzzzz`, cid: link.cid }] } },
  })
  const film = await ann.post('a film', { embed: { $type: VIDEO, video: mp4, alt: 'dark', aspectRatio: { width: 16, height: 9 } } })
  const gallery = await ann.post('a gallery', {
    embed: {
      $type: 'app.bsky.embed.gallery',
      items: [{ $type: 'app.bsky.embed.gallery#image', image: png, alt: 'one', aspectRatio: { width: 1, height: 1 } }],
    },
  })
  const quote = await ben.quote(pictures, 'look at this')
  const both = await ben.post('both', {
    embed: { $type: 'app.bsky.embed.recordWithMedia', record: { $type: 'app.bsky.embed.record', record: rich }, media: { ...external, external: { ...external.external, thumb: undefined } } },
  })
  const nested = await cyd.quote(quote, 'quoting a quote')
  const list = await ann.list('people', PURPOSE.curate, { description: 'some people' })
  const embedList = await ben.quote(list, 'a list')
  const gone = await ann.post('soon gone')
  const quoteGone = await ben.quote(gone, 'quoting what goes')
  await ann.delete(gone)
  // It names the CID of another post, which is how a quote of an earlier version looks.
  const missing = { uri: `at://${ann.did}/app.bsky.feed.post/3zzzzzzzzzzzz`, cid: rich.cid }
  const quoteMissing = await ben.quote(missing, 'quoting what never was')
  await t.settle()

  const one = async (ref, what, check, options) => t.see(cyd, 'app.bsky.feed.getPosts', { uris: [ref.uri] }, what, ({ posts: [it, ...rest] }) => {
    equal(rest.length, 0)
    equal(it.uri, ref.uri)
    equal(it.cid, ref.cid)
    check(it)
  }, options)
  await one(rich, 'text, facets, languages and tags as they were written', (it) => {
    equal(it.author.did, ann.did)
    equal(it.record.text, text)
    deepEqual(it.record.facets, facets)
    deepEqual(it.record.langs, ['en', 'de'])
    deepEqual(it.record.tags, ['honey'])
    deepEqual([it.replyCount, it.repostCount, it.likeCount, it.quoteCount, it.bookmarkCount], [0, 0, 0, 1, 0])
    equal(it.viewer.threadMuted, false)
    equal(it.viewer.bookmarked, false)
    equal(it.viewer.embeddingDisabled, false)
  })
  await one(pictures, 'images', (it) => {
    equal(it.embed.$type, `${IMAGES}#view`)
    deepEqual(it.embed.images.map((each) => each.alt), ['a pixel', 'again'])
    deepEqual(it.embed.images[0].aspectRatio, { width: 1, height: 1 })
    match(it.embed.images[0].thumb, new RegExp(`/feed_thumbnail/plain/${ann.did}/${cid}`))
    match(it.embed.images[0].fullsize, new RegExp(`/feed_fullsize/plain/${ann.did}/${cid}`))
    equal(it.quoteCount, 1)
  })
  await one(link, 'a link card with its picture', ({ embed }) => {
    equal(embed.$type, 'app.bsky.embed.external#view')
    deepEqual([embed.external.uri, embed.external.title, embed.external.description], ['https://example.test/a', 'A page', 'about'])
    match(embed.external.thumb, new RegExp(cid))
  })
  await one(sited, 'a link card that names a document which is not there', ({ embed }) => {
    equal(embed.external.title, 'A page')
  })
  await t.see(null, 'app.bsky.embed.getEmbedExternalView', { url: 'https://example.test/a', uris: [`at://${ann.did}/site.standard.document/3zzzzzzzzzzzz`] },
    'a card of a document that is not there', (it) => equal(it.view, undefined))
  await one(film, 'a video', ({ embed }) => {
    equal(embed.$type, `${VIDEO}#view`)
    equal(embed.cid, mp4.ref.$link)
    equal(embed.alt, 'dark')
    match(embed.playlist, new RegExp(encodeURIComponent(ann.did)))
  })
  await one(gallery, 'a gallery', ({ embed }) => {
    equal(embed.$type, 'app.bsky.embed.gallery#view')
    equal(embed.items[0].alt, 'one')
  })
  await one(quote, 'a quoted post, whole', ({ embed }) => {
    equal(embed.$type, 'app.bsky.embed.record#view')
    equal(embed.record.$type, 'app.bsky.embed.record#viewRecord')
    equal(embed.record.uri, pictures.uri)
    equal(embed.record.author.handle, ann.handle)
    equal(embed.record.value.text, 'pictures')
    equal(embed.record.embeds[0].$type, `${IMAGES}#view`)
    equal(embed.record.quoteCount, 1)
  })
  await one(both, 'a quoted post beside a link card', ({ embed }) => {
    equal(embed.$type, 'app.bsky.embed.recordWithMedia#view')
    equal(embed.media.external.title, 'A page')
    equal(embed.record.record.uri, rich.uri)
  })
  await one(nested, 'a quote in a quote', ({ embed }) => {
    equal(embed.record.uri, quote.uri)
    equal(embed.record.embeds[0].record.uri, pictures.uri)
  })
  await one(embedList, 'a quoted list', ({ embed }) => {
    equal(embed.record.$type, 'app.bsky.graph.defs#listView')
    equal(embed.record.name, 'people')
    equal(embed.record.creator.did, ann.did)
  })
  for (const [ref, was] of [[quoteGone, gone], [quoteMissing, missing]]) {
    await one(ref, 'a quoted post that is not there', ({ embed }) => {
      equal(embed.record.$type, 'app.bsky.embed.record#viewNotFound')
      equal(embed.record.uri, was.uri)
    })
  }

  const asked = [film.uri, missing.uri, rich.uri, gone.uri, quote.uri]
  await t.see(null, 'app.bsky.feed.getPosts', { uris: asked }, 'several posts in the order asked, without the missing', (it) => {
    deepEqual(it.posts.map((post) => post.uri), [film.uri, rich.uri, quote.uri])
  })
  await t.see(null, 'app.bsky.feed.getPosts', { uris: [rich.uri, rich.uri] }, 'the same post asked for twice', (it) => {
    ok(it.posts.length >= 1 && it.posts.every((post) => post.uri === rich.uri))
  })
  await t.see(null, 'app.bsky.feed.getPosts', { uris: [list.uri, `at://${ann.did}/app.bsky.feed.like/3zzzzzzzzzzzz`, rich.uri] },
    'what is no post is left out', (it) => deepEqual(it.posts.map((post) => post.uri), [rich.uri]))
  await t.see(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.post', rkey: rich.uri.split('/').at(-1) },
    'the post record itself', (it) => {
      deepEqual(refOf(it), rich)
      equal(it.value.text, text)
      deepEqual(it.value.facets, facets)
    })
  await t.refused(null, 'com.atproto.repo.getRecord', { repo: ann.did, collection: 'app.bsky.feed.post', rkey: gone.uri.split('/').at(-1) },
    'a deleted record', { status: 400 })
  await t.see(null, 'app.bsky.feed.getQuotes', { uri: pictures.uri }, 'who quoted a post', (it) => {
    deepEqual(it.posts.map((post) => post.uri), [quote.uri])
    equal(it.posts[0].author.did, ben.did)
  })
  const more = []
  for (const who of [cyd, ann]) more.push(await who.quote(pictures, `${who.name} quotes it too`))
  await t.settle()
  await t.walk(null, 'app.bsky.feed.getQuotes', { uri: pictures.uri, limit: 2 }, 'posts', 'quotes, newest first, two at a time', (all) => {
    deepEqual(all.map((post) => post.uri), [more[1].uri, more[0].uri, quote.uri])
  })
  await t.see(null, 'app.bsky.feed.getQuotes', { uri: rich.uri }, 'a quote beside media is a quote', (it) => {
    deepEqual(it.posts.map((post) => post.uri), [both.uri])
  })

  await ben.delete(both)
  await t.settle()
  await one(rich, 'a deleted quote counts no more', (it) => equal(it.quoteCount, 0), {
    referenceBug: 'it counts quotes by the CID they name, and another URI was quoted with this CID',
  })
  await t.see(null, 'app.bsky.feed.getQuotes', { uri: rich.uri }, 'a deleted quote is listed no more', (it) => deepEqual(it.posts, []))
}
