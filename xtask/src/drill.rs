//! `cargo xtask drill`: would an operator have been told, and of what?
//!
//! A real Prometheus scrapes a running plane and evaluates the rules of this repository, while one caller makes small
//! calls and, after a quiet while, another begins to send batches of 20,000 keys, three a second: the traffic that once
//! took hours to be noticed and days to be found. An alert must name the call, the caller and "batch size" within a
//! minute and before any small call has failed.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    dashboards::install_prometheus,
    planes::{Caller, Plane, Supervised, Tally, free_port, get},
    shell,
};

/// Keys of the small calls, one after the other, and of the large ones.
const SMALL_KEYS: &[usize] = &[1, 12, 7, 25, 50, 3, 12, 18];
const LARGE_KEYS: &[usize] = &[20_000];
const SMALL_PER_SECOND: u32 = 40;
const LARGE_PER_SECOND: u32 = 3;
/// Seconds between scrapes, and between evaluations of the rules.
const SCRAPE_EVERY: u64 = 1;
/// How long there are only small calls.
const QUIET: Duration = Duration::from_secs(10);
/// Within which time the alert must have come.
const ALERT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What `cargo xtask drill` can be told.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

impl Args {
    /// For a program that is built already.
    pub(crate) fn of(bin: &std::path::Path) -> Self {
        Self { bin: Some(bin.to_owned()) }
    }
}

/// Runs the drill: how many checks passed and failed.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    install_prometheus()?;
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(drill(&bin))
}

async fn drill(bin: &std::path::Path) -> Result<(u64, u64)> {
    let plane = Plane::start(bin, 300, &["--log", "warn"]).await?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let config = format!(
        "global:\n  scrape_interval: {SCRAPE_EVERY}s\n  evaluation_interval: {SCRAPE_EVERY}s\nrule_files: [{}]\nscrape_configs:\n\
         - job_name: groundplane\n  static_configs:\n  - targets: [\"{}\"]\n",
        serde_json::to_string(&shell::root().join("dashboards/rules.yml"))?,
        plane.admin
    );
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, config)?;
    let arguments = [
        format!("--config.file={}", path.display()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--log.level=warn".to_owned(),
    ];
    let _prometheus = Supervised::start("/usr/bin/prometheus", &arguments, &folder.path().join("log"))?;
    let prometheus = format!("127.0.0.1:{port}");

    let (small, large) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let small_calls = Caller::new(&plane, "appview").keep_asking(SMALL_KEYS, SMALL_PER_SECOND, Arc::clone(&small));
    until("Prometheus scrapes the plane", async || {
        let up = query(&prometheus, "up{job=\"groundplane\"}").await?;
        Ok((up.first().copied() == Some(1.0)).then_some(()))
    })
    .await?;
    tokio::time::sleep(QUIET).await;
    let before: Vec<Alert> = firing(&prometheus).await?;
    let (small_before, took_before) = (small.answered.load(Relaxed), small.take_ms());

    println!("batch-job begins: {LARGE_PER_SECOND} calls a second, 20,000 keys each");
    let begun = Instant::now();
    let large_calls = Caller::new(&plane, "batch-job").keep_asking(LARGE_KEYS, LARGE_PER_SECOND, Arc::clone(&large));
    let (mut told, mut noticed) = (None, None);
    while begun.elapsed() < ALERT_MAX && (told.is_none() || noticed.is_none()) {
        for alert in firing(&prometheus).await? {
            let is_it = alert.of("rpc") == "GetPostRecords" && alert.of("caller") == "batch-job";
            if is_it && alert.of("cause") == "batch size" && told.is_none() {
                told = Some((begun.elapsed(), small.failed.load(Relaxed), alert.summary.clone()));
            }
            if is_it && alert.of("alertname") == "NewTrafficShape" && noticed.is_none() {
                noticed = Some(begun.elapsed());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let failed = small.failed.load(Relaxed);
    large_calls.abort();
    small_calls.abort();

    let scrapes = query(&prometheus, "max_over_time(scrape_duration_seconds{job=\"groundplane\"}[2m])").await?;
    let series = query(&prometheus, "max_over_time(scrape_samples_scraped{job=\"groundplane\"}[2m])").await?;
    println!("small calls   {small_before} before, {} with the batches, {failed} failed", small.answered.load(Relaxed));
    for (when, [p50, p99, slowest]) in [("before", took_before), ("with batches", small.take_ms())] {
        println!("small calls   {when}: p50 {p50:.1} ms, p99 {p99:.1} ms, slowest {slowest:.1} ms");
    }
    println!(
        "large calls   {} answered, {} refused or failed",
        large.answered.load(Relaxed),
        large.failed.load(Relaxed)
    );
    println!("scrapes       slowest {:.1} ms, {} series", first(&scrapes) * 1e3, first(&series));
    if let Some(after) = noticed {
        println!("notice        after {:.1} s (a scrape each {SCRAPE_EVERY} s)", after.as_secs_f64());
    }
    if let Some((after, _, summary)) = &told {
        println!("alert         after {:.1} s: {summary}", after.as_secs_f64());
    }

    let checks = [
        (
            "nothing is said of batch size while calls are small",
            !before.iter().any(|it| it.of("cause") == "batch size"),
        ),
        ("small calls are answered before the batches come", small_before > 0),
        ("an alert names call, caller and \"batch size\" within a minute", told.is_some()),
        ("it comes before any small call has failed", told.as_ref().is_some_and(|(_, failed, _)| *failed == 0)),
        ("a notice names the new shape of traffic", noticed.is_some()),
        ("no small call fails at all", failed == 0),
    ];
    for (what, holds) in checks {
        println!("{}  {what}", if holds { "ok    " } else { "FAILED" });
        if !holds {
            crate::test::note_failure(what);
        }
    }
    let passed = checks.iter().filter(|(_, holds)| *holds).count() as u64;
    Ok((passed, checks.len() as u64 - passed))
}

fn first(values: &[f64]) -> f64 {
    values.first().copied().unwrap_or(f64::NAN)
}

/// An alert that fires.
struct Alert {
    labels: Value,
    summary: String,
}

impl Alert {
    fn of(&self, label: &str) -> &str {
        self.labels[label].as_str().unwrap_or_default()
    }
}

async fn firing(prometheus: &str) -> Result<Vec<Alert>> {
    let answer: Value = serde_json::from_slice(&get(prometheus, "/api/v1/alerts").await?)?;
    let alerts = answer["data"]["alerts"].as_array().context("Prometheus shows no alerts")?;
    let firing = alerts.iter().filter(|it| it["state"] == "firing").map(|it| Alert {
        labels: it["labels"].clone(),
        summary: it["annotations"]["summary"].as_str().unwrap_or_default().to_owned(),
    });
    Ok(firing.collect())
}

/// The values that a query gives now.
async fn query(prometheus: &str, query: &str) -> Result<Vec<f64>> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer: Value = serde_json::from_slice(&get(prometheus, &format!("/api/v1/query?query={encoded}")).await?)?;
    let found = answer["data"]["result"].as_array().context("Prometheus does not answer the query")?;
    Ok(found.iter().filter_map(|it| it["value"][1].as_str()?.parse().ok()).collect())
}

/// Waits for something; an error is one more reason to wait.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        let why = match look().await {
            Ok(Some(it)) => return Ok(it),
            Ok(None) => "it does not".to_owned(),
            Err(e) => format!("{e:#}"),
        };
        anyhow::ensure!(begun.elapsed() < ALERT_MAX, "waited {} s until {what}: {why}", ALERT_MAX.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
