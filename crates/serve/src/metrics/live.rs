//! Figures that are kept elsewhere and asked for when the page is made.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::{out::Out, process::Process};
use crate::server::Shared;

/// How often the runtime is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How much later than asked a timer may fire before the runtime counts as stalled.
const LATE_MAX: Duration = Duration::from_millis(50);

/// Shows what the parts of the server say about themselves.
pub(crate) struct Live {
    shared: Weak<Shared>,
    stalled_us: Arc<AtomicU64>,
    /// When the busy time of the workers was last asked for, and what it was.
    busy: Mutex<(Instant, Duration)>,
}

impl Live {
    pub(crate) fn new(shared: Weak<Shared>, stalled_us: Arc<AtomicU64>) -> Self {
        Self { shared, stalled_us, busy: Mutex::new((Instant::now(), Duration::ZERO)) }
    }

    /// Measures, for ever, by how much the runtime is late: a blocked worker makes a timer fire late.
    pub(crate) async fn watch_runtime(stalled_us: Arc<AtomicU64>) {
        loop {
            let before = tokio::time::Instant::now();
            tokio::time::sleep(LOOK_EVERY).await;
            let late = before.elapsed().saturating_sub(LOOK_EVERY);
            if late > LATE_MAX {
                stalled_us.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Relaxed);
            }
        }
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

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        use MetricType::{Counter, Gauge};
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        let mut out = Out::new(encoder);

        let admission = shared.admission.figures();
        let units = |value: u32| [([("resource", "units")], u64::from(value))].into_iter();
        out.family(
            "groundplane_admission_limit",
            "Units of work that may be in flight",
            Gauge,
            units(admission.limit),
        )?;
        out.family("groundplane_admission_inflight", "Units of work in flight", Gauge, units(admission.in_flight))?;
        let waiting = [([("resource", "units")], admission.waiting as u64)].into_iter();
        out.family("groundplane_admission_queue_depth", "Pieces of work that wait for room", Gauge, waiting)?;
        let messages = |value: u64| [([("kind", "messages")], value)].into_iter();
        out.family(
            "groundplane_memory_inflight_bytes",
            "Bytes of requests and answers in memory",
            Gauge,
            messages(shared.budget.held()),
        )?;
        out.family(
            "groundplane_memory_inflight_limit_bytes",
            "Bytes of requests and answers that may be in memory",
            Gauge,
            messages(shared.budget.max()),
        )?;
        let open = [([("peer", "client"), ("state", "established")], shared.connections.open())].into_iter();
        out.family("groundplane_sockets", "Connections", Gauge, open)?;
        out.single(
            "groundplane_accepted_connections",
            "Connections that were accepted",
            Counter,
            shared.connections.accepted(),
        )?;
        out.single(
            "groundplane_accept_errors",
            "Connections that could not be accepted",
            Counter,
            shared.connections.errors(),
        )?;

        let store = shared.cx.store.figures();
        let near = [
            ([("entity", "near"), ("result", "hit")], store.near_hits),
            ([("entity", "near"), ("result", "miss")], store.near_misses),
        ];
        out.family("groundplane_cache_keys", "Keys asked of a cache", Counter, near.into_iter())?;
        out.single("groundplane_cache_near_bytes", "Bytes of answers kept in memory", Gauge, store.near_bytes)?;
        out.single("groundplane_store_inflight", "Visits to the engine in flight", Gauge, store.reads_in_flight)?;
        out.single(
            "groundplane_store_limit",
            "Visits to the engine that may be in flight",
            Gauge,
            store.reads_in_flight_max,
        )?;
        out.single("groundplane_store_keys_read", "Keys and ranges read from the engine", Counter, store.reads_total)?;
        out.single("groundplane_store_rows_applied", "Rows changed", Counter, store.applied_total)?;
        out.single("groundplane_store_disk_bytes", "Bytes on disk", Gauge, store.disk_bytes)?;
        out.single(
            "groundplane_writer_pending",
            "Jobs that wait for the writer or are being applied",
            Gauge,
            shared.cx.writer.pending(),
        )?;
        out.single(
            "groundplane_writer_disk_full",
            "1 while writing has stopped because the disk is full",
            Gauge,
            shared.cx.writer.disk_full().into(),
        )?;
        out.single(
            "groundplane_writer_failed",
            "1 once writing has stopped for good",
            Gauge,
            shared.cx.writer.failed().into(),
        )?;

        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let runtime = runtime.metrics();
            out.single("groundplane_runtime_tasks", "Tasks alive", Gauge, runtime.num_alive_tasks() as u64)?;
            out.single(
                "groundplane_runtime_queue_depth",
                "Tasks that wait in the queue shared by the workers",
                Gauge,
                runtime.global_queue_depth() as u64,
            )?;
            out.single_f64(
                "groundplane_runtime_worker_busy_ratio",
                "Part of their time that workers were busy since the last scrape",
                Gauge,
                self.busy_ratio(&runtime),
            )?;
        }
        let stalled = self.stalled_us.load(Relaxed) as f64 / 1e6;
        out.single_f64("groundplane_runtime_stall_seconds", "By how much timers were late", Counter, stalled)?;

        let logs = shared.metrics.logs();
        out.family(
            "groundplane_log_events",
            "Log lines, written or not",
            Counter,
            logs.events().map(|(level, site, lines)| ([("level", level), ("site", site)], lines)),
        )?;
        out.family(
            "groundplane_log_suppressed",
            "Log lines that were not written",
            Counter,
            logs.suppressed().map(|(reason, lines)| ([("reason", reason)], lines)),
        )?;
        let build = [([("version", shared.config.version.as_str())], 1)].into_iter();
        out.family("groundplane_build_info", "The version that runs", Gauge, build)?;

        let process = Process::read();
        out.single_f64("process_cpu_seconds", "Time on a processor", Counter, process.cpu_seconds)?;
        out.single("process_resident_memory_bytes", "Memory in use", Gauge, process.resident_bytes)?;
        out.single("process_virtual_memory_bytes", "Memory mapped", Gauge, process.virtual_bytes)?;
        out.single("process_threads", "Threads", Gauge, process.threads)?;
        out.single("process_open_fds", "Open files and sockets", Gauge, process.open_fds)?;
        out.single("process_max_fds", "Files and sockets that may be open", Gauge, process.max_fds)?;
        out.single_f64(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            Gauge,
            process.start_time_seconds,
        )
    }
}
