//! Assembly: store, writer, network in, network out, and an orderly end.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::StreamExt;
use gp_index::{Cx, graph::Graph, names::Names, system_now_us, tables, window::Window};
use gp_ingest::{BackfillConfig, BsyncConfig, Identity, IdentityConfig, Ingest, RelayStart};
use gp_search::Search;
use gp_serve::{LogCounts, Server, Traces};
use gp_store::{Store, Writer, WriterConfig};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::{
    figures::IngestFigures,
    operator::{Operations, failures},
    otlp::{Exporter, Sending, Service},
    settings::{EMBEDDED, Settings},
    telemetry,
};

/// Time given to the last reads and writes once serving has ended.
const LAST_WORK_MAX: Duration = Duration::from_secs(2);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// For how long the index of words of another process may be away before it has to be built again.
const CHANGES_KEPT_FOR: Duration = Duration::from_secs(3_600);

/// How often somebody who follows another process looks whether the window of timelines must be filled again.
const WINDOW_LOOK_EVERY: Duration = Duration::from_millis(100);

/// How soon filling it is tried again: the process that writes, or the cluster, may not be there.
const FILL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often the store is asked whether it goes on.
const STORE_LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often it is asked whether the backfill is done.
const BACKFILL_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Longest wait for what follows from it.
const BACKFILL_LAST_WORK_MAX: Duration = Duration::from_secs(60);

/// Where in the data folder the index of words is.
const SEARCH_FOLDER: &str = "search";

/// Runs until it is told to stop.
pub(crate) fn run(settings: Settings) -> Result<()> {
    start(settings, false).map(drop)
}

/// Runs until the backfill is done, or until it is told to stop; then it goes on with the next start. Prints the repos
/// that could not be read and returns how many there are.
pub(crate) fn backfill(settings: Settings) -> Result<u64> {
    start(settings, true)
}

fn start(settings: Settings, ends: bool) -> Result<u64> {
    let log = telemetry::start(&settings.log);
    install_tls();
    let runtime = gp_serve::runtime().context("cannot start threads")?;
    let stop = CancellationToken::new();
    let result = runtime.block_on(async {
        stop_on_signals(&stop, settings.exit_on_stdin_eof)?;
        let plane = tokio::select! {
            plane = Plane::start(&settings, true, Arc::clone(&log.counts)) => plane?,
            // A start may wait for a cluster, or for the process before this one to let go of writing.
            () = stop.cancelled() => return Ok(0),
        };
        tracing::info!(
            listen = %plane.listen, admin = %plane.admin, version = env!("CARGO_PKG_VERSION"), "ready to serve"
        );
        let watched = plane.ingest.clone().filter(|_| ends);
        let watch = watched.map(|ingest| tokio::spawn(backfilled(ingest, stop.clone())));
        plane.serve(stop).await?;
        match watch {
            Some(watch) => watch.await.context("watching the backfill stopped")?,
            None => Ok(0),
        }
    });
    runtime.shutdown_timeout(LAST_WORK_MAX);
    result
}

/// Waits until nothing is left to be read, prints what could not be, and tells everybody to stop.
async fn backfilled(ingest: Ingest, stop: CancellationToken) -> Result<u64> {
    let now = || ingest.backfill_figures().unwrap_or_default();
    if now().done {
        // Somebody who asks once more wants to know of what has come since.
        ingest.backfill_again().await?;
    }
    let mut look = tokio::time::interval(BACKFILL_LOOK_EVERY);
    let mut done_since: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return Ok(0),
        }
        if !now().done {
            done_since = None;
            continue;
        }
        // Identities that came with it are looked up as well; a stream that goes on beside it has always some work.
        let done_for = done_since.get_or_insert_with(Instant::now).elapsed();
        if ingest.pending() == 0 || done_for > BACKFILL_LAST_WORK_MAX {
            break;
        }
    }
    let mut lines = failures(ingest.clone());
    while let Some(page) = lines.next().await {
        let page = page?;
        let text = String::from_utf8_lossy(&page);
        if !text.is_empty() {
            telemetry::say(text.trim_end());
        }
    }
    drop(lines);
    let given_up = now().given_up;
    stop.cancel();
    Ok(given_up)
}

