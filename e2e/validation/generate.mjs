// Writes records, good and spoiled, with the verdict of the network's own AppView on each.
//
//   node generate.mjs <node_modules> <out.jsonl> [--compact <bytes>] [--random <count>] [--sweep] [--seed <n>]
//
// <node_modules> must hold @atproto/bsky (0.0.280 is what the schemas in this repository follow). The records of
// fixtures/records are the seeds; every place in them is spoiled in every way this file knows, then several at once
// at random. Limits are not written down here: they are found by asking the AppView's validator.
//
// A line is {"case", "collection", "ok", "record"} with the record as lex-JSON, or with "cbor" (hex) in its place
// where JSON cannot say it (floats, integers beyond 2^53, maps that look like links).
//
//   --compact <bytes>  writes fixtures/records/validation.jsonl instead: of the records with a single change as many
//                      as fit, a line for each seed: {"collection", "record", "changes": [[ok, pointer, value]...]}.
//                      Without a value the property goes; {"$text": [[part, n]...]} and {"$items": [item, n]} are
//                      long texts and lists. Lines with "cbor" are as above.
//   --random <count>   how many records are spoiled at random (default 20000)
//   --sweep            also most code points of Unicode in a few surroundings, for the counting of grapheme clusters
//
// `cargo xtask validation` runs this on the installed packages and compares with our verdicts.

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const args = process.argv.slice(2)
const option = (name, otherwise) => {
  const at = args.indexOf(name)
  return at < 0 ? otherwise : Number(args.splice(at, 2)[1])
}
const flag = (name) => args.includes(name) && args.splice(args.indexOf(name), 1).length > 0
const COMPACT_BYTES = option('--compact', 0)
const RANDOM_CASES = option('--random', 20000)
const SEED = option('--seed', 1)
const SWEEP = flag('--sweep')
const [NODE_MODULES, OUT] = args
if (!OUT) {
  console.error('usage: node generate.mjs <node_modules> <out.jsonl> [--compact <bytes>] [--random <count>] [--sweep]')
  process.exit(2)
}
const load = (file) => import(pathToFileURL(path.resolve(NODE_MODULES, file)).href)
const { decode } = await load('@atproto/lex-cbor/dist/index.js')
const { parseCid } = await load('@atproto/lex-data/dist/index.js')
const lexicons = await load('@atproto/bsky/dist/lexicons/index.js')
const SEEDS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../fixtures/records')

// ---------------------------------------------------------------- values that plain JavaScript cannot tell apart

class Link { constructor(bytes) { this.bytes = bytes } }
class Float { constructor(value) { this.value = value } }
class Undefined {}
const isMap = (v) => v !== null && typeof v === 'object' && Object.getPrototypeOf(v) === Object.prototype

const fromJson = (v) => {
  if (Array.isArray(v)) return v.map(fromJson)
  if (!isMap(v)) return v
  const keys = Object.keys(v)
  if (keys.length === 1 && keys[0] === '$link') return new Link(parseCid(v.$link).bytes)
  if (keys.length === 1 && keys[0] === '$bytes') return new Uint8Array(Buffer.from(v.$bytes, 'base64'))
  return Object.fromEntries(keys.map((k) => [k, fromJson(v[k])]))
}

const PLAIN_LINK_CHARS_MAX = 128
/** Lex-JSON, or undefined where JSON cannot say it. */
const toJson = (v) => {
  if (v instanceof Link) {
    const text = linkText(v.bytes)
    return text.length <= PLAIN_LINK_CHARS_MAX ? { $link: text } : undefined
  }
  if (v instanceof Uint8Array) return { $bytes: Buffer.from(v).toString('base64').replaceAll('=', '') }
  if (v instanceof Float || v instanceof Undefined || typeof v === 'bigint') return undefined
  if (Array.isArray(v)) {
    const items = v.map(toJson)
    return items.includes(undefined) ? undefined : items
  }
  if (!isMap(v)) return v
  const entries = Object.entries(v).map(([k, x]) => [k, toJson(x)])
  const odd = entries.some(([k, x]) => x === undefined || k === '$link' || k === '$bytes' || k === '__proto__')
  return odd ? undefined : Object.fromEntries(entries)
}

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'
const base32 = (bytes) => {
  let out = '', acc = 0, bits = 0
  for (const b of bytes) {
    acc = ((acc << 8) | b) & 0xfff
    bits += 8
    while (bits >= 5) { bits -= 5; out += BASE32[(acc >> bits) & 31] }
  }
  return bits ? out + BASE32[(acc << (5 - bits)) & 31] : out
}
const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const base58 = (bytes) => {
  let n = BigInt('0x' + (Buffer.from(bytes).toString('hex') || '0')), out = ''
  while (n > 0n) { out = BASE58[Number(n % 58n)] + out; n /= 58n }
  for (const b of bytes) { if (b) break; out = '1' + out }
  return out
}
const linkText = (bytes) => (bytes[0] === 0x12 ? base58(bytes) : 'b' + base32(bytes))

const head = (major, n) => {
  n = BigInt(n)
  const top = major << 5
  if (n < 24n) return [top | Number(n)]
  const size = n < 0x100n ? 1 : n < 0x10000n ? 2 : n < 0x100000000n ? 4 : 8
  const out = [top | (24 + Math.log2(size))]
  for (let i = size - 1; i >= 0; i--) out.push(Number((n >> BigInt(8 * i)) & 255n))
  return out
}
/** DAG-CBOR, and beyond it what a careless host could send. */
const toCbor = (v) => {
  const parts = []
  const put = (v) => {
    if (v === null) return parts.push([0xf6])
    if (v === true || v === false) return parts.push([v ? 0xf5 : 0xf4])
    if (v instanceof Undefined) return parts.push([0xf7])
    if (v instanceof Float) {
      const b = Buffer.alloc(9)
      b[0] = 0xfb
      b.writeDoubleBE(v.value, 1)
      return parts.push(b)
    }
    if (typeof v === 'number' || typeof v === 'bigint') {
      const n = BigInt(v)
      return parts.push(n >= 0n ? head(0, n) : head(1, -1n - n))
    }
    if (typeof v === 'string') {
      const b = Buffer.from(v, 'utf8')
      return parts.push(head(3, b.length), b)
    }
    if (v instanceof Uint8Array) return parts.push(head(2, v.length), v)
    if (v instanceof Link) return parts.push([0xd8, 0x2a], head(2, v.bytes.length + 1), [0], v.bytes)
    if (Array.isArray(v)) {
      parts.push(head(4, v.length))
      return v.forEach(put)
    }
    const entries = Object.entries(v).map(([k, x]) => [Buffer.from(k, 'utf8'), x])
    entries.sort(([a], [b]) => a.length - b.length || Buffer.compare(a, b))
    parts.push(head(5, entries.length))
    for (const [k, x] of entries) {
      parts.push(head(3, k.length), k)
      put(x)
    }
  }
  put(v)
  return Buffer.concat(parts.map((p) => Buffer.from(p)))
}

