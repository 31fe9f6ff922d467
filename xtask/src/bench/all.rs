//! `cargo xtask bench all`: one table of everything that this project holds itself to, each row measured in this run.
//!
//! The bars are for a million accounts, 20 million follows and 10 million posts on a machine that does nothing else; the
//! table says how large the network was. What is not met is said, not left out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use gp_drill::{
    load::{self as drilled, Hosts},
    program::Program,
    rig::{self, CONNECTIONS, Rig},
};
use serde_json::json;

use super::{
    Args as IngestArgs, ceiling,
    filled::settled,
    mb, peak_rss,
    scenarios::{KNOWN, POSTS, QUIET, TIMELINE},
    site::Site,
    world::Size,
};
use crate::{
    load::{self, Measured},
    shell,
    test::Checks,
};

/// Posts in the folder from which calls of 20,000 keys are answered.
const DRILLED_POSTS: usize = 40_000;

/// Seconds that the reference may ingest: it is slow at first.
const REFERENCE_SECONDS_MIN: u64 = 40;

/// The bars.
const BATCH_RATIO_MIN: f64 = 25.0;
const LARGE_P99_MS_MAX: f64 = 150.0;
const SMALL_FACTOR_MAX: f64 = 1.25;
const TIMELINE_RATIO_MIN: f64 = 50.0;
const TIMELINE_P99_MS_MAX: f64 = 10.0;
const KNOWN_P99_MS_MAX: f64 = 20.0;
const INGEST_PER_SECOND_MIN: f64 = 10_000.0;
const INGEST_RATIO_MIN: f64 = 50.0;
const DISK_RATIO_MIN: f64 = 5.0;
const MEMORY_BYTES_MAX: u64 = 1 << 30;
const READY_MAX: Duration = Duration::from_secs(2);
const FULL_SPEED_MAX: Duration = Duration::from_secs(20);

/// What can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    #[command(flatten)]
    size: Size,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Accounts of the network whose commits are ingested.
    #[arg(long, default_value_t = 3_000)]
    ingest_accounts: u32,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Leave the reference out: rows that need it are not judged.
    #[arg(long)]
    alone: bool,
    /// Where bars.json goes.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

/// A row of the table.
struct Row {
    work: &'static str,
    ours: String,
    reference: String,
    ratio: String,
    bar: String,
    /// Whether it is met; nothing if it cannot be told in this run.
    holds: Option<bool>,
}

impl Row {
    fn print(&self) {
        let verdict = match self.holds {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "-",
        };
        println!(
            "{:<36} {:<34} {:<22} {:>8}  {:<40} {verdict}",
            self.work, self.ours, self.reference, self.ratio, self.bar
        );
    }
}

/// Measures, prints the table, and fails if a row does.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let rows = measure(args).await?;
    let missed: Vec<&str> = rows.iter().filter(|it| it.holds == Some(false)).map(|it| it.work).collect();
    ensure!(missed.is_empty(), "not met: {}", missed.join(", "));
    Ok(())
}

async fn measure(args: &Args) -> Result<Vec<Row>> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let mut rows = Vec::new();
    let mut site = Site::new(&args.size, &bin, args.alone).await?;
    let load_args = load::Args::of(args.size, args.seconds, Some(bin.clone()), args.alone);
    let measured = load::measure(&site, &load_args).await?;
    load::write(&args.out, &site, &measured)?;
    rows.push(batch_row(&measured)?);
    rows.push(constant_row(&bin, args.seconds as usize).await?);
    rows.push(large_row(&bin, args.seconds).await?);
    rows.push(timeline_row("GetTimeline, 2,000 follows", TIMELINE, &measured)?);
    rows.push(timeline_row("the same, nobody popular among them", QUIET, &measured)?);
    rows.push(known_row(&measured)?);
    rows.push(ingest_row(&bin, args).await?);
    rows.push(disk_row(&site));
    rows.push(memory_row(&site)?);
    rows.push(restart_row(&mut site).await?);
    rows.push(full_speed_row(&site).await?);
    println!(
        "\n{} accounts, {} records, written in {:.0} s",
        site.world.accounts(),
        site.written.records,
        site.written.seconds
    );
    println!("\n{:<36} {:<34} {:<22} {:>8}  {:<40} verdict", "work", "ours", "reference", "ratio", "bar");
    rows.iter().for_each(Row::print);
    let json: Vec<_> = rows
        .iter()
        .map(|it| {
            json!({ "work": it.work, "ours": it.ours, "reference": it.reference, "ratio": it.ratio, "bar": it.bar, "holds": it.holds })
        })
        .collect();
    let all = json!({ "accounts": site.world.accounts(), "records": site.written.records, "rows": json });
    std::fs::write(args.out.join("bars.json"), serde_json::to_vec_pretty(&all)?)?;
    Ok(rows)
}

