// Verifications: only those of trusted verifiers count, and only while they tell the truth.

import { deepEqual, equal } from 'node:assert/strict'

export default async function verification(t) {
  const { paper, ann, ben } = await t.cast('paper', 'ann', 'ben')
  await ann.profile({ displayName: 'Ann' })
  const byPaper = await paper.verify(ann, { displayName: 'Ann' })
  await ben.verify(ann, { displayName: 'Ann' })
  await t.settle()
  const state = (what, check) => t.see(null, 'app.bsky.actor.getProfile', { actor: ann.did }, what, (it) => check(it.verification))

  await state('before anybody is trusted', (it) => equal(it?.verifiedStatus === 'valid', false))
  await t.plane.trustVerifier(paper.did, true)
  await state('verified by whom we trust', (it) => {
    equal(it.verifiedStatus, 'valid')
    equal(it.trustedVerifierStatus, 'none')
    deepEqual(it.verifications.map((each) => [each.issuer, each.uri, each.isValid]), [[paper.did, byPaper.uri, true]])
  })
  await t.see(null, 'app.bsky.actor.getProfile', { actor: paper.did }, 'a trusted verifier', (it) => {
    equal(it.verification.trustedVerifierStatus, 'valid')
    deepEqual(it.verification.verifications, [])
  })
  await t.see(ann, 'app.bsky.notification.listNotifications', {}, 'the verified hears of it', (it) => {
    const all = it.notifications.filter((each) => each.reason === 'verified')
    deepEqual(all.map((each) => each.author.did).sort(), [ben.did, paper.did].sort())
    deepEqual(all.map((each) => [each.record.subject, each.record.displayName]), [[ann.did, 'Ann'], [ann.did, 'Ann']])
  })

  await ann.profile({ displayName: 'Somebody Else' })
  await t.settle()
  await state('the name has changed since', (it) => {
    equal(it.verifiedStatus, 'invalid')
    deepEqual(it.verifications.map((each) => each.isValid), [false])
  })
  await ann.profile({ displayName: 'Ann' })
  await t.settle()
  await state('the name is back', (it) => equal(it.verifiedStatus, 'valid'))
  await t.plane.trustVerifier(paper.did, false)
  await state('trust is withdrawn', (it) => equal(it?.verifiedStatus === 'valid', false))
  await t.plane.trustVerifier(paper.did, true)
  await paper.delete(byPaper)
  await t.settle()
  await state('the verification is withdrawn', (it) => equal(it?.verifiedStatus === 'valid', false))
  await t.see(ann, 'app.bsky.notification.listNotifications', { reasons: ['unverified'] }, 'and the verified hears of that', (it) => {
    deepEqual(it.notifications.map((each) => [each.reason, each.author.did]), [['unverified', paper.did]])
  })
}
