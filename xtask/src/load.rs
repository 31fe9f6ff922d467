//! `cargo xtask load`: calls and whole pages over a network with the shape of the real one, ours beside the reference's.
//!
//! Both planes are filled with the same rows, and some of their answers are compared before anything is timed. What a
//! plane can do at most is measured with a few callers that wait for their answers; what callers feel, with calls that
//! are sent when they are due, whether earlier ones were answered or not, and that count from the moment they were due.
//! A table is printed, and a file of JSON and a page of HTML are written.

mod pages;
mod sheet;
mod work;

pub(crate) use sheet::{Curve, chart};
pub(crate) use work::{Felt, Work, closed};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    bench::{Scenario, Site, Size},
    shell,
};

/// Calls at a time while it is measured how many can be answered.
pub(crate) const AT_ONCE: usize = 8;

/// Of what a plane can do at most, what is offered. Callers and plane share the machine's processors: with all of it
/// the callers would be measured.
const PART: f64 = 0.3;

/// What the rig can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) size: Size,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Calls a second, or pages a second; otherwise a part of what the plane can do at most.
    #[arg(long)]
    rate: Option<f64>,
    /// That part.
    #[arg(long, default_value_t = PART)]
    part: f64,
    /// Only what has this in its name.
    #[arg(long)]
    only: Option<String>,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    pub(crate) bin: Option<PathBuf>,
    /// Leave the reference out.
    #[arg(long)]
    pub(crate) alone: bool,
    /// Where load.json and load.html go.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

impl Args {
    /// All work, at a part of what each plane can do at most.
    pub(crate) fn of(size: Size, seconds: u64, bin: Option<PathBuf>, alone: bool) -> Self {
        Self { size, seconds, rate: None, part: PART, only: None, bin, alone, out: PathBuf::from("target/load") }
    }
}

/// One plane at one kind of work.
pub(crate) struct Measured {
    pub(crate) plane: &'static str,
    pub(crate) name: String,
    /// Answered a second by callers that wait.
    pub(crate) most_per_second: f64,
    /// Processor time of the plane for each, in microseconds; none of the reference, which has PostgreSQL beside it.
    pub(crate) cpu_us: Option<f64>,
    /// What callers felt that do not wait.
    pub(crate) felt: Felt,
}

impl Measured {
    fn print(&self) {
        let ms = |part| self.felt.ms(part);
        println!(
            "{:<38} {:<12} {:>9.1} {:>9.1} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>7} {:>8}",
            self.name,
            self.plane,
            self.most_per_second,
            self.felt.offered_per_second,
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(0.999),
            self.felt.failed,
            self.cpu_us.map_or_else(|| "-".into(), |it| format!("{it:.0}")),
        );
    }

    fn json(&self) -> Value {
        let felt = &self.felt;
        json!({
            "plane": self.plane, "work": self.name, "most_per_second": self.most_per_second, "cpu_us": self.cpu_us,
            "offered_per_second": felt.offered_per_second, "answered": felt.answered(), "failed": felt.failed,
            "not_sent": felt.not_sent,
            "ms": { "p50": felt.ms(0.5), "p90": felt.ms(0.9), "p99": felt.ms(0.99), "p999": felt.ms(0.999), "max": felt.ms(1.0) },
        })
    }
}

/// Prints the head of the table.
fn print_head() {
    println!(
        "\n{:<38} {:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}",
        "work", "plane", "most/s", "offered/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "failed", "cpu us"
    );
}

/// Fills, measures and writes down.
pub(crate) fn run(args: &Args) -> Result<()> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let site = Site::new(&args.size, &bin, args.alone).await?;
        let measured = measure(&site, args).await?;
        write(&args.out, &site, &measured)
    })
}

/// Measures all work on both planes, one after the other.
pub(crate) async fn measure(site: &Site, args: &Args) -> Result<Vec<Measured>> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let ours = site.ours()?;
    let mut planes = vec![("groundplane", ours.url.clone(), true, Some(ours.pid()))];
    planes.extend(site.reference.iter().map(|it| ("reference", it.plane.url.clone(), false, None)));
    print_head();
    let mut out = Vec::new();
    for scenario in site.scenarios.iter().filter(|it| wanted(&it.name)) {
        for (plane, url, http2, pid) in &planes {
            out.push(one(plane, &scenario.name, *pid, Arc::new(calls(scenario, url, *http2)), args).await?);
        }
    }
    for kind in pages::Kind::ALL.into_iter().filter(|kind| wanted(kind.name())) {
        for (plane, url, http2, pid) in &planes {
            let work = Arc::new(Work::Pages(pages::Pages::new(url, *http2, &site.world, kind)));
            out.push(one(plane, kind.name(), *pid, work, args).await?);
        }
    }
    Ok(out)
}

