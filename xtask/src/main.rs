//! Every task of this repository that is longer than a line. `cargo xtask --help` lists them.

// Tasks talk to the person who runs them.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod browser;
mod cassandra;
mod crash;
mod dashboards;
mod drill;
mod drills;
mod e2e;
mod faults;
mod labels;
mod load;
mod memcached;
mod node;
mod page;
mod parity;
mod planes;
mod postgres;
mod proto;
mod shell;
mod test;
mod tidy;
mod transport;
mod validation;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need, and run every test. Ends with "N passed, N failed".
    Test {
        /// Only the parts whose name contains this; a name that no part has lists them.
        filter: Option<String>,
    },
    /// The real AppView, PDS, PLC directory and bsync around the data plane.
    E2e(e2e::Args),
    /// Labels from two real labelers over connections that break, into a program that is killed; compared at the end.
    Labels(labels::Args),
    /// Kill the program again and again while it reads a network, and compare what it ends with.
    Crash(crash::Args),
    /// Kill the process that writes to a cluster while another stands by, and compare what they end with.
    Failover(crash::failover::Args),
    /// Make the same calls to Groundplane and to the reference data plane, and show every difference.
    Parity(parity::Args),
    /// A real cluster for the engine cql: Apache Cassandra, one node or three.
    #[command(subcommand)]
    Cassandra(cassandra::What),
    /// The promises of every engine, and the cluster's own tests, on a real cluster.
    Conformance {
        /// Nodes, if no cluster runs already.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
        nodes: u8,
        /// Only tests whose name contains this, with what they say.
        #[arg(long)]
        only: Option<String>,
        /// Rows of the widest partition; 2000000 takes some minutes.
        #[arg(long)]
        wide_rows: Option<u64>,
    },
    /// Measure, beside the reference where there is one.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// A large network in both planes, single calls and whole pages sent when they are due: a table, JSON and a page with
    /// charts.
    Load(load::Args),
    /// Prometheus and the rules of this repository against a caller that sends large batches: is somebody told in time?
    Drill(drill::Args),
    /// Every failure mode of the catalogue that can be had on one machine: measured, bar, pass or fail, beside a naive twin.
    Drills(drills::Args),
    /// memcached down, slow, wrong, cold, late: a line a failure, with what was measured and the bar.
    Faults(faults::Args),
    /// The page of the admin port in a real browser.
    Page(page::Args),
    /// Make the rules for Prometheus, the board for Grafana and the runbook from their definitions.
    Dashboards {
        /// Only say whether they would change.
        #[arg(long)]
        check: bool,
    },
    /// Check the house rules: floors, banned names, table numbers, links in docs, file sizes.
    Tidy,
    /// Generate the wire types from proto/*.proto.
    Proto {
        /// Only say whether they would change.
        #[arg(long)]
        check: bool,
    },
    /// Compare our contract with the one that the newest npm packages carry, installed into a temporary folder.
    Contract {
        /// A node_modules folder to compare with instead, such as e2e/node_modules.
        node_modules: Option<PathBuf>,
        /// Keep what the packages say under fixtures/contract.
        #[arg(long)]
        keep: bool,
    },
    /// The wire itself, spoken by the client library that the AppView uses.
    Transport,
    /// Compare our verdicts on thousands of good and spoiled records with those of the AppView's own validators.
    Validation(validation::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test { filter } => return test::run(filter.as_deref()),
        Task::E2e(args) => e2e::run(&args).and_then(counted),
        Task::Labels(args) => labels::run(&args),
        Task::Load(args) => load::run(&args),
        Task::Drill(args) => drill::run(&args).and_then(counted),
        Task::Drills(args) => drills::run(&args).and_then(counted),
        Task::Faults(args) => faults::run(&args).and_then(counted),
        Task::Page(args) => page::run(&args).and_then(counted),
        Task::Crash(args) => crash::run(&args).and_then(|outcome| {
            anyhow::ensure!(outcome.holds(), "the killed program did not end as the undisturbed one");
            Ok(())
        }),
        Task::Failover(args) => crash::failover::run(&args).and_then(|holds| {
            anyhow::ensure!(holds, "a takeover took too long, or the keyspace is not as the undisturbed folder");
            Ok(())
        }),
        Task::Parity(args) => parity::run(&args).and_then(|report| {
            anyhow::ensure!(report.holds(), "not every call was compared and found the same");
            Ok(())
        }),
        Task::Cassandra(what) => cassandra::run(what),
        Task::Conformance { nodes, only, wide_rows } => {
            cassandra::conformance(nodes, only.as_deref(), wide_rows).and_then(counted)
        }
        Task::Bench(what) => bench::run(what),
        Task::Dashboards { check } => dashboards::run(check),
        Task::Tidy => tidy::run(),
        Task::Proto { check } => proto::generate(check),
        Task::Contract { node_modules: Some(modules), keep } => proto::contract_of_installed(&modules, keep, None),
        Task::Contract { node_modules: None, keep } => proto::contract_of_newest(keep),
        Task::Transport => transport::run().and_then(counted),
        Task::Validation(args) => validation::run(&args).and_then(counted),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says how many checks passed and failed, and fails if any did.
fn counted((passed, failed): (u64, u64)) -> anyhow::Result<()> {
    println!("{passed} passed, {failed} failed");
    anyhow::ensure!(failed == 0 && passed > 0, "not everything passed");
    Ok(())
}