/// One work of both planes.
fn of<'a>(measured: &'a [Measured], name: &str) -> Result<(&'a Measured, Option<&'a Measured>)> {
    let mut found = measured.iter().filter(|it| it.name == name);
    Ok((found.next().with_context(|| format!("{name} was not measured"))?, found.next()))
}

fn ratio(ours: f64, theirs: Option<f64>) -> (String, Option<f64>) {
    let ratio = theirs.map(|theirs| ours / theirs.max(1e-9));
    (ratio.map_or_else(|| "-".into(), |it| format!("{it:.1}")), ratio)
}

fn per_second(measured: Option<&Measured>) -> String {
    measured.map_or_else(|| "-".into(), |it| format!("{:.0}/s, p99 {:.1} ms", it.most_per_second, it.felt.ms(0.99)))
}

/// A row of one work of both planes. `holds` is asked whether ours meets the bar, by the ratio to the reference if there
/// is one; a plane that does not answer every call meets none.
fn beside(
    work: &'static str,
    name: &str,
    measured: &[Measured],
    bar: String,
    holds: impl Fn(&Measured, Option<f64>) -> Option<bool>,
) -> Result<Row> {
    let (ours, theirs) = of(measured, name)?;
    let (text, ratio) = ratio(ours.most_per_second, theirs.map(|it| it.most_per_second));
    let holds = if ours.felt.failed > 0 { Some(false) } else { holds(ours, ratio) };
    Ok(Row { work, ours: per_second(Some(ours)), reference: per_second(theirs), ratio: text, bar, holds })
}

/// A row that the reference has no part in.
fn alone(work: &'static str, ours: String, bar: String, holds: bool) -> Row {
    Row { work, ours, reference: "-".into(), ratio: "-".into(), bar, holds: Some(holds) }
}

fn batch_row(measured: &[Measured]) -> Result<Row> {
    let bar = format!("{BATCH_RATIO_MIN} times the reference");
    beside("GetPostRecords, 50 keys", POSTS, measured, bar, |_, ratio| ratio.map(|it| it >= BATCH_RATIO_MIN))
}

async fn constant_row(bin: &Path, turns: usize) -> Result<Row> {
    let found = ceiling::measure(bin, turns).await?;
    Ok(Row {
        work: "the same beside a constant answer",
        ours: format!("{:.0}/s", found.per_second[3]),
        reference: format!("{:.0}/s (the constant)", found.per_second[0]),
        ratio: format!("{:.2}", found.ratio()),
        bar: format!("{} of the constant's", ceiling::RATIO_MIN),
        holds: Some(found.holds()),
    })
}

/// Calls of 20,000 keys, three a second, and small ones beside them.
async fn large_row(bin: &Path, seconds: u64) -> Result<Row> {
    let rig = Rig::new(bin, DRILLED_POSTS, 0, &|text| println!("{text}")).await?;
    let plane = Program::start(&rig.serve(&rig.data(), &[])).await?;
    rig.warm(&plane).await?;
    let (small, large) = (Hosts::new(&[plane.listen], CONNECTIONS), Hosts::new(&[plane.listen], 2));
    let time = Duration::from_secs(seconds);
    let (_, per_second) = rig.measure(&small, time / 2).await;
    let w0 = drilled::Load::begin(&small, rig.w0(per_second));
    let quiet = w0.during(time).await;
    let bulk = drilled::Load::begin(&large, rig.bulk());
    let beside = w0.during(time).await;
    let (bulk, _) = (bulk.end().await, w0.end().await);
    let failed = bulk.failed() + beside.failed() + quiet.failed();
    Ok(alone(
        "GetPostRecords, 20,000 keys",
        format!("p99 {:.0} ms; {}; {failed} failed", bulk.p99_ms(), rig::p99s(&quiet, &beside)),
        format!("p99 {LARGE_P99_MS_MAX} ms; small {SMALL_FACTOR_MAX} times or +2 ms; 0 failed"),
        bulk.p99_ms() <= LARGE_P99_MS_MAX && rig::is_close(&quiet, &beside, SMALL_FACTOR_MAX) && failed == 0,
    ))
}

