// The data plane spoken to directly, over both HTTP versions where it has both, with something in it to find.

import { transport } from '../transport.mjs'

export default async function transportScenario(t) {
  const { ann } = await t.cast('ann')
  const post = await ann.post('found by its URI')
  await t.settle()
  const reference = t.plane.name === 'reference'
  for (const httpVersion of reference ? ['1.1'] : ['1.1', '2']) {
    await transport({
      url: t.plane.url,
      httpVersion,
      token: t.plane.token,
      known: { ...post, did: ann.did, handle: ann.handle },
      bsyncHop: !reference,
      check: (name, run, options) => t.check(`gRPC over HTTP/${httpVersion}`, name, run, options),
    })
  }
}