// ---------------------------------------------------------------- the verdict

const schemaOf = (collection) => collection.split('.').reduce((at, name) => at[name], lexicons).main
/** The verdict of the AppView: its decoder, then its schema in strict mode. Undefined where the decoder fails. */
const verdict = (collection, record) => {
  let decoded
  try {
    decoded = decode(new Uint8Array(toCbor(record)))
  } catch {
    return undefined
  }
  // Stored by the AppView without a look.
  if (collection === 'chat.bsky.actor.declaration') return true
  try {
    schemaOf(collection).check(decoded)
    return true
  } catch (error) {
    if (error?.name !== 'LexValidationError' && !('issues' in error)) throw error
    return false
  }
}

const cases = []
const seen = new Map()
let undecodable = 0
/** `change` tells how the record came from a seed, as {seed, steps, value}. */
const emit = (name, collection, record, change) => {
  const cbor = toCbor(record)
  const key = createHash('sha256').update(collection).update(cbor).digest('base64')
  const before = seen.get(key)
  if (before) {
    // One name is enough, but the way from a seed is worth to be known.
    if (!before.change || name.endsWith(': deleted')) Object.assign(before, { name, change })
    return
  }
  const ok = verdict(collection, record)
  if (ok === undefined) return void undecodable++
  const json = toJson(record)
  const line = JSON.stringify({ case: name, collection, ok, ...(json === undefined ? { cbor: cbor.toString('hex') } : { record: json }) })
  const one = { name, collection, ok, line, change, cbor: json === undefined }
  cases.push(one)
  seen.set(key, one)
}

// ---------------------------------------------------------------- places in a record

const isBlob = (v) => isMap(v) && v.$type === 'blob'
/** Every place below `v` as a list of steps, with a name that does not tell equal places apart. */
function* places(v, steps = [], name = '') {
  yield { steps, name, value: v }
  if (Array.isArray(v)) for (const [i, x] of v.entries()) yield* places(x, [...steps, i], `${name}[]`)
  else if (isMap(v)) {
    const typed = v.$type && steps.length ? `${name}<${v.$type}>` : name
    for (const k of Object.keys(v)) yield* places(v[k], [...steps, k], typed ? `${typed}.${k}` : k)
  }
}
const clone = (v) => {
  if (Array.isArray(v)) return v.map(clone)
  return isMap(v) ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, clone(x)])) : v
}
const DELETE = Symbol('delete')
const emitChange = (name, collection, seed, steps, value) =>
  emit(name, collection, replaced(seed, steps, value), { seed, steps, value })
const replaced = (record, steps, value) => {
  if (steps.length === 0) return value
  const copy = clone(record)
  let at = copy
  for (const step of steps.slice(0, -1)) at = at[step]
  const last = steps.at(-1)
  if (value !== DELETE) at[last] = value
  else if (Array.isArray(at)) at.splice(last, 1)
  else delete at[last]
  return copy
}

// ---------------------------------------------------------------- odd values

const sha = (seed, length = 32) => Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7) & 255)
const cidBytes = (codec, hash, digest) => Uint8Array.from([1, ...varint(codec), ...varint(hash), ...varint(digest.length), ...digest])
const varint = (n) => { const out = []; while (n > 127) { out.push((n & 127) | 128); n >>>= 7 } return [...out, n] }
const RAW = cidBytes(0x55, 0x12, sha(1))
const V0 = Uint8Array.from([0x12, 0x20, ...sha(3)])
const LINKS = {
  raw: RAW, cbor: cidBytes(0x71, 0x12, sha(2)), v0: V0, sha512: cidBytes(0x55, 0x13, sha(4, 64)), identity: cidBytes(0x55, 0, sha(5, 5)),
  'dag-pb': cidBytes(0x70, 0x12, sha(6)), 'wide codec': cidBytes(0x0200, 0x12, sha(7)), short: cidBytes(0x55, 0x12, sha(8, 20)), long: cidBytes(0x55, 0, sha(9, 90)),
}
const goodBlob = { $type: 'blob', ref: new Link(RAW), mimeType: 'image/png', size: 1000 }
const ODD = {
  null: null, true: true, false: false, zero: 0, one: 1, minus: -1, safe: 2 ** 53 - 1, 'minus safe': -(2 ** 53 - 1),
  unsafe: 2n ** 53n, 'minus unsafe': -(2n ** 53n), 'i64 max': 2n ** 63n - 1n, 'u64 max': 2n ** 64n - 1n, 'least': -(2n ** 64n),
  'float one': new Float(1), 'float zero': new Float(0), 'float minus zero': new Float(-0), 'float half': new Float(0.5), 'float minus': new Float(-3),
  'float safe': new Float(2 ** 53 - 1), 'float unsafe': new Float(2 ** 53), 'float huge': new Float(1e300), 'float tiny': new Float(5e-324),
  undefined: new Undefined(), empty: '', word: 'word', blank: ' ', list: [], 'list of null': [null], 'list of text': ['a'], 'list of map': [{}], map: {}, 'map of text': { a: 'b' },
  bytes: new Uint8Array([1, 2]), 'no bytes': new Uint8Array(), link: new Link(RAW), 'cbor link': new Link(LINKS.cbor), blob: goodBlob,
  'legacy blob': { cid: linkText(RAW), mimeType: 'image/png' }, 'plain $link': { $link: linkText(RAW) }, 'plain $bytes': { $bytes: 'AQI' },
  'map of unknown type': { $type: 'example.unknown.thing#part', a: null }, 'map of no type': { $type: '' }, 'map of null type': { $type: null }, 'map of int type': { $type: 1 },
}
const TYPES = [
  '', ' ', 'blob', '#main', 'app.bsky.feed.post', 'app.bsky.embed.images', 'app.bsky.embed.images#main', 'app.bsky.embed.images#image', 'app.bsky.embed.gallery#image',
  'app.bsky.embed.record', 'app.bsky.embed.recordWithMedia', 'app.bsky.embed.external', 'app.bsky.embed.external#external', 'app.bsky.embed.video', 'app.bsky.embed.video#caption',
  'app.bsky.embed.gallery', 'app.bsky.embed.defs#aspectRatio', 'app.bsky.richtext.facet', 'app.bsky.richtext.facet#main', 'app.bsky.richtext.facet#byteSlice', 'app.bsky.richtext.facet#mention',
  'app.bsky.richtext.facet#link', 'app.bsky.richtext.facet#tag', 'app.bsky.feed.post#replyRef', 'app.bsky.feed.post#entity', 'app.bsky.feed.post#textSlice', 'com.atproto.repo.strongRef',
  'com.atproto.repo.strongRef#main', 'com.atproto.label.defs#selfLabels', 'com.atproto.label.defs#selfLabel', 'com.atproto.label.defs#labelValueDefinition',
  'com.atproto.label.defs#labelValueDefinitionStrings', 'app.bsky.labeler.defs#labelerPolicies', 'app.bsky.graph.starterpack#feedItem', 'com.germnetwork.declaration#messageMe',
  'app.bsky.feed.threadgate#mentionRule', 'app.bsky.feed.threadgate#followerRule', 'app.bsky.feed.threadgate#followingRule', 'app.bsky.feed.threadgate#listRule', 'app.bsky.feed.postgate#disableRule',
  'APP.bsky.feed.post', 'lex:app.bsky.feed.post', 'example.unknown.thing',
]
const MEDIA = [
  'image/png', 'image/jpeg', 'image/webp', 'image/', 'image', 'IMAGE/PNG', 'image/PNG', 'Image/png', ' image/png', 'image/png ', 'image/png;a=b', 'video/mp4', 'video/MP4', 'video/mpeg',
  'text/vtt', 'text/plain', 'text/vtt; charset=utf-8', '*/*', 'image/*', 'video/*', '*', '/', 'a/b', '', 'imageX/png', 'image/jpg', 'image/svg+xml', 'application/octet-stream', 'ímage/png',
]

