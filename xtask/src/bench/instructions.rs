//! `cargo xtask bench instructions`: how many instructions the hot functions take, compared with figures kept in this
//! repository.
//!
//! Times on a busy machine say little; instructions, counted by valgrind on a processor that it makes up, hardly differ
//! from one run to the next. Each piece of work runs in a process of its own, once so many times and once twice as often;
//! what the second run takes more is the work itself, without anything around it. The programs are those of the profile
//! of the tests: the figures are compared with themselves only.

pub(crate) mod drive;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{postgres::apt_install, shell};
use drive::Work;

/// Where the figures are kept.
const KEPT: &str = "xtask/src/bench/instructions/kept.txt";

/// More than this part above what is kept fails; more than this part below it wants to be kept.
const PART_MAX: f64 = 0.10;

/// What can be told.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct Args {
    /// Only the work whose name contains this.
    only: Option<String>,
    /// Keep what is counted as the figures to compare with.
    #[arg(long)]
    keep: bool,
    /// Do this work so many times and nothing else: what is counted.
    #[arg(long, hide = true, requires = "times")]
    drive: Option<String>,
    #[arg(long, hide = true)]
    times: Option<u64>,
}

/// The part of `cargo xtask test`: a check each.
pub(crate) fn short() -> Result<(u64, u64)> {
    compare(&Args::default())
}

/// Counts and compares; fails if anything takes too many.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(name), Some(times)) = (&args.drive, args.times) {
        return drive::run(name, times);
    }
    let (_, failed) = compare(args)?;
    ensure!(failed == 0, "{failed} pieces of work take more instructions than they may");
    Ok(())
}

fn compare(args: &Args) -> Result<(u64, u64)> {
    install()?;
    let compiler = compiler()?;
    let (kept_with, kept) = read_kept()?;
    if !args.keep && kept_with != compiler {
        println!(
            "the figures were kept with {kept_with}, this is {compiler}: what differs may be the compiler's doing"
        );
    }
    let (mut passed, mut failed, mut counted) = (0, 0, kept.clone());
    println!("{:<10} {:>14} {:>14} {:>8}", "work", "instructions", "kept", "");
    for work in Work::ALL.iter().filter(|work| args.only.as_deref().is_none_or(|only| work.name.contains(only))) {
        let now = count(work)?;
        counted.insert(work.name.to_owned(), now);
        let before = kept.get(work.name).copied();
        let part = before.map(|before| now as f64 / before as f64 - 1.0);
        let shown = part.map_or_else(String::new, |part| format!("{:+.1} %", part * 100.0));
        println!("{:<10} {now:>14} {:>14} {shown:>8}", work.name, before.unwrap_or_default());
        match part {
            _ if args.keep => passed += 1,
            Some(part) if part <= PART_MAX => {
                passed += 1;
                if part < -PART_MAX {
                    println!("  much less than before: keep it with `cargo xtask bench instructions --keep`");
                }
            }
            Some(_) => {
                failed += 1;
                let file = profile(work);
                crate::test::note_failure(&format!("{} takes {shown} instructions", work.name));
                println!(
                    "  too many. Where: callgrind_annotate {}. If it must be: `cargo xtask bench instructions --keep`",
                    file.display()
                );
            }
            None => {
                failed += 1;
                println!("  nothing is kept to compare with: `cargo xtask bench instructions --keep`");
            }
        }
    }
    if args.keep {
        write_kept(&compiler, &counted)?;
    }
    Ok((passed, failed))
}

/// Installs valgrind if there is none, or says what to do.
fn install() -> Result<()> {
    let there = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    apt_install(&["valgrind"]).context("instructions are counted by valgrind, and it cannot be had")
}

fn compiler() -> Result<String> {
    let said = Command::new("rustc").arg("--version").output().context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn profile(work: &Work) -> PathBuf {
    shell::root().join("target/instructions").join(format!("{}.out", work.name))
}

/// Instructions of the work done once.
fn count(work: &Work) -> Result<u64> {
    let file = profile(work);
    std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
    let once = all_of(work, work.times, &file)?;
    let twice = all_of(work, 2 * work.times, &file)?;
    ensure!(twice > once, "{}: twice as much takes no more", work.name);
    Ok((twice - once) / work.times)
}

/// Instructions of a process that does the work so many times.
fn all_of(work: &Work, times: u64, file: &Path) -> Result<u64> {
    let me = std::env::current_exe().context("this program has no file")?;
    let said = Command::new("valgrind")
        .args(["--tool=callgrind", "--error-exitcode=9"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(me)
        .args(["bench", "instructions", "--drive", work.name, "--times", &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot start valgrind")?;
    let text = String::from_utf8_lossy(&said.stderr);
    let tail: Vec<&str> = text.lines().rev().take(12).collect();
    ensure!(said.status.success(), "valgrind ended with {}: {}", said.status, tail.join(" | "));
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("valgrind did not say a number")?;
    line.1.trim().parse().with_context(|| format!("valgrind said {}", line.1))
}

/// The compiler, and instructions by the name of the work.
fn read_kept() -> Result<(String, BTreeMap<String, u64>)> {
    let text = std::fs::read_to_string(shell::root().join(KEPT)).unwrap_or_default();
    let mut lines = text.lines();
    let compiler = lines.next().unwrap_or("nobody").to_owned();
    let kept = lines.map(|line| {
        let (name, count) = line.split_once(' ').with_context(|| format!("{KEPT}: {line}"))?;
        Ok((name.to_owned(), count.trim().parse().with_context(|| format!("{KEPT}: {line}"))?))
    });
    Ok((compiler, kept.collect::<Result<_>>()?))
}

fn write_kept(compiler: &str, counted: &BTreeMap<String, u64>) -> Result<()> {
    let mut text = format!("{compiler}\n");
    for (name, count) in counted {
        text += &format!("{name} {count}\n");
    }
    std::fs::write(shell::root().join(KEPT), text).with_context(|| format!("cannot write {KEPT}"))
}
