//! The alerts: what fires, how soon, what it says, and what to do about it.
//!
//! From each come a rule for Prometheus and a page of the runbook with the three queries that find the culprit.

/// How loud an alert is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// Somebody is woken.
    Page,
    /// Somebody looks in working hours.
    Ticket,
    /// Somebody may want to know.
    Notice,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::Notice => "notice",
        }
    }
}

/// One alert.
pub(super) struct Alert {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// In two or three words what is wrong; the label `cause`.
    pub(super) cause: &'static str,
    pub(super) expr: &'static str,
    /// For how long it must hold; empty: at once.
    pub(super) hold: &'static str,
    /// One line, with the labels of what was found.
    pub(super) summary: &'static str,
    /// What it means.
    pub(super) means: &'static str,
    /// What to do.
    pub(super) act: &'static str,
    pub(super) who: &'static str,
    pub(super) what: &'static str,
    pub(super) place: &'static str,
}

/// A rule that keeps the answer to a query, so that alerts over days stay cheap.
pub(super) struct Recorded {
    pub(super) name: &'static str,
    pub(super) expr: &'static str,
}

/// The part of small calls that was shed or failed, over the windows of the budget alerts.
pub(super) const RECORDED: &[Recorded] = &[
    Recorded { name: "groundplane:small_failed:ratio5m", expr: FAILED_5M },
    Recorded { name: "groundplane:small_failed:ratio30m", expr: FAILED_30M },
    Recorded { name: "groundplane:small_failed:ratio1h", expr: FAILED_1H },
    Recorded { name: "groundplane:small_failed:ratio6h", expr: FAILED_6H },
    Recorded { name: "groundplane:small_failed:ratio3d", expr: FAILED_3D },
];

macro_rules! small_failed {
    ($window:literal) => {
        concat!(
            "sum(rate(groundplane_rpc_failed_by_size_total{size_class=~\"1|2_10|11_50\"}[",
            $window,
            "]))\n/ sum(rate(groundplane_rpc_requests_by_size_total{size_class=~\"1|2_10|11_50\"}[",
            $window,
            "]))"
        )
    };
}
const FAILED_5M: &str = small_failed!("5m");
const FAILED_30M: &str = small_failed!("30m");
const FAILED_1H: &str = small_failed!("1h");
const FAILED_6H: &str = small_failed!("6h");
const FAILED_3D: &str = small_failed!("3d");

const WHO_FAILED: &str = r#"topk(5, sum by (caller, code) (rate(groundplane_rpc_requests_total{code=~"RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE"}[5m])))"#;
const WHAT_FAILED: &str = r#"topk(5, sum by (rpc, code) (rate(groundplane_rpc_requests_total{code=~"RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE"}[5m])))"#;
const WHERE_FAILED: &str = r#"sum by (instance, region, code) (rate(groundplane_rpc_requests_total{code=~"RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE"}[5m]))"#;
const WHO_COSTS: &str = "topk(5, sum by (caller) (rate(groundplane_admission_cost_units_total[5m])))";
const WHAT_KEYS: &str = "topk(5, sum by (rpc, caller) (rate(groundplane_rpc_keys_total[5m])))";
const WHO_BATCH: &str = "topk(5, max by (caller) (groundplane_rpc_batch_keys_max))";
const WHAT_BATCH: &str = "topk(5, max by (rpc, caller) (groundplane_rpc_batch_keys_max))";
const WHERE_BATCH: &str = "topk(5, max by (instance, region) (groundplane_rpc_batch_keys_max))";
const WHERE_STALL: &str = "sum by (instance, region) (rate(groundplane_runtime_stall_seconds_total[1m]))";

