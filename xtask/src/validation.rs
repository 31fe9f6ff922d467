//! `cargo xtask validation`: our verdicts on records beside those of the network's own AppView.
//!
//! `e2e/validation/generate.mjs` spoils records of every indexed collection in every way it knows, and asks the
//! validators that the installed npm package carries. Here each record is judged once more, by ours.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gp_atproto::{cbor, json, lexicon, multibase};
use gp_index::collections;

use crate::{node::Node, shell};

/// Differences printed in full; the rest is only counted.
const SHOWN_MAX: usize = 20;

/// Characters of a record that are printed.
const RECORD_SHOWN_MAX: usize = 600;

/// Fewest records that say anything; far more are made.
const CASES_MIN: usize = 5_000;

/// What `cargo xtask validation` can be told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Records spoiled in several places at random, beside those spoiled in one place in every way.
    #[arg(long, default_value_t = RANDOM)]
    random: usize,
    /// What the random ones are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also most code points of Unicode in a few surroundings, for the counting of characters.
    #[arg(long)]
    sweep: bool,
    /// Where to keep the records and the verdicts.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
}

const RANDOM: usize = 3_000;

impl Default for Args {
    fn default() -> Self {
        Self { random: RANDOM, seed: 1, sweep: false, keep: None }
    }
}

/// Makes records and compares the verdicts. Answers how many agree and how many do not.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    let node = Node::install()?;
    let temporary = tempfile::tempdir().context("a folder for the records")?;
    let out = args.keep.clone().unwrap_or_else(|| temporary.path().join("cases.jsonl"));
    let mut command = Command::new(&node.bin);
    command.arg(node.home.join("validation/generate.mjs")).arg(node.home.join("node_modules")).arg(&out);
    command.args(["--random", &args.random.to_string(), "--seed", &args.seed.to_string()]);
    if args.sweep {
        command.arg("--sweep");
    }
    shell::run(&mut command)?;
    let compared = compare(&out)?;
    println!("{}", compared.line());
    let silent: Vec<&str> = collections::ALL
        .iter()
        .filter(|it| it.validated && !compared.by_collection.get(it.nsid).is_some_and(|of| of.0 > 0 && of.1 > 0))
        .map(|it| it.nsid)
        .collect();
    ensure!(silent.is_empty(), "not one good and one bad record of {}", silent.join(", "));
    ensure!(compared.cases >= CASES_MIN, "{} records are too few to say anything", compared.cases);
    Ok(((compared.cases - compared.different) as u64, compared.different as u64))
}

/// What the comparison found.
#[derive(Default)]
struct Compared {
    cases: usize,
    valid: usize,
    different: usize,
    spent: Duration,
    /// Good and bad records of each collection, by their verdict.
    by_collection: BTreeMap<String, (usize, usize)>,
}

impl Compared {
    fn line(&self) -> String {
        format!(
            "{} records of {} collections, {} valid, {} differences, {:.1?} in validation",
            self.cases,
            self.by_collection.len(),
            self.valid,
            self.different,
            self.spent
        )
    }
}

fn compare(path: &Path) -> Result<Compared> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut found = Compared::default();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {shown}"))?;
        let wrong = || format!("{shown}:{} is no case", at + 1);
        let case: serde_json::Value = serde_json::from_str(&line).with_context(wrong)?;
        let collection = case["collection"].as_str().with_context(wrong)?;
        let bytes = match case["cbor"].as_str() {
            Some(hex) => multibase::hex_decode(hex).with_context(wrong)?,
            None => json::to_cbor(&case["record"]).with_context(wrong)?,
        };
        let theirs = case["ok"] == true;
        let begun = Instant::now();
        let ours = match cbor::decode(&bytes) {
            Ok(record) => lexicon::validate(collection, &record).map_err(|invalid| invalid.to_string()),
            Err(error) => Err(format!("undecodable: {error}")),
        };
        found.spent += begun.elapsed();
        found.cases += 1;
        found.valid += usize::from(theirs);
        let of = found.by_collection.entry(collection.to_owned()).or_default();
        *(if theirs { &mut of.0 } else { &mut of.1 }) += 1;
        if ours.is_ok() != theirs {
            found.different += 1;
            if found.different <= SHOWN_MAX {
                let record: String = line.chars().take(RECORD_SHOWN_MAX).collect();
                println!("theirs {theirs}, ours {ours:?}\n  {record}");
            }
        }
    }
    Ok(found)
}
