//! `cargo xtask test`: everything that must hold, in one command, with one closing line.

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    bench, crash, dashboards, drill, e2e, faults, labels, load, node::Node, page, parity, proto, shell, tidy,
    transport, validation,
};

/// What failed, by name, to be said once more after everything else: the last lines are those that a log keeps.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Most failures that are said again.
const FAILURES_MAX: usize = 40;

/// Notes a failure for the closing lines. Its first line is kept.
pub(crate) fn note_failure(what: &str) {
    let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
    if failures.len() < FAILURES_MAX {
        failures.push(what.lines().next().unwrap_or_default().chars().take(400).collect());
    }
}

/// Checks that passed and those that did not.
#[derive(Default)]
pub(crate) struct Checks(u64, u64);

impl Checks {
    /// Notes whether something holds, and what is the case if it does not.
    pub(crate) fn that(&mut self, what: &str, holds: bool, otherwise: impl std::fmt::Display) {
        if holds {
            println!("ok      {what}");
            self.0 += 1;
        } else {
            println!("FAILED  {what}: {otherwise}");
            note_failure(&format!("{what}: {otherwise}"));
            self.1 += 1;
        }
    }

    /// How many passed and failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.0, self.1)
    }
}

/// Results of the parts that have run.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    lines: Vec<String>,
}

/// One part of the tests: its name, and what runs it and counts.
type Part = (&'static str, fn() -> Result<(u64, u64)>);

/// The parts, quick ones first.
const PARTS: &[Part] = &[
    ("tidy", tidy_part),
    ("unit", unit),
    ("rules", dashboards::test),
    ("validation", verdicts),
    ("contract", contract),
    ("transport", transport::run),
    ("instructions", bench::instructions::short),
    ("search", bench::search::short),
    ("load", load::short),
    ("bars", bench::all::short),
    ("scaling", bench::scaling::short),
    ("ceiling", bench::ceiling::short),
    ("faults", faults::short),
    ("labels", labels_in_short),
    ("drill", || drill::run(&drill::Args::default())),
    ("page", || page::run(&page::Args::default())),
    ("crash", crash::short),
    ("parity", parity::short),
    ("e2e", end_to_end),
];

/// Runs the parts whose name contains the filter. The exit code is success only if everything passed.
pub(crate) fn run(filter: Option<&str>) -> ExitCode {
    let mut tally = Tally::default();
    let mut ran = 0;
    for (name, part) in PARTS.iter().filter(|(name, _)| filter.is_none_or(|f| name.contains(f))) {
        ran += 1;
        println!("== {name}");
        let begun = Instant::now();
        let (passed, failed) = part().unwrap_or_else(|e| {
            eprintln!("{name}: {e:#}");
            note_failure(&format!("{name}: {e:#}"));
            (0, 1)
        });
        tally.passed += passed;
        tally.failed += failed;
        tally
            .lines
            .push(format!("{name:<10} {passed:>6} passed {failed:>4} failed {:>6} s", begun.elapsed().as_secs()));
    }
    println!();
    for line in &tally.lines {
        println!("{line}");
    }
    if ran == 0 {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("no part of the tests has that in its name; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    for failure in FAILURES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("failed: {failure}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tidy_part() -> Result<(u64, u64)> {
    match tidy::run() {
        Ok(()) => Ok((1, 0)),
        Err(e) => {
            eprintln!("{e:#}");
            note_failure(&format!("{e:#}"));
            Ok((0, 1))
        }
    }
}

/// Unit, conformance, corpus and integration tests of all crates.
fn unit() -> Result<(u64, u64)> {
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    let (passed, failed, ok) = counted(&mut command, cargo_counts)?;
    if !ok && failed == 0 {
        bail!("cargo test failed before it could count; see above");
    }
    Ok((passed, failed))
}

/// Few labels, few kills: all that can happen to them happens once.
fn labels_in_short() -> Result<(u64, u64)> {
    labels::run(&labels::Args::short()).map(|()| (1, 0))
}

/// Our verdicts on records beside those of the AppView's own validators.
fn verdicts() -> Result<(u64, u64)> {
    validation::run(&validation::Args::default())
}

/// The wire contract beside the one that the installed packages carry: each package is one that holds.
fn contract() -> Result<(u64, u64)> {
    let node = Node::install()?;
    proto::contract_of_installed(&node.home.join("node_modules"), false, Some(&node.bin))?;
    Ok((proto::PACKAGES.len() as u64, 0))
}

/// The AppView over both versions of HTTP.
fn end_to_end() -> Result<(u64, u64)> {
    e2e::run(&e2e::Args::default())
}

/// What a line of cargo's tests counts.
pub(crate) fn cargo_counts(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    Some((number_before(rest, " passed")?, number_before(rest, " failed")?))
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    let (before, _) = text.split_once(word)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs a program, shows its output, and adds up the lines that count.
pub(crate) fn counted(command: &mut Command, count: impl Fn(&str) -> Option<(u64, u64)>) -> Result<(u64, u64, bool)> {
    let shown = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {shown}"))?;
    let (mut passed, mut failed) = (0, 0);
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            if let Some((p, f)) = count(&line) {
                passed += p;
                failed += f;
            }
            if line.ends_with("... FAILED") || line.starts_with("FAIL") || line.starts_with("not ok") {
                note_failure(&line);
            }
            // Thousands of lines of passing tests help nobody.
            if !line.ends_with("... ok") {
                println!("{line}");
            }
        }
    }
    Ok((passed, failed, child.wait()?.success()))
}
