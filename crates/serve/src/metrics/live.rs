//! Figures that are kept elsewhere and asked for when the page is made.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use gp_store::{DIAL_RESULTS, FarFigures};
use parking_lot::Mutex;

use super::{
    Page, Source, catalog,
    process::{Process, memory_limit_bytes},
    sockets,
    stall::Pulse,
};
use crate::server::Shared;

/// Shows what the parts of the server say about themselves.
pub(crate) struct Live {
    shared: Weak<Shared>,
    pulse: Arc<Pulse>,
    /// When the busy time of the workers was last asked for, and what it was.
    busy: Mutex<(Instant, Duration)>,
}

impl Live {
    pub(crate) fn new(shared: Weak<Shared>, pulse: Arc<Pulse>) -> Self {
        Self { shared, pulse, busy: Mutex::new((Instant::now(), Duration::ZERO)) }
    }

    /// The part of their time that the workers were busy since the last time this was asked.
    fn busy_ratio(&self, runtime: &tokio::runtime::RuntimeMetrics) -> f64 {
        let workers = runtime.num_workers();
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        let mut last = self.busy.lock();
        let (since, before) = std::mem::replace(&mut *last, (Instant::now(), busy));
        let wall = since.elapsed().as_secs_f64() * workers as f64;
        if wall > 0.0 { (busy.saturating_sub(before).as_secs_f64() / wall).min(1.0) } else { 0.0 }
    }
}

impl Source for Live {
    fn show(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };

        let admission = shared.admission.figures();
        let units = |value: u64| [(["units"], value)].into_iter();
        page.family(&catalog::ADMISSION_LIMIT, units(admission.limit.into()))?;
        page.family(&catalog::ADMISSION_INFLIGHT, units(admission.in_flight.into()))?;
        page.family(&catalog::ADMISSION_QUEUE_DEPTH, units(admission.waiting as u64))?;
        let messages = |value: u64| [(["messages"], value)].into_iter();
        page.family(&catalog::MEMORY_INFLIGHT_BYTES, messages(shared.budget.held()))?;
        page.family(&catalog::MEMORY_INFLIGHT_LIMIT_BYTES, messages(shared.budget.max()))?;
        page.single(&catalog::MEMORY_LIMIT_BYTES, memory_limit_bytes().unwrap_or(0))?;
        page.single(&catalog::CONNECTIONS, shared.connections.open())?;
        page.single(&catalog::ACCEPTED_CONNECTIONS, shared.connections.accepted())?;
        page.single(&catalog::ACCEPT_ERRORS, shared.connections.errors())?;
        let found = shared.sockets.figures();
        page.family(
            &catalog::SOCKETS,
            sockets::PEERS.iter().zip(&found.sockets).flat_map(|(peer, states)| {
                sockets::STATES.iter().zip(states).map(|(state, count)| ([*peer, *state], *count))
            }),
        )?;
        page.family_f64(
            &catalog::EPHEMERAL_PORTS_USED_RATIO,
            sockets::PEERS.iter().zip(found.ports_used).map(|(peer, ratio)| ([*peer], ratio)),
        )?;