// ---------------------------------------------------------------- odd texts, one corpus a form

const D = 'did:plc:5kq2hvw7n3xtbdm4jzraloyc'
const long = (n, c = 'a') => c.repeat(n)
const labels = (total) => {
  let out = ''
  while (out.length + 64 < total) out += long(62) + '.'
  return out + long(total - out.length)
}
const DATETIMES = (() => {
  const good = '2025-11-03T06:41:09.512Z'
  const out = [good, '2025-11-03T06:41:09Z', '0000-01-01T00:00:00Z', '0000-01-01T00:00:00+00:01', '0000-01-01T00:01:00+00:01', '9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59-00:01', '9999-12-31T23:59:59-01:00',
    '10000-01-01T00:00:00Z', '+002025-11-03T06:41:09Z', '-0001-01-01T00:00:00Z', '2025-02-29T00:00:00Z', '2024-02-29T00:00:00Z', '2025-02-30T12:00:00Z', '2025-02-31T12:00:00Z', '2025-04-31T12:00:00Z',
    '2025-11-31T12:00:00Z', '2025-11-32T12:00:00Z', '2025-11-00T12:00:00Z', '2025-00-10T12:00:00Z', '2025-13-10T12:00:00Z', '9999-02-31T12:00:00Z', '2025-11-03T24:00:00Z', '2025-11-03T23:60:00Z', '2025-11-03T23:59:60Z',
    '2016-12-31T23:59:60Z', '2025-11-03T23:59:61Z', '2025-11-03T06:41Z', '2025-11-03T06Z', '2025-11-03', '2025-11-03T06:41:09', '2025-11-03T06:41:09.512', '2025-11-03 06:41:09Z', '2025-11-03t06:41:09Z', '2025-11-03T06:41:09z',
    '2025-11-03T06:41:09+00:00', '2025-11-03T06:41:09-00:00', '2025-11-03T06:41:09.5-00:00', '2025-11-03T06:41:09+0000', '2025-11-03T06:41:09+00', '2025-11-03T06:41:09+23:59', '2025-11-03T06:41:09-23:59',
    '2025-11-03T06:41:09+24:00', '2025-11-03T06:41:09+14:60', '2025-11-03T06:41:09+1:00', '2025-11-03T06:41:09 +01:00', '2025-11-03T06:41:09.Z', '2025-11-03T06:41:09,5Z', '2025-11-03T06:41:09.5Z ', ' 2025-11-03T06:41:09Z',
    '2025-11-03T06:41:09Z\n', '2025-11-3T06:41:09Z', '2025-1-03T06:41:09Z', '25-11-03T06:41:09Z', '20251103T064109Z', '2025-11-03T6:41:09Z', '2025-11-03T06:41:9Z', '2025-W45-1T06:41:09Z', '2025-307T06:41:09Z',
    '1985-04-12T23:20:50.123+01:45', '1985-04-12T23:20:50.1235678912345Z', '٢٠٢٥-11-03T06:41:09Z', '2025‐11‐03T06:41:09Z', '2025-11-03T06:41:09Zulu', 'Mon, 03 Nov 2025 06:41:09 GMT', '1762152069', 'now']
  for (const n of [1, 2, 3, 6, 9, 12, 20, 40, 43, 44, 45, 100]) out.push(`2025-11-03T06:41:09.${long(n, '1')}Z`, `2025-11-03T06:41:09.${long(n, '9')}+05:30`, `2025-11-03T06:41:09.${long(n, '0')}Z`)
  return out
})()
const RKEYS = ['3m4pg24diu22b', 'self', 'a', '.', '..', '...', 'a.b', '~', '_', '-', ':', 'a:b', 'A-Z_~.:', 'a/b', 'a%20b', '%41', 'a b', 'é', 'a+b', 'a@b', '$', '(', long(512), long(513), '']
const NSIDS = ['app.bsky.feed.post', 'a.b.c', 'a.b', 'a', 'app.bsky', 'app.bsky.feed.post.x.y.z', 'app.bsky.feed.9post', 'app.bsky.feed.post9', 'app.bsky.feed.po-st', 'app.bs-ky.post', 'app.-bsky.post', 'app.bsky-.post', '9app.bsky.post', 'app.9bsky.post',
  'app..post', '.app.bsky.post', 'app.bsky.post.', 'app.bsky.*', 'app.bsky.feed.post#main', 'APP.Bsky.Post', 'app.bsky.pöst', 'app.bsky.po_st', 'app.bsky.post ', `app.bsky.${long(63)}`, `app.bsky.${long(64)}`, `app.${long(63)}.post`,
  `app.${long(64)}.post`, `${long(63)}.b.c`, `${long(64)}.b.c`, `a.${labels(315 - 2)}`, `a.${labels(317 - 2)}`, `a.${labels(318 - 2)}`, `a.${labels(253 - 2)}.${long(63)}`, `a.${labels(254 - 2)}.${long(63)}`, 'a.1.b', 'a-1.b.c', 'a1.b.c', '']
const DIDS = [D, 'did:web:eli.orchard.example', 'did:web:localhost%3A1234', 'did:web:eli.example:u:bob', 'did:method:val', 'did:m:v', 'did:m:', 'did:m::v', 'did:m:v:', 'did:m:v%', 'did:m:%', 'did:m:v%2', 'did:m:v%zz', 'did:m:-', 'did:m:.', 'did:m:_', 'did:m:v-', 'did:m:v.',
  'did::v', 'did:M:v', 'did:m1:v', 'did:m-:v', 'DID:m:v', 'did:m', 'did:', 'did', ':m:v', 'did:plc:abc/def', 'did:plc:abc?d=e', 'did:plc:abc#d', 'did:plc:a b', 'did:plc:é', ' did:plc:abc', 'did:plc:abc ', 'did:plc:abc\n', `did:plc:${long(2040)}`, `did:plc:${long(2041)}`,
  `did:m:${long(2042)}`, `did:m:${long(2043)}`, 'did:m:~', 'did:m:a+b', 'did:m:@', 'did:m:A_b.c:d%20-e']