fn timeline_row(work: &'static str, name: &str, measured: &[Measured]) -> Result<Row> {
    let bar = format!("{TIMELINE_RATIO_MIN} times; p99 {TIMELINE_P99_MS_MAX} ms");
    beside(work, name, measured, bar, |ours, ratio| {
        ratio.map(|it| it >= TIMELINE_RATIO_MIN && ours.felt.ms(0.99) <= TIMELINE_P99_MS_MAX)
    })
}

fn known_row(measured: &[Measured]) -> Result<Row> {
    let bar = format!("p99 {KNOWN_P99_MS_MAX} ms");
    beside("GetFollowsFollowing, 30 hubs", KNOWN, measured, bar, |ours, _| Some(ours.felt.ms(0.99) <= KNOWN_P99_MS_MAX))
}

async fn ingest_row(bin: &Path, args: &Args) -> Result<Row> {
    let ingest = IngestArgs {
        accounts: Some(args.ingest_accounts),
        seconds: args.seconds,
        reference_seconds: args.seconds.max(REFERENCE_SECONDS_MIN),
        bin: Some(bin.to_owned()),
        alone: args.alone,
    };
    let (ours, theirs) = super::ingest(&ingest).await?;
    let (text, ratio) = ratio(ours, theirs);
    Ok(Row {
        work: "ingest, verified, all effects",
        ours: format!("{ours:.0} ops/s"),
        reference: theirs.map_or_else(|| "-".into(), |it| format!("{it:.0} ops/s")),
        ratio: text,
        bar: format!("{INGEST_PER_SECOND_MIN} ops/s; {INGEST_RATIO_MIN} times"),
        holds: ratio.map(|it| it >= INGEST_RATIO_MIN && ours >= INGEST_PER_SECOND_MIN),
    })
}

fn disk_row(site: &Site) -> Row {
    let (ours, theirs) = (site.store_bytes, site.reference_bytes);
    let ratio = theirs.map(|theirs| theirs as f64 / ours.max(1) as f64);
    Row {
        work: "disk",
        ours: format!("{:.1} MB", mb(ours)),
        reference: theirs.map_or_else(|| "-".into(), |it| format!("{:.1} MB", mb(it))),
        ratio: ratio.map_or_else(|| "-".into(), |it| format!("{it:.1}")),
        bar: "a fifth of the reference's".into(),
        holds: ratio.map(|it| it >= DISK_RATIO_MIN),
    }
}

/// After the start, the filling of what is kept in memory, and all measurements.
fn memory_row(site: &Site) -> Result<Row> {
    let peak = peak_rss(site.ours()?.pid());
    let ours = format!("{:.0} MB, {} accounts", mb(peak), site.world.accounts());
    Ok(alone("memory, peak", ours, "1 GiB".into(), peak > 0 && peak <= MEMORY_BYTES_MAX))
}

async fn restart_row(site: &mut Site) -> Result<Row> {
    let took = site.restart().await?;
    let ours = format!("{:.2} s, {} accounts", took.as_secs_f64(), site.world.accounts());
    let bar = format!("{} s; what is lost: cargo xtask crash", READY_MAX.as_secs());
    Ok(alone("restart to ready, after kill -9", ours, bar, took <= READY_MAX))
}

async fn full_speed_row(site: &Site) -> Result<Row> {
    let begun = std::time::Instant::now();
    settled(site.ours()?).await?;
    let took = begun.elapsed();
    let ours = format!("{:.2} s after it was ready", took.as_secs_f64());
    Ok(alone("everything in memory again", ours, format!("{} s", FULL_SPEED_MAX.as_secs()), took <= FULL_SPEED_MAX))
}

/// A tiny run for the tests: that every row is measured, and nothing that depends on how busy the machine is.
pub(crate) fn short() -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let out = tempfile::tempdir()?;
    let args = Args {
        size: Size { accounts: 200, posts_each: 1, follows: 50 },
        seconds: 1,
        ingest_accounts: 60,
        bin: Some(shell::build_groundplane(false)?),
        // The load rig's own short run compares with the reference.
        alone: true,
        out: out.path().to_owned(),
    };
    let rows = runtime.block_on(measure(&args))?;
    let mut checks = Checks::default();
    for row in &rows {
        checks.that(&format!("{} is measured", row.work), !row.ours.contains("NaN"), &row.ours);
    }
    checks.that("the rows are written down", out.path().join("bars.json").exists(), "they are not");
    Ok(checks.counts())
}