/// TLS for what we dial. A provider that is installed already serves as well.
pub(crate) fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Everything that runs in this process.
pub(crate) struct Plane {
    /// Where gRPC is served.
    pub(crate) listen: SocketAddr,
    /// Where the admin port is.
    pub(crate) admin: SocketAddr,
    /// What calls are given.
    pub(crate) cx: Cx,
    /// What the network brings; none without the role.
    pub(crate) ingest: Option<Ingest>,
    socket: TcpSocket,
    admin_socket: TcpSocket,
    config: gp_serve::Config,
    operations: Arc<Operations>,
    search: Arc<Search>,
    filling: tokio::task::JoinHandle<()>,
    filling_graph: JoinHandle<()>,
    traces: Option<Sending>,
    writer_thread: JoinHandle<()>,
}

impl Plane {
    /// Opens the store, binds the ports and begins to follow the network. `with_ingest` false leaves the network out
    /// until [`Plane::follow`].
    pub(crate) async fn start(settings: &Settings, with_ingest: bool, logs: Arc<LogCounts>) -> Result<Self> {
        let socket = bind(settings.listen, "--listen")?;
        let admin_socket = bind(settings.admin_listen, "--admin-listen")?;
        let store = open(settings).await?;
        store.start_audit(settings.audit_keys_per_second);
        let (writer, writer_thread) = Writer::start(store.clone(), WriterConfig::default())?;
        let identity = Identity::new(identity_config(settings))?;
        let folder = settings.data_dir.join(SEARCH_FOLDER);
        let search_config = gp_search::Config {
            follows: store.follows(),
            changes_kept_for: if settings.store == EMBEDDED { Duration::ZERO } else { CHANGES_KEPT_FOR },
            ..Default::default()
        };
        let search = Search::start(&folder, store.clone(), writer.clone(), search_config).await?;
        let caches = settings.caches(gp_serve::host::memory_limit_bytes());
        let names = Names::new(caches.graph.saturating_add(caches.window));
        let window = Window::over(&store, &names, caches.window);
        let graph = Graph::over(&store, &names, caches.graph);
        let cx = Cx {
            window: Arc::clone(&window),
            graph: Arc::clone(&graph),
            store,
            writer,
            identity: Arc::new(identity.clone()),
            search: Arc::clone(&search) as _,
            sitemap_url: settings.sitemap_url.as_str().into(),
            damage: Arc::default(),
            now_us: system_now_us,
        };
        if !cx.store.follows() {
            // Before the first event comes.
            gp_index::window::begin(&cx.store, &cx.writer, system_now_us()).await?;
        }
        let filling = tokio::spawn(keep_filled(window, cx.clone()));
        let filling_graph = fill_graph(graph, cx.store.clone())?;
        let ingest = if with_ingest && settings.has_role("ingest") {
            Some(Ingest::start(cx.clone(), identity, ingest_config(settings)).await?)
        } else {
            None
        };
        let operations = Arc::new(Operations {
            cx: cx.clone(),
            ingest: ingest.clone(),
            search: Arc::clone(&search),
            roles: settings.roles.clone(),
            store_name: settings.store.clone(),
        });
        let (traces, sending) = match &settings.otlp_url {
            Some(url) => {
                let service = Service {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    instance: socket.local_addr()?.to_string(),
                };
                let (exporter, sending) = Exporter::start(url, service)?;
                (Some(exporter as Arc<dyn Traces>), Some(sending))
            }
            None => (None, None),
        };
        let config = gp_serve::Config {
            callers: settings.caller.clone(),
            background: settings.caller_background.clone(),
            auth_tokens: settings.auth_token.clone(),
            require_auth: settings.require_auth,
            admin_token: settings.admin_token.clone(),
            keys_max: settings.keys_max,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_hash: Some(settings.hash()),
            logs,
            traces,
            ..Default::default()
        };
        Ok(Self {
            listen: socket.local_addr()?,
            admin: admin_socket.local_addr()?,
            cx,
            ingest,
            socket,
            admin_socket,
            config,
            operations,
            search,
            filling,
            filling_graph,
            traces: sending,
            writer_thread,
        })
    }

