// A stand-in for the service that matches people's address books. The AppView asks it for bare DIDs and hydrates them
// through the data plane; whom it finds is set by a scenario.

import { createServer } from 'node:http'
import { connectNodeAdapter } from '@connectrpc/connect-node'
import { generated } from './generated.mjs'

export async function startContactsService(port) {
  const { RolodexService } = await generated('@atproto/bsky', 'rolodex_connect.js')
  let found = []
  const server = createServer(connectNodeAdapter({
    routes: (router) => router.service(RolodexService, {
      getMatches: () => ({ subjects: found, cursor: '' }),
      importContacts: () => ({ matches: found.map((subject, inputIndex) => ({ subject, inputIndex })) }),
    }),
  }))
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, resolve))
  return {
    url: `http://localhost:${port}`,
    /** From now on these accounts are found in everybody's address book. */
    finds: (dids) => { found = dids },
    stop: () => new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    }),
  }
}
