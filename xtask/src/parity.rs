//! `cargo xtask parity`: the same calls to Groundplane and to the reference data plane over the same network, and every
//! difference between their answers.
//!
//! One synthetic network feeds both, one bsync gives both their private state, and what an operator does is done to
//! both. Then every call of the contract is made with generated requests (`calls`), answers are brought into one form
//! (`compare`), and known faults of the reference are taken out (`explained`). Calls that the reference does not have are
//! judged by the history of the network (`oracle`). Anything else that differs fails the run.

mod calls;
mod client;
mod compare;
mod corners;
mod engine;
mod explained;
mod oracle;
mod planes;
mod report;
mod search;
mod state;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use gp_synth::{Network, Size as NetworkSize, Spec};

use crate::{cassandra::Engine as Rows, memcached::Memcached, node::Node, postgres::Postgres, shell};
use engine::Engine;
use planes::{Behind, Ours, Reference};
use report::Report;
use world::World;

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// A few calls on a few accounts: the part of `cargo xtask test`.
    Tiny,
    /// A few hundred accounts.
    Small,
    /// As many as the reference reads in some minutes.
    Medium,
}

/// What `cargo xtask parity` can be told.
#[derive(ClapArgs, Clone)]
pub(crate) struct Args {
    /// Decides the network and the calls.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How much is compared.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    /// Where the history ends, as 2026-01-31; today unless given. The same seed and day make the same network.
    #[arg(long)]
    day: Option<String>,
    /// Only calls whose name contains this.
    #[arg(long, value_name = "NAME")]
    rpc: Option<String>,
    /// Where Groundplane keeps its rows.
    #[arg(long = "engine", value_enum, default_value_t)]
    rows: Rows,
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Keep the folder with our data, the logs of both and every pair of answers that differs, and say where it is.
    #[arg(long)]
    keep: bool,
    /// Print the known faults of the reference, as docs/parity.md has them, and do nothing else.
    #[arg(long)]
    explained: bool,
}

/// What a size means.
struct Scale {
    accounts: u32,
    records: u64,
    /// Ordinary requests of each call.
    count: usize,
    /// Of the hostile texts every so many are sent.
    hostile_step: usize,
}

impl Size {
    fn scale(self) -> Scale {
        match self {
            Size::Tiny => Scale { accounts: 120, records: 2_400, count: 6, hostile_step: 7 },
            Size::Small => Scale { accounts: 400, records: 8_000, count: 30, hostile_step: 1 },
            Size::Medium => Scale { accounts: 2_500, records: 50_000, count: 160, hostile_step: 1 },
        }
    }
}

/// How long the history is: short, so that accounts have joined within the week that starter packs count.
const SPAN_US: i64 = 14 * DAY_US;
const DAY_US: i64 = 86_400_000_000;

/// How often the reading of the reference is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The part of `cargo xtask test`.
pub(crate) fn short() -> Result<(u64, u64)> {
    let args = Args {
        seed: 1,
        size: Size::Tiny,
        day: None,
        rpc: None,
        rows: Rows::Embedded,
        bin: None,
        keep: false,
        explained: false,
    };
    let report = run(&args)?;
    Ok(if report.holds() { (1, 0) } else { (0, 1) })
}

/// Runs the comparison. An error is a run that could not be made; what it found is in the report.
pub(crate) fn run(args: &Args) -> Result<Report> {
    if args.explained {
        print!("{}", report::explained_table());
        return Ok(Report::default());
    }
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    let node = Node::install()?;
    let postgres = Postgres::start()?;
    let cluster = args.rows.cluster()?;
    let store = cluster.as_ref().map(|cluster| cluster.store("parity"));
    let memcached = cluster.as_ref().map(|_| Memcached::start()).transpose()?;
    let behind = Behind { store, memcached: memcached.as_ref().map(|it| it.address) };
    let mut folder = tempfile::Builder::new().prefix("groundplane-parity-").tempdir()?;
    if args.keep {
        folder.disable_cleanup(true);
        println!("data and logs are kept in {}", folder.path().display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            done = compare(args, &bin, &behind, &node, &postgres, folder.path()) => done,
            _ = tokio::signal::ctrl_c() => bail!("stopped before the end"),
        }
    })
}

