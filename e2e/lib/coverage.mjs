// Which of the AppView's endpoints a pass must have exercised: all of `app.bsky`, as the installed package has them,
// but those that read nothing from a data plane.

import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** Endpoints that read nothing from a data plane, and what they do instead. */
export const READ_NOTHING = {
  'app.bsky.contact.dismissMatch': 'asks the contacts service only',
  'app.bsky.contact.getSyncStatus': 'asks the contacts service only',
  'app.bsky.contact.removeData': 'asks the contacts service only',
  'app.bsky.contact.sendNotification': 'writes to bsync only',
  'app.bsky.contact.startPhoneVerification': 'asks the contacts service only',
  'app.bsky.contact.verifyPhone': 'asks the contacts service only',
  'app.bsky.notification.registerPush': 'tells the push service only',
  'app.bsky.notification.unregisterPush': 'tells the push service only',
}

/** The endpoints that the installed AppView serves, from its own code: a file each. */
export function endpoints() {
  const home = path.join(path.dirname(fileURLToPath(import.meta.resolve('@atproto/bsky'))), 'api')
  const files = readdirSync(path.join(home, 'app'), { recursive: true }).filter((file) => file.endsWith('.js'))
  return files
    .filter((file) => /\bserver\.add\(/.test(readFileSync(path.join(home, 'app', file), 'utf8')))
    .map((file) => `app.${file.slice(0, -'.js'.length).split(path.sep).join('.')}`)
    .sort()
}

/** Endpoints that should have been looked at, with what is wrong with each; `held` says how many checks of one held. */
export function gaps(held) {
  const all = endpoints()
  return [
    ...all.filter((nsid) => !(nsid in READ_NOTHING) && held(nsid) === 0).map((nsid) => [nsid, 'no scenario looks at it']),
    ...Object.keys(READ_NOTHING).filter((nsid) => !all.includes(nsid)).map((nsid) => [nsid, 'the AppView has no such endpoint: take it off the list in lib/coverage.mjs']),
  ]
}
