//! The data plane at work with nothing else: a synthetic network in this process, read and served like a real one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use gp_index::system_now_us;
use gp_serve::LogCounts;
use gp_synth::{Network, Size, Spec};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::{
    serve::{Plane, install_tls, stop_on_signals},
    settings::{Access, DemoSettings, EMBEDDED, SITEMAP_URL, Settings},
    telemetry,
};

/// Records for each account of the network.
const RECORDS_PER_ACCOUNT: u64 = 30;

/// The demo keeps within 512 MiB.
const NEAR_CACHE_MIB: u64 = 64;
const BLOCK_CACHE_MIB: u64 = 32;
const TIMELINE_WINDOW_MIB: u64 = 32;
const GRAPH_MIB: u64 = 16;

/// How often progress is shown where there is no terminal to draw on.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Runs the demo until it is told to stop.
pub(crate) fn run(demo: DemoSettings) -> Result<()> {
    let log = telemetry::start("warn");
    install_tls();
    let runtime = gp_serve::runtime().context("cannot start threads")?;
    let stop = CancellationToken::new();
    let temporary = tempfile::Builder::new().prefix("groundplane-demo-").tempdir().context("a folder for the data")?;
    let data_dir = demo.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let result = runtime.block_on(async {
        stop_on_signals(&stop, false)?;
        tokio::select! {
            result = show(&demo, data_dir, temporary.path(), stop.clone(), Arc::clone(&log.counts)) => result,
            // Before serving has begun there is nothing to end in order.
            () = async { stop.cancelled().await; tokio::time::sleep(Duration::from_secs(9)).await } => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn show(
    demo: &DemoSettings,
    data_dir: PathBuf,
    temporary: &Path,
    stop: CancellationToken,
    logs: Arc<LogCounts>,
) -> Result<()> {
    telemetry::say(&format!("Making a network of {} accounts (seed {}) ...", demo.accounts, demo.seed));
    let begun = Instant::now();
    let records = u64::from(demo.accounts) * RECORDS_PER_ACCOUNT;
    let mut spec = Spec::new(Size::Custom { accounts: demo.accounts, records }, demo.seed, system_now_us());
    spec.keep_model = false;
    spec.spill_to = Some(temporary.to_owned());
    let network = tokio::select! {
        network = Network::start(spec) => network?,
        () = stop.cancelled() => return Ok(()),
    };
    let stats = network.stats();
    telemetry::say(&format!(
        "{} accounts and {} signed events in {:.1} s. Reading them through the firehose ...",
        stats.accounts,
        stats.retained_events,
        begun.elapsed().as_secs_f64()
    ));
    let settings = settings(demo, &network, data_dir);
    let plane = Plane::start(&settings, true, logs).await?;
    load(&plane, network.head_seq(), &stop).await;
    if stop.is_cancelled() {
        return plane.serve(stop).await;
    }
    telemetry::say(&what_to_try(&plane, &network));
    let _live = network.live(f64::from(demo.live_rate));
    if demo.once {
        stop.cancel();
    }
    plane.serve(stop).await?;
    Ok(())
}

fn settings(demo: &DemoSettings, network: &Network, data_dir: PathBuf) -> Settings {
    Settings {
        backfill: Vec::new(),
        backfill_repos_max: 16,
        backfill_host_repos_max: 4,
        backfill_host_rate: 8.0,
        listen: demo.listen,
        admin_listen: demo.admin_listen,
        data_dir,
        roles: vec!["ingest".into(), "read".into()],
        relay_url: vec![network.relay_url()],
        relay_start: "oldest".into(),
        plc_url: network.plc_url(),
        did_resolver_url: Some(network.plc_url()),
        handle_resolver_url: Some(network.handle_resolver_url()),
        bsync_url: None,
        bsync_api_key: None,
        bsync_http_version: "1.1".into(),
        labeler_url: vec![network.labeler_url()],
        store: EMBEDDED.into(),
        access: Access::default(),
        sitemap_url: SITEMAP_URL.into(),
        memcached: None,
        admin_token: None,
        auth_token: Vec::new(),
        require_auth: false,
        caller: vec!["appview".into(), "cli".into()],
        caller_background: Vec::new(),
        keys_max: 100_000,
        near_cache_mib: Some(NEAR_CACHE_MIB),
        timeline_window_mib: Some(TIMELINE_WINDOW_MIB),
        graph_mib: Some(GRAPH_MIB),
        block_cache_mib: Some(BLOCK_CACHE_MIB),
        audit_keys_per_second: 20,
        exit_on_stdin_eof: false,
        allow_private_networks: true,
        otlp_url: None,
        log: "warn".into(),
    }
}

/// Shows how far reading has come, until everything is applied.
async fn load(plane: &Plane, head: i64, stop: &CancellationToken) {
    let Some(ingest) = &plane.ingest else { return };
    let bar = ProgressBar::with_draw_target(Some(head.unsigned_abs()), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} events  {per_sec}  {eta} left  {msg}") {
        bar.set_style(style);
    }
    let drawn = !bar.is_hidden();
    let begun = Instant::now();
    let mut said = Instant::now();
    loop {
        let (seq, pending) = ingest.snapshot();
        bar.set_position(seq.unsigned_abs());
        bar.set_message(format!("lag {} events, {pending} pending", (head - seq).max(0)));
        if (seq >= head && pending == 0) || stop.is_cancelled() {
            break;
        }
        if !drawn && said.elapsed() >= LINE_EVERY {
            said = Instant::now();
            let rate = seq as f64 / begun.elapsed().as_secs_f64();
            telemetry::say(&format!("{seq}/{head} events, {rate:.0}/s, {pending} pending"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    telemetry::say(&format!("{head} events applied in {seconds:.1} s ({:.0}/s).", head as f64 / seconds));
}

fn what_to_try(plane: &Plane, network: &Network) -> String {
    let picks = network.pick();
    let url = format!("http://{}", plane.listen);
    let option = if plane.listen.port() == 2585 { String::new() } else { format!(" --url {url}") };
    format!(
        "\nReady.\n  gRPC for an AppView   {url}\n  admin and dashboard   http://{admin}/\n\nTry, in another terminal:\n  groundplane get{option} GetTimeline '{{\"actorDid\": \"{reader}\", \"limit\": 5}}'\n  groundplane get{option} GetThread '{{\"postUri\": \"{thread}\", \"above\": 0, \"below\": 6}}'\n  groundplane get{option} GetCountsForUsers '{{\"dids\": [\"{hub}\"]}}'\n  groundplane get{option} GetFollowers '{{\"actorDid\": \"{hub}\", \"limit\": 10}}'\n  groundplane get{option} SearchPosts '{{\"term\": \"\\\"our cat\\\" -ferry\", \"limit\": 5}}'\n  groundplane get{option} SearchActors '{{\"term\": \"otter\", \"limit\": 5}}'\n(groundplane is target/release/groundplane if you run from the repository. New events keep coming; Ctrl-C ends.)\n",
        admin = plane.admin,
        reader = picks.reader_did,
        thread = picks.long_thread_uri,
        hub = picks.hub_did,
    )
}
