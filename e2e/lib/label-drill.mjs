// The drill with labels: who takes part, what is done to them meanwhile, and the comparison at the end.
//
// Three labelers speak. Ozone and Skyware's are honest, but for some labels that Skyware's gives in the name of others;
// the third signs with a key that is not its own. Each is reached through a proxy that breaks connections.

import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Secp256k1Keypair } from '@atproto/crypto'
import { planeClient } from '../transport.mjs'
import { FaultProxy } from './fault-proxy.mjs'
import { LabelPlan, dice } from './label-plan.mjs'
import { startOzone, startSkyware } from './labelers.mjs'
import { createServiceDid, freePorts, startPlc } from './parts.mjs'
import { freshDatabase } from './pass.mjs'
import { startGroundplane } from './planes.mjs'

/** Said by the labeler with the wrong key, and in the name of others: refused, whatever happens. */
const FORGED_SHARE = 0.02
const SHOWN_EVERY_MS = 3_000
const SETTLE_LIMIT_MS = 120_000
const POLL_MS = 25
/** Subjects of one question to the data plane. */
const SUBJECTS_MAX = 400
const DIFFERENCES_SHOWN_MAX = 20
const MINUTE_MS = 60_000

const keyOf = ({ src, uri, cid, val }) => JSON.stringify([src, uri, cid ?? '', val])
const wordsOf = ({ neg, cts, exp }) => JSON.stringify([Boolean(neg), cts, exp ?? null])

export async function runLabels({ bin, postgres, labels, kills, seed, dir, started, say }) {
  const begin = performance.now()
  const seconds = () => `${((performance.now() - begin) / 1000).toFixed(1)} s`
  const up = async (name, part) => {
    const running = await part
    started.push({ name, stop: () => running.stop() })
    return running
  }
  const tally = { labels: 0, negations: 0, forged: 0, kills: 0, replays: 0 }
  const drill = new Drill({ bin, dir, seed, tally, up, say, postgresUrl: await freshDatabase(postgres) })
  started.push({ name: 'data plane', stop: async () => drill.plane?.stop() })
  await drill.start()
  say(`all parts are up after ${seconds()}`)

  const shown = setInterval(() => say(`${seconds()}: ${tally.labels} of ${labels} labels, ${drill.disconnects()} disconnects, ${tally.kills} kills`), SHOWN_EVERY_MS)
  try {
    // Equal parts, with something that happens to everybody between them.
    const turns = drill.turns(kills)
    for (const [at, turn] of turns.entries()) {
      const until = Math.round((labels * (at + 1)) / (turns.length + 1))
      await drill.speak(until)
      say(`${seconds()}: ${await turn()}`)
    }
    await drill.speak(labels)
    say(`${seconds()}: everything is said`)
    await drill.settle()
    say(`${seconds()}: everything is read`)
  } finally {
    clearInterval(shown)
  }
  const { compared, differences } = await drill.compare()
  say(`${seconds()}: ${compared} labels compared`)
  const { halfOpen, pauses } = drill.faults()
  say(`of the disconnects ${halfOpen} after a silence; ${pauses} pauses; ${tally.forged} forged labels, all refused`)
  const line = `labels ${tally.labels}, negations ${tally.negations}, disconnects ${drill.disconnects()}, kills ${tally.kills}, replays ${tally.replays}, differences ${differences}`
  return { differences, line }
}

class Drill {
  constructor({ bin, dir, seed, tally, up, say, postgresUrl }) {
    Object.assign(this, { bin, dir, seed, tally, up, say, postgresUrl })
    this.dice = dice(seed)
    this.ozonePlan = new LabelPlan(seed + 1, { odd: false })
    this.skywarePlan = new LabelPlan(seed + 2, { odd: true })
    this.subjects = new Set()
    this.latestEnd = 0
  }

