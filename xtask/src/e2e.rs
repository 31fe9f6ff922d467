//! `cargo xtask e2e`: the real AppView, PDS, PLC directory and bsync around the data plane, on a fresh machine.
//!
//! Installs Node, the npm packages and Postgres where they are missing, builds the program, and runs `e2e/run.mjs`
//! once for each way to speak to the data plane. What is tested is written there.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    cassandra::{Engine, STORE_VARIABLE},
    memcached::{Memcached, NODES_VARIABLE},
    node::Node,
    postgres::Postgres,
    shell,
};

/// What `cargo xtask e2e` can be told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which data plane the parts are put around.
    #[arg(long, value_enum, default_value_t = Plane::Groundplane)]
    plane: Plane,
    /// How the AppView speaks to Groundplane; a pass for each. The reference speaks 1.1 only.
    #[arg(long, value_delimiter = ',', default_value = HTTP_VERSIONS, value_parser = ["1.1", "2"])]
    http_version: Vec<String>,
    /// Only these scenarios, by the names of their files.
    #[arg(long, value_name = "NAME,NAME")]
    only: Option<String>,
    /// Scenarios of what is not built yet: their failures are shown and do not count.
    #[arg(long, value_name = "NAME,NAME")]
    may_fail: Option<String>,
    /// Where Groundplane keeps its rows.
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Keep everybody's log.
    #[arg(long)]
    verbose: bool,
}

/// Processes that only read, beside one that writes to a cluster.
const READERS: &str = "2";

/// One pass for each by default.
const HTTP_VERSIONS: &str = "2,1.1";

impl Default for Args {
    fn default() -> Self {
        Self {
            plane: Plane::Groundplane,
            http_version: HTTP_VERSIONS.split(',').map(str::to_owned).collect(),
            only: None,
            may_fail: None,
            engine: Engine::Embedded,
            bin: None,
            verbose: false,
        }
    }
}

/// A data plane to put the parts around.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plane {
    /// This repository's.
    Groundplane,
    /// The one that the AppView's package exports, over Postgres: what the scenarios are held against.
    Reference,
    /// First the reference, then ours.
    Both,
}

/// Runs all passes, and answers how many checks passed and failed in them together.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    let node = Node::install()?;
    let bin = match (&args.bin, args.plane) {
        (_, Plane::Reference) => None,
        (Some(bin), _) => Some(bin.canonicalize().with_context(|| format!("{} is not there", bin.display()))?),
        (None, _) => Some(shell::build_groundplane(false)?),
    };
    let postgres = Postgres::start()?;
    let cluster = args.engine.cluster()?;
    // A cluster is played whole: memcached in front of it, and two processes that only read beside the one that writes.
    let memcached = cluster.as_ref().map(|_| Memcached::start()).transpose()?;

    let mut passes: Vec<(&str, &str)> = Vec::new();
    if args.plane != Plane::Groundplane {
        passes.push(("reference", "1.1"));
    }
    if args.plane != Plane::Reference {
        passes.extend(args.http_version.iter().map(|version| ("groundplane", version.as_str())));
    }
    let (mut passed, mut failed) = (0, 0);
    let mut lines = Vec::new();
    for (plane, http_version) in passes {
        let mut command = Command::new(&node.bin);
        command.current_dir(&node.home).arg("run.mjs").args(["--plane", plane, "--http-version", http_version]);
        command.args(["--postgres", &postgres.url(), "--exit-on-stdin-eof"]);
        if let Some(bin) = &bin {
            command.arg("--bin").arg(bin);
        }
        if let Some(cluster) = &cluster {
            command.env(STORE_VARIABLE, cluster.store("e2e")).args(["--readers", READERS]);
        }
        if let Some(memcached) = &memcached {
            command.env(NODES_VARIABLE, memcached.address.to_string());
        }
        for (flag, value) in [("--only", &args.only), ("--may-fail", &args.may_fail)] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        if args.verbose {
            command.arg("--verbose");
        }
        let (p, f) = counted(&mut command)?;
        lines.push(format!("{plane} over HTTP/{http_version}: {p} passed, {f} failed"));
        passed += p;
        failed += f;
    }
    println!();
    for line in lines {
        println!("{line}");
    }
    Ok((passed, failed))
}

/// Runs one pass, shows what it says, and reads its last line.
fn counted(command: &mut Command) -> Result<(u64, u64)> {
    // Its standard input is ours to hold: when we are gone it closes, and the pass ends everything it started.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let out = child.stdout.take().context("a pass has no output to read")?;
    let mut last = String::new();
    for line in BufReader::new(out).lines() {
        let line = line?;
        println!("{line}");
        if !line.is_empty() {
            last = line;
        }
    }
    let status = child.wait()?;
    let counts = last
        .strip_suffix(" failed")
        .and_then(|rest| rest.split_once(" passed, "))
        .and_then(|(p, f)| Some((p.parse::<u64>().ok()?, f.parse::<u64>().ok()?)));
    match counts {
        Some((passed, failed)) if status.success() == (failed == 0) => Ok((passed, failed)),
        _ => bail!("the pass ended with {status} and the line {last:?}, not with a count"),
    }
}
