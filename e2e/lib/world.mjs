// What a scenario holds: accounts that write through the PDS's public API, and eyes that look through the AppView's.

import { createServiceJwt } from '@atproto/xrpc-server'
import { ADMIN_PASSWORD } from './parts.mjs'

const PASSWORD = 'hunter2-hunter2'
const JSON_TYPE = { 'content-type': 'application/json' }
const BASIC = `Basic ${Buffer.from(`admin:${ADMIN_PASSWORD}`).toString('base64')}`
/** How long a check marked `eventually` may take to come true: search is allowed to lag. */
const EVENTUALLY_MS = 15_000
const POLL_MS = 100
const PAGES_MAX = 100

export const PURPOSE = {
  mod: 'app.bsky.graph.defs#modlist',
  curate: 'app.bsky.graph.defs#curatelist',
  reference: 'app.bsky.graph.defs#referencelist',
}

export const rkeyOf = (uri) => uri.slice(uri.lastIndexOf('/') + 1)
/** A strong reference: what PDS answers to a write, without the rest. */
export const refOf = ({ uri, cid }) => ({ uri, cid })

/** An XRPC error answer. */
export class XrpcFailure extends Error {
  constructor(nsid, status, body) {
    super(`${nsid} answered ${status}: ${JSON.stringify(body)}`)
    Object.assign(this, { nsid, status, body, name: 'XrpcFailure' })
  }
}

/** Times for records: strictly rising, a few minutes ago at first, so that they are never in the future. */
export class Clock {
  #last = Date.now() - 10 * 60_000
  tick(stepMs = 20) {
    this.#last += stepMs
    return new Date(this.#last).toISOString()
  }
}

async function xrpc(service, method, nsid, { params, body, headers = {} }) {
  const url = new URL(`/xrpc/${nsid}`, service)
  for (const [key, value] of Object.entries(params ?? {})) {
    for (const each of [value].flat()) if (each !== undefined) url.searchParams.append(key, String(each))
  }
  const raw = body instanceof Uint8Array
  const answer = await fetch(url, {
    method,
    headers: { ...(body === undefined || raw ? {} : JSON_TYPE), ...headers },
    body: body === undefined ? undefined : raw ? body : JSON.stringify(body),
  })
  const text = await answer.text()
  let parsed = text
  if (answer.headers.get('content-type')?.includes('json')) parsed = JSON.parse(text)
  if (!answer.ok) throw new XrpcFailure(nsid, answer.status, parsed)
  return { body: parsed, headers: answer.headers }
}

/** Somebody with a repo on the PDS. */
export class Account {
  constructor(world, name, session) {
    this.name = name
    this.did = session.did
    this.handle = session.handle
    this.#world = world
    this.#token = session.accessJwt
  }

  #world
  #token

  /** Any call to the account's PDS. Calls that the PDS does not know go on to the AppView. */
  async pds(method, nsid, { params, body, headers } = {}) {
    const answer = await xrpc(this.#world.parts.pds.url, method, nsid, {
      params, body, headers: { authorization: `Bearer ${this.#token}`, ...headers },
    })
    return answer
  }

  async create(collection, record, rkey) {
    const { body } = await this.pds('POST', 'com.atproto.repo.createRecord', {
      body: { repo: this.did, collection, rkey, record: { $type: collection, ...record } },
    })
    return refOf(body)
  }

  async put(collection, rkey, record) {
    const { body } = await this.pds('POST', 'com.atproto.repo.putRecord', {
      body: { repo: this.did, collection, rkey, record: { $type: collection, ...record } },
    })
    return refOf(body)
  }

  async delete({ uri }) {
    const [, , , collection, rkey] = uri.split('/')
    await this.pds('POST', 'com.atproto.repo.deleteRecord', { body: { repo: this.did, collection, rkey } })
  }

  /** Many creates in few commits; answers their references in order. */
  async createMany(collection, records) {
    const refs = []
    for (let at = 0; at < records.length; at += 100) {
      const writes = records.slice(at, at + 100).map((record) => ({
        $type: 'com.atproto.repo.applyWrites#create', collection, value: { $type: collection, ...record },
      }))
      const { body } = await this.pds('POST', 'com.atproto.repo.applyWrites', { body: { repo: this.did, writes } })
      refs.push(...body.results.map(refOf))
    }
    return refs
  }

  async blob(bytes, mimeType) {
    const { body } = await this.pds('POST', 'com.atproto.repo.uploadBlob', {
      body: bytes, headers: { 'content-type': mimeType },
    })
    return body.blob
  }