  async start() {
    const ports = await freePorts(9)
    ;[this.planePort, this.adminPort] = ports.slice(7)
    const [plcPort, ...labelerPorts] = ports
    this.plc = await this.up('plc', startPlc(plcPort))
    this.proxies = {}
    this.identities = {}
    this.ports = {}
    for (const name of ['ozone', 'skyware', 'impostor']) {
      const [port, proxyPort] = labelerPorts.splice(0, 2)
      const proxy = new FaultProxy({ port: proxyPort, target: port, dice: this.dice })
      this.proxies[name] = await this.up(`proxy of ${name}`, proxy.start())
      this.ports[name] = port
      this.identities[name] = await createServiceDid(this.plc, `${name}.test`, {
        atproto_labeler: { type: 'AtprotoLabeler', endpoint: `http://localhost:${proxyPort}` },
      })
    }
    this.ozoneKey = this.identities.ozone.key
    await this.startOzone()
    this.skyware = await startSkyware({
      port: this.ports.skyware, ...this.identities.skyware, dbPath: path.join(this.dir, 'skyware-1.db'),
    })
    this.impostor = await this.up('impostor', startSkyware({
      port: this.ports.impostor, did: this.identities.impostor.did, key: await Secp256k1Keypair.create({ exportable: true }),
      dbPath: path.join(this.dir, 'impostor.db'),
    }))
    await this.up('ozone and skyware', { stop: () => Promise.all([this.ozone.stop(), this.skyware.stop()]) })
    await this.startPlane('url')
  }

  async startOzone() {
    this.ozone = await startOzone({
      port: this.ports.ozone, publicUrl: `http://localhost:${this.proxies.ozone.port}`, postgresUrl: this.postgresUrl,
      plcUrl: this.plc.url, did: this.identities.ozone.did, key: this.ozoneKey,
    })
  }

  /** The labelers are named by their URLs or by their DIDs: under another name everything is read from the first label. */
  async startPlane(by) {
    const names = Object.keys(this.proxies)
    const labelerUrls = names.map((name) => (by === 'url' ? `http://localhost:${this.proxies[name].port}` : this.identities[name].did))
    this.by = by
    this.labelerUrls = labelerUrls
    this.plane = await startGroundplane({
      bin: this.bin, port: this.planePort, adminPort: this.adminPort, dir: this.dir, plcUrl: this.plc.url, labelerUrls,
    })
  }

  disconnects() {
    return Object.values(this.proxies).reduce((sum, proxy) => sum + proxy.disconnects, 0)
  }

  faults() {
    const sum = (what) => Object.values(this.proxies).reduce((sum, proxy) => sum + proxy[what], 0)
    return { halfOpen: sum('halfOpen'), pauses: sum('pauses') }
  }

  /** What happens between the parts of the drill, in order. */
  turns(kills) {
    const kill = (by) => async () => {
      await this.plane.kill()
      this.tally.kills += 1
      const anew = by !== this.by && !this.named?.has(by)
      this.named = (this.named ?? new Set(['url'])).add(by)
      if (anew) this.tally.replays += Object.keys(this.proxies).length
      await this.startPlane(by)
      return `killed, and started over the same folder${anew ? '; all progress is dropped' : ''}`
    }
    const special = [
      () => this.renumberSkyware(),
      () => this.rotateKey({ documentFirst: true }),
      () => this.rotateKey({ documentFirst: false }),
    ]
    const turns = []
    for (let at = 0; at < Math.max(kills, special.length); at += 1) {
      // Half-way through the labelers go by their DIDs for once.
      if (at < kills) turns.push(kill(at === Math.floor(kills / 2) ? 'did' : 'url'))
      if (at < special.length) turns.push(special[at])
    }
    return turns
  }

