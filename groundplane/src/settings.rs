//! What an operator can set: flags, their environment variables, defaults and units.
//!
//! These names are a contract with deployments, tests and dashboards; they change only with a release note.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use gp_store::engine::cql::{Address, CqlConfig, Names, Tls};

/// Where profiles are shown if the operator does not say.
pub(crate) const SITEMAP_URL: &str = "https://bsky.app";

/// The store of one machine.
pub(crate) const EMBEDDED: &str = "embedded";

/// A cache takes this part of the memory that the process may have, if its setting is left out: three of them, a quarter
/// for calls in flight and what the process needs of its own fit twice into it.
const CACHE_PART: u64 = 16;
/// And not more than this.
const CACHE_BYTES_MAX: u64 = 128 << 20;

/// The graph of follows may take this part of the memory; it takes what the network needs.
const GRAPH_PART: u64 = 8;
/// The same where the kernel does not say how much memory there is.
const GRAPH_BYTES: u64 = 512 << 20;

/// Bytes that caches may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caches {
    /// Answers.
    pub(crate) near: u64,
    /// The newest items of all feeds.
    pub(crate) window: u64,
    /// Who follows whom.
    pub(crate) graph: u64,
    /// Blocks of the embedded store.
    pub(crate) block: u64,
}

impl Caches {
    /// All together.
    pub(crate) fn sum(self) -> u64 {
        [self.window, self.graph, self.block].into_iter().fold(self.near, u64::saturating_add)
    }
}

/// How a cluster is reached; of no meaning to a folder.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Access {
    /// Name for a cluster that asks for one.
    #[arg(long, env = "GROUNDPLANE_STORE_USER")]
    pub(crate) store_user: Option<String>,
    /// Password for it.
    #[arg(long, env = "GROUNDPLANE_STORE_PASSWORD", hide_env_values = true)]
    pub(crate) store_password: Option<String>,
    /// Speak TLS with the cluster: a PEM file with the certificates that sign those of its nodes.
    #[arg(long, env = "GROUNDPLANE_STORE_CA")]
    pub(crate) store_ca: Option<PathBuf>,
    /// For a cluster that asks for our certificate: a PEM file with it.
    #[arg(long, env = "GROUNDPLANE_STORE_CERT")]
    pub(crate) store_cert: Option<PathBuf>,
    /// Its private key, a PEM file.
    #[arg(long, env = "GROUNDPLANE_STORE_KEY")]
    pub(crate) store_key: Option<PathBuf>,
    /// How long to try again while a cluster cannot be reached, in seconds.
    #[arg(long, env = "GROUNDPLANE_STORE_WAIT", default_value_t = 60)]
    pub(crate) store_wait: u32,
}

impl Access {
    /// Takes what is empty as not given, refuses one half of a pair without the other, and sees whether the
    /// files can be used.
    pub(crate) fn checked(mut self) -> Result<Self, Wrong> {
        for option in [&mut self.store_user, &mut self.store_password] {
            option.take_if(|text| text.trim().is_empty());
        }
        if self.store_user.is_some() != self.store_password.is_some() {
            return Err(Wrong("--store-user and --store-password are given together or not at all".into()));
        }
        for option in [&mut self.store_ca, &mut self.store_cert, &mut self.store_key] {
            option.take_if(|path| path.as_os_str().is_empty());
        }
        if self.store_cert.is_some() != self.store_key.is_some() {
            return Err(Wrong("--store-cert and --store-key are given together or not at all".into()));
        }
        if self.store_cert.is_some() && self.store_ca.is_none() {
            return Err(Wrong("--store-cert needs --store-ca: without it TLS is not spoken".into()));
        }
        self.tls(Names::default())?;
        Ok(self)
    }

    fn tls(&self, names: Names) -> Result<Option<Tls>, Wrong> {
        let Some(trusted) = &self.store_ca else { return Ok(None) };
        let ours = self.store_cert.as_deref().zip(self.store_key.as_deref());
        Tls::read(trusted, ours, names).map(Some).map_err(|why| Wrong(format!("TLS with the cluster: {why}")))
    }

