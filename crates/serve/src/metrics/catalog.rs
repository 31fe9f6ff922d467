//! Every metric of the process: name, type, labels and meaning, in one place.
//!
//! What the page shows is written through these constants, so that it cannot show anything that is not listed here,
//! and a label that is not declared does not compile. Dashboards, alerts and `groundplane catalog` read [`ALL`].
//!
//! Labels come from closed sets; [`values_of`] says which. Never a key, an address or a DID.

use crate::{
    Class, Code, Shed,
    logs::{LEVELS, SITES, SUPPRESSED},
    price::SIZE_CLASSES,
};

use super::{Stage, sockets};

/// What kind of figure a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// As it stands.
    Gauge,
    /// Observations by size.
    Histogram,
}

impl Kind {
    /// The name, as Prometheus has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// When a metric is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// By every process.
    Always,
    /// By a process that reads the network.
    Ingest,
    /// By a process with memcached in front of its store.
    Memcached,
    /// By nobody yet: the name is kept ready.
    Reserved,
    /// By a process over a CQL cluster that does not write there.
    Follower,
}

impl When {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Ingest => "role ingest",
            Self::Memcached => "with memcached",
            Self::Reserved => "not in this version",
            Self::Follower => "with a CQL store, without the role ingest",
        }
    }
}

/// A metric with `L` labels.
#[derive(Clone, Copy, Debug)]
pub struct Metric<const L: usize> {
    /// As the text format has it in `# TYPE`: without the `_total` of counters.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: [&'static str; L],
    pub(crate) help: &'static str,
}

/// A metric as the catalogue lists it.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    family: &'static str,
    /// What kind of figure it is.
    pub kind: Kind,
    /// Names of its labels, in their order. Histograms have `le` beside them.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// When it is shown.
    pub when: When,
}

impl Listed {
    /// The name that queries use: with `_total` for counters, and without the suffix of a part for histograms.
    pub fn name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.family),
            Kind::Gauge | Kind::Histogram => self.family.to_owned(),
        }
    }

    /// All names that queries may use: the parts of a histogram are series of their own.
    pub fn series(&self) -> Vec<String> {
        match self.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", self.family)).into(),
            Kind::Counter | Kind::Gauge => vec![self.name()],
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $id:ident: $kind:ident $name:literal [$($label:ident),*] $when:ident;)+) => {
        $(
            $(#[doc = $help])+
            pub const $id: Metric<{ <[&str]>::len(&[$(stringify!($label)),*]) }> = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: [$(stringify!($label)),*],
                help: concat!($($help),+),
            };
        )+

        /// All metrics, in the order of the page.
        pub static ALL: &[Listed] = &[$(Listed {
            family: $name,
            kind: Kind::$kind,
            labels: &[$(stringify!($label)),*],
            help: concat!($($help),+),
            when: When::$when,
        },)+];
    };
}