fn day_us(day: Option<&str>) -> Result<i64> {
    let now_us = gp_index::system_now_us();
    let Some(day) = day else { return Ok(now_us.div_euclid(DAY_US) * DAY_US) };
    let day_us = gp_atproto::datetime::parse_micros(&format!("{day}T00:00:00Z"))
        .with_context(|| format!("--day: {day:?} is no day: write it as 2026-01-31"))?;
    // A history that has not happened yet is refused by the plane, and every answer would differ.
    ensure!(day_us <= now_us, "--day: {day} is still to come: a history ends today or before");
    Ok(day_us)
}

async fn compare(
    args: &Args,
    bin: &std::path::Path,
    behind: &Behind,
    node: &Node,
    postgres: &Postgres,
    dir: &std::path::Path,
) -> Result<Report> {
    let begun = Instant::now();
    let clock_us = gp_index::system_now_us();
    let (scale, now_us) = (args.size.scale(), day_us(args.day.as_deref())?);
    let size = NetworkSize::Custom { accounts: scale.accounts, records: scale.records };
    let mut spec = Spec::new(size, args.seed, now_us);
    spec.span_us = SPAN_US;
    spec.keep_model = false;
    let network = Network::start(spec).await?;
    corners::play(&network, now_us)?;
    let world = World::of(&network)?;
    let head = network.head_seq();
    println!(
        "seed {} day {}: {} accounts, {} records, events up to {head}",
        args.seed,
        &gp_atproto::datetime::format_ms(now_us)[..10],
        world.dids.len(),
        network.stats().written.records
    );

    let reference = Reference::start(node, postgres, &network, dir, &world.together).await?;
    let ours = Ours::start(bin, behind, dir, &network, &reference).await?;
    ours.settle(head, &serde_json::json!({})).await?;
    println!("groundplane has read everything after {:.1} s", begun.elapsed().as_secs_f64());
    let reading = Instant::now();
    until_read(&reference, head).await?;
    println!("the reference has read everything after {:.1} s", reading.elapsed().as_secs_f64());
    let state = state::write(&world, args.seed, head, &ours, &reference).await?;
    println!("private state, labels and lists are in both after {:.1} s", begun.elapsed().as_secs_f64());

    let engine = Engine::new(ours, reference, world, state, clock_us, dir.join("differences.jsonl"));
    let mut report = engine.run(args.seed, scale.count, scale.hostile_step, args.rpc.as_deref()).await?;
    report.seconds = begun.elapsed().as_secs_f64();
    report.print(
        &format!(
            "--seed {} --day {} --size {:?}",
            args.seed,
            &gp_atproto::datetime::format_ms(now_us)[..10],
            args.size
        )
        .to_lowercase(),
    );
    Ok(report)
}

/// Waits until the reference has read everything, and tells how it gets on.
async fn until_read(reference: &Reference, head: i64) -> Result<()> {
    let begun = Instant::now();
    let settle = reference.command("settle", serde_json::json!({ "seq": head }));
    tokio::pin!(settle);
    let mut tell = tokio::time::interval(TELL_EVERY);
    tell.tick().await;
    loop {
        tokio::select! {
            done = &mut settle => return done.map(drop),
            _ = tell.tick() => {
                let (seq, seconds) = (reference.seq(), begun.elapsed().as_secs_f64());
                let left = (head - seq) as f64 * seconds / (seq as f64).max(1.0);
                println!(
                    "the reference has read {seq} of {head} events, {:.0} a second, {left:.0} s to go",
                    seq as f64 / seconds
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_ends_today_or_before() {
        let today = day_us(None).unwrap();
        assert_eq!((today % DAY_US, day_us(Some("2026-11-01")).unwrap() % DAY_US), (0, 0));
        let next = gp_atproto::datetime::format_ms(today + DAY_US);
        assert!(day_us(Some(&next[..10])).unwrap_err().to_string().contains("still to come"));
        assert_eq!(day_us(Some(&gp_atproto::datetime::format_ms(today)[..10])).unwrap(), today);
        assert!(day_us(Some("yesterday")).unwrap_err().to_string().contains("2026-01-31"));
    }
}
