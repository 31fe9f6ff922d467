// People found in an address book: named by the contacts service, shown from the data plane.

import { deepEqual, equal } from 'node:assert/strict'

export default async function contacts(t) {
  const { ann, ben, cyd, dan } = await t.cast('ann', 'ben', 'cyd', 'dan')
  await ann.follow(ben)
  await cyd.block(ann)
  await t.settle()
  t.parts.contacts.finds([dan.did, cyd.did, ben.did, 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'])
  await t.see(ann, 'app.bsky.contact.getMatches', { limit: 10 }, 'those who are there and do not block', (it) => {
    deepEqual(it.matches.map((each) => each.did), [dan.did, ben.did])
    deepEqual(it.matches.map((each) => each.displayName), [`dan of ${t.scenario}`, `ben of ${t.scenario}`])
    equal(Boolean(it.matches[1].viewer.following), true)
    equal(it.matches[0].viewer.following, undefined)
  })
  const book = { token: 'token', contacts: ['+15550000001', '+15550000002'] }
  await t.tell(ann, 'app.bsky.contact.importContacts', book, 'whoever of the book is there, with the place in it', (it) => {
    deepEqual(it.matchesAndContactIndexes.map((each) => [each.contactIndex, each.match.did]), [[0, dan.did], [1, cyd.did], [2, ben.did]])
  })
  t.parts.contacts.finds([])
  await t.see(ann, 'app.bsky.contact.getMatches', {}, 'nobody', (it) => deepEqual(it.matches, []))
}