    /// Serves until told to stop, then ends everything in order: calls, network, writer.
    pub(crate) async fn serve(self, stop: CancellationToken) -> Result<()> {
        let Self {
            cx,
            ingest,
            socket,
            admin_socket,
            config,
            operations,
            search,
            filling,
            filling_graph,
            traces,
            writer_thread,
            ..
        } = self;
        let server = Server::new(cx.clone(), Arc::clone(&operations) as _, config)?;
        if let Some(ingest) = &ingest {
            server.metrics().add(Arc::new(IngestFigures(ingest.clone())));
        }
        let listener = socket.listen(BACKLOG).context("--listen: somebody else listens there")?;
        let admin_listener = admin_socket.listen(BACKLOG).context("--admin-listen: somebody else listens there")?;
        let watch = tokio::spawn(store_ends(cx.store.clone(), stop.clone()));
        server.serve(listener, Some(admin_listener), stop).await;
        watch.abort();
        let ended = watch.await.ok();
        tracing::info!("calls have ended");
        if let Some(traces) = traces {
            traces.end().await;
        }
        if let Some(ingest) = &ingest {
            ingest.shutdown().await;
        }
        search.stop(LAST_WORK_MAX);
        filling.abort();
        cx.graph.stop();
        // What it holds is let go, whether it had ended or not.
        let _ = filling.await;
        // The writer ends when the last of those who could send to it is gone.
        drop((ingest, operations, search, cx));
        let begun = Instant::now();
        while !(writer_thread.is_finished() && filling_graph.is_finished()) && begun.elapsed() < LAST_WORK_MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if writer_thread.is_finished() && writer_thread.join().is_err() {
            anyhow::bail!("the writer failed; what was applied is on disk");
        }
        if let Some(why) = ended {
            anyhow::bail!(why);
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Keeps the window of timelines filled. Until it is, and if that fails, timelines are read from the store.
async fn keep_filled(window: Arc<Window>, cx: Cx) {
    let follows = cx.store.follows();
    loop {
        // Until the first news whatever is read will be dropped, and a cluster in trouble need not be asked for everything.
        if !window.ready() && cx.store.hears() {
            match window.fill(&cx).await {
                Ok(()) => {}
                Err(error) if follows => {
                    tracing::debug!(%error, "the window of timelines cannot be filled for now");
                    tokio::time::sleep(FILL_AGAIN_AFTER).await;
                }
                Err(error) => tracing::error!(%error, "timelines are read from the store: filling their window failed"),
            }
        }
        if !follows {
            return;
        }
        // Batches that were missed empty it.
        tokio::time::sleep(WINDOW_LOOK_EVERY).await;
    }
}

/// Keeps the graph of follows filled, on a thread of its own: reading everything takes long where there is much. Until it
/// is, and if that fails, follows are read from the store.
fn fill_graph(graph: Arc<Graph>, store: Store) -> Result<JoinHandle<()>> {
    let keep = move || {
        let follows = store.follows();
        while !graph.stopped() {
            let mut wait = WINDOW_LOOK_EVERY;
            if graph.wants_filling() && store.hears() {
                match graph.fill(&store) {
                    Ok(()) => {}
                    Err(error) if follows => {
                        tracing::debug!(%error, "the graph of follows cannot be filled for now");
                        wait = FILL_AGAIN_AFTER;
                    }
                    Err(error) => {
                        tracing::error!(%error, "follows are read from the store: filling their graph failed");
                        return;
                    }
                }
            }
            if !follows && !graph.wants_filling() {
                return;
            }
            // Batches that were missed empty it.
            std::thread::sleep(wait);
        }
    };
    std::thread::Builder::new().name("graph".into()).spawn(keep).context("cannot start a thread for the graph")
}

/// Waits until the store takes no more changes for good, and tells everybody to stop. Where another process writes now,
/// this one must not go on answering from what it remembers.
async fn store_ends(store: Store, stop: CancellationToken) -> gp_store::Error {
    let mut look = tokio::time::interval(STORE_LOOK_EVERY);
    loop {
        look.tick().await;
        if let Some(why) = store.local().ended() {
            tracing::error!(error = %why, "the store has ended; stopping");
            stop.cancel();
            return why;
        }
    }
}

/// Takes an address, so that one that is taken already is told of before anything is opened. Nobody can connect until it
/// is listened to: a caller that comes while the store is being opened is refused and asks another host, instead of
/// waiting for an answer.
fn bind(address: SocketAddr, flag: &str) -> Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What an earlier process has left in TIME_WAIT must not keep the next one out.
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("{flag}: cannot listen on {address}"))?;
    Ok(socket)
}

/// Every table that a store of this program holds.
pub(crate) fn all_tables() -> Vec<&'static gp_store::Table> {
    [tables::ALL, gp_ingest::TABLES, gp_search::TABLES, gp_store::TABLES].concat()
}

