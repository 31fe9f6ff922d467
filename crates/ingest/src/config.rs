//! What the ingest side can be told, with defaults, units and bounds.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// Where a first start begins; afterwards the stored position counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayStart {
    /// With the events to come.
    #[default]
    Now,
    /// With the oldest event the relay retains.
    Oldest,
}

/// Where private state comes from.
#[derive(Debug, Clone)]
pub struct BsyncConfig {
    /// Base URL of a `bsync.Service`. Spoken to over HTTP/1.1.
    pub url: String,
    /// Sent as a bearer token.
    pub api_key: String,
    /// How long one poll may wait for news; the server's own limit is 10 s.
    pub poll_max: Duration,
    /// Operations asked for in one page.
    pub page_ops_max: i32,
}

impl BsyncConfig {
    /// The usual bounds.
    pub fn new(url: impl Into<String>, api_key: impl Into<String>) -> Self {
        Self { url: url.into(), api_key: api_key.into(), poll_max: Duration::from_secs(20), page_ops_max: 1000 }
    }
}

/// Where repos are listed, and how gently they are read.
#[derive(Debug, Clone)]
pub struct BackfillConfig {
    /// Relays or hosts with `com.atproto.sync.listRepos`, as [`relay_base`] takes them.
    pub urls: Vec<String>,
    /// Repos read at the same time.
    pub repos_running_max: usize,
    /// ... from the same host.
    pub repos_per_host_max: usize,
    /// Repos asked of one host in a second.
    pub requests_per_host_second_max: f64,
    /// Identities looked up in a second.
    pub lookups_per_second_max: f64,
    /// Delays between the attempts of a repo that fails by itself; the last one repeats.
    pub retry_delays: &'static [Duration],
    /// Attempts after which it is given up, until somebody asks.
    pub attempts_max: u32,
    /// A host for which nothing has gone well for this long: its repos are given up as well.
    pub host_patience: Duration,
    /// Longest pause between two looks at what is left.
    pub pass_pause_max: Duration,
}

/// Delays between attempts; see [`BackfillConfig::retry_delays`].
const BACKFILL_RETRY_DELAYS: &[Duration] =
    &[Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3600), Duration::from_secs(4 * 3600)];

impl BackfillConfig {
    /// The usual bounds. Hosts allow ten requests a second to one address; some are left to others.
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            repos_running_max: 16,
            repos_per_host_max: 4,
            requests_per_host_second_max: 8.0,
            lookups_per_second_max: 200.0,
            retry_delays: BACKFILL_RETRY_DELAYS,
            attempts_max: 5,
            host_patience: Duration::from_secs(6 * 3600),
            pass_pause_max: Duration::from_secs(30),
        }
    }
}

/// Everything the ingest side can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Relays, as [`relay_base`] makes them. None: no public records come in by themselves.
    pub relay_urls: Vec<String>,
    /// Where a first start begins.
    pub relay_start: RelayStart,
    /// When a relay says that our position is ahead of it (it was rebuilt, say): begin again at its head instead of
    /// waiting with an alert. What happened in between is then only found by resyncs.
    pub restart_on_future_cursor: bool,
    /// Threads that verify commits. Each owns a share of the DIDs.
    pub lanes: usize,
    /// Events read and not yet applied. Beyond it the sockets are not read.
    pub events_in_flight_max: usize,
    /// Bytes of those events.
    pub bytes_in_flight_max: usize,
    /// Larger frames are dropped and counted.
    pub frame_bytes_max: usize,
    /// Accounts whose keys and standing the lanes keep in memory, all lanes together.
    pub accounts_in_memory_max: usize,
    /// Longest time that events of an account wait for its key before the repo is left to a resync.
    pub identity_hold_max: Duration,
    /// A repo first seen in mid-life is read whole.
    pub resync_on_first_sight: bool,
    /// Commits of hosts that send no proof of continuity are applied; otherwise each makes a resync.
    pub accept_unproven: bool,
    /// Repos read whole at the same time.
    pub resyncs_running_max: usize,
    /// ... from the same host.
    pub resyncs_per_host_max: usize,
    /// Largest repo that is read whole, in bytes of its CAR. One that is not small lies in `spool_dir` meanwhile.
    pub repo_bytes_max: u64,
    /// Most blocks of such a repo: each takes 48 bytes of memory meanwhile, and each of its records 30.
    pub repo_blocks_max: usize,
    /// Longest time for fetching one repo.
    pub repo_read_max: Duration,
    /// A repo that comes more slowly than this is given up.
    pub repo_bytes_per_second_min: u64,
    /// Where large repos lie while they are read, in files without a name. There must be room for one of
    /// `repo_bytes_max`.
    pub spool_dir: PathBuf,
    /// Identity checks at the same time.
    pub refreshes_running_max: usize,
    /// Deletions of accounts at the same time.
    pub deletions_running_max: usize,
    /// Follow-up jobs of one kind kept in memory. Further ones wait on disk.
    pub jobs_in_memory_max: usize,
    /// Delays between the attempts of a failing job; the last one repeats.
    pub retry_delays: &'static [Duration],
    /// Attempts after which a failing job is given up.
    pub attempts_max: u32,
    /// Attempts during which a failing job counts as pending; later it is only listed in the status.
    pub attempts_pending_max: u32,
    /// The network's repos are read whole, until all were.
    pub backfill: Option<BackfillConfig>,
    /// Private state.
    pub bsync: Option<BsyncConfig>,
    /// Labelers, as `ws`, `wss`, `http` or `https` base URLs.
    pub labeler_urls: Vec<String>,
    /// Longest wait for work in flight when stopping.
    pub drain_max: Duration,
}