const HANDLES = ['ada.allotment.example', 'a.b', 'a.co', 'a', 'localhost', 'john..test', '.john.test', 'john.test.', 'john.0', 'john.0a', 'john.a0', '1.cc', '0john.test', 'jo-hn.test', '-john.test', 'john-.test', 'john.-test', 'john.test-', 'john.te-st', 'jo_hn.test', 'JOHN.TEST', 'John.Test',
  'xn--bcher-kva.test', 'john.xn--p1ai', 'jöhn.test', 'john.test ', ' john.test', 'john.test\n', 'john@test', '@john.test', 'john.test:80', 'a.b.c.d.e.f', 'john.local', 'john.arpa', 'john.invalid', 'john.onion', 'handle.invalid', '8.8.8.8', '127.0.0.1', 'did:plc:abc', 'https://john.test', 'john.test/', `${long(63)}.test`,
  `${long(64)}.test`, `john.${long(63)}`, `john.${long(64)}`, `${labels(248)}.test`, `${labels(249)}.test`, `john.${labels(248)}`, `john.${labels(249)}`, '']
const ATURIS = (() => {
  const out = []
  for (const a of [...DIDS, ...HANDLES]) out.push(`at://${a}`)
  for (const c of NSIDS) out.push(`at://${D}/${c}`, `at://${D}/${c}/abc`)
  for (const r of RKEYS) out.push(`at://${D}/app.bsky.feed.post/${r}`)
  const base = `at://${D}/app.bsky.feed.post/abc`
  for (const end of ['', '/', '//', '/x', '/x/', '#', '#/', '#/a', '#/a/b', '#a', '#/a%20b', '#/a%2', '#/%zz', '#/%FF', '#/%C3%A9', '#/%C3', '#/a#b', '#/a#/b', '#/é', '#/a b', '#/~1', '#/a[0]', '#/(a)', '#/a\\b', "#/'!$&*+,;=@:", '#/a?b', '#/"', '?', '?a', '?a=b', '?a=b#/c', '#/a?', ' ', '\n', '%', '\\'])
    out.push(base + end, `at://${D}${end}`, `at://${D}/app.bsky.feed.post${end}`)
  for (const start of ['AT://', 'At://', 'at:/', 'at:', 'at:///', 'at://@', 'http://', ' at://', '', '//', 'at:// ']) out.push(`${start}${D}/app.bsky.feed.post/abc`)
  const stem = `${base}#/`
  out.push('at://', 'at:///app.bsky.feed.post/abc', stem + long(8192 - stem.length), stem + long(8193 - stem.length), `at://${long(63)}.test/a.b.c/${long(512)}`)
  return out
})()
const CIDS = (() => {
  const out = Object.values(LINKS).map(linkText)
  const v1 = linkText(LINKS.cbor)
  const rawText = linkText(RAW)
  out.push(v1.toUpperCase(), 'B' + v1.slice(1).toUpperCase(), 'b' + v1.slice(1).toUpperCase(), v1 + '=', v1 + '======', v1 + 'a', v1 + 'aa', v1 + 'b', v1.slice(0, -1), v1.slice(0, -2), v1.slice(1), ' ' + v1, v1 + ' ', v1 + '\n', 'z' + base58(LINKS.cbor), 'z' + base58(V0), 'b' + base32(V0),
    'f' + Buffer.from(LINKS.cbor).toString('hex'), base58(V0).slice(0, -1), base58(V0) + '1', 'Q', 'Qm', 'QmQg1v4o9xdT3Q14wh4S7dxZkDjyZ9ssFzFzyep1YrVJBY', 'b', '', 'bafy', 'bafyreif', 'bb', 'k' + v1.slice(1), 'ipfs://' + v1, '/ipfs/' + v1, v1.replace(/.$/, '0'), rawText.replace('a', 'à'), rawText.slice(0, -1) + '=')
  // Non-zero left-over bits, numbers in more bytes than needed, digests of odd lengths, versions nobody has.
  for (const c of BASE32) out.push(v1.slice(0, -1) + c)
  out.push('b' + base32([0x81, 0x00, 0x71, 0x12, 0x20, ...sha(2)]), 'b' + base32([1, 0xf1, 0x00, 0x12, 0x20, ...sha(2)]), 'b' + base32([1, 0x71, 0x92, 0x00, 0x20, ...sha(2)]), 'b' + base32([1, 0x71, 0x12, 0xa0, 0x00, ...sha(2)]), 'b' + base32([1, 0x71, 0x12, 0x20, ...sha(2, 31)]),
    'b' + base32([1, 0x71, 0x12, 0x20, ...sha(2, 33)]), 'b' + base32([1, 0x71, 0x12, 0]), 'b' + base32([1, 0x71, 0x12]), 'b' + base32([1, 0x71]), 'b' + base32([1]), 'b' + base32([0, 0x70, 0x12, 0x20, ...sha(2)]), 'b' + base32([2, 0x71, 0x12, 0x20, ...sha(2)]), 'b' + base32([3, 0x71, 0x12, 0x20, ...sha(2)]),
    'b' + base32([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x12, 0x20, ...sha(2)]), 'b' + base32([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x12, 0x20, ...sha(2)]), base58([0x12, 0x14, ...sha(3, 20)]), base58([0x12, 0x1f, ...sha(3, 31)]), base58([0x12, 0x21, ...sha(3, 33)]),
    base58([0x12, 0x20, ...sha(3, 31)]), base58([0x12, 0x20, ...sha(3, 33)]))
  for (let first = 0x80; first < 0x100; first += 1) for (const n of [30, 31, 32, 33, 34, 35]) {
    const text = base58([first, 0x00, 0x12, n, ...sha(3, n)])
    if (text.startsWith('Q')) out.push(text)
  }
  for (const n of [72, 73, 74, 75, 76, 77]) out.push('b' + base32(cidBytes(0x55, 0, sha(9, n))))
  return out
})()
const URIS = (() => {
  const out = ['https://almanac.example/frost', 'a:b', '1:2', '_:_', 'A_1:x', 'a:', ':b', ':', '', 'a', 'a:/', 'a:/b', 'a://', 'a:///', 'a:///b', 'a://b', 'a:////b', 'a:b/c', 'a:b//c', 'a://b/', 'mailto:', 'mailto:x@y.example', 'https:///x', 'https://', 'https:/x', 'https:x', 'at://did:plc:abc', 'did:plc:abc', 'a-b:c', 'a.b:c', 'a+b:c', 'é:b', 'a:é',
    'a::b', 'a:b:c', 'https://bücher.example/ü?ß#ö', '日本:語', 'a:日本', 'a b:c', ' a:b', 'a:b ', 'a:b c', 'a: b', 'a:\tb', 'a:b\n', 'a://\u{1f980}', 'a:\u{1f980}', `a:${long(20000)}`, `${long(300)}:b`, 'javascript:alert(1)', 'data:,', 'http://[::1]/', 'a:\u0000', '\u0000:a', 'a:#', 'a:?', 'a://?', 'a://#', 'a:%', 'a://:', 'a:\\b', 'a:/\\b']
  for (const c of ['\u0009', '\u000a', '\u000b', '\u000c', '\u000d', '\u001c', '\u001f', '\u0020', '\u0085', '\u00a0', '\u00ad', '\u1680', '\u180e', '\u2000', '\u2005', '\u200a', '\u200b', '\u200d', '\u2028', '\u2029', '\u202f', '\u205f', '\u2060', '\u3000', '\ufeff', '\ufffe', '\u{e0020}']) out.push(`a:b${c}`, `a:b${c}c`, `a:${c}`, `a:${c}b`, `a://${c}b`, `a${c}:b`)
  return out
})()
const LANGUAGES = ['en', 'eng', 'EN', 'En', 'e', 'engl', 'engli', 'english', 'englisch', 'englische', 'en-GB', 'en-gb', 'EN-GB', 'en_GB', 'en-', '-en', 'en--GB', 'en-GB-', '', ' ', 'en ', 'zh-Hant', 'zh-hant-TW', 'zh-Hant-TW-x-a', 'zh-cmn-Hans-CN', 'zh-yue-HK', 'de-CH-1901', 'de-1901', 'sl-rozaj-biske', 'sl-rozaj-rozaj', 'sl-rozaj-ROZAJ', 'sl-IT-nedis', 'de-CH-x-phonebk',
  'x-whatever', 'X-whatever', 'x-', 'x', 'x-a', 'x-123456789', 'x-12345678', 'x-a-b-c', 'i-klingon', 'I-klingon', 'i-default', 'i-KLINGON', 'en-GB-oed', 'en-gb-oed', 'sgn-BE-FR', 'art-lojban', 'zh-min', 'zh-min-nan', 'zh-xiang', 'no-bok', 'cel-gaulish', 'i-x', 'a-b-c', 'en-a-bbb', 'en-a-bbb-a-ccc', 'en-a-bbb-b-ccc', 'en-a-bbb-A-ccc', 'en-a', 'en-a-b',
  'en-x-a-b-a', 'en-a-bbb-x-a-ccc', 'en-u-islamcal', 'zh-CN-a-myext-x-private', 'en-a-myext-b-another', 'ar-a-aaa-b-bbb-a-ccc', 'de-419-DE', 'de-419', 'es-419', 'en-12', 'en-1234', 'en-12345', 'en-abcd', 'en-Latn-Latn', 'en-US-US', 'en-aaa', 'en-aaa-bbb', 'en-aaa-bbb-ccc', 'en-aaa-bbb-ccc-ddd', 'eng-aaa', 'engl-aaa', 'en-1abc', 'en-1abc-1abc', 'en-1abc-1ABC', 'en-1abc-2abc',
  'en-abcde-abcde', 'en-abcdefgh', 'en-abcdefghi', 'en-0-aa', 'en-0-aa-0-bb', 'en-9-a1b2', 'ja', 'jp', 'zz', 'q', 'qaa-Qaaa-QM-x-southern', 'hy-Latn-IT-arevela', 'pt-BR', 'pt-br', 'pT', '日本', 'én', 'en\n', 'en-\u0131', '12', 'e1', 'root', 'und', 'mul', 'null', 'en-Cyrl-x-x-x', 'en-x', 'en-x-', 'en-y-ab-x', 'en-z-ab', 'en-x-a-x-b', 'sr-Latn-RS-ekavsk-a-foo-bar-x-baz',
  'en-GB-a-bbb-GB', 'en-aaa-abcde-abcde', 'en-aaa-Latn-GB-abcde-1abc-a-bb-cc-b-dd-x-e']