metrics! {
    // Calls: who, how big, how it ended.

    /// Calls that ended, by how they ended
    RPC_REQUESTS: Counter "groundplane_rpc_requests" [rpc, caller, code] Always;
    /// Calls that ended, by their number of keys
    RPC_REQUESTS_BY_SIZE: Counter "groundplane_rpc_requests_by_size" [rpc, caller, size_class] Always;
    /// Calls that were shed, failed or late, by their number of keys; what the caller did wrong is not counted
    RPC_FAILED_BY_SIZE: Counter "groundplane_rpc_failed_by_size" [size_class] Always;
    /// 1 for a call, caller and number of keys that this process has seen; 0 at the first scrape after it was new
    RPC_FIRST_SEEN: Counter "groundplane_rpc_first_seen" [rpc, caller, size_class] Always;
    /// Keys asked for
    RPC_KEYS: Counter "groundplane_rpc_keys" [rpc, caller] Always;
    /// Distinct keys asked for, each call by itself
    RPC_UNIQUE_KEYS: Counter "groundplane_rpc_unique_keys" [rpc] Always;
    /// Keys to be read past the caches
    RPC_SKIP_CACHE_KEYS: Counter "groundplane_rpc_skip_cache_keys" [rpc, caller] Always;
    /// Most keys in one call since the scrape before the last one
    RPC_BATCH_KEYS_MAX: Gauge "groundplane_rpc_batch_keys_max" [rpc, caller] Always;
    /// Keys of a call
    RPC_BATCH_KEYS: Histogram "groundplane_rpc_batch_keys" [rpc] Always;
    /// Time from the headers of a call to its encoded answer
    RPC_DURATION: Histogram "groundplane_rpc_duration_seconds" [rpc, size_class] Always;
    /// Bytes of a request message
    RPC_REQUEST_BYTES: Histogram "groundplane_rpc_request_bytes" [rpc] Always;
    /// Bytes of a response message
    RPC_RESPONSE_BYTES: Histogram "groundplane_rpc_response_bytes" [rpc] Always;
    /// Calls begun and not ended
    RPC_INFLIGHT: Gauge "groundplane_rpc_inflight" [caller] Always;
    /// Keys of calls begun and not ended
    INFLIGHT_KEYS: Gauge "groundplane_inflight_keys" [caller] Always;
    /// Most keys of calls in flight since the scrape before the last one
    INFLIGHT_KEYS_MAX: Gauge "groundplane_inflight_keys_max" [caller] Always;
    /// Calls whose caller went away
    RPC_CANCELLED: Counter "groundplane_rpc_cancelled" [rpc, stage] Always;
    /// Calls that ended in a panic
    RPC_PANICS: Counter "groundplane_rpc_panics" [rpc] Always;

    // Admission and fairness.

    /// Cost of calls that ended
    ADMISSION_COST: Counter "groundplane_admission_cost_units" [caller] Always;
    /// Time that calls waited for room
    ADMISSION_WAIT: Histogram "groundplane_admission_wait_seconds" [class] Always;
    /// Units of work that may be in flight
    ADMISSION_LIMIT: Gauge "groundplane_admission_limit" [resource] Always;
    /// Units of work in flight
    ADMISSION_INFLIGHT: Gauge "groundplane_admission_inflight" [resource] Always;
    /// Pieces of work that wait for room
    ADMISSION_QUEUE_DEPTH: Gauge "groundplane_admission_queue_depth" [resource] Always;
    /// Calls that were refused
    SHED: Counter "groundplane_shed" [rpc, caller, reason] Always;
    /// Calls that ran out of time
    DEADLINE_EXCEEDED: Counter "groundplane_deadline_exceeded" [rpc, stage] Always;
    /// Work that was not begun because its time was over
    EXPIRED_WORK_SKIPPED: Counter "groundplane_expired_work_skipped" [stage] Always;
    /// Large answers that their caller did not read in time
    ANSWERS_DROPPED: Counter "groundplane_answers_dropped" [] Always;

    // Caches.

    /// Keys asked of a cache
    CACHE_KEYS: Counter "groundplane_cache_keys" [entity, result] Always;
    /// Bytes of answers kept in this process
    CACHE_NEAR_BYTES: Gauge "groundplane_cache_near_bytes" [] Always;
    /// Time of one operation on a cache node
    CACHE_OP_DURATION: Histogram "groundplane_cache_op_duration_seconds" [op, node] Reserved;
    /// Keys in one pipelined read of a cache node
    CACHE_PIPELINE_KEYS: Histogram "groundplane_cache_pipeline_keys" [node] Reserved;
    /// Connections to a cache node
    CACHE_CONNECTIONS: Gauge "groundplane_cache_connections" [node, state] Memcached;
    /// Attempts to connect to a cache node
    CACHE_DIALS: Counter "groundplane_cache_dials" [node, result] Memcached;
    /// Bytes that wait to be sent to a cache node
    CACHE_BACKLOG_BYTES: Gauge "groundplane_cache_backlog_bytes" [node] Memcached;
    /// 0: asked as usual; 1: asked now and then; 2: not asked
    CACHE_BREAKER_STATE: Gauge "groundplane_cache_breaker_state" [node] Memcached;
    /// Values written to the cache, by what became of it
    CACHE_FILLS: Counter "groundplane_cache_fills" [entity, result] Memcached;
    /// Packets of values on their way to the cache
    CACHE_FILL_QUEUE_DEPTH: Gauge "groundplane_cache_fill_queue_depth" [] Memcached;
    /// Keys marked in the cache before their rows change (marked, lost) and removed after it (removed, left for later);
    /// lost ones that were made good (mended); nodes that began anew because too many were lost
    CACHE_INVALIDATIONS: Counter "groundplane_cache_invalidations" [entity, result] Memcached;
    /// Time from a change to the end of its invalidation
    CACHE_INVALIDATION_LAG: Histogram "groundplane_cache_invalidation_lag_seconds" [entity] Reserved;
    /// Values of the cache that were compared with the store
    CACHE_AUDIT: Counter "groundplane_cache_audit" [entity, result] Always;
    /// Reads that were one with another read of the same key
    COALESCE: Counter "groundplane_coalesce" [entity, role] Memcached;
    /// Most readers that waited for one read since the scrape before the last one
    COALESCE_WAITERS_MAX: Gauge "groundplane_coalesce_waiters_max" [entity] Reserved;
    /// Values that could not be decoded: stored ones, by table, are answered as absent; cached ones are read again
    RECORD_DECODE_ERRORS: Counter "groundplane_record_decode_errors" [entity, source] Always;
    /// Keys that may be out of date on a cache node, and are not read until that is made good
    CACHE_LOST: Gauge "groundplane_cache_lost_keys" [node] Memcached;

    // The store.

    /// Visits to the engine in flight
    STORE_INFLIGHT: Gauge "groundplane_store_inflight" [] Always;
    /// Visits to the engine that may be in flight
    STORE_LIMIT: Gauge "groundplane_store_limit" [] Always;
    /// Keys and ranges read from the engine
    STORE_KEYS_READ: Counter "groundplane_store_keys_read" [] Always;
    /// Rows changed
    STORE_ROWS_APPLIED: Counter "groundplane_store_rows_applied" [] Always;
    /// Bytes on disk
    STORE_DISK_BYTES: Gauge "groundplane_store_disk_bytes" [] Always;
    /// Bytes free on the disk of the store; 0 where there is none
    STORE_DISK_FREE_BYTES: Gauge "groundplane_store_disk_free_bytes" [] Always;
    /// Journals of the engine; only growing means slow starts
    STORE_JOURNALS: Gauge "groundplane_store_journals" [] Always;
    /// Table files that are not merged yet; writing is slowed from 20 on
    STORE_YOUNG_TABLES: Gauge "groundplane_store_young_tables" [] Always;
    /// Jobs that wait for the writer or are being applied
    WRITER_PENDING: Gauge "groundplane_writer_pending" [] Always;
    /// Time for which the batch under way has been under way; 0 between batches
    WRITER_BUSY: Gauge "groundplane_writer_busy_seconds" [] Always;
    /// 1 while writing has stopped because the disk is full
    WRITER_DISK_FULL: Gauge "groundplane_writer_disk_full" [] Always;
    /// 1 once writing has stopped for good
    WRITER_FAILED: Gauge "groundplane_writer_failed" [] Always;
    /// Reads of a cluster
    STORE_READS: Counter "groundplane_store_reads" [table, result] Reserved;
    /// Time of one read of a cluster
    STORE_READ_DURATION: Histogram "groundplane_store_read_duration_seconds" [table] Reserved;
    /// Second reads sent to another node of a cluster because the first was slow
    STORE_HEDGES: Counter "groundplane_store_hedges" [] Always;
    /// Reads of a cluster sent again because the first failed
    STORE_RETRIES: Counter "groundplane_store_retries" [] Always;
    /// Connections to a node that were opened again
    STORE_RECONNECTS: Counter "groundplane_store_reconnects" [node] Reserved;
    /// Part of the budget for retries that is left
    RETRY_BUDGET_RATIO: Gauge "groundplane_retry_budget_ratio" [target] Reserved;
    /// Time since it was last heard what the process that writes has changed
    FEED_SILENT: Gauge "groundplane_feed_silent_seconds" [] Follower;
    /// Batches of the process that writes which are known of and not taken note of yet
    FEED_BEHIND: Gauge "groundplane_feed_behind_batches" [] Follower;

    // The network.

    /// Time since the last applied event happened; absent before the first
    INGEST_LAG: Gauge "groundplane_ingest_lag_seconds" [] Ingest;
    /// 1 while connected to the first relay
    INGEST_CONNECTED: Gauge "groundplane_ingest_connected" [] Ingest;
    /// Position in the stream of the first relay up to which everything is applied
    INGEST_SEQ: Gauge "groundplane_ingest_seq" [] Ingest;
    /// Work queued or running, follow-ups included
    INGEST_PENDING: Gauge "groundplane_ingest_pending" [] Ingest;
    /// Events read and not yet applied
    INGEST_EVENTS_INFLIGHT: Gauge "groundplane_ingest_events_inflight" [] Ingest;
    /// Repos read whole, identities checked and accounts deleted at the moment
    INGEST_JOBS_RUNNING: Gauge "groundplane_ingest_jobs_running" [kind] Ingest;
    /// What came in and was lost
    INGEST_DROPS: Counter "groundplane_ingest_drops" [reason] Ingest;
    /// What came in and needed nothing to be done
    INGEST_SKIPS: Counter "groundplane_ingest_skips" [reason] Ingest;

    /// Repos of the backfill, by what became of them; goes on over restarts
    BACKFILL_REPOS: Gauge "groundplane_backfill_repos" [state] Ingest;
    /// Attempts of the backfill that failed
    BACKFILL_FAILED_ATTEMPTS: Counter "groundplane_backfill_failed_attempts" [reason] Ingest;
    /// Hosts that the backfill leaves alone for a while
    BACKFILL_HOSTS_RESTING: Gauge "groundplane_backfill_hosts_resting" [] Ingest;
    /// Records of the repos that the backfill has read; goes on over restarts
    BACKFILL_RECORDS: Gauge "groundplane_backfill_records" [] Ingest;
    /// Bytes of those repos
    BACKFILL_BYTES: Gauge "groundplane_backfill_bytes" [] Ingest;
    /// 1 once nothing is left to be read
    BACKFILL_DONE: Gauge "groundplane_backfill_done" [] Ingest;

    // The process and its host.

    /// TCP sockets of this host or network namespace, by whom they lead to
    SOCKETS: Gauge "groundplane_sockets" [peer, state] Always;
    /// Part of the ephemeral ports in use towards the one address of a peer that takes most, TIME_WAIT included
    EPHEMERAL_PORTS_USED_RATIO: Gauge "groundplane_ephemeral_ports_used_ratio" [peer] Always;
    /// Open connections of callers
    CONNECTIONS: Gauge "groundplane_connections" [] Always;
    /// Connections that were accepted
    ACCEPTED_CONNECTIONS: Counter "groundplane_accepted_connections" [] Always;
    /// Connections that could not be accepted
    ACCEPT_ERRORS: Counter "groundplane_accept_errors" [] Always;
    /// Bytes of requests and answers in memory
    MEMORY_INFLIGHT_BYTES: Gauge "groundplane_memory_inflight_bytes" [kind] Always;
    /// Bytes of requests and answers that may be in memory
    MEMORY_INFLIGHT_LIMIT_BYTES: Gauge "groundplane_memory_inflight_limit_bytes" [kind] Always;
    /// Bytes of memory that this process may use; 0 if the kernel does not say
    MEMORY_LIMIT_BYTES: Gauge "groundplane_memory_limit_bytes" [] Always;
    /// Tasks alive
    RUNTIME_TASKS: Gauge "groundplane_runtime_tasks" [] Always;
    /// Tasks that wait in the queue shared by the workers
    RUNTIME_QUEUE_DEPTH: Gauge "groundplane_runtime_queue_depth" [] Always;
    /// Part of their time that workers were busy since the last scrape
    RUNTIME_WORKER_BUSY_RATIO: Gauge "groundplane_runtime_worker_busy_ratio" [] Always;
    /// Time for which the runtime did not move although it should have
    RUNTIME_STALL: Counter "groundplane_runtime_stall_seconds" [] Always;
    /// Log lines that were to be written; each ends as written or suppressed
    LOG_EVENTS: Counter "groundplane_log_events" [level, site] Always;
    /// Log lines that were written
    LOG_WRITTEN: Counter "groundplane_log_written" [] Always;
    /// Log lines that were not written
    LOG_SUPPRESSED: Counter "groundplane_log_suppressed" [reason] Always;
    /// Log lines that wait for the sink
    LOG_WAITING: Gauge "groundplane_log_waiting" [] Always;
    /// Traces that were kept for their collector
    TELEMETRY_KEPT: Counter "groundplane_telemetry_kept" [signal] Always;
    /// What was to be sent to a collector and was not
    TELEMETRY_DROPPED: Counter "groundplane_telemetry_dropped" [signal] Always;
    /// The version that runs
    BUILD_INFO: Gauge "groundplane_build_info" [version] Always;
    /// The settings in force, secrets left out, as a number that differs when they do
    CONFIG_HASH: Gauge "groundplane_config_hash" [hash] Always;
    /// Time on a processor
    PROCESS_CPU: Counter "process_cpu_seconds" [] Always;
    /// Memory in use
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" [] Always;
    /// Memory mapped
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" [] Always;
    /// Threads
    PROCESS_THREADS: Gauge "process_threads" [] Always;
    /// Open files and sockets
    PROCESS_OPEN_FDS: Gauge "process_open_fds" [] Always;
    /// Files and sockets that may be open
    PROCESS_MAX_FDS: Gauge "process_max_fds" [] Always;
    /// When the process started, in seconds since 1970
    PROCESS_START_TIME: Gauge "process_start_time_seconds" [] Always;
}

