// What the labelers of the drill say: made from a seed, and full of what real labelers say seldom.

/** A small generator of numbers from 0 up to 1; the same seed gives the same numbers. */
export function dice(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'
const CIDS = [
  'bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae',
  'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku',
  'bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy',
]
/** Known words, words at the limit of 128 bytes, and words beyond ASCII. */
const WORDS = [
  '!takedown', '!suspend', '!hide', '!warn', 'porn', 'sexual', 'nudity', 'graphic-media', 'spam', 'impersonation',
  'needs-review', 'rude', 'x', 'x'.repeat(128), 'überlaut', '嘘', 'ложь'.repeat(16), '🦋'.repeat(32),
]
const HOUR_MS = 3_600_000

export class LabelPlan {
  #dice
  #subjects

  constructor(seed, { odd }) {
    this.#dice = dice(seed)
    const name = () => Array.from({ length: 24 }, () => this.pick([...BASE32])).join('')
    const dids = Array.from({ length: 60 }, () => `did:plc:${name()}`).concat('did:web:labels.example', 'did:web:localhost%3A2583')
    const records = dids.flatMap((did) => [
      { uri: `at://${did}/app.bsky.actor.profile/self`, cid: CIDS[0] },
      { uri: `at://${did}/app.bsky.feed.post/3l${name().slice(0, 11)}`, cid: this.pick(CIDS) },
      { uri: `at://${did}/app.bsky.feed.post/${name().repeat(20)}`, cid: this.pick(CIDS) },
    ])
    this.#subjects = [...dids.map((did) => ({ did })), ...records]
    // The lexicon lets a label be about anything that is a URI.
    if (odd) {
      this.#subjects.push(...[
        'https://example.com/a?b=c#d', 'https://例え.テスト/パス', `at://${dids[0]}/app.bsky.feed.post/ünïcödé`, 'at://handle.example/app.bsky.feed.post/x',
        `https://example.com/${'a'.repeat(8_172)}`, `https://example.com/${'é'.repeat(4_086)}`, 'mailto:somebody@example.com',
      ].map((uri) => ({ uri })))
    }
  }

  pick(list) {
    return list[Math.floor(this.#dice() * list.length)]
  }

  chance(share) {
    return this.#dice() < share
  }

  /** What is labelled. Few of them, so that much is said about each. */
  subject() {
    return this.pick(this.#subjects)
  }

  version() {
    return this.pick(CIDS)
  }

  words(most) {
    const count = 1 + Math.floor(this.#dice() * most)
    return [...new Set(Array.from({ length: count }, () => this.pick(WORDS)))]
  }

  word() {
    return this.pick(WORDS)
  }

  /** A time at most `most` ms away in either direction from `from`, written in one of the ways the lexicon allows. */
  time(from, most) {
    const at = new Date(from + Math.round((this.#dice() - 0.5) * 2 * most))
    if (this.chance(0.8)) return at.toISOString()
    return new Date(at.getTime() + 2 * HOUR_MS).toISOString().replace('Z', '+02:00')
  }
}