const CORPORA = { datetime: DATETIMES, 'at-uri': ATURIS, did: DIDS, handle: HANDLES, nsid: NSIDS, cid: CIDS, uri: URIS, language: LANGUAGES }
/** One text each form accepts; together they tell the form of a place. */
const PROBES = { datetime: DATETIMES[0], 'at-uri': `at://${D}/app.bsky.graph.list/abc`, did: D, handle: 'ada.example', nsid: 'app.bsky.feed.post', cid: linkText(LINKS.cbor), uri: 'https://almanac.example/', language: 'en' }

const CLUSTERS = {
  ascii: 'a', latin: 'é', cjk: '語', astral: '𐍈', emoji: '😀', family: '👩\u200d👩\u200d👧', farmer: '👩🏽\u200d🌾', flag: '🇬🇧', combined: 'e\u0301', 'newline pair': '\r\n', return: '\r', hangul: '\u1112\u1161\u11ab', devanagari: 'क्\u200dष', tamil: 'நி', keycap: '1\ufe0f\u20e3', 'tag flag': '🏴\u{e0067}\u{e0062}\u{e007f}',
  'many marks': 'o' + '\u0302\u0323\u0330'.repeat(4), 'zero width': '\u200b', prepended: '\u0600١', thai: 'กำ', null: '\u0000', 'odd flag': '🇬a', mark: 'a\ufeff',
}

// ---------------------------------------------------------------- random numbers that are the same everywhere

let state = SEED >>> 0 || 1
const below = (n) => {
  state ^= state << 13; state >>>= 0
  state ^= state >>> 17
  state ^= state << 5; state >>>= 0
  return state % n
}
const pick = (list) => list[below(list.length)]
const pickText = (text) => pick(Array.from(text))

// ---------------------------------------------------------------- one change at every place

const seeds = []
for (const collection of fs.readdirSync(SEEDS).sort()) {
  const dir = path.join(SEEDS, collection)
  if (!fs.statSync(dir).isDirectory()) continue
  for (const file of fs.readdirSync(dir).sort()) {
    const record = fromJson(JSON.parse(fs.readFileSync(path.join(dir, file), 'utf8')).record)
    const size = toCbor(record).length
    seeds.push({ collection, file, record, size })
    if (size < 2000) emit(`seed ${file}`, collection, record)
    if (!verdict(collection, record)) throw new Error(`${collection}/${file} is not valid`)
  }
}
seeds.sort((a, b) => a.size - b.size)