/// All alerts: those on the budget first, then those that name a cause.
pub(super) const ALERTS: &[Alert] = &[
    Alert {
        name: "SmallCallsBurnFast",
        severity: Severity::Page,
        cause: "errors",
        expr: "groundplane:small_failed:ratio1h > 14.4 * 0.0005\nand groundplane:small_failed:ratio5m > 14.4 * 0.0005",
        hold: "",
        summary: "{{ $value | humanizePercentage }} of small calls were shed or failed over the last hour",
        means: "The budget of a month (99.95 % of calls with up to 50 keys are answered) would be gone in two days.",
        act: "Look for a cause alert that fires too: it names the culprit. If there is none, ask the three questions \
              below, then look at `/top` of the instance that fails.",
        who: WHO_FAILED,
        what: WHAT_FAILED,
        place: WHERE_FAILED,
    },
    Alert {
        name: "SmallCallsBurn",
        severity: Severity::Page,
        cause: "errors",
        expr: "groundplane:small_failed:ratio6h > 6 * 0.0005\nand groundplane:small_failed:ratio30m > 6 * 0.0005",
        hold: "",
        summary: "{{ $value | humanizePercentage }} of small calls were shed or failed over the last six hours",
        means: "The budget of a month would be gone in five days.",
        act: "As for SmallCallsBurnFast, with a little more time.",
        who: WHO_FAILED,
        what: WHAT_FAILED,
        place: WHERE_FAILED,
    },
    Alert {
        name: "SmallCallsBurnSlow",
        severity: Severity::Ticket,
        cause: "errors",
        expr: "groundplane:small_failed:ratio3d > 0.0005\nand groundplane:small_failed:ratio6h > 0.0005",
        hold: "",
        summary: "{{ $value | humanizePercentage }} of small calls were shed or failed over the last three days",
        means: "At this rate the budget of a month is spent at its end.",
        act: "Find what fails steadily. One call of one caller is a bug; all of them is too little room.",
        who: WHO_FAILED,
        what: WHAT_FAILED,
        place: WHERE_FAILED,
    },
    Alert {
        name: "NewTrafficShape",
        severity: Severity::Notice,
        cause: "new traffic shape",
        expr: "groundplane_rpc_first_seen_total{size_class=~\"1k_5k|5k_plus\"}\nunless groundplane_rpc_first_seen_total{size_class=~\"1k_5k|5k_plus\"} offset 15m",
        hold: "",
        summary: "{{ $labels.caller }} makes {{ $labels.rpc }} calls of a size ({{ $labels.size_class }} keys) never seen from it before",
        means: "A caller began to ask for more than a thousand keys at a time, or a new one appeared that does. Nothing \
                is wrong yet. Most incidents begin like this, days before anybody feels them.",
        act: "Ask the owner of the caller whether this is meant. The calls are served in slices between those of the \
              others, so there is time for it.",
        who: r#"sum by (caller, size_class) (groundplane_rpc_first_seen_total{size_class=~"1k_5k|5k_plus"})"#,
        what: r#"sum by (rpc, caller, size_class) (rate(groundplane_rpc_requests_by_size_total{size_class=~"1k_5k|5k_plus"}[5m]))"#,
        place: r#"sum by (instance, region) (rate(groundplane_rpc_requests_by_size_total{size_class=~"1k_5k|5k_plus"}[5m]))"#,
    },
    Alert {
        name: "BatchSizeOutlier",
        severity: Severity::Ticket,
        cause: "batch size",
        expr: "groundplane_rpc_batch_keys_max > 1000\nunless groundplane_rpc_batch_keys_max\n  <= 20 * quantile_over_time(0.99, groundplane_rpc_batch_keys_max[7d] offset 1h)",
        hold: "",
        summary: "batch size: {{ $labels.caller }} asked {{ $labels.rpc }} for {{ $value }} keys in one call",
        means: "One call asked for far more keys than this caller's calls usually do. Averages hide it: at three calls \
                a second it is a vanishing share of the calls and a few percent of the keys.",
        act: "The alert names caller and call. If small calls suffer (SmallCallsBurnFast, CallerShedding), stop the \
              caller or lower `--keys-max`, which refuses its calls before anything is read. Otherwise talk to its owner.",
        who: WHO_BATCH,
        what: WHAT_BATCH,
        place: WHERE_BATCH,
    },
    Alert {
        name: "InflightKeysSpike",
        severity: Severity::Ticket,
        cause: "keys in flight",
        expr: "groundplane_inflight_keys_max\n> on (job, instance) group_left () (0.5 * groundplane_admission_limit{resource=\"units\"})",
        hold: "",
        summary: "{{ $labels.caller }} had {{ $value }} keys in flight at once, more than half of what may be in work",
        means: "One caller wants more at the same time than half of the room there is. It waits for its turns; others \
                pass it.",
        act: "See whether it is one large call (BatchSizeOutlier) or many at once. Many at once: its owner should bound \
              them.",
        who: "topk(5, max by (caller) (groundplane_inflight_keys_max))",
        what: WHAT_KEYS,
        place: "topk(5, max by (instance, region) (groundplane_inflight_keys_max))",
    },
    Alert {
        name: "CallerShedding",
        severity: Severity::Ticket,
        cause: "shedding",
        expr: "sum by (caller) (rate(groundplane_shed_total[5m]))\n/ sum by (caller) (rate(groundplane_rpc_requests_total[5m])) > 0.05",
        hold: "5m",
        summary: "{{ $value | humanizePercentage }} of the calls of {{ $labels.caller }} are refused",
        means: "This caller asks for more than its share while others wait, or for more than one call may have. The \
                reason says which: `queue_time` and `cost_cap` are want of room, `caller_share` is its own doing, \
                `bytes` is memory, `oversize` is one request that is too large.",
        act: "`oversize`: the caller must ask for less at a time. `caller_share`: it must slow down. `queue_time` for \
              all callers: there is too little room, add an instance.",
        who: "topk(5, sum by (caller, reason) (rate(groundplane_shed_total[5m])))",
        what: "topk(5, sum by (rpc, caller, reason) (rate(groundplane_shed_total[5m])))",
        place: "sum by (instance, region, reason) (rate(groundplane_shed_total[5m]))",
    },
    Alert {
        name: "StoreUnprotected",
        severity: Severity::Page,
        cause: "store at its ceiling",
        expr: "groundplane_store_inflight / groundplane_store_limit > 0.9",
        hold: "1m",
        summary: "the store of {{ $labels.instance }} works at {{ $value | humanizePercentage }} of its ceiling",
        means: "Reads that memory cannot answer come faster than the store answers them. The ceiling holds; calls wait.",
        act: "Compare the hit ratio with yesterday: a drop means a cold or too small memory (`--near-cache-mib`). If it \
              is as always, somebody reads what nobody reads otherwise: see who asks for most keys.",
        who: WHO_COSTS,
        what: WHAT_KEYS,
        place: "groundplane_store_inflight / groundplane_store_limit",
    },
    Alert {
        name: "HitRatioDrop",
        severity: Severity::Ticket,
        cause: "cache misses",
        expr: "sum by (entity) (rate(groundplane_cache_keys_total{result=\"hit\"}[5m])) / sum by (entity) (rate(groundplane_cache_keys_total[5m]))\n< sum by (entity) (rate(groundplane_cache_keys_total{result=\"hit\"}[1h] offset 1d)) / sum by (entity) (rate(groundplane_cache_keys_total[1h] offset 1d)) - 0.05",
        hold: "5m",
        summary: "{{ $value | humanizePercentage }} of the keys of {{ $labels.entity }} are answered from memory, five points less than yesterday",
        means: "Memory answers fewer keys than at the same hour yesterday, so the store has to answer more.",
        act: "After a restart it fills again within minutes. Otherwise look for a new caller or a new kind of call.",
        who: WHO_COSTS,
        what: WHAT_KEYS,
        place: r#"sum by (instance, region) (rate(groundplane_cache_keys_total{result="miss"}[5m]))"#,
    },
    Alert {
        name: "CacheErrorRatio",
        severity: Severity::Page,
        cause: "cache errors",
        expr: "sum by (entity) (rate(groundplane_cache_keys_total{result=~\"error|timeout\"}[2m]))\n/ sum by (entity) (rate(groundplane_cache_keys_total[2m])) > 0.01",
        hold: "2m",
        summary: "{{ $value | humanizePercentage }} of the keys of {{ $labels.entity }} fail in the cache",
        means: "A cache node does not answer, or answers nonsense. Its keys are misses; the store's ceiling holds.",
        act: "Look at the node: is the process there, does it swap, is the network in order?",
        who: "sum by (node, state) (groundplane_cache_connections)",
        what: r#"sum by (entity, result) (rate(groundplane_cache_keys_total{result=~"error|timeout"}[2m]))"#,
        place: "max by (instance, region, node) (groundplane_cache_breaker_state)",
    },
    Alert {
        name: "CacheDialing",
        severity: Severity::Page,
        cause: "connection churn",
        expr: "sum by (instance, node) (rate(groundplane_cache_dials_total[1m])) > 0.2\nand on (instance) (time() - process_start_time_seconds > 120)",
        hold: "2m",
        summary: "{{ $labels.instance }} keeps connecting to {{ $labels.node }}: {{ $value }} times a second",
        means: "Connections to a cache node do not last. They are opened at start and should stay.",
        act: "Something between us and the node cuts connections, or the node is at its limit of them.",
        who: "sum by (node, result) (rate(groundplane_cache_dials_total[1m]))",
        what: "sum by (node, state) (groundplane_cache_connections)",
        place: "sum by (instance, region) (rate(groundplane_cache_dials_total[1m]))",
    },
    Alert {
        name: "PortErrors",
        severity: Severity::Page,
        cause: "no free port",
        expr: "sum by (instance, node, result) (increase(groundplane_cache_dials_total{result=~\"addr_in_use|addr_not_avail\"}[5m])) > 0",
        hold: "",
        summary: "{{ $labels.instance }} found no free port to reach {{ $labels.node }}",
        means: "The host has run out of ports towards the cache. We keep a fixed number of connections: somebody else \
                on this host opens and closes them.",
        act: "`ss -tan state time-wait` on the host says towards whom; find the process that dials and stop it.",
        who: r#"groundplane_sockets{state="time_wait"}"#,
        what: "groundplane_ephemeral_ports_used_ratio",
        place: "max by (instance, region) (groundplane_ephemeral_ports_used_ratio)",
    },
    Alert {
        name: "PortsDraining",
        severity: Severity::Page,
        cause: "ports running out",
        expr: "groundplane_ephemeral_ports_used_ratio > 0.3\nor (groundplane_ephemeral_ports_used_ratio > 0.05 and predict_linear(groundplane_ephemeral_ports_used_ratio[5m], 300) > 0.8)",
        hold: "",
        summary: "{{ $value | humanizePercentage }} of the ports of {{ $labels.instance }} towards {{ $labels.peer }} are taken",
        means: "Connections towards one address are opened and closed faster than their ports come back (a minute \
                each, in TIME_WAIT). At 100 % nothing on this host can connect there any more.",
        act: "Find who dials: `ss -tanp` for the living, `ss -tan state time-wait` for the dead. Peer `client`: an \
              AppView on this host does not keep its connections.",
        who: "groundplane_ephemeral_ports_used_ratio",
        what: r#"sum by (peer, state) (groundplane_sockets)"#,
        place: "max by (instance, region) (groundplane_ephemeral_ports_used_ratio)",
    },
    Alert {
        name: "DescriptorsDraining",
        severity: Severity::Page,
        cause: "file descriptors running out",
        expr: "process_open_fds{job=\"groundplane\"} / process_max_fds{job=\"groundplane\"} > 0.8",
        hold: "1m",
        summary: "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its files and sockets open",
        means: "At the limit no connection can be accepted and no table file opened.",
        act: "Raise the limit (`ulimit -n`, `LimitNOFILE=`), or find the caller that opens so many connections. \
              `groundplane doctor` says what the limit should be.",
        who: "groundplane_connections",
        what: r#"process_open_fds{job="groundplane"} / process_max_fds{job="groundplane"}"#,
        place: "sum by (instance, region) (rate(groundplane_accept_errors_total[5m]))",
    },
    Alert {
        name: "MemoryNearLimit",
        severity: Severity::Page,
        cause: "memory",
        expr: "process_resident_memory_bytes{job=\"groundplane\"}\n/ on (job, instance) (groundplane_memory_limit_bytes > 0) > 0.8",
        hold: "2m",
        summary: "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the memory it may use",
        means: "The kernel ends a process that wants more than its group may have.",
        act: "Requests and answers have a budget of their own; if it is not what grew, lower `--near-cache-mib` or \
              `--block-cache-mib`, or give the process more.",
        who: WHO_COSTS,
        what: "groundplane_memory_inflight_bytes / groundplane_memory_inflight_limit_bytes",
        place: r#"process_resident_memory_bytes{job="groundplane"}"#,
    },
    Alert {
        name: "LogStorm",
        severity: Severity::Ticket,
        cause: "log lines",
        expr: "sum by (instance) (rate(groundplane_log_events_total{level=\"error\"}[1m])) > 100\nor sum by (instance) (increase(groundplane_log_suppressed_total{reason=\"sink_error\"}[5m])) > 0",
        hold: "",
        summary: "{{ $labels.instance }} has {{ $value }} errors a second to tell of, or cannot write its log",
        means: "Something fails often. Five lines a second of each place are written; the others are counted. Logging \
                cannot hold anything up.",
        act: "Read the lines that are there: they are a sample. If the sink fails, free its disk.",
        who: "topk(5, sum by (site) (rate(groundplane_log_events_total{level=\"error\"}[1m])))",
        what: "sum by (reason) (rate(groundplane_log_suppressed_total[5m]))",
        place: "sum by (instance) (rate(groundplane_log_events_total{level=\"error\"}[1m]))",
    },
    Alert {
        name: "RuntimeStall",
        severity: Severity::Page,
        cause: "the runtime does not move",
        expr: "rate(groundplane_runtime_stall_seconds_total[1m]) > 0.01",
        hold: "",
        summary: "{{ $labels.instance }} stood still for {{ $value | humanizePercentage }} of the last minute",
        means: "Its workers were blocked, or the host gave it no processor: every call waits.",
        act: "Look at the host first (load, steal, swap). If it is idle, the process blocks: keep a few stacks \
              (`gdb -p PID -batch -ex 'thread apply all bt'`), restart it, and report them.",
        who: WHO_COSTS,
        what: "groundplane_runtime_worker_busy_ratio",
        place: WHERE_STALL,
    },
    Alert {
        name: "CrashLoop",
        severity: Severity::Page,
        cause: "restarts",
        expr: "changes(process_start_time_seconds{job=\"groundplane\"}[15m]) >= 2",
        hold: "",
        summary: "{{ $labels.instance }} started {{ $value }} times within 15 minutes",
        means: "It ends and is started again. Each start is ready within seconds, and the next end comes.",
        act: "The last lines of its log say why it ended. Nothing there: the kernel ended it (`dmesg`, memory).",
        who: WHO_COSTS,
        what: r#"process_resident_memory_bytes{job="groundplane"}"#,
        place: r#"changes(process_start_time_seconds{job="groundplane"}[15m])"#,
    },
    Alert {
        name: "PlaneDown",
        severity: Severity::Page,
        cause: "no answer",
        expr: "up{job=\"groundplane\"} == 0",
        hold: "1m",
        summary: "{{ $labels.instance }} does not answer on its admin port",
        means: "The process is gone, or so busy that it cannot answer a scrape.",
        act: "Is it running? Does `/healthz` answer on the host itself? Then it is the network, else the process.",
        who: WHO_COSTS,
        what: WHAT_KEYS,
        place: r#"up{job="groundplane"}"#,
    },
    Alert {
        name: "IngestLagging",
        severity: Severity::Ticket,
        cause: "behind the network",
        expr: "groundplane_ingest_lag_seconds > 60",
        hold: "5m",
        summary: "{{ $labels.instance }} is {{ $value | humanizeDuration }} behind the network",
        means: "Events come faster than they are applied, or the relay is itself behind.",
        act: "`/status` says what waits: the writer (`writer` pending), repos being read whole (`resync`), identities. A \
              relay that is behind is behind for everybody.",
        who: "groundplane_ingest_jobs_running",
        what: "groundplane_writer_busy_seconds",
        place: "max by (instance, region) (groundplane_ingest_lag_seconds)",
    },
    Alert {
        name: "IngestStopped",
        severity: Severity::Page,
        cause: "the network is not read",
        expr: "groundplane_ingest_connected == 0",
        hold: "5m",
        summary: "{{ $labels.instance }} has not been connected to its relay for five minutes",
        means: "Nothing new becomes visible. What is there is served.",
        act: "Is the relay up? Is ingest paused (`/status`, `paused`)? `groundplane doctor` tries each upstream.",
        who: "groundplane_ingest_connected",
        what: "sum by (reason) (rate(groundplane_ingest_drops_total[5m]))",
        place: "groundplane_ingest_connected",
    },
    Alert {
        name: "IngestDrops",
        severity: Severity::Ticket,
        cause: "events lost",
        expr: "sum by (reason) (rate(groundplane_ingest_drops_total[10m])) > 1",
        hold: "10m",
        summary: "{{ $value }} events or records a second are lost: {{ $labels.reason }}",
        means: "What comes in cannot be used. A little is normal: the network carries damaged things.",
        act: "One reason that rises at once is a change upstream, or a bug of ours: take an event of it from the log.",
        who: "topk(5, sum by (reason) (rate(groundplane_ingest_drops_total[10m])))",
        what: "topk(5, sum by (reason) (rate(groundplane_ingest_skips_total[10m])))",
        place: "sum by (instance, region) (rate(groundplane_ingest_drops_total[10m]))",
    },
    Alert {
        name: "WriterStopped",
        severity: Severity::Page,
        cause: "nothing is written",
        expr: "groundplane_writer_failed == 1 or groundplane_writer_disk_full == 1 or groundplane_writer_busy_seconds > 30",
        hold: "",
        summary: "{{ $labels.instance }} writes nothing any more",
        means: "The disk is full (writing goes on by itself when there is room), a batch hangs, or the store has failed \
                and the process must be restarted.",
        act: "`/status` and `/readyz` say which. Make room on the disk, or restart the process and keep its log.",
        who: "groundplane_writer_pending",
        what: "groundplane_store_disk_free_bytes",
        place: "groundplane_writer_busy_seconds",
    },
    Alert {
        name: "StaleReads",
        severity: Severity::Ticket,
        cause: "stale values",
        expr: "sum by (entity) (increase(groundplane_cache_audit_total{result=\"stale\"}[10m])) > 0",
        hold: "",
        summary: "the audit found {{ $value }} stale values of {{ $labels.entity }} in the cache",
        means: "A value in the cache is older than the store, and nothing would have taken it away.",
        act: "Flush the entity, and report it: this must not be.",
        who: "sum by (entity, result) (rate(groundplane_cache_audit_total[10m]))",
        what: "sum by (entity, result) (rate(groundplane_cache_invalidations_total[10m]))",
        place: r#"sum by (instance, region) (increase(groundplane_cache_audit_total{result="stale"}[10m]))"#,
    },
    Alert {
        name: "SiteSkew",
        severity: Severity::Notice,
        cause: "one site differs",
        expr: "max by (rpc) (sum by (region, rpc) (rate(groundplane_rpc_keys_total[10m])))\n> 3 * min by (rpc) (sum by (region, rpc) (rate(groundplane_rpc_keys_total[10m])))\nand max by (rpc) (sum by (region, rpc) (rate(groundplane_rpc_keys_total[10m]))) > 100",
        hold: "10m",
        summary: "one site asks {{ $labels.rpc }} for more than three times the keys that another one does",
        means: "Sites that serve alike traffic differ. What is only in one site was deployed in one site.",
        act: "See which caller makes the difference, and what was deployed there. Needs a label `region` on the targets.",
        who: "topk(5, sum by (caller, region) (rate(groundplane_rpc_keys_total[10m])))",
        what: "topk(5, sum by (rpc, region) (rate(groundplane_rpc_keys_total[10m])))",
        place: "sum by (region) (rate(groundplane_rpc_keys_total[10m]))",
    },
    Alert {
        name: "TracesDropped",
        severity: Severity::Notice,
        cause: "traces lost",
        expr: "sum by (instance, signal) (rate(groundplane_telemetry_dropped_total[5m])) > 0",
        hold: "10m",
        summary: "{{ $labels.instance }} could not send its {{ $labels.signal }}",
        means: "The collector is away or too slow. Calls do not notice.",
        act: "Is the collector up? Does `--otlp-url` name it? `groundplane doctor` tries it.",
        who: "sum by (signal) (rate(groundplane_telemetry_kept_total[5m]))",
        what: "sum by (signal) (rate(groundplane_telemetry_dropped_total[5m]))",
        place: "sum by (instance, region) (rate(groundplane_telemetry_dropped_total[5m]))",
    },
];