    /// What is told to the driver.
    pub(crate) fn cluster(&self, address: Address, writes: bool) -> Result<CqlConfig, Wrong> {
        Ok(CqlConfig {
            login: self.store_user.clone().zip(self.store_password.clone()),
            tls: self.tls(address.names)?,
            address,
            wait: Duration::from_secs(self.store_wait.into()),
            writes,
        })
    }
}

/// An open data plane for the Bluesky AppView.
#[derive(Debug, Parser)]
#[command(name = "groundplane", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: read the network, answer the AppView.
    Serve(Box<Settings>),
    /// Read the repos of the network whole, print those that could not be read as lines of JSON, and end. The rest of the
    /// settings are those of `serve`, and so is what it does meanwhile. Ends with 3 if a repo could not be read.
    Backfill(Box<BackfillSettings>),
    /// Show it at work: a synthetic network of a few thousand accounts in this process, served like a real one.
    Demo(DemoSettings),
    /// Make one call and print the answer as JSON, for example: groundplane get GetTimeline '{"actorDid": "did:plc:..."}'
    Get(GetSettings),
    /// Print the settings in force, as `serve` would see them.
    Config(Box<Settings>),
    /// Look whether this machine and everybody the settings name are fit for `serve`, and say what to change. Ends with 1
    /// if something must.
    Doctor(Box<Settings>),
    /// Copy all rows from one store to another: embedded:DIR, or cql://host:port/keyspace. It can be stopped and gone on
    /// with, and ends by comparing a sum of each table. Ends with 1 if something failed, with 130 if it was stopped.
    Copy(crate::copy::CopySettings),
    /// Replay a known outage on this machine, in a network namespace of its own, and say what callers would have felt.
    /// Ends with 1 if a check fails, with 3 if the machine does not permit it.
    Drill(crate::drill::Settings),
    /// The naive server beside which drills are run.
    #[command(hide = true)]
    DrillTwin(crate::drill::TwinSettings),
    /// The server with nothing around a call, to compare with.
    #[command(hide = true)]
    DrillBare(crate::drill::BareSettings),
    /// The server over a store that does as it is told.
    #[command(hide = true)]
    DrillPlane(crate::drill::ScriptedSettings),
    /// Print every metric with its type, its labels and what it says, as a table in Markdown.
    Catalog,
    /// Print a completion script for a shell. It completes the names of calls as well.
    Completions {
        /// bash, zsh or fish.
        shell: String,
    },
}

