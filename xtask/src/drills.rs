//! `cargo xtask drills`: a line for every failure mode of the catalogue, with what was measured and what was asked for.
//!
//! Everything runs on loopback in a network namespace of its own, with 500 ports for outgoing connections. Callers and
//! plane share the processors of one machine, so figures are compared with quiet ones of the same process in the same
//! run, and W0 asks for a fifth of what the plane can do there. Phases are seconds where the catalogue has minutes: what
//! is unbounded shows within seconds when the ports are 500, and each row says how long its phases were.

mod clients;
mod incident;
mod largest;
mod machine;
mod overload;

use std::{path::PathBuf, pin::Pin, time::Instant};

use anyhow::Result;
use gp_drill::{
    Row, confine,
    rig::{Rig, Scale},
    verdict,
};

use crate::{drill, shell};

/// Posts in the folder that is served: enough for two large calls without a common key.
const POSTS: usize = 40_000;
const POSTS_SHORT: usize = 21_000;
/// Posts of 64 KiB among them.
const GIANTS: usize = 1_500;
const GIANTS_SHORT: usize = 200;

/// What `cargo xtask drills` can be told.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only these rows, as F01,F38.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Phases of two seconds, no verdict on times, and only what can be counted quickly.
    #[arg(long)]
    short: bool,
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

/// What a row has to work with.
pub(crate) struct Ctx {
    rig: Rig,
    scale: Scale,
}

type Drilled<'a> = Pin<Box<dyn Future<Output = Result<Row>> + 'a>>;

enum Run {
    /// It is drilled; `true`: in a short run too.
    Drill(bool, fn(&Ctx) -> Drilled<'_>),
    /// It is shown elsewhere, by a command or a test, or needs a part that is not there.
    Not(&'static str),
}

macro_rules! drill {
    ($function:path) => {
        Run::Drill(true, |ctx| Box::pin($function(ctx)))
    };
    ($function:path, long) => {
        Run::Drill(false, |ctx| Box::pin($function(ctx)))
    };
}

const MEMCACHED: &str = "played by `cargo xtask faults`, with memcached behind the plane";
const NOT_YET: &str = "not played yet";
const CLUSTER: &str = "played by `cargo xtask faults`, with a cluster or a scripted engine behind the plane";

/// Every failure mode, in the order of the catalogue.
const ROWS: &[(&str, &str, Run)] = &[
    ("F01", "large batches, low rate †", drill!(incident::f01, long)),
    ("F02", "any handler without bounds †", drill!(incident::f02)),
    ("F03", "unbounded code creeping in", drill!(incident::f03)),
    ("F04", "connection churn †", Run::Not(MEMCACHED)),
    ("F05", "restart into exhausted ports †", drill!(incident::f05)),
    ("F06", "someone else exhausts ports", drill!(incident::f06, long)),
    ("F07", "log storm †", drill!(machine::f07, long)),
    ("F08", "the full spiral †", drill!(machine::f08, long)),
    ("F09", "crash loop", drill!(machine::f09, long)),
    ("F10", "file-descriptor exhaustion", drill!(machine::f10, long)),
    ("F11", "cache down †", Run::Not(MEMCACHED)),
    ("F12", "cache slow", Run::Not(MEMCACHED)),
    ("F13", "half-open †", Run::Not(MEMCACHED)),
    ("F14", "errors and garbage", Run::Not(MEMCACHED)),
    ("F15", "one of several nodes lost", Run::Not(MEMCACHED)),
    ("F16", "cold cache at load †", Run::Not(MEMCACHED)),
    ("F17", "herd on one key †", Run::Not(MEMCACHED)),
    ("F18", "leader dies mid-flight †", Run::Not(MEMCACHED)),
    ("F19", "hot key", drill!(overload::f19, long)),
    ("F20", "synchronized expiry", Run::Not(MEMCACHED)),
    ("F21", "oversize and odd keys", Run::Not(MEMCACHED)),
    ("F22", "old cache server", Run::Not(MEMCACHED)),
    ("F23", "fill races invalidation †", Run::Not(MEMCACHED)),
    ("F24", "invalidation overtakes replica", Run::Not(CLUSTER)),
    ("F25", "lost invalidations", Run::Not(MEMCACHED)),
    ("F26", "node returns from partition", Run::Not(MEMCACHED)),
    ("F27", "negative entries", Run::Not(MEMCACHED)),
    ("F28", "read-your-writes", Run::Not(CLUSTER)),
    ("F29", "clock skew", Run::Not(NOT_YET)),
    ("F30", "invalidation storm", Run::Not(NOT_YET)),
    ("F31", "one slow replica", Run::Not(CLUSTER)),
    ("F32", "store frozen †", Run::Not(CLUSTER)),
    ("F33", "store errors", Run::Not(CLUSTER)),
    ("F34", "driver abandonment", Run::Not(CLUSTER)),
    ("F35", "occupied driver ports", Run::Not(CLUSTER)),
    ("F36", "shard failure inside a batch †", Run::Not(CLUSTER)),
    ("F37", "mixed sizes at 3x †", drill!(overload::f37, long)),
    ("F38", "overload sweep †", drill!(overload::f38, long)),
    ("F39", "priorities", drill!(overload::f39, long)),
    ("F40", "expired work †", drill!(overload::f40, long)),
    ("F41", "adaptive limit misled", drill!(overload::f41, long)),
    ("F42", "noisy CPU neighbour", drill!(overload::f42, long)),
    ("F43", "disconnect, cancel", drill!(clients::f43)),
    ("F44", "deadlines", drill!(clients::f44)),
    ("F45", "stalled reader", drill!(clients::f45, long)),
    ("F46", "giant responses †", drill!(clients::f46)),
    ("F47", "poison record", drill!(clients::f47)),
    ("F48", "hostile input", drill!(clients::f48)),
    ("F49", "drain", drill!(clients::f49)),
    ("F50", "telemetry down", drill!(clients::f50, long)),
    ("F51", "label attack", drill!(clients::f51)),
];

/// The row that is a command of its own.
const DIAGNOSIS: (&str, &str) = ("F52", "diagnosis drill †");

/// Runs the drills: how many passed and failed.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    if let Err(why) = confine::enter() {
        // Not a failure of the plane, and not a pass either.
        println!("every row is skipped: {why}");
        return Ok((0, 1));
    }
    let runtime = gp_serve::runtime()?;
    let begun = Instant::now();
    let mut rows = runtime.block_on(drilled(args, &bin))?;
    let (id, name) = DIAGNOSIS;
    if is_wanted(args, id) && !args.short {
        rows.push(diagnosis(id, name, &bin));
        println!("{}", rows[rows.len() - 1].lines());
    }
    println!();
    for row in &rows {
        let void = if row.missed.is_empty() { String::new() } else { format!("  ({})", row.missed.join("; ")) };
        println!("{:<4} {:<32} {}{void}", row.id, row.name, row.word());
    }
    let (passed, failed, skipped) = verdict::tally(&rows);
    println!("{passed} passed, {failed} failed, {skipped} skipped, {} s", begun.elapsed().as_secs());
    Ok((passed, failed))
}

