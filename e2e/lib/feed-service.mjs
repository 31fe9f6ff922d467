// A feed generator service with a DID of its own: it answers the skeletons that a scenario gives it.

import { createServer } from 'node:http'
import { createServiceDid } from './parts.mjs'

export async function startFeedService(parts) {
  const [port] = await parts.freePorts(1)
  const url = `http://localhost:${port}`
  const { did } = await createServiceDid(parts.plc, 'feeds.test', {
    bsky_fg: { type: 'BskyFeedGenerator', endpoint: url },
  })
  const feeds = new Map()
  const asked = []
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, url)
    const feed = searchParams.get('feed')
    const answer = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    if (pathname === '/xrpc/app.bsky.feed.getFeedSkeleton') {
      asked.push({ feed, authorization: request.headers.authorization })
      return feeds.has(feed) ? answer(200, { feed: feeds.get(feed) }) : answer(400, { error: 'UnknownFeed', message: feed })
    }
    if (pathname === '/xrpc/app.bsky.feed.describeFeedGenerator') {
      return answer(200, { did, feeds: [...feeds.keys()].map((uri) => ({ uri })) })
    }
    return answer(404, { error: 'NotFound', message: pathname })
  })
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, resolve))
  return {
    did,
    url,
    /** Skeletons by feed URI. */
    feeds,
    /** What was asked for so far. */
    asked,
    stop: () => new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    }),
  }
}
