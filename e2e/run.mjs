// End to end: the real AppView, PDS, PLC directory and bsync around a data plane, and scenarios that write through
// the PDS and look through the AppView.
//
//   node e2e/run.mjs --plane reference --postgres URL
//   node e2e/run.mjs --plane groundplane --postgres URL --bin target/debug/groundplane --http-version 2
//
// `cargo xtask e2e` installs, starts Postgres and calls this. Needs Node 22. Ends with `N passed, N failed`.

import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

const HELP = `usage: node run.mjs --plane reference|groundplane --postgres URL [options]
  --bin PATH              the groundplane binary (--plane groundplane)
  --http-version 1.1|2    how the AppView speaks to the data plane (default 2; the reference speaks 1.1 only)
  --readers N             so many processes beside the plane that only read, over the same cluster (default 0)
  --only NAME,NAME        only these scenarios
  --may-fail NAME,NAME    scenarios of what is not built yet: their failures are shown and do not count
  --list                  names the scenarios, and ends
  --mutants               spoils the data plane's answers, and tells which RPCs no check watches
  --verbose               says what each scenario does, and keeps everybody's log
  --keep                  leaves the working folder
  --exit-on-stdin-eof     stops everything when standard input closes`

const { values: args } = parseArgs({
  options: {
    plane: { type: 'string', default: 'groundplane' },
    postgres: { type: 'string', default: process.env.E2E_POSTGRES_URL },
    bin: { type: 'string', default: process.env.GROUNDPLANE_BIN },
    'http-version': { type: 'string' },
    readers: { type: 'string', default: '0' },
    only: { type: 'string' },
    'may-fail': { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    'exit-on-stdin-eof': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const usage = (why) => {
  process.stderr.write(`${why}\n${HELP}\n`)
  process.exit(2)
}

const SCENARIOS = new URL('./scenarios/', import.meta.url)
const names = (await readdir(SCENARIOS)).filter((file) => file.endsWith('.mjs')).map((file) => file.slice(0, -4)).sort()
if (args.help) { process.stdout.write(`${HELP}\n`); process.exit(0) }
if (args.list) { process.stdout.write(`${names.join('\n')}\n`); process.exit(0) }
if (Number(process.versions.node.split('.')[0]) < 22) usage(`the AppView needs Node 22; this is ${process.version}`)
if (!['reference', 'groundplane'].includes(args.plane)) usage(`--plane ${args.plane} is neither reference nor groundplane`)
if (!args.postgres) usage('--postgres URL is missing: bsync needs a database, and the reference another')
if (args.plane === 'groundplane' && !args.bin) usage('--bin PATH is missing: where the groundplane binary is')
const httpVersion = args['http-version'] ?? (args.plane === 'reference' ? '1.1' : '2')
if (!['1.1', '2'].includes(httpVersion)) usage(`--http-version ${httpVersion} is neither 1.1 nor 2`)
if (args.plane === 'reference' && httpVersion !== '1.1') usage('the reference data plane speaks HTTP/1.1 only')
const wanted = args.only?.split(',') ?? names
const mayFail = args['may-fail'].split(',').filter(Boolean)
const unknown = [...wanted, ...mayFail].filter((name) => !names.includes(name))
if (unknown.length > 0) usage(`no scenario is called ${unknown.join(', ')}`)

const dir = await mkdtemp(path.join(os.tmpdir(), 'groundplane-e2e-'))

// Read when the packages are loaded, so it is set before any of them is imported. Warnings and errors only, unless
// asked for more: an HTTP 500 of the AppView says nothing itself, its log does.
const partsLog = path.join(dir, 'parts.log')
await writeFile(partsLog, '')
Object.assign(process.env, {
  LOG_ENABLED: 'true', LOG_LEVEL: args.verbose ? 'info' : 'warn', LOG_DESTINATION: partsLog, NODE_ENV: 'production',
})

const started = []
let stopping
/** Stops everything in the reverse order of its start. Safe to call twice. */
function stopAll() {
  stopping ??= (async () => {
    const troubles = []
    for (const { name, stop } of started.reverse()) {
      try {
        await stop()
      } catch (error) {
        troubles.push(`stopping ${name}: ${error.message}`)
      }
    }
    if (!args.keep && !args.verbose) await rm(dir, { recursive: true, force: true })
    return troubles
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

const { runPass } = await import('./lib/pass.mjs')
let code = 1
try {
  const ledger = await runPass({ args, httpVersion, scenarios: wanted, mayFail, dir, partsLog, started, home: SCENARIOS })
  const troubles = await stopAll()
  for (const trouble of troubles) {
    ledger.called('(process)')
    ledger.failed('(process)', '(end)', 'everything that was started can be stopped', new Error(trouble))
  }
  if (troubles.length === 0) {
    ledger.called('(process)')
    ledger.passed('(process)')
  }
  process.stdout.write('\n')
  ledger.print()
  const { passed, failed, waived } = ledger.totals
  process.stdout.write(`\n${waived > 0 ? `${waived} waived\n` : ''}${passed} passed, ${failed} failed\n`)
  code = failed === 0 ? 0 : 1
} catch (error) {
  process.stderr.write(`${error.stack}\n`)
  const troubles = await stopAll()
  for (const trouble of troubles) process.stderr.write(`${trouble}\n`)
  process.stdout.write('0 passed, 1 failed\n')
}
if (args.keep || args.verbose) process.stderr.write(`working folder: ${dir}\n`)
// Some of the parts leave timers behind that would keep the process for minutes.
process.exit(code)
