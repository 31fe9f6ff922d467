//! `cargo xtask bench overhead`: what admission, metrics, deadlines and traces cost together.
//!
//! Beside the plane, in the same run and over the same folder, stands a bare server: the same library for HTTP/2, the
//! same function of the index, the same bytes, and nothing of what every call does otherwise. It is asked the same
//! things in turns of a second, so that what else the machine does meets both. What is compared is processor time for
//! each call, which other work on the machine changes least, and calls a second.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use gp_drill::{
    program::{Program, Start},
    rig::Rig,
};

use super::turns::{self, POSTS, Side};
use crate::shell;

/// Turns of each side.
const TURNS: usize = 10;
/// The part of throughput that it may cost.
const COST_MAX: f64 = 0.05;

/// What can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
}

/// Measures, and fails if it costs too much.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let rig = Rig::new(&bin, POSTS, 0, &|text| println!("{text}")).await?;
    // A collector that is not there: traces are made, kept and dropped.
    let collector = ["--otlp-url", "http://127.0.0.1:9"];
    let plane = Program::start(&rig.serve(&rig.data(), &collector)).await?;
    rig.warm(&plane).await?;
    let bare = Start {
        bin: bin.clone(),
        args: ["drill-bare", "--data-dir", &rig.copy("bare")?.display().to_string()].map(str::to_owned).into(),
        ..Start::default()
    };
    let bare = Program::start(&bare).await?;
    rig.warm(&bare).await?;
    println!(
        "{:<6} {:>14} {:>14} {:>10} {:>12} {:>12} {:>10}",
        "keys", "bare calls/s", "calls/s", "ratio", "bare us/call", "us/call", "cost"
    );
    let mut dear = Vec::new();
    for keys in [1, 50] {
        let requests = turns::requests(&rig.posts.uris, keys);
        let [bare, ours] = turns::take([&bare, &plane], &requests, TURNS, Duration::from_secs(args.seconds)).await;
        let failures = [&bare, &ours].map(|it| it.felt.failures());
        anyhow::ensure!(bare.felt.failed() + ours.felt.failed() == 0, "calls failed: {}", failures.join(" "));
        let us = [&bare, &ours].map(Side::cpu_us);
        let per_second = [&bare, &ours].map(|it| it.felt.answered_per_second());
        let (ratio, cost) = (per_second[1] / per_second[0], us[1] / us[0] - 1.0);
        println!(
            "{keys:<6} {:>14.0} {:>14.0} {ratio:>10.3} {:>12.1} {:>12.1} {:>9.1}%",
            per_second[0],
            per_second[1],
            us[0],
            us[1],
            cost * 100.0
        );
        if ratio < 1.0 - COST_MAX {
            dear.push(keys);
        }
    }
    anyhow::ensure!(
        dear.is_empty(),
        "calls of {dear:?} keys lose more than {:.0} % of their throughput",
        COST_MAX * 100.0
    );
    Ok(())
}
