//! `groundplane copy`: moves all rows from one store to another, from a folder to a cluster and back.
//!
//! What is copied, how it goes on after a stop, and how it is verified is the store's business (`gp_store::copy`); here
//! are addresses, progress for people, and exit codes.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use gp_store::{Copied, CopyEnd, CopyProgress, CopyStep, Store, engine::cql::CqlConfig};

use crate::{
    serve,
    settings::{Access, EMBEDDED, Wrong},
    telemetry,
};

/// Stopped before the end, as a shell says it of Ctrl-C.
const EXIT_STOPPED: u8 = 130;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Settings of `copy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CopySettings {
    /// What is copied: embedded:DIR, or a cluster as cql://host:port,host:port/keyspace. Nobody may write to it meanwhile.
    #[arg(long)]
    pub(crate) from: String,
    /// Where to: the same forms. It must be empty, or hold a part of the same copy: then that is gone on with.
    #[arg(long)]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) access: Access,
    /// Block cache of an embedded store, in MiB.
    #[arg(long, env = "GROUNDPLANE_BLOCK_CACHE_MIB", default_value_t = 64)]
    pub(crate) block_cache_mib: u64,
}

/// One side of a copy.
#[derive(Debug, Clone)]
enum Side {
    Folder(PathBuf),
    Cluster(Box<CqlConfig>),
}

impl CopySettings {
    fn side(&self, flag: &str, text: &str) -> Result<Side, Wrong> {
        if let Some(dir) = text.strip_prefix(EMBEDDED).and_then(|rest| rest.strip_prefix(':')) {
            if dir.is_empty() {
                return Err(Wrong(format!("{flag}: embedded: needs a folder, as in embedded:/var/lib/groundplane")));
            }
            return Ok(Side::Folder(dir.into()));
        }
        if !text.starts_with("cql://") {
            return Err(Wrong(format!("{flag}: {text:?} is neither embedded:DIR nor cql://host:port/keyspace")));
        }
        let address = text.parse().map_err(|why| Wrong(format!("{flag}: {why}")))?;
        Ok(Side::Cluster(Box::new(self.access.clone().checked()?.cluster(address, true)?)))
    }

    fn sides(&self) -> Result<(Side, Side), Wrong> {
        if self.from == self.to {
            return Err(Wrong("--from and --to are the same".into()));
        }
        let (from, to) = (self.side("--from", &self.from)?, self.side("--to", &self.to)?);
        if let Side::Folder(dir) = &from
            && !dir.is_dir()
        {
            return Err(Wrong(format!("--from: there is no folder {}", dir.display())));
        }
        Ok((from, to))
    }
}

/// Copies. Ends with 0 when both sides hold the same, 1 when something failed, 130 when it was stopped.
pub(crate) fn run(settings: &CopySettings) -> Result<ExitCode, Wrong> {
    let (from, to) = settings.sides()?;
    let _log = telemetry::start("warn");
    serve::install_tls();
    Ok(match copy(settings, &from, &to) {
        Ok(code) => code,
        Err(e) => {
            telemetry::complain(&format!("groundplane: {e:#}"));
            ExitCode::FAILURE
        }
    })
}

fn copy(settings: &CopySettings, from: &Side, to: &Side) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let (from, to) = (open(from, settings).context("--from")?, open(to, settings).context("--to")?);
    let mut shown = Shown { step: None, at: Instant::now() };
    let mut go_on = |progress: CopyProgress| {
        shown.show(&progress);
        !stop.load(Ordering::Relaxed)
    };
    match gp_store::copy(&from, &to, &settings.from, gp_index::tables::partition_len, &mut go_on)? {
        CopyEnd::Stopped => {
            telemetry::complain("groundplane: stopped before the end; the same command goes on from here");
            Ok(ExitCode::from(EXIT_STOPPED))
        }
        CopyEnd::Done(tables) => Ok(told(&tables)),
    }
}

/// Says what each table holds on both sides.
fn told(tables: &[Copied]) -> ExitCode {
    for it in tables.iter().filter(|it| it.from.rows > 0 || it.to.rows > 0) {
        let verdict = if it.is_same() { "same" } else { "DIFFERENT" };
        telemetry::say(&format!(
            "{:<20} {:>12} rows {:>14} bytes  sum {:032x}  {verdict}",
            it.table.name, it.to.rows, it.to.bytes, it.to.hash
        ));
    }
    let rows: u64 = tables.iter().map(|it| it.to.rows).sum();
    let different = tables.iter().filter(|it| !it.is_same()).count();
    if different == 0 {
        telemetry::say(&format!("{rows} rows copied; every table has the same sum on both sides"));
        return ExitCode::SUCCESS;
    }
    telemetry::complain(&format!(
        "groundplane: {different} tables differ: somebody wrote to one side meanwhile. Stop that, empty the destination, and copy again"
    ));
    ExitCode::FAILURE
}

fn open(side: &Side, settings: &CopySettings) -> Result<Store> {
    let tables = serve::all_tables();
    let config = gp_store::Config {
        near_cache_bytes: 0,
        block_cache_bytes: settings.block_cache_mib << 20,
        ..Default::default()
    };
    Ok(match side {
        Side::Folder(dir) => Store::lsm(dir, &tables, &config)?,
        Side::Cluster(cluster) => {
            let store = Store::cql(cluster, &tables, &config)?;
            telemetry::say(&format!("waiting until nobody else writes to {}", cluster.address));
            store.local().lead()?;
            store
        }
    })
}

/// What was told last.
struct Shown {
    step: Option<CopyStep>,
    at: Instant,
}

impl Shown {
    fn show(&mut self, progress: &CopyProgress) {
        if self.step == Some(progress.step) && self.at.elapsed() < TELL_EVERY {
            return;
        }
        (self.step, self.at) = (Some(progress.step), Instant::now());
        telemetry::say(&line(progress));
    }
}

fn line(progress: &CopyProgress) -> String {
    let what = match progress.step {
        CopyStep::Survey => "looking",
        CopyStep::Copy => "copying",
        CopyStep::Verify => "verifying",
    };
    let seconds = progress.took.as_secs_f64().max(0.001);
    let rate = progress.rows_now as f64 / seconds;
    let mib = progress.bytes as f64 / f64::from(1 << 20) / seconds;
    let left = progress.rows_all.saturating_sub(progress.rows);
    match progress.rows_all {
        0 => format!("{what}: {} rows, {rate:.0} a second, {mib:.1} MiB/s", progress.rows),
        all if rate < 1.0 => format!("{what}: {} of {all} rows", progress.rows),
        all => format!(
            "{what}: {} of {all} rows, {rate:.0} a second, {mib:.1} MiB/s, {:.0} s to go",
            progress.rows,
            left as f64 / rate
        ),
    }
}

/// Set once the process is told to stop. A second Ctrl-C ends it at once; that costs nothing but a batch.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                if told.swap(true, Ordering::Relaxed) {
                    std::process::exit(EXIT_STOPPED.into());
                }
            }
        });
    })?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_how_fast_and_how_long() {
        let mut progress = CopyProgress {
            step: CopyStep::Copy,
            rows: 3_000,
            rows_all: 9_000,
            bytes: 4 << 20,
            rows_now: 2_000,
            took: Duration::from_secs(2),
        };
        assert_eq!(line(&progress), "copying: 3000 of 9000 rows, 1000 a second, 2.0 MiB/s, 6 s to go");
        (progress.step, progress.rows_all) = (CopyStep::Survey, 0);
        assert_eq!(line(&progress), "looking: 3000 rows, 1000 a second, 2.0 MiB/s");
        (progress.rows_all, progress.rows_now) = (9_000, 0);
        assert_eq!(line(&progress), "looking: 3000 of 9000 rows", "no rate, no time");
    }
}
