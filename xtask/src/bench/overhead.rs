//! `cargo xtask bench overhead`: what admission, metrics, deadlines and traces cost together.
//!
//! Beside the plane, in the same run and over the same folder, stands a bare server: the same library for HTTP/2, the
//! same function of the index, the same bytes, and nothing of what every call does otherwise. It is asked the same
//! things in turns of a second, so that what else the machine does meets both. What is compared is processor time for
//! each call, which other work on the machine changes least, and calls a second.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use gp_drill::{
    data,
    load::{self, Felt, Hosts, Offer},
    program::{Program, Start},
    rig::Rig,
};

use crate::shell;

/// Turns of each side.
const TURNS: usize = 10;
/// Calls at a time.
const AT_ONCE: usize = 16;
const CONNECTIONS: usize = 16;
const POSTS: usize = 5_000;
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
        let uris = &rig.posts.uris;
        let request = |n: usize| {
            let from = n * 37 % (uris.len() - keys);
            (data::asking(uris[from..from + keys].iter().map(String::as_str)), keys as u32)
        };
        let requests = std::sync::Arc::new((0..500).map(request).collect::<Vec<_>>());
        let offer = Offer { looks: false, ..Offer::posts("appview", &requests, 1.0) };
        let sides = [&bare, &plane].map(|it| (it, Hosts::new(&[it.listen], CONNECTIONS)));
        let (mut felt, mut cpu) = ([Felt::default(), Felt::default()], [0.0, 0.0]);
        for _ in 0..TURNS {
            for (at, (program, hosts)) in sides.iter().enumerate() {
                let before = program.vitals().cpu_seconds;
                felt[at].add(&load::saturate(hosts, &offer, AT_ONCE, Duration::from_secs(args.seconds)).await);
                cpu[at] += program.vitals().cpu_seconds - before;
            }
        }
        anyhow::ensure!(
            felt.iter().all(|it| it.failed() == 0),
            "calls failed: {} {}",
            felt[0].failures(),
            felt[1].failures()
        );
        let us = [0, 1].map(|at| cpu[at] / felt[at].answered() as f64 * 1e6);
        let ratio = felt[1].answered_per_second() / felt[0].answered_per_second();
        let cost = us[1] / us[0] - 1.0;
        println!(
            "{keys:<6} {:>14.0} {:>14.0} {ratio:>10.3} {:>12.1} {:>12.1} {:>9.1}%",
            felt[0].answered_per_second(),
            felt[1].answered_per_second(),
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
