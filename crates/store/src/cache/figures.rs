//! How memcached is used, and what can be said about it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use gp_memcached::{Config as ClientConfig, NodeFigures, State};

use super::envelope::HEADER_BYTES;

/// How memcached is used.
#[derive(Debug, Clone)]
pub struct FarConfig {
    /// `host:port` of each node, the same in every process.
    pub nodes: Vec<String>,
    /// Whether this process changes rows. One process of a fleet does.
    pub writes: bool,
    /// Connections to each node.
    pub connections_per_node: usize,
    /// How long a question may go without an answer.
    pub op_deadline: Duration,
    /// Longest row kept.
    pub row_bytes_max: usize,
}

impl Default for FarConfig {
    fn default() -> Self {
        let client = ClientConfig::default();
        Self {
            nodes: Vec::new(),
            writes: true,
            connections_per_node: client.connections_per_node,
            op_deadline: client.op_deadline,
            row_bytes_max: client.value_bytes_max - HEADER_BYTES,
        }
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)+ }

        /// What can be said about memcached, since start.
        #[derive(Debug, Clone, Default)]
        pub struct FarFigures {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Keys whose marks may not stand and that are not made good yet.
            pub lost_now: u64,
            /// Packets of fills under way.
            pub fills_in_flight: u64,
            /// Each node.
            pub nodes: Vec<FarNode>,
        }

        impl Counters {
            pub(super) fn read(&self) -> FarFigures {
                FarFigures { $($name: self.$name.load(Relaxed),)+ ..FarFigures::default() }
            }
        }
    };
}

counters! {
    /// Keys answered with a row.
    hits,
    /// Keys answered with "there is no row".
    negatives,
    /// Rows that were answered and then loaded again, because their time was nearly up.
    refreshes,
    /// Keys that were not there, and were ours to fill.
    misses,
    /// Keys that somebody else was filling, each time they were asked for.
    lease_waits,
    /// Keys for which the store was asked after waiting for somebody else's fill.
    lease_waits_ended,
    /// Keys for which the store must be asked: being changed, too large, or spoiled lately.
    bypasses,
    /// Keys without an answer in time.
    unknown,
    /// Keys not asked for, because their node is not usable.
    unusable,
    /// Values that were not what was put there.
    spoiled,
    /// Rows and absences put.
    fills_stored,
    /// Fills refused because the key was changed since.
    fills_lost_lease,
    /// Fills not tried because too many were under way.
    fills_dropped,
    /// Rows too large to be kept.
    fills_too_large,
    /// Fills without an answer, or refused for want of room.
    fills_failed,
    /// Keys marked before their rows changed.
    marks,
    /// Marks that may not stand.
    marks_lost,
    /// Marks removed after the change.
    unmarks,
    /// Removals that were not confirmed, and are made good later.
    unmarks_left,
    /// Lost marks made good.
    lost_mended,
    /// Times a node began anew, because more marks were lost than are remembered.
    begun_anew,
    /// Keys loaded for the first who asked.
    leaders,
    /// Keys for which somebody waited for a load under way.
    followers,
}

/// One node.
#[derive(Debug, Clone)]
pub struct FarNode {
    /// Connections and breaker.
    pub client: NodeFigures,
    /// Whether it is read now.
    pub is_read: bool,
    /// Keys whose marks may not stand there.
    pub lost_now: u64,
}

impl FarNode {
    /// 0: asked as usual; 1: asked now and then; 2: not asked.
    pub fn breaker(&self) -> u64 {
        match self.client.breaker {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        }
    }

    /// One word for an operator.
    pub fn state(&self) -> &'static str {
        match () {
            () if self.client.is_unsuited => "too old",
            () if self.client.connections_up == 0 => "down",
            () if self.client.breaker != State::Closed => "slow",
            () if !self.is_read => "waits for the writer",
            () if self.lost_now > 0 => "catches up",
            () => "up",
        }
    }
}
