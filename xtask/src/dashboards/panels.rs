//! The panels of the board, in five rows: users, who and how big, caches, store, machine.

/// How a panel is drawn.
#[derive(Clone, Copy)]
pub(super) enum Draw {
    Lines,
    Stacked,
    Table,
}

/// One panel.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    /// A unit as Grafana names it.
    pub(super) unit: &'static str,
    pub(super) draw: Draw,
    /// A query, and what its lines are called.
    pub(super) queries: &'static [(&'static str, &'static str)],
}

/// One row.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: &'static [Panel],
}

const fn lines(
    title: &'static str,
    about: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, about, unit, draw: Draw::Lines, queries }
}

const fn stacked(
    title: &'static str,
    about: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, about, unit, draw: Draw::Stacked, queries }
}

const fn table(title: &'static str, about: &'static str, queries: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, about, unit: "short", draw: Draw::Table, queries }
}

/// When a process started, or another version runs: drawn as marks over all panels.
pub(super) const MARKS: &[(&str, &str)] = &[
    ("Starts", r#"changes(process_start_time_seconds{job="groundplane"}[2m]) > 0"#),
    (
        "Versions",
        "count by (version) (groundplane_build_info) unless count by (version) (groundplane_build_info offset 5m)",
    ),
    (
        "New shapes",
        r#"sum by (rpc, caller, size_class) (groundplane_rpc_first_seen_total{size_class=~"1k_5k|5k_plus"} unless groundplane_rpc_first_seen_total offset 5m)"#,
    ),
];

pub(super) const ROWS: &[Row] = &[
    Row {
        title: "Users",
        panels: &[
            lines(
                "Budget burn",
                "How many times faster than allowed the budget of small calls is spent.",
                "none",
                &[
                    ("groundplane:small_failed:ratio5m / 0.0005", "5 minutes"),
                    ("groundplane:small_failed:ratio1h / 0.0005", "1 hour"),
                    ("groundplane:small_failed:ratio6h / 0.0005", "6 hours"),
                ],
            ),
            stacked(
                "Calls by outcome",
                "Calls that ended, by how.",
                "reqps",
                &[("sum by (code) (rate(groundplane_rpc_requests_total[$__rate_interval]))", "{{code}}")],
            ),
            lines(
                "Latency, small calls",
                "Up to 50 keys.",
                "s",
                &[
                    (
                        r#"histogram_quantile(0.5, sum by (le) (rate(groundplane_rpc_duration_seconds_bucket{size_class=~"1|2_10|11_50"}[$__rate_interval])))"#,
                        "p50",
                    ),
                    (
                        r#"histogram_quantile(0.99, sum by (le) (rate(groundplane_rpc_duration_seconds_bucket{size_class=~"1|2_10|11_50"}[$__rate_interval])))"#,
                        "p99",
                    ),
                    (
                        r#"histogram_quantile(0.999, sum by (le) (rate(groundplane_rpc_duration_seconds_bucket{size_class=~"1|2_10|11_50"}[$__rate_interval])))"#,
                        "p99.9",
                    ),
                ],
            ),
            lines(
                "Latency p99 by size",
                "A line for each size of call.",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (le, size_class) (rate(groundplane_rpc_duration_seconds_bucket[$__rate_interval])))",
                    "{{size_class}} keys",
                )],
            ),
            stacked(
                "Refused",
                "By reason.",
                "reqps",
                &[("sum by (reason) (rate(groundplane_shed_total[$__rate_interval]))", "{{reason}}")],
            ),
            lines(
                "Slowest calls, p99",
                "The ten slowest.",
                "s",
                &[(
                    "topk(10, histogram_quantile(0.99, sum by (le, rpc) (rate(groundplane_rpc_duration_seconds_bucket[$__rate_interval]))))",
                    "{{rpc}}",
                )],
            ),
        ],
    },
    Row {
        title: "Who and how big",
        panels: &[
            lines(
                "Largest batch",
                "Most keys in one call, by caller and call.",
                "short",
                &[("topk(10, max by (caller, rpc) (groundplane_rpc_batch_keys_max))", "{{caller}} {{rpc}}")],
            ),
            stacked(
                "Keys",
                "Keys asked for, by caller.",
                "short",
                &[("sum by (caller) (rate(groundplane_rpc_keys_total[$__rate_interval]))", "{{caller}}")],
            ),
            lines(
                "Keys in flight, peak",
                "Against the units that may be in work.",
                "short",
                &[
                    ("max by (caller) (groundplane_inflight_keys_max)", "{{caller}}"),
                    (r#"max(groundplane_admission_limit{resource="units"})"#, "limit"),
                ],
            ),
            stacked(
                "Cost",
                "Units of work, by caller.",
                "short",
                &[("sum by (caller) (rate(groundplane_admission_cost_units_total[$__rate_interval]))", "{{caller}}")],
            ),
            table(
                "Shapes of large calls seen",
                "Call, caller and size that the running processes have seen.",
                &[(
                    r#"sum by (rpc, caller, size_class) (groundplane_rpc_first_seen_total{size_class=~"251_1k|1k_5k|5k_plus"})"#,
                    "",
                )],
            ),
            table(
                "Who asks for most keys",
                "Last five minutes.",
                &[("topk(15, sum by (caller, rpc) (rate(groundplane_rpc_keys_total[5m])))", "")],
            ),
        ],
    },
    Row {
        title: "Caches",
        panels: &[
            lines(
                "Hit ratio",
                "Keys answered from memory.",
                "percentunit",
                &[(
                    r#"sum by (entity) (rate(groundplane_cache_keys_total{result="hit"}[$__rate_interval])) / sum by (entity) (rate(groundplane_cache_keys_total[$__rate_interval]))"#,
                    "{{entity}}",
                )],
            ),
            stacked(
                "Keys by result",
                "",
                "short",
                &[(
                    "sum by (entity, result) (rate(groundplane_cache_keys_total[$__rate_interval]))",
                    "{{entity}} {{result}}",
                )],
            ),
            lines(
                "Near cache",
                "Bytes of answers kept in the process.",
                "bytes",
                &[("groundplane_cache_near_bytes", "{{instance}}")],
            ),
            lines(
                "Cache nodes, p99",
                "With memcached.",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (le, node) (rate(groundplane_cache_op_duration_seconds_bucket[$__rate_interval])))",
                    "{{node}}",
                )],
            ),
            lines(
                "Cache connections and dials",
                "With memcached.",
                "short",
                &[
                    ("sum by (node, state) (groundplane_cache_connections)", "{{node}} {{state}}"),
                    (
                        "sum by (node, result) (rate(groundplane_cache_dials_total[$__rate_interval]))",
                        "dials {{node}} {{result}}",
                    ),
                    ("max by (node) (groundplane_cache_breaker_state)", "breaker {{node}}"),
                ],
            ),
            lines(
                "Fills, invalidations, audit",
                "With memcached.",
                "short",
                &[
                    ("sum by (result) (rate(groundplane_cache_fills_total[$__rate_interval]))", "fill {{result}}"),
                    (
                        "sum by (result) (rate(groundplane_cache_invalidations_total[$__rate_interval]))",
                        "invalidation {{result}}",
                    ),
                    ("sum by (result) (rate(groundplane_cache_audit_total[$__rate_interval]))", "audit {{result}}"),
                ],
            ),
        ],
    },
    Row {
        title: "Store and network",
        panels: &[
            lines(
                "Store in flight",
                "Against its ceiling.",
                "short",
                &[("groundplane_store_inflight", "{{instance}}"), ("max(groundplane_store_limit)", "ceiling")],
            ),
            lines(
                "Keys read, rows written",
                "",
                "short",
                &[
                    ("sum(rate(groundplane_store_keys_read_total[$__rate_interval]))", "keys read"),
                    ("sum(rate(groundplane_store_rows_applied_total[$__rate_interval]))", "rows applied"),
                ],
            ),
            lines(
                "Writer",
                "Jobs that wait; how long the batch under way takes.",
                "short",
                &[
                    ("groundplane_writer_pending", "pending {{instance}}"),
                    ("groundplane_writer_busy_seconds", "busy {{instance}}"),
                    ("groundplane_store_young_tables", "young tables {{instance}}"),
                ],
            ),
            lines("Behind the network", "", "s", &[("groundplane_ingest_lag_seconds", "{{instance}}")]),
            stacked(
                "Lost",
                "What came in and could not be used, by reason.",
                "short",
                &[("sum by (reason) (rate(groundplane_ingest_drops_total[$__rate_interval])) > 0", "{{reason}}")],
            ),
            lines(
                "Disk",
                "",
                "bytes",
                &[
                    ("groundplane_store_disk_bytes", "used {{instance}}"),
                    ("groundplane_store_disk_free_bytes", "free {{instance}}"),
                ],
            ),
        ],
    },
    Row {
        title: "Machine",
        panels: &[
            lines(
                "Ports in use",
                "Towards the fullest address of each peer.",
                "percentunit",
                &[("max by (peer) (groundplane_ephemeral_ports_used_ratio)", "{{peer}}")],
            ),
            stacked("Sockets", "By state.", "short", &[("sum by (state) (groundplane_sockets)", "{{state}}")]),
            lines(
                "Memory",
                "",
                "bytes",
                &[
                    (r#"process_resident_memory_bytes{job="groundplane"}"#, "resident {{instance}}"),
                    ("groundplane_memory_inflight_bytes", "in flight {{instance}}"),
                    ("groundplane_memory_limit_bytes", "limit {{instance}}"),
                ],
            ),
            lines(
                "Processor",
                "",
                "none",
                &[
                    (r#"rate(process_cpu_seconds_total{job="groundplane"}[$__rate_interval])"#, "{{instance}}"),
                    ("groundplane_runtime_worker_busy_ratio", "workers busy {{instance}}"),
                ],
            ),
            lines(
                "Tasks and stalls",
                "",
                "short",
                &[
                    ("groundplane_runtime_tasks", "tasks {{instance}}"),
                    ("rate(groundplane_runtime_stall_seconds_total[$__rate_interval])", "stalled {{instance}}"),
                ],
            ),
            lines(
                "Log lines",
                "Written, and not.",
                "short",
                &[
                    ("sum(rate(groundplane_log_written_total[$__rate_interval]))", "written"),
                    (
                        "sum by (reason) (rate(groundplane_log_suppressed_total[$__rate_interval]))",
                        "suppressed {{reason}}",
                    ),
                    ("sum by (level) (rate(groundplane_log_events_total[$__rate_interval]))", "{{level}}"),
                ],
            ),
        ],
    },
];
