// Beginning to show one's age: what was shown before is read from the data plane, what is begun reaches it by bsync.

import { deepEqual, equal } from 'node:assert/strict'

export default async function ageAssurance(t) {
  const { ann, ben } = await t.cast('ann', 'ben')
  await t.settle()
  const state = (as, what, check) => t.see(as, 'app.bsky.ageassurance.getState', { countryCode: 'GB' }, what, (it) => check(it.state))
  const ask = { email: 'somebody@example.com', language: 'en', countryCode: 'GB' }

  await t.tell(ann, 'app.bsky.ageassurance.begin', ask, 'begun', (it) => {
    deepEqual([it.status, it.access], ['pending', 'unknown'])
  })
  await t.settle()
  await state(ann, 'it is under way', (it) => equal(it.status, 'pending'))
  await t.tell(ann, 'app.bsky.ageassurance.begin', ask, 'begun again, with what stands', (it) => {
    deepEqual([it.status, it.access], ['pending', 'unknown'])
  })
  await state(ben, 'nobody else began', (it) => equal(it.status, 'unknown'))

  await t.tell(ben, 'app.bsky.unspecced.initAgeAssurance', ask, 'begun in the older words', (it) => equal(it.status, 'pending'))
  await t.settle()
  await t.see(ben, 'app.bsky.unspecced.getAgeAssuranceState', {}, 'it is under way, in the older words', (it) => equal(it.status, 'pending'))
}
