//! A client of memcached that a store can rely on when memcached cannot be relied on.
//!
//! - A fixed number of connections to each node, opened at start, each replaced at most once a second. Demand opens none.
//! - Questions are sent in packets without waiting for the answers to earlier ones; reading and writing go on side by
//!   side. Each packet has a deadline, each connection a bound on what may wait.
//! - Answers are matched by order and number. Whatever does not fit ends the connection, and what was open is unanswered.
//! - A node that does not answer is left alone, and asked small questions until it does.
//! - A key belongs to one node, whether that node answers or not.
//!
//! It knows nothing of tables, of what values say, and of who may write which when: that is the store's protocol. No
//! client crate was found that does all of this: see `docs/cache.md`.

mod breaker;
mod client;
pub mod codec;
mod conn;
mod node;
mod ring;

pub use breaker::{Breaker, State};
pub use client::{Client, Found, Lease, Op, Wrote};
pub use codec::LeaseTerms;
pub use node::DIAL_RESULTS;
pub use ring::Ring;

use std::time::Duration;

/// Bounds of a client.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` of each node. The names say which keys are whose: they should be the same in every process.
    pub nodes: Vec<String>,
    /// Connections to each node, opened at start.
    pub connections_per_node: usize,
    /// How long a question may go without an answer.
    pub op_deadline: Duration,
    /// What is allowed beyond it for each key of a packet while answers keep coming.
    pub deadline_per_key: Duration,
    /// Bytes handed to one connection and not answered.
    pub backlog_bytes_max: usize,
    /// Longest value read or put.
    pub value_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            connections_per_node: 4,
            // The runtime looks at its timers once a millisecond, so ten are waited at most.
            op_deadline: Duration::from_millis(9),
            deadline_per_key: Duration::from_micros(20),
            backlog_bytes_max: 1 << 20,
            // What memcached takes by default, less its own header and key.
            value_bytes_max: (1 << 20) - 1024,
        }
    }
}

/// What can be said about one node, since start.
#[derive(Debug, Clone)]
pub struct NodeFigures {
    /// As configured.
    pub address: String,
    /// Connections that are up.
    pub connections_up: u64,
    /// Connections there should be.
    pub connections: u64,
    /// Dials by how they ended, in the order of [`DIAL_RESULTS`].
    pub dials: [u64; 6],
    /// Connections given up because of what they brought, or failed to bring.
    pub discarded: u64,
    /// Bytes handed to connections and not answered.
    pub backlog_bytes: u64,
    /// The most of them at one connection.
    pub backlog_bytes_most: u64,
    /// Packets that were not taken because too much was waiting.
    pub refused: u64,
    /// Questions not answered in time.
    pub late: u64,
    /// What the breaker lets through.
    pub breaker: State,
    /// How often it opened.
    pub breaker_opened: u64,
    /// The server lacks what we need, and is not used.
    pub is_unsuited: bool,
}
