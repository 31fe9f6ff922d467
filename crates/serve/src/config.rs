//! What can be set about serving. Every number is a bound, with its unit in its name.

use std::{net::SocketAddr, sync::Arc};

use crate::{LogCounts, Peer, Traces, caller::CALLERS_MAX};

/// How the process serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Callers that metrics and fairness tell apart, by the name they send in `x-atlantis-caller`. At most
    /// [`CALLERS_MAX`](crate::CALLERS_MAX); any other name is `other`.
    pub callers: Vec<String>,
    /// Those of them, or `other` or `unknown`, that come after all others: what is shed is theirs first.
    pub background: Vec<String>,
    /// Tokens that callers may show. A wrong one is refused; with none here, tokens are not looked at.
    pub auth_tokens: Vec<String>,
    /// Refuses callers that show no token.
    pub require_auth: bool,
    /// The token for everything under `/admin/`. Without one, those calls are allowed only if the admin address is
    /// loopback.
    pub admin_token: Option<String>,

    /// Bytes of one request of a call that takes lists; other calls may have a sixty-fourth of it.
    pub request_bytes_max: usize,
    /// Keys of one request.
    pub keys_max: u32,
    /// Records looked up at a time for a list that can be cut. Longer lists are served in slices that cost as much.
    pub slice_keys: u32,
    /// Bytes of requests and answers in memory, all calls together; one call may have a tenth of it. None: a quarter of
    /// the memory that the process may use, at most a gibibyte.
    pub bytes_in_flight_max: Option<u64>,
    /// Work in flight, in units: one unit is one key that the memory answers.
    pub units_in_flight_max: u32,
    /// Calls that may wait for room.
    pub waiting_max: usize,
    /// How long a call may wait for room, in milliseconds. A call that was begun waits for its next slice as long as
    /// its deadline allows.
    pub wait_ms_max: u64,
    /// How long a call may take, whatever its caller says, in milliseconds.
    pub deadline_ms_max: u64,

    /// Connections of callers. Beyond it, connections wait to be accepted.
    pub connections_max: usize,
    /// Connections to the admin port.
    pub admin_connections_max: usize,
    /// Calls of one connection at the same time (HTTP/2).
    pub streams_per_connection_max: u32,
    /// Bytes of a request's headers.
    pub header_bytes_max: u32,
    /// How long a connection may be silent before its first byte, in milliseconds.
    pub first_byte_ms_max: u64,
    /// How long an HTTP/1.1 connection may be without a request, and how long a request may take to say its headers,
    /// in milliseconds.
    pub idle_ms_max: u64,
    /// After how much silence an HTTP/2 peer is asked whether it is there, in milliseconds; it has as long to answer.
    pub ping_ms: u64,
    /// How long a peer may take no byte of what is sent to it, in milliseconds.
    pub write_stall_ms_max: u64,
    /// How long a large answer may take to be read by its caller, in milliseconds; then it is dropped.
    pub answer_drain_ms_max: u64,
    /// How long calls in flight may take to end when the process stops, in milliseconds.
    pub drain_ms_max: u64,

    /// Bytes of a request's body on the admin port.
    pub admin_body_bytes_max: usize,
    /// The version shown in `/metrics`.
    pub version: String,
    /// A number of the settings in force, shown in `/metrics`: it differs when they do.
    pub settings_hash: Option<String>,
    /// Where the data is asked for over TCP, so that `/metrics` can tell these sockets from others.
    pub peers: Vec<(Peer, SocketAddr)>,
    /// Counts of log lines, shown in `/metrics`. Shared with the layer that writes them.
    pub logs: Arc<LogCounts>,
    /// Takes traces of calls. None: nothing is noted of them.
    pub traces: Option<Arc<dyn Traces>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            callers: vec!["appview".into()],
            background: Vec::new(),
            auth_tokens: Vec::new(),
            require_auth: false,
            admin_token: None,
            request_bytes_max: 64 << 20,
            keys_max: 100_000,
            slice_keys: 256,
            bytes_in_flight_max: None,
            // Two hundred calls of fifty keys. A tenth of it is four slices.
            units_in_flight_max: 10_240,
            waiting_max: 8_192,
            wait_ms_max: 1_000,
            deadline_ms_max: 60_000,
            connections_max: 4_096,
            admin_connections_max: 256,
            streams_per_connection_max: 1_024,
            header_bytes_max: 32 << 10,
            first_byte_ms_max: 10_000,
            idle_ms_max: 120_000,
            ping_ms: 20_000,
            write_stall_ms_max: 20_000,
            answer_drain_ms_max: 20_000,
            drain_ms_max: 8_000,
            admin_body_bytes_max: 16 << 20,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_hash: None,
            peers: Vec::new(),
            logs: Arc::default(),
            traces: None,
        }
    }
}