fn is_wanted(args: &Args, id: &str) -> bool {
    args.only.is_empty() || args.only.iter().any(|only| only.eq_ignore_ascii_case(id))
}

async fn drilled(args: &Args, bin: &std::path::Path) -> Result<Vec<Row>> {
    let (posts, giants) = if args.short { (POSTS_SHORT, GIANTS_SHORT) } else { (POSTS, GIANTS) };
    let rig = Rig::new(bin, posts, giants, &|text| println!("{text}")).await?;
    let ctx = Ctx { rig, scale: if args.short { Scale::short() } else { Scale::full() } };
    let mut rows = Vec::new();
    for (id, name, run) in ROWS.iter().filter(|(id, ..)| is_wanted(args, id)) {
        let begun = Instant::now();
        let row = match run {
            Run::Not(why) => Row::skipped(id, name, *why),
            Run::Drill(false, _) if args.short => Row::skipped(id, name, "takes longer than a short run"),
            Run::Drill(_, drill) => {
                let row = drill(&ctx).await.unwrap_or_else(|e| {
                    let mut row = Row::new(id, name, "");
                    row.check(false, format!("the drill could not be finished: {e:#}"));
                    row
                });
                Row { id, name, ..row }
            }
        };
        println!("{}  [{:.0} s]", row.lines(), begun.elapsed().as_secs_f64());
        rows.push(row);
    }
    Ok(rows)
}

/// A real Prometheus, the rules, and nobody who looks: see [`drill`].
fn diagnosis(id: &'static str, name: &'static str, bin: &std::path::Path) -> Row {
    let mut row = Row::new(id, name, "an alert names call, caller and batch size within 60 s, before any error");
    match drill::run(&drill::Args::of(bin)) {
        Ok((passed, failed)) => {
            row.measure(format!("{passed} of {} checks hold, see above", passed + failed));
            row.check(failed == 0, "a check of `cargo xtask drill` fails")
        }
        Err(e) => row.check(false, format!("{e:#}")),
    };
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_played_elsewhere_is() {
        for (id, name, run) in ROWS {
            if matches!(run, Run::Not(reason) if *reason == MEMCACHED || *reason == CLUSTER) {
                assert!(crate::faults::plays(id), "nobody plays {id}, {name}");
            }
        }
    }
}
