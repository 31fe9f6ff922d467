//! Every task of this repository that is longer than a line. `cargo xtask --help` lists them.

// Tasks talk to the person who runs them.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod crash;
mod e2e;
mod labels;
mod node;
mod postgres;
mod proto;
mod shell;
mod test;
mod tidy;

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
        /// Only the parts whose name contains this: tidy, unit, search, labels, e2e.
        filter: Option<String>,
    },
    /// The real AppView, PDS, PLC directory and bsync around the data plane.
    E2e(e2e::Args),
    /// Labels from two real labelers over connections that break, into a program that is killed; compared at the end.
    Labels(labels::Args),
    /// Kill the program again and again while it reads a network, and compare what it ends with.
    Crash(crash::Args),
    /// Measure, beside the reference where there is one.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check the house rules: floors, banned names, table numbers, links in docs, file sizes.
    Tidy,
    /// Generate the wire types from proto/*.proto.
    Proto {
        /// Only say whether they would change.
        #[arg(long)]
        check: bool,
    },
    /// Compare our contract with the one that installed npm packages carry.
    Contract {
        /// The node_modules folder.
        node_modules: PathBuf,
        /// Keep what the packages say under fixtures/contract.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test { filter } => return test::run(filter.as_deref()),
        Task::E2e(args) => e2e::run(&args).and_then(|(passed, failed)| {
            println!("{passed} passed, {failed} failed");
            anyhow::ensure!(failed == 0 && passed > 0, "not everything passed");
            Ok(())
        }),
        Task::Labels(args) => labels::run(&args),
        Task::Crash(args) => crash::run(&args).and_then(|outcome| {
            anyhow::ensure!(outcome.holds(), "the killed program did not end as the undisturbed one");
            Ok(())
        }),
        Task::Bench(what) => bench::run(what),
        Task::Tidy => tidy::run(),
        Task::Proto { check } => proto::generate(check),
        Task::Contract { node_modules, keep } => proto::contract_of_installed(&node_modules, keep),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
