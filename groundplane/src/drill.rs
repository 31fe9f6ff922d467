//! Drills on the operator's own machine, and the two servers that they need beside the product.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gp_drill::{
    april,
    bare::Depth,
    confine, others,
    rig::{Rig, Scale},
    scripted::Scripted,
    twin::Twin,
};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Posts that are served.
const POSTS: usize = 20_000;
/// A drill could not be run here.
const EXIT_NOT_PERMITTED: u8 = 3;

/// What can be drilled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// A caller of 3 x 20,000 keys a second, a frozen log sink, kill -9, 512 MiB, 500 ports; beside a naive twin.
    #[value(name = "april-2026")]
    April2026,
    /// One key is half of all traffic.
    HotKey,
    /// Nothing is in memory, at full load.
    ColdCache,
    /// The store takes 100 ms longer for a while.
    SlowStore,
    /// Ten times what the plane can do.
    Overload,
    /// One of ten callers wants all of it.
    NoisyCaller,
}

/// Settings of `drill`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// What to drill.
    name: Name,
    /// How long each phase lasts, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=600))]
    seconds: u64,
    /// Where the report of april-2026 goes.
    #[arg(long, default_value = "groundplane-drill.html")]
    report: PathBuf,
}

/// Settings of the twin.
#[derive(Debug, Clone, Args)]
pub(crate) struct TwinSettings {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    admin_listen: SocketAddr,
    #[arg(long)]
    memcached: SocketAddr,
    #[arg(long, default_value_t = 20)]
    idle_max: usize,
    #[arg(long, default_value_t = 1)]
    store_ms: u64,
}

/// Settings of the scripted plane.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScriptedSettings {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    admin_listen: SocketAddr,
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long, default_value_t = 0)]
    near_cache_mib: u64,
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    #[arg(long, value_delimiter = ',', default_value = "appview")]
    caller: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    caller_background: Vec<String>,
}

/// Settings of the bare server.
#[derive(Debug, Clone, Args)]
pub(crate) struct BareSettings {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    admin_listen: SocketAddr,
    /// The folder of posts that is read.
    #[arg(long, required_unless_present_any = ["encode", "constant"])]
    data_dir: Option<PathBuf>,
    /// A message that is encoded as the answer of every call; nothing is read.
    #[arg(long, conflicts_with = "data_dir")]
    encode: Option<PathBuf>,
    /// A message that is sent as the answer of every call.
    #[arg(long, conflicts_with_all = ["data_dir", "encode"])]
    constant: Option<PathBuf>,
}

/// Runs a drill. The exit code is 0 if every check passed, 1 if one failed, 3 if this machine does not permit it.
pub(crate) fn run(settings: &Settings) -> ExitCode {
    if let Err(why) = confine::enter() {
        telemetry::complain(&format!("groundplane: not drilled: {why}"));
        return ExitCode::from(EXIT_NOT_PERMITTED);
    }
    let done = drill(settings);
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            telemetry::complain(&format!("groundplane: the drill could not be finished: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn drill(settings: &Settings) -> Result<bool> {
    let bin = std::env::current_exe().context("where this program is")?;
    let runtime = gp_serve::runtime().context("cannot start threads")?;
    let phase = std::time::Duration::from_secs(settings.seconds);
    let say: gp_drill::Say<'_> = &telemetry::say;
    runtime.block_on(async {
        let rows = match settings.name {
            Name::April2026 => {
                let found = april::run(&april::Plan { bin, phase }, say).await?;
                std::fs::write(&settings.report, found.html())
                    .with_context(|| format!("{}: cannot be written", settings.report.display()))?;
                say(&format!("report: {}", settings.report.display()));
                found.rows
            }
            name => {
                let rig = Rig::new(&bin, POSTS, 0, say).await?;
                let scale = Scale::of(phase);
                vec![match name {
                    Name::HotKey => others::hot_key(&rig, &scale).await?,
                    Name::ColdCache => others::cold_cache(&rig, &scale).await?,
                    Name::SlowStore => others::slow_store(&rig, &scale).await?,
                    Name::Overload => others::overload(&rig, &scale).await?,
                    Name::April2026 | Name::NoisyCaller => others::noisy_caller(&rig, &scale).await?,
                }]
            }
        };
        rows.iter().for_each(|row| say(&row.lines()));
        let (passed, failed, skipped) = gp_drill::verdict::tally(&rows);
        say(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
        Ok(failed == 0 && passed > 0)
    })
}

/// Serves as the twin until it is killed.
pub(crate) fn twin(settings: TwinSettings) -> Result<()> {
    let runtime = gp_serve::runtime().context("cannot start threads")?;
    let TwinSettings { listen, admin_listen: admin, memcached, idle_max, store_ms } = settings;
    runtime.block_on(gp_drill::twin::serve(Twin { listen, admin, memcached, idle_max, store_ms }))
}

/// Serves as the bare server until it is killed.
pub(crate) fn bare(settings: BareSettings) -> Result<()> {
    let runtime = gp_serve::runtime().context("cannot start threads")?;
    let depth = match (settings.constant, settings.encode, settings.data_dir) {
        (Some(message), ..) => Depth::Constant(message),
        (_, Some(message), _) => Depth::Encode(message),
        (.., data_dir) => Depth::Read(data_dir.context("--data-dir is missing")?),
    };
    runtime.block_on(gp_drill::bare::serve(settings.listen, settings.admin_listen, &depth))
}

/// Serves as the scripted plane.
pub(crate) fn scripted(settings: ScriptedSettings) -> Result<()> {
    let log = telemetry::start("warn");
    let runtime = gp_serve::runtime().context("cannot start threads")?;
    let stop = CancellationToken::new();
    let scripted = Scripted {
        listen: settings.listen,
        admin: settings.admin_listen,
        data_dir: settings.data_dir,
        near_cache_bytes: settings.near_cache_mib << 20,
        delay_us: settings.delay_us,
        callers: settings.caller,
        background: settings.caller_background,
    };
    runtime.block_on(async {
        crate::serve::stop_on_signals(&stop, false)?;
        gp_drill::scripted::serve(scripted, Arc::clone(&log.counts), stop).await
    })
}
