// Do the checks notice when the data is wrong? With `--mutants`, a check that has passed looks again, once for each RPC
// that the AppView made for it, with the data plane's answer to that RPC spoiled. An RPC whose spoiled answers no
// check ever notices is not tested by them, however often it is called.

import { Timestamp } from '@bufbuild/protobuf'

/** After so many checks have noticed a way of spoiling an RPC, it needs no more proof. */
const NOTICED_ENOUGH = 2

/** Ways to spoil an answer. Both leave its lists as long as they are: a short list would only crash the AppView. */
const KINDS = {
  /** Nothing in it: every value is that of an unset field. */
  blank: (answer) => spoil(answer, {
    value: (field) => defaultOf(field),
    message: (it) => new (it.constructor)(),
    list: (items) => items,
    time: () => undefined,
  }),
  /** Everything in it is somewhat off: numbers by one, flags the other way, lists backwards, times a day before. */
  off: (answer) => spoil(answer, {
    value: (field, it) => (typeof it === 'number' ? it + 1 : typeof it === 'bigint' ? it + 1n : typeof it === 'boolean' ? !it : it),
    message: (it, again) => again(it),
    list: (items) => items.reverse(),
    time: (it) => Timestamp.fromDate(new Date(it.toDate().getTime() - 86_400_000)),
  }),
}

function defaultOf(field) {
  if (field.kind === 'enum') return 0
  switch (field.T) {
    case 8: return false
    case 9: return ''
    case 12: return new Uint8Array()
    case 3: case 4: return 0n
    default: return 0
  }
}

function spoil(message, how) {
  const copy = message.clone()
  for (const field of copy.getType().fields.byMember()) {
    if (field.oneof || field.kind === 'map') continue
    const { localName: name } = field
    const one = (it) => {
      if (field.kind !== 'message') return how.value(field, it)
      return it instanceof Timestamp ? how.time(it) : how.message(it, (inner) => spoil(inner, how))
    }
    if (field.repeated) copy[name] = how.list(copy[name].map(one))
    else if (copy[name] !== undefined) copy[name] = one(copy[name])
  }
  return copy
}

export class Mutants {
  #called = new Set()
  #spoiled
  /** By RPC and kind: how often a check looked at a spoiled answer, and how often it noticed. */
  #tries = new Map()

  /** Puts itself between the AppView and its data plane client. */
  constructor(dataplane) {
    this.rpcs = Object.keys(dataplane)
    for (const name of this.rpcs) {
      const call = dataplane[name].bind(dataplane)
      dataplane[name] = async (...args) => {
        this.#called.add(name)
        const answer = await call(...args)
        return this.#spoiled?.rpc === name ? KINDS[this.#spoiled.kind](answer) : answer
      }
    }
  }

  /** Forgets which RPCs were made so far. */
  begin() {
    this.#called.clear()
  }

  /** Looks again with each RPC's answer spoiled. `look` throws where it notices. */
  async hunt(look) {
    for (const rpc of [...this.#called]) {
      for (const kind of Object.keys(KINDS)) {
        const key = `${rpc} ${kind}`
        const tries = this.#tries.get(key) ?? { looks: 0, noticed: 0 }
        this.#tries.set(key, tries)
        if (tries.noticed >= NOTICED_ENOUGH) continue
        tries.looks += 1
        this.#spoiled = { rpc, kind }
        await look().catch(() => { tries.noticed += 1 })
        this.#spoiled = undefined
      }
    }
  }

  print(out = process.stdout) {
    const made = new Set([...this.#tries.keys()].map((key) => key.split(' ')[0]))
    const unnoticed = [...this.#tries].filter(([, it]) => it.noticed === 0).map(([key, it]) => `${key} (${it.looks} looks)`)
    out.write(`\n${made.size} of ${this.rpcs.length} RPCs were made for checks\n`)
    out.write(`never made: ${this.rpcs.filter((name) => !made.has(name)).sort().join(', ')}\n`)
    out.write(`spoiled and never noticed: ${unnoticed.sort().join(', ') || 'none'}\n`)
  }
}