/// A setting that cannot be served with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub setting: &'static str,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Config {
    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting, why: &str| Err(ConfigError { setting, why: why.to_owned() });
        if self.callers.len() > CALLERS_MAX {
            return wrong(
                "callers",
                "at most 32 names can be told apart: keep those that matter, the others are `other`",
            );
        }
        if self.callers.iter().any(|name| name.is_empty() || name == "unknown" || name == "other") {
            return wrong(
                "callers",
                "a name is empty, `unknown` or `other`, which mean something else: choose another one",
            );
        }
        let is_known = |name: &String| name == "unknown" || name == "other" || self.callers.contains(name);
        if !self.background.iter().all(is_known) {
            return wrong(
                "background",
                "a name is not among the callers that are told apart: add it there, or name `other` or `unknown`",
            );
        }
        if self.require_auth && self.auth_tokens.is_empty() {
            return wrong("require_auth", "nobody could call: configure at least one token, or do not require one");
        }
        if self.auth_tokens.iter().any(String::is_empty) {
            return wrong("auth_tokens", "a token is empty: remove it");
        }
        if self.admin_token.as_deref() == Some("") {
            return wrong("admin_token", "the token is empty: leave it out, or choose one");
        }
        let positive = [
            ("request_bytes_max", self.request_bytes_max as u64),
            ("keys_max", self.keys_max.into()),
            ("slice_keys", self.slice_keys.into()),
            ("bytes_in_flight_max", self.bytes_in_flight_max.unwrap_or(1)),
            ("units_in_flight_max", self.units_in_flight_max.into()),
            ("deadline_ms_max", self.deadline_ms_max),
            ("connections_max", self.connections_max as u64),
            ("admin_connections_max", self.admin_connections_max as u64),
            ("streams_per_connection_max", self.streams_per_connection_max.into()),
            ("header_bytes_max", self.header_bytes_max.into()),
            ("first_byte_ms_max", self.first_byte_ms_max),
            ("idle_ms_max", self.idle_ms_max),
            ("ping_ms", self.ping_ms),
            ("write_stall_ms_max", self.write_stall_ms_max),
            ("answer_drain_ms_max", self.answer_drain_ms_max),
            ("admin_body_bytes_max", self.admin_body_bytes_max as u64),
        ];
        for (setting, value) in positive {
            if value == 0 {
                return wrong(setting, "0 would refuse everything: choose a number above it");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_what_cannot_work_is_refused() {
        assert_eq!(Config::default().check(), Ok(()));
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().setting
        };
        assert_eq!(wrong(|it| it.require_auth = true), "require_auth");
        assert_eq!(wrong(|it| it.callers = vec!["other".into()]), "callers");
        assert_eq!(wrong(|it| it.callers = (0..33).map(|n| n.to_string()).collect()), "callers");
        assert_eq!(wrong(|it| it.background = vec!["nobody".into()]), "background");
        assert_eq!(wrong(|it| it.auth_tokens = vec![String::new()]), "auth_tokens");
        assert_eq!(wrong(|it| it.admin_token = Some(String::new())), "admin_token");
        assert_eq!(wrong(|it| it.slice_keys = 0), "slice_keys");
    }
}
