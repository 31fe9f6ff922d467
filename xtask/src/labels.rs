//! `cargo xtask labels`: two real labelers, connections that break, a program that is killed, and in the end the same
//! labels on both sides.
//!
//! Installs and starts what is needed, and leaves the drill itself to `e2e/labels.mjs`: the labelers are npm packages,
//! and live in that process.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{node::Node, postgres::Postgres, shell};

/// What `cargo xtask labels` can be told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Labels that are given or taken back, by both labelers together.
    #[arg(long, default_value_t = 10_000)]
    labels: u32,
    /// How often the program is killed.
    #[arg(long, default_value_t = 6)]
    kills: u32,
    /// Decides what is said, and what breaks.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Keep the program's folder and everybody's log, and say where they are.
    #[arg(long)]
    keep: bool,
}

impl Args {
    /// The part of `cargo xtask test`.
    pub(crate) fn short() -> Self {
        Self { labels: 1_000, kills: 3, seed: 1, bin: None, keep: false }
    }
}

/// Runs the drill. An error if there was any difference, or if it could not be made.
pub(crate) fn run(args: &Args) -> Result<()> {
    let node = Node::install()?;
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    let postgres = Postgres::start()?;
    let mut command = Command::new(&node.bin);
    command.current_dir(&node.home).arg("labels.mjs").arg("--bin").arg(bin);
    command.args(["--postgres", &postgres.url(), "--exit-on-stdin-eof"]);
    for (flag, value) in [("--labels", args.labels), ("--kills", args.kills), ("--seed", args.seed)] {
        command.args([flag, &value.to_string()]);
    }
    if args.keep {
        command.arg("--keep");
    }
    // Its standard input is ours to hold: when we are gone it closes, and the drill ends everything it started.
    let mut drill = command.stdin(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let held = drill.stdin.take();
    let status = drill.wait()?;
    drop(held);
    ensure!(status.success(), "the labels of the labelers and ours differ, or could not be compared: see above");
    Ok(())
}