/// Settings of `serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// gRPC for the AppView, HTTP/2 cleartext and HTTP/1.1 on the same port.
    #[arg(long, env = "GROUNDPLANE_LISTEN", default_value = "127.0.0.1:2585")]
    pub(crate) listen: SocketAddr,
    /// Admin HTTP: dashboard, metrics, health, status, operator API.
    #[arg(long, env = "GROUNDPLANE_ADMIN_LISTEN", default_value = "127.0.0.1:2586")]
    pub(crate) admin_listen: SocketAddr,
    /// Folder of the embedded store.
    #[arg(long, env = "GROUNDPLANE_DATA_DIR", default_value = "./groundplane-data")]
    pub(crate) data_dir: PathBuf,
    /// Parts to run in this process: ingest, read, or both.
    #[arg(long, env = "GROUNDPLANE_ROLES", default_value = "ingest,read", value_delimiter = ',')]
    pub(crate) roles: Vec<String>,
    /// Relay to read, ws:// or wss://; repeatable, or a comma list. None: nothing is read.
    #[arg(long, env = "GROUNDPLANE_RELAY_URL", value_delimiter = ',')]
    pub(crate) relay_url: Vec<String>,
    /// Where a first start begins: now, or oldest (everything the relay retains).
    #[arg(long, env = "GROUNDPLANE_RELAY_START", default_value = "now")]
    pub(crate) relay_start: String,
    /// Relay or host whose list of repos is read whole, beside the stream, until all of it was; repeatable, or a comma
    /// list (docs/backfill.md). None: only what events bring.
    #[arg(long, env = "GROUNDPLANE_BACKFILL", value_delimiter = ',')]
    pub(crate) backfill: Vec<String>,
    /// Repos that the backfill reads at the same time.
    #[arg(long, env = "GROUNDPLANE_BACKFILL_REPOS_MAX", default_value_t = 16)]
    pub(crate) backfill_repos_max: u16,
    /// ... from the same host.
    #[arg(long, env = "GROUNDPLANE_BACKFILL_HOST_REPOS_MAX", default_value_t = 4)]
    pub(crate) backfill_host_repos_max: u16,
    /// Repos that the backfill asks of one host in a second.
    #[arg(long, env = "GROUNDPLANE_BACKFILL_HOST_RATE", default_value_t = 8.0)]
    pub(crate) backfill_host_rate: f64,
    /// DID directory.
    #[arg(long, env = "GROUNDPLANE_PLC_URL", default_value = "https://plc.directory")]
    pub(crate) plc_url: String,
    /// Resolve any DID by GET <url>/<did> instead of the directory and did:web.
    #[arg(long, env = "GROUNDPLANE_DID_RESOLVER_URL")]
    pub(crate) did_resolver_url: Option<String>,
    /// Resolve handles by com.atproto.identity.resolveHandle at this URL instead of DNS and HTTPS.
    #[arg(long, env = "GROUNDPLANE_HANDLE_RESOLVER_URL")]
    pub(crate) handle_resolver_url: Option<String>,
    /// bsync, for private state.
    #[arg(long, env = "GROUNDPLANE_BSYNC_URL")]
    pub(crate) bsync_url: Option<String>,
    /// Key for bsync.
    #[arg(long, env = "GROUNDPLANE_BSYNC_API_KEY", hide_env_values = true)]
    pub(crate) bsync_api_key: Option<String>,
    /// HTTP version for bsync; it speaks 1.1 only.
    #[arg(long, env = "GROUNDPLANE_BSYNC_HTTP_VERSION", default_value = "1.1")]
    pub(crate) bsync_http_version: String,
    /// Labelers to subscribe to; repeatable, or a comma list.
    #[arg(long, env = "GROUNDPLANE_LABELER_URLS", value_delimiter = ',')]
    pub(crate) labeler_url: Vec<String>,
    /// Where rows are kept: embedded, or a cluster as cql://host:port,host:port/keyspace (docs/cql.md).
    #[arg(long, env = "GROUNDPLANE_STORE", default_value = EMBEDDED)]
    pub(crate) store: String,
    #[command(flatten)]
    pub(crate) access: Access,
    /// Site on which profiles are shown to people: sitemaps name <url>/profile/<handle>.
    #[arg(long, env = "GROUNDPLANE_SITEMAP_URL", default_value = SITEMAP_URL)]
    pub(crate) sitemap_url: String,
    /// memcached nodes as host:port,host:port: the same list, in any order, in every process. None: no memcached.
    #[arg(long, env = "GROUNDPLANE_MEMCACHED")]
    pub(crate) memcached: Option<String>,
    /// Bearer token for everything on the admin port that changes state. Without it those calls are refused unless the
    /// admin address is loopback.
    #[arg(long, env = "GROUNDPLANE_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
    /// Bearer tokens of callers other than the AppView; repeatable, or a comma list. A wrong one is refused, a missing
    /// one allowed unless --require-auth.
    #[arg(long, env = "GROUNDPLANE_AUTH_TOKENS", value_delimiter = ',', hide_env_values = true)]
    pub(crate) auth_token: Vec<String>,
    /// Refuse callers without a token.
    #[arg(long, env = "GROUNDPLANE_REQUIRE_AUTH", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) require_auth: bool,
    /// Names of callers that metrics tell apart (header x-atlantis-caller); others are "other".
    #[arg(long, env = "GROUNDPLANE_CALLERS", value_delimiter = ',', default_value = "appview,bsync")]
    pub(crate) caller: Vec<String>,
    /// Those of them, or other or unknown, that can wait: they are served after all others, and what must be refused is
    /// theirs first.
    #[arg(long, env = "GROUNDPLANE_CALLERS_BACKGROUND", value_delimiter = ',')]
    pub(crate) caller_background: Vec<String>,
    /// Keys of one request; a larger one is refused before anything is read.
    #[arg(long, env = "GROUNDPLANE_KEYS_MAX", default_value_t = 100_000)]
    pub(crate) keys_max: u32,
    /// Answers kept in memory, in MiB. Left out: a sixteenth of the memory that the process may have, at most 128.
    #[arg(long, env = "GROUNDPLANE_NEAR_CACHE_MIB")]
    pub(crate) near_cache_mib: Option<u64>,
    /// The newest items of all feeds, kept in memory for timelines, in MiB. Left out: a sixteenth of the memory that the
    /// process may have, at most 128.
    #[arg(long, env = "GROUNDPLANE_TIMELINE_WINDOW_MIB")]
    pub(crate) timeline_window_mib: Option<u64>,
    /// Who follows whom, kept in memory for timelines and known followers, in MiB; about 12 bytes for each follow. Left
    /// out: an eighth of the memory that the process may have. A network that needs more is read from the store.
    #[arg(long, env = "GROUNDPLANE_GRAPH_MIB")]
    pub(crate) graph_mib: Option<u64>,
    /// Block cache of the embedded store, in MiB. Left out: a sixteenth of the memory that the process may have, at most
    /// 128.
    #[arg(long, env = "GROUNDPLANE_BLOCK_CACHE_MIB")]
    pub(crate) block_cache_mib: Option<u64>,
    /// Kept answers that are compared with the store in a second; 0: none.
    #[arg(long, env = "GROUNDPLANE_AUDIT_KEYS_PER_SECOND", default_value_t = 200)]
    pub(crate) audit_keys_per_second: u32,
    /// Stop when standard input closes, so that a supervisor that dies takes us along.
    #[arg(long, env = "GROUNDPLANE_EXIT_ON_STDIN_EOF", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) exit_on_stdin_eof: bool,
    /// Let identity and repo look-ups reach loopback and private addresses (development).
    #[arg(long, env = "GROUNDPLANE_ALLOW_PRIVATE_NETWORKS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) allow_private_networks: bool,
    /// Collector of traces, OTLP over HTTP: its base URL, as http://127.0.0.1:4318. None: no traces.
    #[arg(long, env = "GROUNDPLANE_OTLP_URL")]
    pub(crate) otlp_url: Option<String>,
    /// What to log: error, warn, info, debug, or a filter.
    #[arg(long, env = "GROUNDPLANE_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// Settings of `backfill`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackfillSettings {
    /// Relays or hosts whose lists of repos are read, as https://relay.example.
    pub(crate) from: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

