//! `cargo xtask faults`: what happens to reads and writes when memcached or a cluster is down, slow, wrong, cold or late. A
//! line a failure: what was measured, the bar, and whether it holds. Real memcached before a store whose time and errors
//! are scripted, a real cluster of three nodes, and proxies between that spoil what passes.

mod cluster;
mod cold;
mod consistency;
mod down;
pub(crate) mod rig;
mod wrong;

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::test;

/// Which failures, and how long.
#[derive(ClapArgs, Default, Clone)]
pub(crate) struct Args {
    /// Only these, as F11 or F1; all if left out.
    rows: Vec<String>,
    /// Shorter, and without those that take long.
    #[arg(long)]
    short: bool,
}

/// What came of one failure.
pub(crate) struct Outcome {
    /// What was measured, in words and numbers.
    pub(crate) measured: String,
    /// Whether the bar holds; none if it was not run.
    pub(crate) holds: Option<bool>,
}

impl Outcome {
    pub(crate) fn new(holds: bool, measured: String) -> Self {
        Self { measured, holds: Some(holds) }
    }

    pub(crate) fn skipped(why: &str) -> Self {
        Self { measured: why.to_owned(), holds: None }
    }
}

/// How much of everything a run does.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) short: bool,
}

impl Scale {
    /// Seconds of load in a phase.
    pub(crate) fn seconds(self) -> f64 {
        if self.short { 0.7 } else { 3.0 }
    }

    /// A number for a full run, and a hundredth of it, at least `least`, for a short one.
    pub(crate) fn count(self, full: usize, least: usize) -> usize {
        if self.short { (full / 100).max(least) } else { full }
    }
}

type Row = (&'static str, &'static str, &'static str, fn(Scale) -> Result<Outcome>);

/// Number, failure, bar, and what plays it.
const ROWS: &[Row] = &[
    ("F04", "connection churn", "small errors 0, <= 1 dial a second and slot", down::churn),
    (
        "F11",
        "cache down",
        "0 errors, store within its ceiling, goodput >= 95 % of the store alone, seen <= 100 ms",
        down::killed,
    ),
    ("F12", "cache slow by 50 ms", "p99 <= the store alone + 10 ms, breaker open <= 1 s, probes <= 1 %", down::slow),
    (
        "F13",
        "cache half-open",
        "every read bounded, seen <= 250 ms, backlog <= 1 MiB, 0 late answers to others",
        down::half_open,
    ),
    ("F14", "errors and garbage", "0 panics, 0 wrong values, <= 1 dial a second and slot", wrong::garbage),
    (
        "F15",
        "one of four nodes lost",
        "only its keys miss, none move, >= 35 % of the lost hits absorbed",
        down::one_of_four,
    ),
    ("F16", "cold cache at load", "store reads <= 1.05 a missing key in the fleet", cold::flushed),
    ("F17", "herd on one key", "1 store read in the process and in the fleet, all served <= 200 ms", cold::herd),
    ("F18", "leader dies", "0 errors of followers, 1 read; across processes <= 3 s, no stub seen", cold::leader_dies),
    ("F20", "expiry at one moment", "peak <= 3 times the mean, by the times in memcached", cold::expiry),
    (
        "F21",
        "odd keys, large rows",
        "0 connections given up, right answers, large rows counted and not kept",
        wrong::odd,
    ),
    ("F22", "old server", "found at start, not used, no errors", wrong::old_server),
    ("F23", "fill races a change", "0 keys stale for good in 10^6 histories and all orders", consistency::histories),
    ("F25", "lost invalidations", "stale <= 60 s, none for good", consistency::lost),
    (
        "F25",
        "the auditor",
        ">= 99 % of what is put back behind the protocol's back is found within 5 min",
        cluster::audited,
    ),
    ("F26", "node returns", "0 stale reads after 10,000 changes while it was away", consistency::returns),
    ("F27", "absent, then created", "seen <= 1 s, absence kept <= 30 s", consistency::negative),
    (
        "F24",
        "replica is late",
        "old for 2 s at most, none for good; cluster of three, one stopped and woken up",
        cluster::late_replica,
    ),
    ("F28", "read your writes", "0 old values past the caches, in another process", cluster::read_your_writes),
    ("F31", "one node slow by 200 ms", "p99 <= 2 times, <= 5 % of reads sent twice", cluster::slow_node),
    (
        "F32",
        "cluster frozen",
        "hits p99 <= 1.1 times, in flight <= ceiling, failures within deadline + 10 % a turn, back <= 5 s",
        cluster::frozen,
    ),
    ("F33", "a node breaks connections", "<= 1.10 attempts a read", cluster::errors),
    ("F34", "callers go away", "<= 1 connection a second and node dialled, then all well", cluster::abandoned),
    ("F35", "ports held by others", "read again <= 10 s, no tight loop of dials", cluster::ports),
    ("F36", "a shard fails in a batch", "0 keys said to be absent that are not", cluster::shard),
    ("suite", "the store's own suite", "nothing stale, with memcached in front", consistency::suite),
    ("F47", "poison in the cache", "other keys right, asked of the store once, gone after", wrong::poison),
];

/// Whether a failure is played here.
#[cfg(test)]
pub(crate) fn plays(id: &str) -> bool {
    ROWS.iter().any(|row| row.0 == id)
}

/// Plays the failures asked for, one line each. How many hold and how many do not.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    let scale = Scale { short: args.short };
    let (mut passed, mut failed) = (0, 0);
    println!("{:<6}{:<24}{:<9}measured | bar", "row", "failure", "verdict");
    for (id, name, bar, play) in ROWS {
        if !args.rows.is_empty() && !args.rows.iter().any(|row| id.starts_with(row.as_str())) {
            continue;
        }
        let outcome = play(scale).unwrap_or_else(|e| Outcome::new(false, format!("{e:#}")));
        let verdict = match outcome.holds {
            Some(true) => {
                passed += 1;
                "pass"
            }
            Some(false) => {
                failed += 1;
                test::note_failure(&format!("{id} {name}: {} | {bar}", outcome.measured));
                "FAIL"
            }
            None => "skipped",
        };
        println!("{id:<6}{name:<24}{verdict:<9}{} | {bar}", outcome.measured);
    }
    cluster::end();
    Ok((passed, failed))
}

/// What `cargo xtask test` plays: what cannot depend on how busy the machine is.
const UNTIMED: [&str; 6] = ["F14", "F21", "F22", "F27", "suite", "F47"];

/// For `cargo xtask test`.
pub(crate) fn short() -> Result<(u64, u64)> {
    run(&Args { short: true, rows: UNTIMED.map(str::to_owned).into() })
}