/** The largest n for which `accepts` holds, or 0; Infinity if it holds for `most`. It must hold for one or for eight. */
const largest = (accepts, most) => {
  const least = [1, 8].find(accepts)
  if (!least) return 0
  if (accepts(most)) return Infinity
  let [yes, no] = [least, most]
  while (no - yes > 1) {
    const middle = (yes + no) >>> 1
    if (accepts(middle)) yes = middle
    else no = middle
  }
  return yes
}

const corpusUses = {}
const spoilText = (collection, record, { steps, name, value: own }) => {
  const put = (title, value) => emitChange(`${name}: ${title}`, collection, record, steps, value)
  const fits = (value) => verdict(collection, replaced(record, steps, value)) === true
  put('1 of ascii', 'a')
  for (const [title, cluster] of Object.entries(CLUSTERS)) {
    if (!fits('a ') && !fits('a a a')) break
    const most = largest((n) => fits(cluster.repeat(n)), 30000)
    for (const n of most === Infinity ? [300] : [most - 1, most, most + 1, most + 2]) if (n >= 0) put(`${n} of ${title}`, cluster.repeat(n))
    if (most !== Infinity && most > 4) {
      put(`${most} of ${title}, one other`, cluster.repeat(most - 1) + 'z')
      put(`one other, ${most} of ${title}`, 'z' + cluster.repeat(most))
    }
  }
  // The limit in bytes, to the byte: the cluster has so many of them that it comes before the one in clusters.
  const wide = CLUSTERS.family
  const whole = largest((n) => fits(wide.repeat(n)), 30000)
  if (whole > 0 && whole !== Infinity) {
    const rest = largest((n) => fits(wide.repeat(whole) + 'a'.repeat(n)), 100)
    for (const n of [rest, rest + 1]) if (rest !== Infinity) put(`${whole} of family and ${n} bytes`, wide.repeat(whole) + 'a'.repeat(n))
  }
  for (const [title, value] of [['NUL', 'a\u0000b'], ['newline', 'a\nb'], ['blank', ' ']]) put(title, value)
  // The decoder drops one byte order mark, so limits and forms are held against what is left.
  for (const [title, value] of [['marked', `\ufeff${own}`], ['marked twice', `\ufeff\ufeff${own}`], ['only a mark', '\ufeff']]) put(title, value)
  const form = Object.keys(PROBES).filter((form) => fits(PROBES[form])).join(' ')
  const most = largest((n) => fits('a:' + 'b'.repeat(n)), 30000)
  if (most > 0 && most !== Infinity) for (const n of [0, most, most + 1]) put(`a colon and ${n} more`, 'a:' + 'b'.repeat(n))
  if (!fits('no form at all')) for (const [title, value] of Object.entries(PROBES)) put(`as ${title}`, value)
  if (fits('no form at all') || form === '') return
  const uses = (corpusUses[form] = (corpusUses[form] ?? 0) + 1)
  for (const [title, corpus] of Object.entries(CORPORA)) {
    const own = form.split(' ').includes(title)
    const texts = uses <= 2 && own ? corpus : uses <= 2 || own ? Array.from({ length: 25 }, () => pick(corpus)) : [pick(corpus), pick(corpus)]
    for (const text of texts) put(`${uses === 1 && own ? 'form' : 'other form'} ${JSON.stringify(text.length > 60 ? text.slice(0, 50) + '…' + text.length : text)}`, text)
  }
}

const spoilBlob = (collection, record, { steps, name, value }) => {
  const put = (title, property, value) => emitChange(`${name}: ${title}`, collection, record, [...steps, property], value)
  for (const media of MEDIA) put(`media type ${JSON.stringify(media)}`, 'mimeType', media)
  const most = largest((size) => verdict(collection, replaced(record, [...steps, 'size'], size)) === true, 2 ** 31 - 1)
  for (const size of [0, 1, most - 1, most, most + 1]) if (size >= 0 && Number.isFinite(size)) put(`size ${size}`, 'size', size)
  for (const [title, bytes] of Object.entries(LINKS)) put(`ref ${title}`, 'ref', new Link(bytes))
  put('ref as text', 'ref', linkText(RAW))
  put('ref as a map', 'ref', { $link: linkText(RAW) })
  put('one property more', 'alt', 'x')
  put('with cid', 'cid', linkText(RAW))
  put('null more', 'extra', null)
  const legacy = { cid: linkText(RAW), mimeType: value.mimeType }
  emitChange(`${name}: legacy`, collection, record, steps, legacy)
  emitChange(`${name}: legacy with size`, collection, record, steps, { ...legacy, size: 1 })
}

const done = new Set()
for (const { collection, record } of seeds) {
  for (const place of places(record)) {
    const empty = Array.isArray(place.value) && place.value.length === 0
    const key = `${collection} ${place.name}${empty ? ' (empty)' : ''}`
    if (done.has(key)) continue
    done.add(key)
    const { steps, name, value } = place
    const put = (title, v) => emitChange(`${name}: ${title}`, collection, record, steps, v)
    const putIn = (title, property, v) => emitChange(`${name || 'record'}: ${title}`, collection, record, [...steps, property], v)
    // Under these names first, since a record is written once only.
    if (typeof value === 'number') for (const n of [-1, 0, 1]) put(`number ${n}`, n)
    if (typeof value === 'string' && steps.at(-1) !== '$type') put('no text', '')
    if (steps.length) {
      for (const [title, odd] of Object.entries(ODD)) put(title, odd)
      put('deleted', DELETE)
    }
    if (steps.at(-1) === '$type') for (const type of TYPES) put(type, type)
    else if (typeof value === 'string') spoilText(collection, record, place)
    if (isBlob(value)) spoilBlob(collection, record, place)
    if (Array.isArray(value)) {
      for (const item of value.slice(0, 1)) {
        // Short items where the place takes them, so that long lists stay handy.
        const short = typeof item === 'string' ? ['at://a.b', 'en', 'a.b.c', 'a', item] : [item]
        const one = short.find((x) => verdict(collection, replaced(record, steps, [x])) === true) ?? item
        const most = largest((n) => verdict(collection, replaced(record, steps, Array(n).fill(one))) === true, 1500)
        for (const n of most === Infinity ? [0, 40] : [0, most - 1, most, most + 1]) if (n >= 0) put(`${n} items`, Array(n).fill(one))
        for (const [title, odd] of Object.entries(ODD)) {
          put(`${title} in front`, [odd, item])
          put(`${title} behind`, [item, odd])
        }
      }
    }
    if (isMap(value)) {
      for (const [title, odd] of Object.entries(ODD)) putIn(`unknown property ${title}`, 'x-unknown', odd)
      putIn('empty property name', '', 1)
      putIn('marked property name', '\ufeffcreatedAt', 1)
      putIn('marked unknown name', '\ufeffx', 1)
      const fits = (type) => verdict(collection, replaced(record, [...steps, '$type'], type)) === true
      const own = fits('example.unknown.thing') ? undefined : TYPES.find(fits)
      if (own) putIn('own $type', '$type', own)
      putIn('other case', 'CreatedAt', 1)
      putIn('other case of type', '$Type', 1)
      if (!isBlob(value)) for (const type of TYPES) putIn(`$type ${type}`, '$type', type)
      for (const title of ['null', 'undefined', 'one', 'list', 'map', 'bytes', 'link']) putIn(`$type ${title}`, '$type', ODD[title])
    }
  }
  // A record under a neighbour's collection.
  for (const other of new Set(seeds.map((seed) => seed.collection))) emit(`record of ${collection}`, other, { ...record, $type: other })
}

