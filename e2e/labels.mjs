// Labels from two real labelers, over connections that break, into a Groundplane that is killed: what it answers in the
// end must be what the labelers themselves hold.
//
//   node e2e/labels.mjs --bin target/debug/groundplane --postgres URL [--labels N] [--kills N] [--seed N]
//
// `cargo xtask labels` installs, builds, starts Postgres and calls this. Ends with one line of counts; the exit code is
// 0 only if there is no difference.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const { values: args } = parseArgs({
  options: {
    bin: { type: 'string', default: process.env.GROUNDPLANE_BIN },
    postgres: { type: 'string', default: process.env.E2E_POSTGRES_URL },
    labels: { type: 'string', default: '10000' },
    kills: { type: 'string', default: '6' },
    seed: { type: 'string', default: '1' },
    keep: { type: 'boolean', default: false },
    'exit-on-stdin-eof': { type: 'boolean', default: false },
  },
})
if (!args.bin || !args.postgres) {
  process.stderr.write('usage: node labels.mjs --bin PATH --postgres URL [--labels N] [--kills N] [--seed N] [--keep]\n')
  process.exit(2)
}

const dir = await mkdtemp(path.join(os.tmpdir(), 'groundplane-labels-'))
const partsLog = path.join(dir, 'parts.log')
await writeFile(partsLog, '')
// Read when the packages are loaded, so it is set before any of them is imported.
Object.assign(process.env, { LOG_ENABLED: 'true', LOG_LEVEL: 'warn', LOG_DESTINATION: partsLog, NODE_ENV: 'production' })

const started = []
let stopping
function stopAll() {
  stopping ??= (async () => {
    for (const { name, stop } of started.reverse()) {
      await stop().catch((error) => process.stderr.write(`stopping ${name}: ${error.message}\n`))
    }
    if (args.keep) process.stdout.write(`working folder: ${dir}\n`)
    else await rm(dir, { recursive: true, force: true })
  })()
  return stopping
}
const interrupted = (why, code) => {
  process.stderr.write(`${why}: stopping\n`)
  void stopAll().finally(() => process.exit(code))
}
// The parts throw into the void when what they stand on goes away. While all of it is being stopped that is expected.
process.on('uncaughtException', (error) => {
  if (stopping) return
  process.stderr.write(`${error.stack ?? error}\n`)
  interrupted('one of the parts has failed', 1)
})
process.on('SIGINT', () => interrupted('interrupted', 130))
process.on('SIGTERM', () => interrupted('asked to end', 143))
if (args['exit-on-stdin-eof']) {
  process.stdin.on('end', () => interrupted('whoever started this is gone', 1))
  process.stdin.resume()
}

const { runLabels } = await import('./lib/label-drill.mjs')
let code = 1
try {
  const outcome = await runLabels({
    bin: args.bin,
    postgres: args.postgres,
    labels: Number(args.labels),
    kills: Number(args.kills),
    seed: Number(args.seed),
    dir,
    started,
    say: (line) => process.stdout.write(`${line}\n`),
  })
  await sleep(0)
  await stopAll()
  process.stdout.write(`${outcome.line}\n`)
  code = outcome.differences === 0 ? 0 : 1
} catch (error) {
  process.stderr.write(`${error.stack}\n`)
  await stopAll()
}
process.exit(code)
