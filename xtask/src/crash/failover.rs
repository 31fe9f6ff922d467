//! `cargo xtask failover`: the writer in front of a cluster is killed under load, again and again, and another takes over.
//!
//! Two programs with the role `ingest` share a keyspace; one writes, the other stands by. The one that writes is killed
//! (`kill -9`), every fourth time only stopped in its tracks and woken up after the other has taken over. At the end the
//! keyspace must hold the same rows as the folder of an undisturbed program, and the counts of the network's oracle:
//! nothing lost, nothing doubled.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gp_store::engine::cql::CqlConfig;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Outcome, PATIENCE, STOP_MAX,
    compare::{self, Clock},
    process::Program,
};
use crate::{cassandra::Cluster, shell};

/// What `cargo xtask failover` can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// How often the one that writes is killed, or, every fourth time, stopped and woken up: 26 are 20 kills.
    #[arg(long, default_value_t = 26)]
    kills: u32,
    /// Decides the network and the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accounts of the network.
    #[arg(long, default_value_t = 120)]
    accounts: u32,
    /// Nodes, if no cluster runs already.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    nodes: u8,
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Keep folders and logs, and say where they are.
    #[arg(long)]
    keep: bool,
}

/// The longest that a takeover may last.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// Every so many times the writer is stopped and woken up instead of killed.
const PAUSE_EVERY: u32 = 4;

/// How long the relay takes to send the history for each kill.
const PACE_FOR_EACH_KILL: Duration = Duration::from_millis(2_500);

/// How long a start may take before it is seen to stand by.
const STANDS_BY_AFTER: Duration = Duration::from_secs(2);

/// Runs it, and answers whether everything held.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let clock_from_us = gp_index::system_now_us();
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    let cluster = Cluster::have(args.nodes)?;
    let address = cluster.store("failover");
    let mut folder = tempfile::Builder::new().prefix("groundplane-failover-").tempdir()?;
    if args.keep {
        folder.disable_cleanup(true);
        println!("folders and logs are kept in {}", folder.path().display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let crash = super::Args { kills: args.kills, seed: args.seed, accounts: args.accounts, bin: None, keep: false };
    let network = runtime.block_on(super::network(&crash))?;
    let label_head = super::last_label(&network);
    let head = network.head_seq();
    println!("{} accounts, {} events up to {head}", network.stats().accounts, network.stats().retained_events);

    let undisturbed = folder.path().join("undisturbed");
    let program = Program::new(&bin, &undisturbed, &network, &folder.path().join("undisturbed.log"))?;
    let mut process = program.start()?;
    process.wait_ready(PATIENCE)?;
    process.wait_settled(head, label_head, PATIENCE)?;
    process.stop(STOP_MAX)?;

    let programs = ["one", "two"].map(|name| -> Result<Program> {
        let log = folder.path().join(format!("{name}.log"));
        Ok(Program::new(&bin, &folder.path().join(name), &network, &log)?.storing_in(&address))
    });
    let programs: Vec<Program> = programs.into_iter().collect::<Result<_>>()?;
    let mut dice = StdRng::seed_from_u64(args.seed);
    let mut moments: Vec<i64> = (0..args.kills).map(|_| dice.random_range(0..head * 19 / 20)).collect();
    moments.sort_unstable();
    let pace = (PACE_FOR_EACH_KILL * args.kills).div_f64(network.stats().retained_events.max(1) as f64);
    network.slow_down(Some((4, pace * 4)));

    let mut writer = 0;
    let mut writes = programs[writer].start()?;
    writes.wait_ready(PATIENCE)?;
    let mut stands_by = programs[1 - writer].start()?;
    let (mut takeovers, mut killed, mut fenced): (Vec<Duration>, u32, u32) = (Vec::new(), 0, 0);
    for (number, moment) in (1..).zip(moments) {
        writes.wait_seq(moment, PATIENCE)?;
        // Long enough for the other to be there; how long it takes to start is not what is measured.
        std::thread::sleep(STANDS_BY_AFTER);
        ensure!(!stands_by.is_ready(), "two processes say that they write");
        let pauses = number % PAUSE_EVERY == 0;
        if pauses {
            writes.pause()?
        } else {
            writes.kill()?
        }
        let begun = Instant::now();
        stands_by.wait_ready(PATIENCE)?;
        takeovers.push(begun.elapsed());
        if pauses {
            writes.wake()?;
            // It must find out, and end.
            writes.wait_end(PATIENCE)?;
            fenced += 1;
        } else {
            killed += 1;
        }
        drop(writes);
        writes = std::mem::replace(&mut stands_by, programs[writer].start()?);
        writer = 1 - writer;
    }
    network.slow_down(None);
    writes.wait_settled(head, label_head, PATIENCE)?;
    drop(stands_by);
    writes.stop(STOP_MAX)?;

    let config = CqlConfig {
        address: address.parse().map_err(anyhow::Error::msg)?,
        login: None,
        tls: None,
        wait: PATIENCE,
        writes: false,
    };
    let (first, second) = (compare::open(&undisturbed)?, compare::open_cluster(&config)?);
    let compared = compare::compare(&first, &second, Clock::until_now(clock_from_us), &runtime)?;
    compared.print();
    let oracle = network
        .model(|model| compare::against_the_oracle(&second, model, &runtime))
        .context("the network has an oracle")??;
    oracle.print();
    let outcome = Outcome {
        rows: compared.rows(),
        differences: compared.differences(),
        asked: oracle.asked,
        wrong: oracle.wrong,
    };
    takeovers.sort_unstable();
    let worst = takeovers.last().copied().unwrap_or_default();
    println!(
        "{killed} kills, {fenced} writers paused and woken up; takeover median {:.1} s, worst {:.1} s (at most {} s)",
        takeovers.get(takeovers.len() / 2).copied().unwrap_or_default().as_secs_f64(),
        worst.as_secs_f64(),
        TAKEOVER_MAX.as_secs()
    );
    println!(
        "{} rows compared, {} lost, doubled or different; {} figures asked of the oracle, {} wrong",
        outcome.rows, outcome.differences, outcome.asked, outcome.wrong
    );
    Ok(outcome.holds() && worst <= TAKEOVER_MAX)
}
