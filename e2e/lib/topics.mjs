// A stand-in for the AppView's "topics" service, which decides what is suggested and what is trending. The AppView
// asks it for bare DIDs and URIs and hydrates them through the data plane; what it answers is set by a scenario. It also
// stands for the service that looks at proofs of age.

import { createServer } from 'node:http'

export async function startTopics(port) {
  const answers = new Map([
    ['/auth/realms/kws/protocol/openid-connect/token', { access_token: 'token', expires_in: 3600 }],
    ['/v1/verifications/send-email', {}],
  ])
  const server = createServer((request, response) => {
    const nsid = new URL(request.url, 'http://localhost').pathname.replace('/xrpc/', '')
    const body = answers.get(nsid)
    response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body ?? { error: 'NotSet', message: `${nsid} was not set by a scenario` }))
  })
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, resolve))
  return {
    url: `http://localhost:${port}`,
    /** From now on this method answers this body. */
    answer: (nsid, body) => answers.set(nsid, body),
    stop: () => new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    }),
  }
}