impl BackfillSettings {
    /// The settings of `serve` that do the same.
    pub(crate) fn checked(self) -> Result<Settings, Wrong> {
        let mut settings = self.settings;
        settings.backfill.extend(self.from);
        let settings = settings.checked()?;
        if settings.backfill.is_empty() {
            return Err(Wrong("say whose repos are to be read: groundplane backfill https://relay.example".into()));
        }
        Ok(settings)
    }
}

/// Settings of `demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoSettings {
    /// gRPC address.
    #[arg(long, default_value = "127.0.0.1:2585")]
    pub(crate) listen: SocketAddr,
    /// Admin address.
    #[arg(long, default_value = "127.0.0.1:2586")]
    pub(crate) admin_listen: SocketAddr,
    /// Accounts of the synthetic network.
    #[arg(long, default_value_t = 3_000)]
    pub(crate) accounts: u32,
    /// The same seed makes the same network.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to keep the data; a temporary folder that goes at the end, if not given.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// New events a second after the history has been read.
    #[arg(long, default_value_t = 20)]
    pub(crate) live_rate: u32,
    /// Stop once everything is loaded and what to try has been printed.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Settings of `get`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetSettings {
    /// The call, as GetTimeline. Left out: all calls are listed.
    pub(crate) method: Option<String>,
    /// The request as JSON.
    #[arg(default_value = "{}")]
    pub(crate) request: String,
    /// The plane to ask.
    #[arg(long, env = "GROUNDPLANE_URL", default_value = "http://127.0.0.1:2585")]
    pub(crate) url: String,
    /// Print bytes as base64, as the contract's JSON has them, instead of the JSON or text they hold.
    #[arg(long)]
    pub(crate) raw: bool,
    /// A bearer token.
    #[arg(long, env = "GROUNDPLANE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

