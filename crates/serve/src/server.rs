//! The server: what all calls share, its two ports, and how it starts and stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use gp_index::Cx;
use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, ConfigError, Metrics, Operator, Rpcs,
    admin::{self, Admin},
    admission::Admission,
    budget::Budget,
    caller::{Callers, Tokens},
    history::{self, History},
    metrics::{BEAT, Live, Process, Pulse, Sockets, memory_limit_bytes},
    top::{SLOT, Top},
    transport::{Connections, Port, grpc},
};

/// How long requests to the admin port may take to end once calls have ended.
const ADMIN_DRAIN: Duration = Duration::from_millis(500);

/// The part of the memory that requests and answers may take, and the most of it, in bytes.
const MEMORY_PART: u64 = 4;
const MEMORY_BYTES_MAX: u64 = 1 << 30;

fn bytes_in_flight_max() -> u64 {
    memory_limit_bytes().map_or(MEMORY_BYTES_MAX, |limit| (limit / MEMORY_PART).min(MEMORY_BYTES_MAX))
}

/// Files that are left to the engine, to the network and to the admin port, whatever callers open.
const FILES_OF_OURS: u64 = 128;

/// Connections that callers may have: as configured, if the process may have as many files open. Beyond it, connections
/// wait to be accepted, while everything else still finds a file.
fn connections_max(configured: usize) -> usize {
    let process = Process::read();
    if process.max_fds == 0 {
        return configured;
    }
    let left = process.max_fds.saturating_sub(process.open_fds + FILES_OF_OURS).max(FILES_OF_OURS / 8);
    let connections = usize::try_from(left).map_or(configured, |left| left.min(configured));
    if connections < configured {
        tracing::warn!(
            files = process.max_fds,
            connections,
            "fewer connections of callers than configured: raise the limit of open files"
        );
    }
    connections
}

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) cx: Cx,
    pub(crate) config: Config,
    pub(crate) rpcs: Rpcs,
    pub(crate) callers: Callers,
    pub(crate) tokens: Tokens,
    pub(crate) admission: Admission,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) top: Top,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) connections: Arc<Connections>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) history: History,
}

impl Shared {
    /// Until when a call that has not begun may wait for room.
    pub(crate) fn wait_until(&self, deadline: Instant, now: Instant) -> Instant {
        deadline.min(now + Duration::from_millis(self.config.wait_ms_max))
    }
}

/// How far the process has come.
#[derive(Debug)]
pub(crate) struct Lifecycle(AtomicU8);

impl Lifecycle {
    const SERVING: u8 = 0;
    const DRAINING: u8 = 1;
    const CLOSING: u8 = 2;

    fn new() -> Self {
        Self(AtomicU8::new(Self::SERVING))
    }

    /// Whether new callers should come here.
    pub(crate) fn is_serving(&self) -> bool {
        self.0.load(Relaxed) == Self::SERVING
    }

    /// Whether a call that begins now would be cut off.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.load(Relaxed) == Self::CLOSING
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.0.load(Relaxed) {
            Self::SERVING => "serving",
            Self::DRAINING => "draining",
            _ => "closing",
        }
    }
}

/// A server that has not started yet.
pub struct Server {
    shared: Arc<Shared>,
    operator: Arc<dyn Operator>,
    pulse: Arc<Pulse>,
}

impl Server {
    /// A server of the whole contract.
    ///
    /// # Errors
    ///
    /// A setting that cannot be served with.
    pub fn new(cx: Cx, operator: Arc<dyn Operator>, config: Config) -> Result<Self, ConfigError> {
        Self::with_rpcs(cx, operator, config, Rpcs::contract())
    }

    /// A server of a table of calls, some of which may be answered by other functions.
    ///
    /// # Errors
    ///
    /// A setting that cannot be served with.
    pub fn with_rpcs(cx: Cx, operator: Arc<dyn Operator>, config: Config, rpcs: Rpcs) -> Result<Self, ConfigError> {
        config.check()?;
        let callers = Callers::new(&config.callers, &config.background);
        let shared = Arc::new(Shared {
            tokens: Tokens::new(&config.auth_tokens, config.require_auth),
            admission: Admission::new(config.units_in_flight_max, config.waiting_max, callers.background()),
            budget: Budget::new(config.bytes_in_flight_max.unwrap_or_else(bytes_in_flight_max)),
            metrics: Arc::new(Metrics::new(&rpcs, callers.names(), cx.now_us, Arc::clone(&config.logs))),
            top: Top::new(),
            lifecycle: Lifecycle::new(),
            connections: Arc::new(Connections::default()),
            sockets: Arc::new(Sockets::new(&config.peers)),
            history: History::default(),
            cx,
            config,
            rpcs,
            callers,
        });
        let pulse = Pulse::start();
        shared.metrics.add(Arc::new(Live::new(Arc::downgrade(&shared), Arc::clone(&pulse))));
        Ok(Self { shared, operator, pulse })
    }

