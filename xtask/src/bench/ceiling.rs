//! `cargo xtask bench ceiling`: where the time of a batch of 50 posts goes, and how far from what HTTP/2 alone allows.
//!
//! Four servers answer the same calls over the same library for HTTP/2, each doing more than the one before: the bytes of
//! an answer from a constant; the same answer encoded each time; the answer read from the folder; the plane, with
//! admission, metrics and deadlines. They take turns of a second, so that what else the machine does meets all of them.
//! Shares are of processor time for each call, which other work on the machine changes least.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use gp_drill::{
    data::GET_POSTS,
    load::{ANSWER_MAX, Hosts},
    program::{Program, Start},
    rig::Rig,
    wire::Call,
};

use super::turns::{self, POSTS, Side};
use crate::{shell, test::Checks};

/// Keys of a call.
const KEYS: usize = 50;
/// Of what the constant answer reaches, what the plane must reach.
pub(crate) const RATIO_MIN: f64 = 0.7;

/// The servers, from the one that does least.
const SIDES: [&str; 4] = ["a constant", "+ encoding", "+ reading", "the plane"];

/// What can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    pub(crate) bin: Option<PathBuf>,
    /// Turns of a second that each server has.
    #[arg(long, default_value_t = 10)]
    pub(crate) turns: usize,
}

/// What was found.
pub(crate) struct Ceiling {
    /// Calls a second of each server.
    pub(crate) per_second: [f64; 4],
    /// Microseconds of processor time for each call.
    pub(crate) cpu_us: [f64; 4],
    failed: u64,
}

impl Ceiling {
    /// Of the calls that the constant answers, how many the plane does.
    pub(crate) fn ratio(&self) -> f64 {
        self.per_second[3] / self.per_second[0].max(1e-9)
    }

    /// Whether that is enough, and every call was answered.
    pub(crate) fn holds(&self) -> bool {
        self.failed == 0 && self.ratio() >= RATIO_MIN
    }

    fn print(&self) {
        println!("\n{:<12} {:>10} {:>12} {:>8}   what it adds", "server", "calls/s", "us/call", "share");
        let adds = ["transport: HTTP/2, sockets", "decoding, encoding", "reading", "admission, metrics, deadlines"];
        for (at, (side, adds)) in SIDES.iter().zip(adds).enumerate() {
            let before = if at == 0 { 0.0 } else { self.cpu_us[at - 1] };
            let share = (self.cpu_us[at] - before) / self.cpu_us[3] * 100.0;
            println!("{side:<12} {:>10.0} {:>12.1} {share:>7.1}%   {adds}", self.per_second[at], self.cpu_us[at]);
        }
        println!("the plane answers {:.1} % of the calls that the constant does", self.ratio() * 100.0);
    }
}

/// Measures, and fails if the plane is too far from the constant.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let found = measure(&bin, args.turns).await?;
    ensure!(found.holds(), "{} calls failed, and {:.0} % are asked for", found.failed, RATIO_MIN * 100.0);
    Ok(())
}

/// Measures, and prints the table.
pub(crate) async fn measure(bin: &std::path::Path, turns: usize) -> Result<Ceiling> {
    let rig = Rig::new(bin, POSTS, 0, &|text| println!("{text}")).await?;
    let plane = Program::start(&rig.serve(&rig.data(), &[])).await?;
    rig.warm(&plane).await?;
    let requests = turns::requests(&rig.posts.uris, KEYS);
    let hosts = Hosts::new(&[plane.listen], 1);
    let call = Call { path: GET_POSTS, caller: "appview", frame: requests[0].0.clone(), deadline: None };
    let (code, answer, _) = hosts.call(&call, ANSWER_MAX).await;
    ensure!(code == 0 && !answer.is_empty(), "the plane does not answer: code {code}");
    let file = rig.folder.path().join("answer");
    std::fs::write(&file, &answer)?;
    let bare = |flag: &str, of: PathBuf| Start {
        bin: bin.to_owned(),
        args: ["drill-bare", flag, &of.display().to_string()].map(str::to_owned).into(),
        ..Start::default()
    };
    let constant = Program::start(&bare("--constant", file.clone())).await?;
    let encode = Program::start(&bare("--encode", file)).await?;
    let read = Program::start(&bare("--data-dir", rig.copy("bare")?)).await?;
    rig.warm(&read).await?;
    let felt = turns::take([&constant, &encode, &read, &plane], &requests, turns, Duration::from_secs(1)).await;
    let found = Ceiling {
        per_second: felt.each_ref().map(|side| side.felt.answered_per_second()),
        cpu_us: felt.each_ref().map(Side::cpu_us),
        failed: felt.iter().map(|side| side.felt.failed()).sum(),
    };
    found.print();
    Ok(found)
}

/// One turn for the tests: that every server answers every call.
pub(crate) fn short() -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bin = shell::build_groundplane(false)?;
    let found = runtime.block_on(measure(&bin, 1))?;
    let mut checks = Checks::default();
    for (side, per_second) in SIDES.iter().zip(found.per_second) {
        checks.that(&format!("{side} answers"), per_second > 0.0, per_second);
    }
    checks.that("nothing fails", found.failed == 0, found.failed);
    Ok(checks.counts())
}