/// Opens the store. In front of a cluster a process that ingests waits here until it is the one that writes.
async fn open(settings: &Settings) -> Result<Store> {
    let all = all_tables();
    let caches = settings.caches(gp_serve::host::memory_limit_bytes());
    let config =
        gp_store::Config { near_cache_bytes: caches.near, block_cache_bytes: caches.block, ..Default::default() };
    let nodes = settings.memcached_nodes();
    let writes = settings.has_role("ingest");
    let behind = move |store: Store| -> Result<Store> {
        if nodes.is_empty() {
            return Ok(store);
        }
        Ok(store.with_memcached(gp_store::FarConfig { nodes, writes, ..Default::default() })?)
    };
    if settings.store == EMBEDDED {
        return behind(Store::lsm(&settings.data_dir, &all, &config)?);
    }
    let cluster = settings.access.cluster(settings.store.parse().map_err(anyhow::Error::msg)?, writes);
    let cluster = cluster.map_err(|wrong| anyhow::Error::msg(wrong.0))?;
    let opened = tokio::task::spawn_blocking(move || -> Result<Store> {
        let store = Store::cql(&cluster, &all, &config)?;
        if writes {
            store.local().lead()?;
        }
        Ok(store)
    });
    behind(opened.await.context("opening the store stopped")??)
}

fn identity_config(settings: &Settings) -> IdentityConfig {
    IdentityConfig {
        plc_url: settings.plc_url.clone(),
        did_resolver_url: settings.did_resolver_url.clone(),
        handle_resolver_url: settings.handle_resolver_url.clone(),
        allow_private_networks: settings.allow_private_networks,
        ..Default::default()
    }
}

fn ingest_config(settings: &Settings) -> gp_ingest::Config {
    gp_ingest::Config {
        relay_urls: settings.relay_url.clone(),
        relay_start: if settings.relay_start == "oldest" { RelayStart::Oldest } else { RelayStart::Now },
        bsync: settings
            .bsync_url
            .as_ref()
            .map(|url| BsyncConfig::new(url.clone(), settings.bsync_api_key.clone().unwrap_or_default())),
        labeler_urls: settings.labeler_url.clone(),
        backfill: (!settings.backfill.is_empty()).then(|| BackfillConfig {
            repos_running_max: settings.backfill_repos_max.into(),
            repos_per_host_max: settings.backfill_host_repos_max.into(),
            requests_per_host_second_max: settings.backfill_host_rate,
            ..BackfillConfig::new(settings.backfill.clone())
        }),
        // On the disk that the operator gave us, not in what may be memory.
        spool_dir: settings.data_dir.clone(),
        ..Default::default()
    }
}

/// Stops on SIGTERM, on Ctrl-C, and, if asked, when standard input closes.
pub(crate) fn stop_on_signals(stop: &CancellationToken, on_stdin_eof: bool) -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("told to stop");
        token.cancel();
    });
    if on_stdin_eof {
        let token = stop.clone();
        // A thread of its own: reading standard input cannot be cancelled, and must not hold up the end.
        std::thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut nothing = [0; 256];
            loop {
                match std::io::Read::read(&mut std::io::stdin().lock(), &mut nothing) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            token.cancel();
        })?;
    }
    Ok(())
}