/// What is wrong with the settings, as one line for the operator.
#[derive(Debug)]
pub(crate) struct Wrong(pub(crate) String);

impl Settings {
    /// Takes empty settings as not given, and refuses what cannot work.
    pub(crate) fn checked(mut self) -> Result<Self, Wrong> {
        for list in [
            &mut self.relay_url,
            &mut self.backfill,
            &mut self.labeler_url,
            &mut self.auth_token,
            &mut self.caller,
            &mut self.caller_background,
            &mut self.roles,
        ] {
            list.retain_mut(|entry| {
                *entry = entry.trim().to_owned();
                !entry.is_empty()
            });
        }
        for option in [
            &mut self.did_resolver_url,
            &mut self.handle_resolver_url,
            &mut self.bsync_url,
            &mut self.bsync_api_key,
            &mut self.memcached,
            &mut self.admin_token,
            &mut self.otlp_url,
        ] {
            if option.as_deref().is_some_and(|text| text.trim().is_empty()) {
                *option = None;
            }
        }
        let wrong = |why: String| Err(Wrong(why));
        for role in &self.roles {
            if role != "ingest" && role != "read" {
                return wrong(format!("--roles: {role:?} is no part: use ingest, read, or ingest,read"));
            }
        }
        if self.roles.is_empty() {
            return wrong("--roles is empty: use ingest, read, or ingest,read".into());
        }
        if self.relay_start != "now" && self.relay_start != "oldest" {
            return wrong(format!("--relay-start: {:?} is neither now nor oldest", self.relay_start));
        }
        if self.bsync_http_version != "1.1" {
            return wrong(format!(
                "--bsync-http-version: {:?} is not supported: bsync speaks 1.1 only",
                self.bsync_http_version
            ));
        }
        if self.bsync_url.is_some() && self.bsync_api_key.is_none() {
            return wrong("--bsync-url needs --bsync-api-key".into());
        }
        let is_known = |name: &String| name == "other" || name == "unknown" || self.caller.contains(name);
        if let Some(name) = self.caller_background.iter().find(|name| !is_known(name)) {
            return wrong(format!("--caller-background: {name:?} is not among --caller: add it there"));
        }
        if self.store != EMBEDDED {
            self.store.parse::<Address>().map_err(|why| Wrong(format!("--store: {why}")))?;
            self.access = self.access.checked()?;
        }
        for node in self.memcached_nodes() {
            let port = node.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return wrong(format!("--memcached: {node:?} is not host:port, as in cache-1:11211,cache-2:11211"));
            }
        }
        self.sitemap_url = match self.sitemap_url.trim().trim_end_matches('/') {
            "" => SITEMAP_URL.to_owned(),
            url => url.to_owned(),
        };
        for url in [
            Some(&self.plc_url),
            Some(&self.sitemap_url),
            self.did_resolver_url.as_ref(),
            self.handle_resolver_url.as_ref(),
            self.bsync_url.as_ref(),
            self.otlp_url.as_ref(),
        ]
        .into_iter()
        .flatten()
        {
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                return wrong(format!("{url:?} is not a URL: begin it with http:// or https://"));
            }
        }
        for url in &self.relay_url {
            gp_ingest::relay_base(url).map_err(|why| Wrong(format!("--relay-url: {why}")))?;
        }
        for url in &self.backfill {
            gp_ingest::relay_base(url).map_err(|why| Wrong(format!("--backfill: {why}")))?;
        }
        if !self.backfill.is_empty() && !self.has_role("ingest") {
            return wrong("--backfill needs the role ingest: add it to --roles".into());
        }
        let rate = self.backfill_host_rate;
        if !(rate.is_finite() && rate > 0.0) || self.backfill_repos_max == 0 || self.backfill_host_repos_max == 0 {
            return wrong(
                "--backfill-repos-max, --backfill-host-repos-max and --backfill-host-rate are above 0".into(),
            );
        }
        Ok(self)
    }

    /// A number that differs when the settings do. Secrets are left out of it: whoever reads it learns nothing of them.
    pub(crate) fn hash(&self) -> String {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| String::new());
        let shown = Self {
            admin_token: hidden(&self.admin_token),
            bsync_api_key: hidden(&self.bsync_api_key),
            access: Access { store_password: hidden(&self.access.store_password), ..self.access.clone() },
            auth_token: vec![String::new(); self.auth_token.len()],
            ..self.clone()
        };
        // FNV-1a, so that it stays the same from one build to the next.
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("{:016x}", format!("{shown:?}").bytes().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    /// Bytes of the caches, for a process that may have so much memory, if the kernel says how much.
    pub(crate) fn caches(&self, memory_limit: Option<u64>) -> Caches {
        let left_out = memory_limit.map_or(CACHE_BYTES_MAX, |limit| (limit / CACHE_PART).min(CACHE_BYTES_MAX));
        let of = |mib: Option<u64>, left_out| mib.map_or(left_out, |mib| mib.saturating_mul(1 << 20));
        let bytes = |mib| of(mib, left_out);
        Caches {
            near: bytes(self.near_cache_mib),
            window: bytes(self.timeline_window_mib),
            graph: of(self.graph_mib, memory_limit.map_or(GRAPH_BYTES, |limit| limit / GRAPH_PART)),
            block: bytes(self.block_cache_mib),
        }
    }

    /// The nodes of memcached.
    pub(crate) fn memcached_nodes(&self) -> Vec<String> {
        let listed = self.memcached.as_deref().unwrap_or_default().split(',').map(str::trim);
        let mut nodes: Vec<String> = listed.filter(|node| !node.is_empty()).map(str::to_owned).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Whether a role runs in this process.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r == role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Settings {
        let cli = Cli::try_parse_from(["groundplane", "config", "--data-dir", "x"].iter().chain(args)).unwrap();
        match cli.command {
            Command::Config(settings) => *settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn caches_follow_the_memory_unless_they_are_set() {
        let of = |args: &[&str], limit: Option<u64>| settings(args).caches(limit);
        let all = |bytes, graph| Caches { near: bytes, window: bytes, graph, block: bytes };
        let small = all(32 << 20, 64 << 20);
        assert_eq!(of(&[], Some(512 << 20)), small);
        assert_eq!(of(&[], Some(64 << 30)), all(128 << 20, 8 << 30));
        assert_eq!(of(&[], None), all(128 << 20, GRAPH_BYTES));
        assert_eq!(of(&["--near-cache-mib", "7"], Some(512 << 20)), Caches { near: 7 << 20, ..small });
        assert_eq!(of(&["--graph-mib", "7"], Some(512 << 20)), Caches { graph: 7 << 20, ..small });
        assert_eq!(of(&["--near-cache-mib", &u64::MAX.to_string()], None).sum(), u64::MAX);
    }

    #[test]
    fn a_name_needs_a_password_and_an_empty_one_is_none() {
        let access = |user: &str, password: &str| {
            let given = Access {
                store_user: Some(user.into()),
                store_password: Some(password.into()),
                store_wait: 7,
                ..Access::default()
            };
            let cluster = given.checked()?.cluster("cql://db:9042/plane".parse().unwrap(), false);
            cluster.map(|it| it.login)
        };
        assert_eq!(access("ann", "x").unwrap(), Some(("ann".to_owned(), "x".to_owned())));
        assert_eq!(access("", " ").unwrap(), None);
        assert!(access("ann", "").is_err() && access("", "x").is_err());
    }

    #[test]
    fn a_file_of_certificates_that_cannot_be_read_is_named_before_anything_starts() {
        let path = |name: &str| (!name.is_empty()).then(|| PathBuf::from(name));
        let access = |ca: &str, cert: &str, key: &str| {
            let given =
                Access { store_ca: path(ca), store_cert: path(cert), store_key: path(key), ..Access::default() };
            given.checked().map(|it| it.store_ca).map_err(|wrong| wrong.0)
        };
        assert_eq!(access("", "", ""), Ok(None));
        assert!(access("/nonexistent/ca.pem", "", "").unwrap_err().contains("/nonexistent/ca.pem"));
        assert!(access("", "cert.pem", "").unwrap_err().contains("--store-key"));
        assert!(access("", "cert.pem", "key.pem").unwrap_err().contains("--store-ca"));
    }
}