/// Where the values of a label come from; `None` for a label that no metric has.
pub fn values_of(label: &str) -> Option<String> {
    let listed = |values: &[&str]| values.join(", ");
    Some(match label {
        "rpc" => format!("the {} calls of the contract, and other", gp_proto::METHODS.len()),
        "caller" => "the configured names (at most 32), other, and unknown for who sends none".into(),
        "code" => listed(&Code::ALL.map(Code::name)),
        "size_class" => listed(&SIZE_CLASSES),
        "stage" => listed(&Stage::NAMES),
        "class" => listed(&Class::ALL.map(Class::name)),
        "reason" => format!(
            "why: of what was shed {}; of log lines {}; of events and repos the closed lists of /status",
            listed(&Shed::ALL.map(Shed::name)),
            listed(&SUPPRESSED)
        ),
        "level" => listed(&LEVELS),
        "site" => listed(&SITES),
        "peer" => listed(&sockets::PEERS),
        "state" => format!(
            "of sockets {}; of connections up, down; of repos listed, present, inactive, left, reading, read, overtaken, refused, given_up",
            listed(&sockets::STATES)
        ),
        "resource" => "units".into(),
        "entity" => "near (this process), far (memcached); of values that could not be decoded the table (record, actor, label, other)".into(),
        "result" => {
            "hit, miss, negative, stale, lease_wait, error, timeout, bypass, breaker, and what became of it".into()
        }
        "kind" => "messages; of jobs resync, refresh, delete".into(),
        "signal" => "traces".into(),
        "version" => "the version".into(),
        "hash" => "sixteen hexadecimal digits".into(),
        "node" => "the configured nodes".into(),
        "op" => "get, set, delete".into(),
        "role" => "leader, follower, lease_follower".into(),
        "source" => "cache, store".into(),
        "table" => "the tables of the store".into(),
        "target" => "cache, store".into(),
        _ => return None,
    })
}