// Parts with nothing but a type, and parts of another kind, wherever a type decides.
for (const { collection, record } of seeds)
  for (const { steps, name, value } of places(record))
    if (steps.length && isMap(value) && value.$type && !isBlob(value) && !done.has(`${collection} only ${name}`)) {
      done.add(`${collection} only ${name}`)
      for (const type of TYPES) emitChange(`${name}: nothing but ${type}`, collection, record, steps, { $type: type })
    }

// ---------------------------------------------------------------- texts that count as exactly so many characters

const segmenter = new Intl.Segmenter()
const clusters = (text) => { let count = 0; for (const _ of segmenter.segment(text)) count++; return count }
const POINTS = [
  [0x20, 0x7e], [0x00, 0x1f], [0xa0, 0xff], [0x300, 0x36f], [0x600, 0x605], [0x610, 0x61a], [0x900, 0x97f], [0x980, 0x9ff], [0xa00, 0xaff], [0xb00, 0xbff], [0xc00, 0xcff], [0xd00, 0xdff], [0xe00, 0xeff], [0xf00, 0xfff], [0x1000, 0x109f], [0x1100, 0x11ff], [0x1780, 0x17ff], [0x1a20, 0x1aff], [0x1b00, 0x1b7f],
  [0x200b, 0x200f], [0x2028, 0x202e], [0x20d0, 0x20f0], [0x2190, 0x27bf], [0xa960, 0xa97f], [0xac00, 0xac20], [0xd7b0, 0xd7ff], [0xfe00, 0xfe0f], [0x11000, 0x1147f], [0x1f1e6, 0x1f1ff], [0x1f300, 0x1faff], [0x1f3fb, 0x1f3ff], [0xe0020, 0xe007f], [0xe0100, 0xe01ef],
]
const OFTEN = ['\u200d', '\u200d', '\ufe0f', '\u0301', '\u094d', '\u09cd', '\u{1f3fd}', '🇦', '🇧', '\r', '\n', '👩', '❤', 'क', 'ষ', 'a', '\u1100', '\u1161', '\u11a8', '가', '각']
const randomPoint = () => {
  if (below(3) === 0) return pick(OFTEN)
  const [low, high] = pick(POINTS)
  return String.fromCodePoint(low + below(high - low + 1))
}
const GRAPHEME_PLACES = [
  ['app.bsky.feed.post', ['text'], 300, 3000], ['app.bsky.actor.profile', ['pronouns'], 20, 200], ['app.bsky.feed.generator', ['displayName'], 24, 240], ['app.bsky.graph.starterpack', ['name'], 50, 500],
]
const seedOf = (collection, name) => seeds.find((seed) => seed.collection === collection && (!name || seed.file === name)).record
for (let i = 0; i < RANDOM_CASES / 5; i++) {
  const [collection, steps, limit, bytes] = GRAPHEME_PLACES[i % GRAPHEME_PLACES.length]
  let text = ''
  const points = 4 + below(limit)
  for (let n = 0; n < points && Buffer.byteLength(text) < bytes * 0.8; n++) text += randomPoint()
  const missing = limit - clusters(text)
  // The full stop is a cluster of its own behind everything but a prepended mark; the verdict is asked anyway.
  for (const n of [missing - 1, missing, missing + 1]) if (n >= 0) emit(`${steps[0]}: random clusters`, collection, replaced(seedOf(collection), steps, text + '.'.repeat(n)))
}
if (SWEEP) {
  const collection = 'app.bsky.labeler.service'
  const record = seedOf(collection, 'full.json')
  const steps = ['policies', 'labelValueDefinitions', 0, 'locales', 0, 'description']
  // All of the blocks where characters differ; a sample of the ideographs, the syllables and the empty planes.
  const points = []
  for (const [low, high, stride] of [[0, 0x33ff, 1], [0x3400, 0xa4cf, 61], [0xa4d0, 0xabff, 1], [0xac00, 0xd7a3, 9], [0xd7a4, 0xd7ff, 1], [0xe000, 0xf8ff, 61], [0xf900, 0x1ffff, 1], [0x20000, 0xdffff, 509], [0xe0000, 0xe1000, 1], [0xe1001, 0x10ffff, 4099]])
    for (let c = low; c <= high; c += stride) points.push(c)
  const SWEEP_POINTS = 2400
  const surroundings = { behind: (c) => `a${c}`, before: (c) => `${c}\u0301a`, prepending: (c) => `${c}a`, pictograph: (c) => `👩\u200d${c}`, 'pictograph before': (c) => `${c}\u200d👩`, conjunct: (c) => `क\u094d${c}`, 'conjunct before': (c) => `${c}\u094dक`, linker: (c) => `क${c}ष`, hangul: (c) => `\u1161${c}`, 'hangul before': (c) => `${c}\u11a8`, twice: (c) => `x${c}${c}` }
  for (const [title, around] of Object.entries(surroundings))
    for (let at = 0; at < points.length; at += SWEEP_POINTS) {
      const text = points.slice(at, at + SWEEP_POINTS).map((c) => around(String.fromCodePoint(c)) + '\n').join('')
      const missing = 10000 - clusters(text)
      if (missing < 0) throw new Error('too many clusters for the place')
      for (const n of [missing, missing + 1]) emitChange(`sweep ${title} U+${points[at].toString(16)}`, collection, record, steps, text + '.'.repeat(n))
    }
}

// ---------------------------------------------------------------- several changes at random

