//! `cargo xtask faults`: what happens to reads and writes when memcached or a cluster is down, slow, wrong, cold or late. A
//! line a failure: what was measured, the bar, and whether it holds. Real memcached before a store whose time and errors
//! are scripted, a real cluster of three nodes, and proxies between that spoil what passes. Where the catalogue asks for it
//! the twin, a client as it is written first, is played as well, and must fail.

mod beside;
mod cluster;
mod cold;
mod consistency;
mod down;
pub(crate) mod rig;
mod twin;
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

type Play = fn(Scale) -> Result<Outcome>;

/// One failure of the catalogue.
struct Failure {
    id: &'static str,
    name: &'static str,
    bar: &'static str,
    play: Play,
    /// The same with the twin, where that must fail.
    twin: Option<Play>,
}

const fn failure(id: &'static str, name: &'static str, bar: &'static str, play: Play) -> Failure {
    Failure { id, name, bar, play, twin: None }
}

impl Failure {
    const fn beside(self, twin: Play) -> Self {
        Self { twin: Some(twin), ..self }
    }
}

/// Every failure that is played here.
const FAILURES: &[Failure] = &[
    failure("F04", "connection churn", "small errors 0, <= 1 dial a second and slot", down::churn)
        .beside(beside::churn),
    failure(
        "F11",
        "cache down",
        "0 errors, store within its ceiling, goodput >= 95 % of the store alone, seen <= 100 ms",
        down::killed,
    )
    .beside(beside::killed),
    failure(
        "F12",
        "cache slow by 50 ms",
        "p99 <= the store alone + 10 ms, breaker open <= 1 s, probes <= 1 %",
        down::slow,
    ),
    failure(
        "F13",
        "cache half-open",
        "every read bounded, seen <= 250 ms, backlog <= 1 MiB, 0 late answers to others",
        down::half_open,
    )
    .beside(beside::half_open),
    failure("F14", "errors and garbage", "0 panics, 0 wrong values, <= 1 dial a second and slot", wrong::garbage),
    failure(
        "F15",
        "one of four nodes lost",
        "only its keys miss, none move, >= 35 % of the lost hits absorbed",
        down::one_of_four,
    ),
    failure("F16", "cold cache at load", "store reads <= 1.05 a missing key in the fleet", cold::flushed)
        .beside(beside::flushed),
    failure("F17", "herd on one key", "1 store read in the process and in the fleet, all served <= 200 ms", cold::herd)
        .beside(beside::herd),
    failure(
        "F18",
        "leader dies",
        "0 errors of followers, 1 read; across processes <= 3 s, no stub seen",
        cold::leader_dies,
    )
    .beside(beside::leader_dies),
    failure("F20", "expiry at one moment", "peak <= 3 times the mean, by the times in memcached", cold::expiry),
    failure(
        "F21",
        "odd keys, large rows",
        "0 connections given up, right answers, large rows counted and not kept",
        wrong::odd,
    ),
    failure("F22", "old server", "found at start, not used, no errors", wrong::old_server),
    failure(
        "F23",
        "fill races a change",
        "0 keys stale for good in 10^6 histories and all orders",
        consistency::histories,
    )
    .beside(consistency::wrong_ways),
    failure("F25", "lost invalidations", "stale <= 60 s, none for good", consistency::lost),
    failure(
        "F25",
        "the auditor",
        ">= 99 % of what is put back behind the protocol's back is found within 5 min",
        cluster::audited,
    ),
    failure("F26", "node returns", "0 stale reads after 10,000 changes while it was away", consistency::returns),
    failure("F27", "absent, then created", "seen <= 1 s, absence kept <= 30 s", consistency::negative),
    failure(
        "F24",
        "replica is late",
        "old for 2 s at most, none for good; cluster of three, one stopped and woken up",
        cluster::late_replica,
    ),
    failure("F28", "read your writes", "0 old values past the caches, in another process", cluster::read_your_writes),
    failure("F31", "one node slow by 200 ms", "p99 <= 2 times, <= 5 % of reads sent twice", cluster::slow_node),
    failure(
        "F32",
        "cluster frozen",
        "hits p99 <= 1.1 times, in flight <= ceiling, failures within deadline + 10 % a turn, back <= 5 s",
        cluster::frozen,
    )
    .beside(cluster::frozen_without_bounds),
    failure("F33", "a node breaks connections", "<= 1.10 attempts a read", cluster::errors),
    failure("F34", "callers go away", "<= 1 connection a second and node dialled, then all well", cluster::abandoned),
    failure("F35", "ports held by others", "read again <= 10 s, no tight loop of dials", cluster::ports),
    failure("F36", "a shard fails in a batch", "0 keys said to be absent that are not", cluster::shard)
        .beside(cluster::shard_taken_for_absence),
    failure("suite", "the store's own suite", "nothing stale, with memcached in front", consistency::suite),
    failure("F47", "poison in the cache", "other keys right, asked of the store once, gone after", wrong::poison),
];

/// Whether a failure is played here.
#[cfg(test)]
pub(crate) fn plays(id: &str) -> bool {
    FAILURES.iter().any(|it| it.id == id)
}

/// Plays the failures asked for, one line each. How many hold and how many do not.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    let scale = Scale { short: args.short };
    let (mut passed, mut failed) = (0, 0);
    println!("{:<6}{:<24}{:<9}measured | bar", "row", "failure", "verdict");
    for Failure { id, name, bar, play, twin } in FAILURES {
        if !args.rows.is_empty() && !args.rows.iter().any(|row| id.starts_with(row.as_str())) {
            continue;
        }
        let outcome = play(scale).unwrap_or_else(|e| Outcome::new(false, format!("{e:#}")));
        // What was not played need not be failed by anybody.
        let twin = twin.filter(|_| outcome.holds.is_some()).map(|play| twin_said(play(scale)));
        let is_void = twin.as_ref().is_some_and(|(fails, _)| !fails);
        let verdict = match outcome.holds {
            Some(true) if !is_void => {
                passed += 1;
                "pass"
            }
            Some(_) => {
                failed += 1;
                let void = if is_void { " (void: the twin does not fail)" } else { "" };
                test::note_failure(&format!("{id} {name}: {}{void} | {bar}", outcome.measured));
                "FAIL"
            }
            None => "skipped",
        };
        println!("{id:<6}{name:<24}{verdict:<9}{} | {bar}", outcome.measured);
        if let Some((_, said)) = twin {
            println!("{:<39}{said}", "");
        }
    }
    cluster::end();
    Ok((passed, failed))
}

/// Whether the twin failed, as it must, and how.
fn twin_said(played: Result<Outcome>) -> (bool, String) {
    match played {
        Ok(Outcome { holds: Some(false), measured }) => (true, format!("twin: fails, as it must: {measured}")),
        Ok(Outcome { measured, .. }) => (false, format!("twin: does NOT fail: {measured}")),
        // What could not be played shows nothing.
        Err(e) => (false, format!("twin: could not be played: {e:#}")),
    }
}

/// What `cargo xtask test` plays: what cannot depend on how busy the machine is.
const UNTIMED: [&str; 6] = ["F14", "F21", "F22", "F27", "suite", "F47"];

/// For `cargo xtask test`.
pub(crate) fn short() -> Result<(u64, u64)> {
    run(&Args { short: true, rows: UNTIMED.map(str::to_owned).into() })
}