/// The catalogue as a table in Markdown.
pub fn markdown() -> String {
    let mut page = String::from("| Metric | Type | Labels | Meaning | Shown |\n|---|---|---|---|---|\n");
    for metric in ALL {
        let labels = metric.labels.join(", ");
        page += &format!(
            "| `{}` | {} | {labels} | {} | {} |\n",
            metric.name(),
            metric.kind.name(),
            metric.help.trim(),
            metric.when.name()
        );
    }
    page += "\n| Label | Values |\n|---|---|\n";
    let mut labels: Vec<&str> = ALL.iter().flat_map(|metric| metric.labels).copied().collect();
    labels.sort_unstable();
    labels.dedup();
    for label in labels {
        page += &format!("| {label} | {} |\n", values_of(label).unwrap_or_default());
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_of_the_house() {
        let mut names = HashSet::new();
        for metric in ALL {
            let name = metric.name();
            assert!(names.insert(name.clone()), "{name} is there twice");
            assert!(name.starts_with("groundplane_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            let unit =
                metric.kind == Kind::Histogram && !["_seconds", "_bytes", "_keys"].iter().any(|it| name.ends_with(it));
            assert!(!unit, "{name} does not say its unit");
        }
    }

    #[test]
    fn every_label_says_where_its_values_come_from() {
        for metric in ALL {
            for label in metric.labels {
                assert!(values_of(label).is_some(), "{label} of {}", metric.name());
            }
        }
        assert_eq!(values_of("uri"), None);
    }
}