  #now = () => this.#world.clock.tick()

  post(text, more = {}) {
    return this.create('app.bsky.feed.post', { text, createdAt: this.#now(), ...more })
  }

  /** A reply to `parent`, in the thread of `root` (the parent, where it starts one). */
  reply(parent, text, { root = parent, ...more } = {}) {
    return this.post(text, { reply: { root: refOf(root), parent: refOf(parent) }, ...more })
  }

  quote(subject, text, more = {}) {
    return this.post(text, { embed: { $type: 'app.bsky.embed.record', record: refOf(subject) }, ...more })
  }

  like(subject, more = {}) {
    return this.create('app.bsky.feed.like', { subject: refOf(subject), createdAt: this.#now(), ...more })
  }

  repost(subject, more = {}) {
    return this.create('app.bsky.feed.repost', { subject: refOf(subject), createdAt: this.#now(), ...more })
  }

  follow(account, more = {}) {
    return this.create('app.bsky.graph.follow', { subject: account.did, createdAt: this.#now(), ...more })
  }

  block(account) {
    return this.create('app.bsky.graph.block', { subject: account.did, createdAt: this.#now() })
  }

  list(name, purpose, more = {}) {
    return this.create('app.bsky.graph.list', { name, purpose, createdAt: this.#now(), ...more })
  }

  listItem(list, account) {
    return this.create('app.bsky.graph.listitem', { list: list.uri, subject: account.did, createdAt: this.#now() })
  }

  listBlock(list) {
    return this.create('app.bsky.graph.listblock', { subject: list.uri, createdAt: this.#now() })
  }

  profile(record) {
    return this.put('app.bsky.actor.profile', 'self', { createdAt: this.#now(), ...record })
  }

  /** A thread gate for an own post; without rules nobody but the author may reply. */
  threadgate(post, { allow, hiddenReplies } = {}) {
    return this.put('app.bsky.feed.threadgate', rkeyOf(post.uri), {
      post: post.uri, allow, hiddenReplies, createdAt: this.#now(),
    })
  }

  postgate(post, { embeddingRules, detachedEmbeddingUris } = {}) {
    return this.put('app.bsky.feed.postgate', rkeyOf(post.uri), {
      post: post.uri, embeddingRules, detachedEmbeddingUris, createdAt: this.#now(),
    })
  }

  starterPack(name, list, more = {}) {
    return this.create('app.bsky.graph.starterpack', { name, list: list.uri, createdAt: this.#now(), ...more })
  }

  verify(account, more = {}) {
    return this.create('app.bsky.graph.verification', {
      subject: account.did, handle: account.handle, displayName: '', createdAt: this.#now(), ...more,
    })
  }
}

/** Everything a scenario can reach. One per scenario; all share the parts. */
export class World {
  constructor({ parts, plane, ledger, clock, scenario, number, mayFail, logTail, mutants }) {
    Object.assign(this, { parts, plane, ledger, clock, scenario, number, mayFail, logTail, mutants })
  }

  /** Stands for an administrator of the AppView where a check names who looks. */
  admin = Symbol('admin')

  /** New accounts, by name, with a display name each. */
  async cast(...names) {
    const cast = {}
    for (const name of names) {
      const handle = `${name}-${this.number}.test`
      const { body } = await xrpc(this.parts.pds.url, 'POST', 'com.atproto.server.createAccount', {
        body: { handle, email: `${name}-${this.number}@example.test`, password: PASSWORD },
      })
      cast[name] = new Account(this, name, body)
      await cast[name].profile({ displayName: `${name} of ${this.scenario}` })
    }
    return cast
  }

  /** An account without even a profile record. */
  async bare(name) {
    const { body } = await xrpc(this.parts.pds.url, 'POST', 'com.atproto.server.createAccount', {
      body: { handle: `${name}-${this.number}.test`, email: `${name}-${this.number}@example.test`, password: PASSWORD },
    })
    return new Account(this, name, body)
  }

  tick() {
    return this.clock.tick()
  }

  /** Waits until the data plane shows everything written so far. */
  async settle() {
    const [seq, bsync] = await Promise.all([this.parts.pds.head(), this.parts.bsync.heads()])
    await this.plane.settle({ seq, bsync })
  }

  /** Waits until the data plane shows everything that Ozone has done so far. */
  async settleLabels() {
    await this.parts.ozone.processAll()
    await this.plane.settleLabels(this.parts.ozone)
  }

  /** A call to the PDS as its administrator. */
  async pdsAdmin(nsid, body) {
    return xrpc(this.parts.pds.url, 'POST', nsid, { body, headers: { authorization: BASIC } })
  }

  async #headers(as, nsid, audience = this.parts.appview.did) {
    if (!as) return {}
    if (as === this.admin) return { authorization: BASIC }
    const jwt = await createServiceJwt({
      iss: as.did, aud: audience, lxm: nsid, keypair: as.keypair ?? (await this.parts.pds.keypair(as.did)),
    })
    return { authorization: `Bearer ${jwt}` }
  }

  /** A call to the AppView that nothing is checked on, as it stands. */
  async call(as, method, nsid, { params, body, headers = {}, audience } = {}) {
    this.ledger.called(nsid)
    const auth = await this.#headers(as, nsid, audience)
    return xrpc(this.parts.appview.url, method, nsid, { params, body, headers: { ...auth, ...headers } })
  }

  /**
   * Looks through the AppView (a query) as somebody, nobody (`null`) or the administrator, and checks what is seen.
   * Answers the body, or nothing where the call failed.
   *
   * Options: `headers`; `audience`; `eventually`, to look again for a while; `referenceBug`, a sentence on why the
   * reference may fail this one; `optional`, a sentence on why any plane may.
   */
  see(as, nsid, params, what, check, options = {}) {
    return this.#checked(nsid, what, { ...options, again: true }, () => this.call(as, 'GET', nsid, { params, ...options }), check)
  }

  /** Tells the AppView something (a procedure), and checks the answer if there is something to check. */
  tell(as, nsid, body, what, check = () => {}, options = {}) {
    return this.#checked(nsid, what, options, () => this.call(as, 'POST', nsid, { body, ...options }), check)
  }

  /**
   * Walks a listing to its end, a page at a time, and checks all items of `key` together.
   * A cursor that does not move, or a listing that does not end, fails.
   */
  walk(as, nsid, params, key, what, check, options = {}) {
    return this.#checked(nsid, what, { ...options, again: true }, async () => {
      const items = []
      let cursor
      for (let page = 0; page < PAGES_MAX; page += 1) {
        const { body } = await this.call(as, 'GET', nsid, { params: { ...params, cursor }, ...options })
        items.push(...body[key])
        if (!body.cursor) return { body: items }
        if (body.cursor === cursor) throw new Error(`${nsid} answered the cursor that it was given: ${cursor}`)
        cursor = body.cursor
      }
      throw new Error(`${nsid} did not end within ${PAGES_MAX} pages`)
    }, check)
  }

  /** A query that must be refused with this HTTP status and error name. */
  refused(as, nsid, params, what, { status, error }, options = {}) {
    return this.#checked(nsid, what, options, async () => {
      try {
        await this.call(as, 'GET', nsid, { params, ...options })
      } catch (failure) {
        if (failure.status === status && (!error || failure.body?.error === error)) return { body: failure.body }
        throw failure
      }
      throw new Error(`${nsid} was answered, and not refused with ${status} ${error ?? ''}`)
    }, () => {})
  }

  /** A check that is no call to the AppView; `subject` names its row in the table. */
  check(subject, what, run, options = {}) {
    return this.#checked(subject, what, options, async () => {
      this.ledger.called(subject)
      return { body: await run() }
    }, () => {})
  }

  async #checked(nsid, what, options, call, check) {
    const why = (this.mayFail ? 'not built yet' : options.optional) ?? (this.plane.name === 'reference' ? options.referenceBug : undefined)
    // What may fail is not waited for.
    const end = performance.now() + (options.eventually && !why ? EVENTUALLY_MS : 0)
    const mark = this.logTail?.mark()
    const look = async () => {
      const { body, headers } = await call()
      await check(body, headers)
      return body
    }
    for (;;) {
      try {
        this.mutants?.begin()
        const body = await look()
        this.ledger.passed(nsid)
        // Only what can be looked at twice.
        if (options.again) await this.mutants?.hunt(look)
        return body
      } catch (error) {
        if (performance.now() < end) {
          await new Promise((resolve) => setTimeout(resolve, POLL_MS))
          continue
        }
        if (error.status >= 500) error.message += `\n${(await this.logTail?.since(mark)) ?? ''}`
        if (why) this.ledger.waive(nsid, this.scenario, what, why, error)
        else this.ledger.failed(nsid, this.scenario, what, error)
        return undefined
      }
    }
  }
}