/// The calls of a scenario.
pub(crate) fn calls(scenario: &Scenario, url: &str, http2: bool) -> Work {
    Work::calls(url, http2, scenario.method, scenario.requests.clone())
}

async fn one(plane: &'static str, name: &str, pid: Option<u32>, work: Arc<Work>, args: &Args) -> Result<Measured> {
    let time = Duration::from_secs(args.seconds);
    // Connections, caches and pages of the disk are warm on both sides.
    for n in 0..work.kinds().min(32) {
        work.make(n).await.with_context(|| format!("{name} of {plane}"))?;
    }
    let most = closed(&work, AT_ONCE, time / 2, pid).await;
    let most_per_second = most.per_second();
    let rate = args.rate.unwrap_or(most_per_second * args.part).max(1.0);
    let felt = work::open(&work, rate, time).await;
    let measured = Measured { plane, name: name.to_owned(), most_per_second, cpu_us: most.cpu_us, felt };
    measured.print();
    Ok(measured)
}

/// Writes the figures as JSON and as a page.
pub(crate) fn write(out: &Path, site: &Site, measured: &[Measured]) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let about = about(site);
    let rows: Vec<Value> = measured.iter().map(Measured::json).collect();
    let json = json!({ "about": about, "measured": rows });
    std::fs::write(out.join("load.json"), serde_json::to_vec_pretty(&json)?)?;
    std::fs::write(out.join("load.html"), sheet::page(&about, measured))?;
    println!("\n{} and {}", out.join("load.json").display(), out.join("load.html").display());
    Ok(())
}

/// What was measured, and on what.
fn about(site: &Site) -> Vec<(&'static str, String)> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    vec![
        ("accounts", site.world.accounts().to_string()),
        ("records", site.written.records.to_string()),
        ("written in", format!("{:.0} s", site.written.seconds)),
        ("follows of a viewer", site.world.viewer_follows().to_string()),
        ("follows of the one who follows most", site.world.reader_follows().to_string()),
        ("lists that the listed account is on", site.world.lists().to_string()),
        ("answers that were the same on both sides", site.compared.to_string()),
        ("processors", std::thread::available_parallelism().map_or(0, |it| it.get()).to_string()),
        ("memory of the machine", format!("{:.0} GiB", kib as f64 / f64::from(1 << 20))),
        ("other work on the machine (load)", load.split_whitespace().next().unwrap_or_default().to_owned()),
    ]
}

/// A short run for the tests: small, and only what cannot depend on how busy the machine is. Answers how many checks
/// passed and failed.
pub(crate) fn short() -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let out = tempfile::tempdir()?;
    let bin = shell::build_groundplane(false)?;
    let size = Size { accounts: 400, posts_each: 1, follows: 100 };
    let args = Args { rate: Some(5.0), out: out.path().to_owned(), ..Args::of(size, 1, Some(bin.clone()), false) };
    runtime.block_on(async {
        let site = Site::new(&args.size, &bin, args.alone).await?;
        let measured = measure(&site, &args).await?;
        write(&args.out, &site, &measured)?;
        let page = std::fs::read_to_string(args.out.join("load.html"))?;
        let mut checks = crate::test::Checks::default();
        let home = pages::Pages::new(&site.ours()?.url, true, &site.world, pages::Kind::Home);
        home.load(0).await?;
        checks.that("the front page makes its calls", home.calls() == pages::HOME_CALLS, home.calls());
        checks.that("some answers are compared", site.compared >= site.scenarios.len(), site.compared);
        for it in &measured {
            let what = format!("{}, {}", it.name, it.plane);
            checks.that(&format!("{what}: answered"), it.felt.failed == 0 && it.felt.answered() > 0, it.felt.failed);
            checks.that(&format!("{what}: on the page"), page.contains(&it.name), "it is not");
        }
        Ok(checks.counts())
    })
}
