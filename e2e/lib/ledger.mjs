// What was asked, what held and what did not.

import { AssertionError } from 'node:assert'

/** Counts of calls and checks by endpoint, and the failures in words. */
export class Ledger {
  #rows = new Map()
  failures = []
  /** Checks that may fail for now, and did. */
  waived = []

  #row(endpoint) {
    let row = this.#rows.get(endpoint)
    if (!row) this.#rows.set(endpoint, (row = { calls: 0, passed: 0, failed: 0, waived: 0 }))
    return row
  }

  called(endpoint) {
    this.#row(endpoint).calls += 1
  }

  passed(endpoint) {
    this.#row(endpoint).passed += 1
  }

  failed(endpoint, scenario, what, error) {
    this.#row(endpoint).failed += 1
    this.failures.push({ endpoint, scenario, what, reason: reason(error) })
  }

  waive(endpoint, scenario, what, why, error) {
    this.#row(endpoint).waived += 1
    this.waived.push({ endpoint, scenario, what, why, reason: reason(error) })
  }

  /** How many checks of an endpoint had an outcome. */
  looked(endpoint) {
    const row = this.#rows.get(endpoint)
    return row ? row.passed + row.failed + row.waived : 0
  }

  get totals() {
    const totals = { endpoints: this.#rows.size, calls: 0, passed: 0, failed: 0, waived: 0 }
    for (const row of this.#rows.values()) {
      for (const key of ['calls', 'passed', 'failed', 'waived']) totals[key] += row[key]
    }
    return totals
  }

  print(out = process.stdout) {
    const rows = [...this.#rows].sort(([a], [b]) => (a < b ? -1 : 1))
    const width = Math.max(...rows.map(([name]) => name.length), 8)
    const line = (name, ...cells) => out.write(`${name.padEnd(width)}${cells.map((it) => String(it).padStart(8)).join('')}\n`)
    line('endpoint', 'calls', 'passed', 'failed', 'waived')
    for (const [name, row] of rows) line(name, row.calls, row.passed, row.failed, row.waived)
    const { endpoints, calls, passed, failed, waived } = this.totals
    line(`${endpoints} endpoints`, calls, passed, failed, waived)
    for (const it of this.waived) {
      out.write(`\nwaived (${it.why}): ${it.scenario}: ${it.endpoint}: ${it.what}\n${indent(it.reason)}\n`)
    }
    for (const it of this.failures) {
      out.write(`\nFAILED ${it.scenario}: ${it.endpoint}: ${it.what}\n${indent(it.reason)}\n`)
    }
  }
}

const LINES_MAX = 24

/** The part of an error that a reader needs: the difference for an assertion, the first line and place otherwise. */
function reason(error) {
  const place = String(error?.stack ?? '').split('\n').find((line) => /\/(scenarios|transport)[./]/.test(line))?.trim()
  const text = error instanceof AssertionError || error?.expected ? error.message : (error?.message ?? String(error))
  const lines = text.split('\n')
  const short = lines.length > LINES_MAX ? [...lines.slice(0, LINES_MAX), `... ${lines.length - LINES_MAX} lines more`] : lines
  return [...short, ...(place ? [place.replace(/file:\/\/.*\/(?=scenarios|transport)/, '')] : [])].join('\n')
}

const indent = (text) => text.split('\n').map((line) => `    ${line}`).join('\n')