const ALL_TEXTS = Object.values(CORPORA).flat().filter((text) => text.length < 1000)
const FORM_ALPHABET = 'aZ09-_.:/#?%~ \\é=+TZb2q\n'
const bend = (text) => {
  const chars = Array.from(text)
  for (let n = 1 + below(2); n > 0; n--) {
    const at = below(chars.length + 1)
    const kind = below(4)
    if (kind === 0) chars.splice(at, 1)
    else if (kind === 1) chars.splice(at, 0, pickText(FORM_ALPHABET))
    else if (kind === 2) chars[Math.min(at, chars.length - 1)] = pickText(FORM_ALPHABET)
    else chars.splice(at, 0, chars[below(chars.length)] ?? '')
  }
  return chars.join('')
}
const changes = {
  odd: () => pick(Object.values(ODD)),
  delete: () => DELETE,
  bend: (value) => (typeof value === 'string' ? bend(value) : pick(Object.values(ODD))),
  corpus: (value) => (typeof value === 'string' ? pick(ALL_TEXTS) : value),
  bentCorpus: (value) => (typeof value === 'string' ? bend(pick(ALL_TEXTS)) : value),
  type: (value) => (isMap(value) ? { ...value, $type: pick(TYPES) } : value),
  more: (value) => (isMap(value) ? { ...value, [pick(['x', 'via', 'alt', 'labels', 'cid', 'langs'])]: pick(Object.values(ODD)) } : value),
  twice: (value) => (Array.isArray(value) ? [...value, ...value] : value),
  shuffled: (value) => (Array.isArray(value) ? value.toReversed() : value),
  number: (value) => (typeof value === 'number' ? below(5) - 2 + value : value),
}
for (let i = 0; i < RANDOM_CASES; i++) {
  const seed = pick(seeds)
  if (seed.size > 2500) continue
  let record = seed.record
  for (let n = 1 + below(3); n > 0; n--) {
    const all = Array.from(places(record)).filter((place) => place.steps.length)
    if (!all.length) break
    // Mostly harmless changes, so that some records stay valid.
    const { steps, value } = pick(all)
    record = replaced(record, steps, pick(Object.values(changes))(value))
  }
  emit('random', seed.collection, record)
}
// One bent text at a time: the edges of the forms.
const formed = Array.from(seeds.slice(0, 50)).flatMap(({ collection, record }) => Array.from(places(record)).filter((p) => p.steps.length && typeof p.value === 'string' && p.steps.at(-1) !== '$type' && verdict(collection, replaced(record, p.steps, 'no form at all')) === false).map((p) => ({ collection, record, ...p })))
for (let i = 0; i < RANDOM_CASES; i++) {
  const { collection, record, steps, name, value } = pick(formed)
  const form = Object.entries(PROBES).filter(([, probe]) => verdict(collection, replaced(record, steps, probe)) === true).map(([form]) => form)
  const corpus = form.length ? CORPORA[pick(form)].filter((text) => text.length < 600) : [value]
  emit(`${name}: bent`, collection, replaced(record, steps, bend(below(3) ? pick(corpus) : value)))
}

// ---------------------------------------------------------------- the result

const RUN_MIN = 12
/** A text as [[part, times]...]: a run of equal parts at its start folded, and runs of one character anywhere. */
const folded = (text) => {
  for (let period = 1; period <= 40; period++) {
    const unit = text.slice(0, period)
    let times = 1
    while (unit && text.startsWith(unit, times * period)) times++
    if (times >= RUN_MIN) return [[unit, times], ...(times * period < text.length ? folded(text.slice(times * period)) : [])]
  }
  return Array.from(text.matchAll(new RegExp(`(.)\\1{${RUN_MIN},}|(?:(?!(.)\\2{${RUN_MIN}}).)+`, 'gsu')), ([run, unit]) => (unit ? [unit, run.length / unit.length] : [run, 1]))
}
const short = (value) => {
  if (typeof value === 'string' && value.length > 40) {
    const parts = folded(value)
    if (parts.map(([part, times]) => part.repeat(times)).join('') !== value) throw new Error('folding lost something')
    const text = JSON.stringify({ $text: parts })
    return text.length < JSON.stringify(value).length ? text : JSON.stringify(value)
  }
  if (Array.isArray(value) && value.length > 2 && value.every((item) => JSON.stringify(item) === JSON.stringify(value[0])))
    return `{"$items":[${JSON.stringify(value[0])},${value.length}]}`
  return JSON.stringify(value)
}

let lines = cases.map(({ line }) => line)
let accepted = cases.filter((one) => one.ok).length
if (COMPACT_BYTES) {
  // What a change to the schemas is most likely to break comes first; the rest in turns over places and manners.
  const RANKS = [
    /: (deleted|null|own \$type|\$type blob|number .*|as [a-z-]+|no text|\d+ of (ascii|family|newline pair)|one other, \d+ of ascii|\d+ of family and \d+ bytes|a colon and \d+ more|\d+ items|size \d+|media type "image\/(png|jpeg)")$/,
    /: form "/, /: (media type|ref|legacy|one property more|with cid)/, /: map of unknown type$|: nothing but /, /: (word|list|map|link|bytes|true)$/,
  ]
  const rank = (name) => { const at = RANKS.findIndex((known) => known.test(name)); return at < 0 ? RANKS.length : at }
  const TURN = 7919
  const order = cases.filter((one) => one.change).map((one, i) => ({ ...one, rank: rank(one.name), turn: (i * TURN) % cases.length }))
  order.sort((a, b) => a.rank - b.rank || a.turn - b.turn)
  const bySeed = new Map()
  const plain = []
  let bytes = 0
  // What JSON cannot say takes whole lines, so only where numbers are looked at, and in one place that is not looked at.
  const NUMBERS = /(byteStart|durationMinutes|size): .*(float|safe|undefined)|unknown property (float one|plain .*|unsafe)$/
  const numbered = new Set()
  for (const { name, line, cbor } of order) {
    if (!cbor || !NUMBERS.test(name) || line.length > 1500 || bytes > COMPACT_BYTES / 10) continue
    const key = name.replace(/.*[.>]/, '')
    if (numbered.has(key)) continue
    numbered.add(key)
    bytes += line.length + 1
    plain.push(line)
  }
  for (const { ok, collection, change: { seed, steps, value }, cbor } of order) {
    if (cbor) continue
    const pointer = steps.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
    const text = `[${ok},${JSON.stringify(pointer)}${value === DELETE ? '' : `,${short(toJson(value))}`}]`
    const head = bySeed.has(seed) ? 0 : JSON.stringify(toJson(seed)).length + collection.length + 50
    if (text.length > 700 || bytes + head + text.length + 1 > COMPACT_BYTES) continue
    if (!bySeed.has(seed)) bySeed.set(seed, { collection, changes: [], valid: 0 })
    bySeed.get(seed).changes.push(text)
    bySeed.get(seed).valid += ok
    bytes += head + text.length + 1
  }
  lines = Array.from(bySeed, ([seed, { collection, changes }]) => `{"collection":"${collection}","record":${JSON.stringify(toJson(seed))},"changes":[${changes.join(',')}]}`).concat(plain)
  accepted = Array.from(bySeed.values()).reduce((sum, { valid }) => sum + valid, 0)
  console.log(`${Array.from(bySeed.values()).reduce((sum, { changes }) => sum + changes.length, 0)} changes of ${bySeed.size} seeds, ${plain.length} in CBOR`)
}
const out = fs.openSync(OUT, 'w')
for (const line of lines) fs.writeSync(out, line + '\n')
fs.closeSync(out)
console.log(`${lines.length} lines, ${accepted} cases valid; ${undecodable} could not be decoded at all`)