    /// The figures, so that other parts can add theirs and count their log lines.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Serves until `shutdown` is cancelled, then drains: no new connection, peers are told to go elsewhere, calls in
    /// flight end, and what has not ended within `drain_ms_max` is cut off. The admin port answers until the end.
    pub async fn serve(self, listener: TcpListener, admin_listener: Option<TcpListener>, shutdown: CancellationToken) {
        let Self { shared, operator, pulse } = self;
        if let Ok(address) = listener.local_addr() {
            shared.sockets.listens(address.port());
        }
        let looking_on = tokio::spawn(look_on(Arc::clone(&shared), Arc::clone(&operator), pulse));

        let (admin_drain, admin_cut) = (CancellationToken::new(), CancellationToken::new());
        let admin = admin_listener.map(|listener| {
            let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
            let port = Port {
                listener,
                connections: Arc::new(Connections::default()),
                connections_max: shared.config.admin_connections_max,
                drain: admin_drain.clone(),
                cut: admin_cut.clone(),
            };
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let service = admin::service(Admin::new(Arc::clone(&shared), operator, loopback));
                port.serve(&shared.config, service).await;
            })
        });

        let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
        let port = Port {
            listener,
            connections: Arc::clone(&shared.connections),
            connections_max: connections_max(shared.config.connections_max),
            drain: drain.clone(),
            cut: cut.clone(),
        };
        let mut serving = std::pin::pin!(port.serve(&shared.config, grpc::service(Arc::clone(&shared))));
        tokio::select! {
            () = serving.as_mut() => {}
            () = shutdown.cancelled() => {
                let lifecycle = &shared.lifecycle.0;
                lifecycle.store(Lifecycle::DRAINING, Relaxed);
                drain.cancel();
                let drain_max = Duration::from_millis(shared.config.drain_ms_max);
                // A call that comes in the last quarter could not be finished; its caller is sent to another host.
                if tokio::time::timeout(drain_max * 3 / 4, serving.as_mut()).await.is_err() {
                    lifecycle.store(Lifecycle::CLOSING, Relaxed);
                    if tokio::time::timeout(drain_max / 4, serving.as_mut()).await.is_err() {
                        tracing::warn!(calls = shared.metrics.calls.inflight_total(), "calls were cut off: they did not end in time");
                        cut.cancel();
                        serving.as_mut().await;
                    }
                }
                lifecycle.store(Lifecycle::CLOSING, Relaxed);
            }
        }

        admin_drain.cancel();
        if let Some(mut admin) = admin
            && tokio::time::timeout(ADMIN_DRAIN, &mut admin).await.is_err()
        {
            admin_cut.cancel();
            // It ends at once now; a panic in it has been shown already.
            let _ = admin.await;
        }
        looking_on.abort();
        // It holds the store, which closes only when nobody does.
        let _ = looking_on.await;
    }
}

/// Serves the whole contract; see [`Server::serve`].
///
/// # Errors
///
/// A setting that cannot be served with.
pub async fn serve(
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    cx: Cx,
    operator: Arc<dyn Operator>,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), ConfigError> {
    Server::new(cx, operator, config)?.serve(listener, admin_listener, shutdown).await;
    Ok(())
}

/// What goes on beside the calls.
async fn look_on(shared: Arc<Shared>, operator: Arc<dyn Operator>, pulse: Arc<Pulse>) {
    let turns = async {
        let mut ticks = every(SLOT);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            shared.top.turn(&shared.metrics.calls);
        }
    };
    let beating = pulse.beating();
    let beats = async {
        let mut ticks = every(BEAT);
        loop {
            ticks.tick().await;
            beating.beat();
            shared.history.peek(&shared);
        }
    };
    let samples = async {
        let mut ticks = every(history::SAMPLE_EVERY);
        loop {
            ticks.tick().await;
            shared.history.sample(&shared, &*operator).await;
        }
    };
    tokio::join!(turns, beats, samples, Arc::clone(&shared.sockets).watch());
}

/// Ticks that are not made up for when they were missed.
fn every(time: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
