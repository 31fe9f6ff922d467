//! Servers that answer the same calls for posts in turns, so that what else the machine does meets all of them.

use std::{sync::Arc, time::Duration};

use gp_drill::{
    data::{self, Requests},
    load::{self, Felt, Hosts, Offer},
    program::Program,
};

/// Calls at a time.
const AT_ONCE: usize = 16;
const CONNECTIONS: usize = 16;
/// Posts that are asked for: all of them fit into memory.
pub(super) const POSTS: usize = 5_000;
/// Different requests.
const REQUESTS: usize = 500;

/// What one of the servers did.
#[derive(Default)]
pub(super) struct Side {
    /// What its callers felt.
    pub(super) felt: Felt,
    cpu_seconds: f64,
}

impl Side {
    /// Microseconds of processor time for each answer, which other work on the machine changes least.
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu_seconds / self.felt.answered().max(1) as f64 * 1e6
    }
}

/// Calls of so many keys each.
pub(super) fn requests(uris: &[String], keys: usize) -> Requests {
    let request = |n: usize| {
        let from = n * 37 % (uris.len() - keys);
        (data::asking(uris[from..from + keys].iter().map(String::as_str)), keys as u32)
    };
    Arc::new((0..REQUESTS).map(request).collect())
}

/// Gives each server so many turns of some time, one after the other.
pub(super) async fn take<const SERVERS: usize>(
    servers: [&Program; SERVERS],
    requests: &Requests,
    turns: usize,
    time: Duration,
) -> [Side; SERVERS] {
    let offer = Offer { looks: false, ..Offer::posts("appview", requests, 1.0) };
    let hosts = servers.map(|it| Hosts::new(&[it.listen], CONNECTIONS));
    let mut sides = [(); SERVERS].map(|()| Side::default());
    for _ in 0..turns {
        for ((server, hosts), side) in servers.iter().zip(&hosts).zip(&mut sides) {
            let before = server.vitals().cpu_seconds;
            side.felt.add(&load::saturate(hosts, &offer, AT_ONCE, time).await);
            side.cpu_seconds += server.vitals().cpu_seconds - before;
        }
    }
    sides
}