        let store = shared.cx.store.figures();
        let near = [(["near", "hit"], store.near_hits), (["near", "miss"], store.near_misses)];
        let far = shared.cx.store.far_figures();
        page.family(&catalog::CACHE_KEYS, near.into_iter().chain(far.iter().flat_map(far_keys)))?;
        if let Some(far) = &far {
            show_far(far, page)?;
        }
        let damaged = shared.cx.damage.figures().map(|(table, count)| ([table, "store"], count));
        let spoiled = far.iter().map(|far| (["far", "cache"], far.spoiled));
        page.family(&catalog::RECORD_DECODE_ERRORS, damaged.into_iter().chain(spoiled))?;
        let audit = shared.cx.store.audit_figures();
        let audited = [("near", audit.near), ("far", audit.far)].into_iter().flat_map(|(entity, it)| {
            [([entity, "fresh"], it.fresh), ([entity, "stale"], it.stale), ([entity, "inconclusive"], it.inconclusive)]
        });
        page.family(&catalog::CACHE_AUDIT, audited)?;
        page.single(&catalog::CACHE_NEAR_BYTES, store.near_bytes)?;
        page.single(&catalog::STORE_INFLIGHT, store.reads_in_flight)?;
        page.single(&catalog::STORE_LIMIT, store.reads_in_flight_max)?;
        page.single(&catalog::STORE_KEYS_READ, store.reads_total)?;
        page.single(&catalog::STORE_ROWS_APPLIED, store.applied_total)?;
        page.single(&catalog::STORE_DISK_BYTES, store.disk_bytes)?;
        page.single(&catalog::STORE_DISK_FREE_BYTES, store.disk_free_bytes)?;
        page.single(&catalog::STORE_JOURNALS, store.journals)?;
        page.single(&catalog::STORE_YOUNG_TABLES, store.young_tables)?;
        page.single(&catalog::STORE_HEDGES, store.hedges)?;
        page.single(&catalog::STORE_RETRIES, store.retries)?;
        if let Some(silence) = shared.cx.store.silence() {
            page.single_f64(&catalog::FEED_SILENT, silence.as_secs_f64())?;
            page.single(&catalog::FEED_BEHIND, shared.cx.store.batches_behind())?;
        }
        let writer = shared.cx.writer.figures();
        page.single(&catalog::WRITER_PENDING, writer.pending)?;
        page.single_f64(&catalog::WRITER_BUSY, writer.busy_us as f64 / 1e6)?;
        page.single(&catalog::WRITER_DISK_FULL, shared.cx.writer.disk_full().into())?;
        page.single(&catalog::WRITER_FAILED, shared.cx.writer.failed().into())?;

        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let runtime = runtime.metrics();
            page.single(&catalog::RUNTIME_TASKS, runtime.num_alive_tasks() as u64)?;
            page.single(&catalog::RUNTIME_QUEUE_DEPTH, runtime.global_queue_depth() as u64)?;
            page.single_f64(&catalog::RUNTIME_WORKER_BUSY_RATIO, self.busy_ratio(&runtime))?;
        }
        page.single_f64(&catalog::RUNTIME_STALL, self.pulse.stalled().as_secs_f64())?;

        let logs = shared.metrics.logs();
        page.family(&catalog::LOG_EVENTS, logs.events().map(|(level, site, lines)| ([level, site], lines)))?;
        page.single(&catalog::LOG_WRITTEN, logs.written_total())?;
        page.family(&catalog::LOG_SUPPRESSED, logs.suppressed().map(|(reason, lines)| ([reason], lines)))?;
        page.single(&catalog::LOG_WAITING, logs.waiting())?;
        let (taken, dropped) = shared.config.traces.as_ref().map_or((0, 0), |it| (it.taken(), it.dropped()));
        page.family(&catalog::TELEMETRY_KEPT, [(["traces"], taken)].into_iter())?;
        page.family(&catalog::TELEMETRY_DROPPED, [(["traces"], dropped)].into_iter())?;
        page.family(&catalog::BUILD_INFO, [([shared.config.version.as_str()], 1)].into_iter())?;
        page.family(&catalog::CONFIG_HASH, shared.config.settings_hash.iter().map(|hash| ([hash.as_str()], 1)))?;

        let process = Process::read();
        page.single_f64(&catalog::PROCESS_CPU, process.cpu_seconds)?;
        page.single(&catalog::PROCESS_RESIDENT, process.resident_bytes)?;
        page.single(&catalog::PROCESS_VIRTUAL, process.virtual_bytes)?;
        page.single(&catalog::PROCESS_THREADS, process.threads)?;
        page.single(&catalog::PROCESS_OPEN_FDS, process.open_fds)?;
        page.single(&catalog::PROCESS_MAX_FDS, process.max_fds)?;
        page.single_f64(&catalog::PROCESS_START_TIME, process.start_time_seconds)
    }
}

/// What memcached said of keys.
fn far_keys(far: &FarFigures) -> [([&'static str; 2], u64); 8] {
    [
        (["far", "hit"], far.hits),
        (["far", "negative"], far.negatives),
        (["far", "stale"], far.refreshes),
        (["far", "miss"], far.misses),
        (["far", "lease_wait"], far.lease_waits),
        (["far", "bypass"], far.bypasses),
        (["far", "timeout"], far.unknown),
        (["far", "breaker"], far.unusable),
    ]
}

fn show_far(far: &FarFigures, page: &mut Page<'_>) -> fmt::Result {
    let nodes = || far.nodes.iter().map(|node| (node.client.address.as_str(), node));
    page.family(
        &catalog::CACHE_CONNECTIONS,
        nodes().flat_map(|(name, node)| {
            let up = node.client.connections_up;
            [([name, "up"], up), ([name, "down"], node.client.connections.saturating_sub(up))]
        }),
    )?;
    page.family(
        &catalog::CACHE_DIALS,
        nodes().flat_map(|(name, node)| DIAL_RESULTS.iter().zip(node.client.dials).map(move |(r, n)| ([name, *r], n))),
    )?;
    page.family(&catalog::CACHE_BACKLOG_BYTES, nodes().map(|(name, node)| ([name], node.client.backlog_bytes)))?;
    page.family(&catalog::CACHE_BREAKER_STATE, nodes().map(|(name, node)| ([name], node.breaker())))?;
    page.family(&catalog::CACHE_LOST, nodes().map(|(name, node)| ([name], node.lost_now)))?;
    let fills = [
        (["far", "stored"], far.fills_stored),
        (["far", "lost_lease"], far.fills_lost_lease),
        (["far", "dropped"], far.fills_dropped),
        (["far", "too_large"], far.fills_too_large),
        (["far", "error"], far.fills_failed),
    ];
    page.family(&catalog::CACHE_FILLS, fills.into_iter())?;
    page.single(&catalog::CACHE_FILL_QUEUE_DEPTH, far.fills_in_flight)?;
    let changes = [
        (["far", "marked"], far.marks),
        (["far", "lost"], far.marks_lost),
        (["far", "removed"], far.unmarks),
        (["far", "left"], far.unmarks_left),
        (["far", "mended"], far.lost_mended),
        (["far", "begun_anew"], far.begun_anew),
    ];
    page.family(&catalog::CACHE_INVALIDATIONS, changes.into_iter())?;
    let roles = [
        (["far", "leader"], far.leaders),
        (["far", "follower"], far.followers),
        (["far", "lease_follower"], far.lease_waits),
    ];
    page.family(&catalog::COALESCE, roles.into_iter())?;
    Ok(())
}