  /** Waits until the data plane is at a position of Skyware's labeler; faults go on meanwhile. */
  async #readTo(seq) {
    const at = Object.keys(this.proxies).indexOf('skyware')
    const end = performance.now() + SETTLE_LIMIT_MS
    for (;;) {
      const { labelers } = await this.plane.status()
      if (labelers[at].seq === seq) return
      if (performance.now() > end) throw new Error(`never at ${seq}: ${JSON.stringify(labelers[at])}`)
      await sleep(POLL_MS)
    }
  }

  /**
   * Skyware's labeler keeps what stands, under new numbers from 1.
   *
   * It says nothing new until that is noticed: new numbers that have grown past the old position look like the old
   * ones, and no consumer could tell.
   */
  async renumberSkyware() {
    const before = await this.skyware.head()
    await this.#readTo(before)
    await this.skyware.stop()
    const about = { ...this.identities.skyware, port: this.ports.skyware }
    const old = await startSkyware({ ...about, port: 0, dbPath: path.join(this.dir, 'skyware-1.db') })
    this.skyware = await startSkyware({ ...about, dbPath: path.join(this.dir, 'skyware-2.db') })
    // It is listened to meanwhile.
    await old.renumberInto(this.skyware)
    await old.stop()
    const after = await this.skyware.head()
    if (after >= before) throw new Error(`nothing to be renumbered: ${before} labels all stand`)
    await this.#readTo(after)
    this.tally.replays += 1
    return `the sequence of one labeler went back from ${before} to ${after}`
  }

  /** Ozone signs with another key, which its document names before or after. */
  async rotateKey({ documentFirst }) {
    const { did, key } = this.identities.ozone
    const next = await Secp256k1Keypair.create({ exportable: true })
    const publish = () => this.plc.client.updateData(did, key, (data) => {
      data.verificationMethods.atproto_label = next.did()
      return data
    })
    if (documentFirst) await publish()
    this.ozoneKey = next
    await this.ozone.stop()
    await this.startOzone()
    if (!documentFirst) {
      // Signed by a key that nobody has heard of yet, and a while later it is in the document.
      for (let n = 0; n < 10; n += 1) await this.speakOzone()
      await sleep(1_500)
      await publish()
      this.tally.replays += 1
    }
    return `a labeler has another key, ${documentFirst ? 'announced before' : 'announced after'} it signed with it`
  }

  /** All labelers say something until `total` labels are said. */
  async speak(total) {
    const forgedUntil = Math.round(total * FORGED_SHARE)
    // Each gives its half of what is still to be said.
    const begun = this.tally.labels
    const share = async (speak) => {
      for (let said = 0; said < (total - begun) / 2;) said += await speak()
    }
    await Promise.all([share(() => this.speakOzone()), share(() => this.speakSkyware())])
    while (this.tally.forged < forgedUntil) await this.forge()
  }

  #count(given, taken) {
    this.tally.labels += given + taken
    this.tally.negations += taken
    return given + taken
  }

  async speakOzone() {
    const plan = this.ozonePlan
    const subject = plan.subject()
    const negate = plan.chance(0.4) ? plan.words(3) : []
    const create = plan.words(4).filter((word) => !negate.includes(word))
    const hours = plan.chance(0.1) ? plan.pick([1, 24, 24 * 365]) : undefined
    if (create.length + negate.length === 0) return 0
    this.subjects.add(subject.uri ?? subject.did)
    await this.ozone.label(subject, create, negate, hours)
    return this.#count(create.length, negate.length)
  }

  async speakSkyware() {
    const plan = this.skywarePlan
    const subject = plan.subject()
    const uri = subject.uri ?? subject.did
    const cid = subject.uri && plan.chance(0.4) ? plan.version() : undefined
    this.subjects.add(uri)
    const now = Date.now()
    let said = 0
    for (const val of plan.words(3)) {
      const neg = plan.chance(0.3)
      said += this.#count(neg ? 0 : 1, neg ? 1 : 0)
      await this.skyware.create({
        uri, cid, val,
        ...(neg ? { neg } : {}),
        // Not always now: what is said later may be older, or just as old.
        ...(plan.chance(0.3) ? { cts: plan.time(now, MINUTE_MS) } : {}),
        ...(plan.chance(0.1) ? { exp: this.end(plan, now) } : {}),
      })
    }
    return said
  }

  /** An end that is past, that comes during the drill, or that is far away. */
  end(plan, now) {
    const fate = plan.pick(['past', 'soon', 'later'])
    if (fate === 'past') return plan.time(now - 60 * MINUTE_MS, MINUTE_MS)
    if (fate === 'later') return plan.time(now + 1_000 * MINUTE_MS, MINUTE_MS)
    this.latestEnd = Math.max(this.latestEnd, now + 2_000)
    return new Date(now + 2_000).toISOString()
  }

  /** A label with the wrong key, or in the name of somebody else. */
  async forge() {
    const plan = this.skywarePlan
    const subject = plan.subject()
    const it = { uri: subject.uri ?? subject.did, val: plan.word() }
    this.subjects.add(it.uri)
    this.tally.forged += 1
    if (plan.chance(0.5)) await this.impostor.create(it)
    else await this.skyware.create({ ...it, src: plan.pick([this.identities.ozone.did, this.identities.impostor.did, 'did:plc:nobodyaaaaaaaaaaaaaaaaaa']) })
  }

  /** Nothing breaks any more; waits until everything is read that was said. */
  async settle() {
    for (const proxy of Object.values(this.proxies)) proxy.faulty = false
    const wanted = { ozone: await this.ozone.head(), skyware: await this.skyware.head(), impostor: await this.impostor.head() }
    const names = Object.keys(this.proxies)
    const end = performance.now() + SETTLE_LIMIT_MS
    for (;;) {
      const status = await this.plane.status()
      const settled = names.every((name, at) => {
        const { url, seq, again_after: again } = status.labelers[at]
        // What was left out, or is in doubt, is read again. The forged labels stay in doubt for minutes.
        return url === this.labelerUrls[at] && seq === wanted[name] && (again === null || name === 'impostor')
      })
      if (settled && status.pending === 0) break
      if (performance.now() > end) throw new Error(`not settled at ${JSON.stringify(wanted)}: ${JSON.stringify(status.labelers)}`)
      await sleep(POLL_MS)
    }
    await sleep(Math.max(0, this.latestEnd - Date.now() + 100))
  }

  async compare() {
    const now = Date.now()
    const expected = new Map()
    const holds = (it) => it.exp === undefined || Date.parse(it.exp) > now
    for (const it of [...await this.ozone.state(), ...await this.skyware.state()]) {
      if (holds(it)) expected.set(keyOf(it), wordsOf(it))
    }
    const client = await planeClient(this.plane.url, '2')
    const issuers = [...Object.values(this.identities).map((each) => each.did), 'did:plc:nobodyaaaaaaaaaaaaaaaaaa']
    const found = new Map()
    const subjects = [...this.subjects]
    for (let at = 0; at < subjects.length; at += SUBJECTS_MAX) {
      const { labels } = await client.getLabels({ subjects: subjects.slice(at, at + SUBJECTS_MAX), issuers })
      for (const bytes of labels) {
        const it = JSON.parse(Buffer.from(bytes).toString())
        if (found.has(keyOf(it))) throw new Error(`answered twice: ${keyOf(it)}`)
        found.set(keyOf(it), wordsOf(it))
      }
    }
    const different = [...new Set([...expected.keys(), ...found.keys()])].filter((key) => expected.get(key) !== found.get(key))
    for (const key of different.slice(0, DIFFERENCES_SHOWN_MAX)) {
      this.say(`differs: ${key.slice(0, 300)}: labeler ${expected.get(key) ?? 'nothing'}, Groundplane ${found.get(key) ?? 'nothing'}`)
    }
    if (different.length > 0) this.say(JSON.stringify((await this.plane.status()).labelers, null, 1))
    // And what Ozone answers itself, for some subjects.
    let differences = different.length
    for (const uri of subjects.filter((_, at) => at % 10 === 0)) {
      for (const it of (await this.ozone.query(uri)).filter(holds)) {
        if (found.get(keyOf(it)) !== wordsOf(it)) {
          differences += 1
          this.say(`differs from queryLabels: ${keyOf(it)}`)
        }
      }
    }
    if (expected.size === 0) throw new Error('there was nothing to compare')
    return { compared: expected.size, differences }
  }
}