/// Delays between attempts; see [`Config::retry_delays`].
pub const RETRY_DELAYS: &[Duration] = &[
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3600),
];

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            relay_urls: Vec::new(),
            relay_start: RelayStart::Now,
            restart_on_future_cursor: false,
            lanes: cores.clamp(2, 16),
            events_in_flight_max: 8192,
            bytes_in_flight_max: 128 << 20,
            frame_bytes_max: 5 << 20,
            accounts_in_memory_max: 200_000,
            identity_hold_max: Duration::from_secs(10),
            resync_on_first_sight: true,
            accept_unproven: false,
            resyncs_running_max: 8,
            resyncs_per_host_max: 2,
            repo_bytes_max: 2 << 30,
            repo_blocks_max: 6_000_000,
            repo_read_max: Duration::from_secs(1800),
            repo_bytes_per_second_min: 1024,
            spool_dir: std::env::temp_dir(),
            refreshes_running_max: 32,
            deletions_running_max: 2,
            jobs_in_memory_max: 8192,
            retry_delays: RETRY_DELAYS,
            attempts_max: 48,
            attempts_pending_max: 3,
            backfill: None,
            bsync: None,
            labeler_urls: Vec::new(),
            drain_max: Duration::from_secs(5),
        }
    }
}

/// How identities are found.
#[derive(Debug, Clone)]
pub struct IdentityConfig {
    /// The directory of `did:plc`.
    pub plc_url: String,
    /// Resolves any DID by GET `<url>/<did>`, instead of the directory and `did:web`.
    pub did_resolver_url: Option<String>,
    /// Resolves handles by `com.atproto.identity.resolveHandle`, instead of DNS and HTTPS.
    pub handle_resolver_url: Option<String>,
    /// Loopback and private addresses, plain HTTP and odd ports are allowed for what network data names.
    pub allow_private_networks: bool,
    /// Longest time of one look-up.
    pub lookup_max: Duration,
    /// Largest document.
    pub document_bytes_max: usize,
    /// Bytes of documents kept in memory.
    pub cache_bytes_max: u64,
    /// A document is used without asking again for this long.
    pub fresh_for: Duration,
    /// ... and for this long while it is asked for again, or the directory is down.
    pub stale_for: Duration,
    /// "No such identity" and failures are remembered for this long.
    pub negative_for: Duration,
    /// Look-ups at the same time.
    pub lookups_running_max: usize,
    /// Look-ups that may wait for their turn.
    pub lookups_waiting_max: usize,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            plc_url: "https://plc.directory".into(),
            did_resolver_url: None,
            handle_resolver_url: None,
            allow_private_networks: false,
            lookup_max: Duration::from_secs(3),
            document_bytes_max: 512 << 10,
            cache_bytes_max: 64 << 20,
            fresh_for: Duration::from_secs(600),
            stale_for: Duration::from_secs(24 * 3600),
            negative_for: Duration::from_secs(5),
            lookups_running_max: 64,
            lookups_waiting_max: 20_000,
        }
    }
}

/// Completes what an operator wrote as a relay: `relay.example` becomes `wss://relay.example`, loopback names become
/// `ws://`, `http` and `https` become `ws` and `wss`. Fails with a sentence for the operator.
pub fn relay_base(written: &str) -> Result<String, String> {
    let written = written.trim();
    let (scheme, rest) = match written.split_once("://") {
        Some(("ws" | "http", rest)) => ("ws", rest),
        Some(("wss" | "https", rest)) => ("wss", rest),
        Some((other, _)) => {
            return Err(format!("relay `{written}`: the scheme `{other}` is not known, use ws:// or wss://"));
        }
        None => (if is_loopback(written) { "ws" } else { "wss" }, written),
    };
    let base = format!("{scheme}://{}", rest.trim_end_matches('/'));
    match Url::parse(&base) {
        Ok(url) if url.has_host() && url.query().is_none() && url.fragment().is_none() => Ok(base),
        Ok(_) => Err(format!("relay `{written}`: give a host, as wss://relay.example, without query")),
        Err(e) => Err(format!("relay `{written}` is not a URL: {e}")),
    }
}

fn is_loopback(written: &str) -> bool {
    let host = written.split('/').next().unwrap_or_default();
    let host = host
        .rsplit_once(':')
        .map_or(host, |(host, port)| if port.bytes().all(|b| b.is_ascii_digit()) { host } else { written });
    host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_completed_or_refused_with_a_reason() {
        for (written, base) in [
            ("bsky.network", "wss://bsky.network"),
            ("wss://bsky.network/", "wss://bsky.network"),
            ("https://relay.example", "wss://relay.example"),
            ("http://127.0.0.1:99", "ws://127.0.0.1:99"),
            ("localhost:2583", "ws://localhost:2583"),
            ("127.0.0.1:2583", "ws://127.0.0.1:2583"),
            ("[::1]:2583", "ws://[::1]:2583"),
        ] {
            assert_eq!(relay_base(written).as_deref(), Ok(base), "{written}");
        }
        for bad in ["", "ftp://x", "ws://", "relay.example?x=1"] {
            assert!(relay_base(bad).is_err(), "{bad}");
        }
    }
}
