//! The nodes together: batches go to the nodes that keep their keys, in packets over several connections.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;

use crate::{
    Config, LeaseTerms, NodeFigures, Ring,
    codec::{self, Response, Status},
    conn::Verb,
    node::{Node, Pending},
};

/// Keys of one packet. Small ones take turns with large batches on a connection, and let the next one begin early.
const KEYS_PER_PACKET: usize = 512;

/// The right to fill a key, until somebody else changes it. It ends with the connection by which it came: the numbers of
/// items begin anew when a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    node: usize,
    slot: usize,
    connection: u64,
    cas: u64,
}

/// What a node said about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A value; with a lease for the one reader that is to load it again before its time is up.
    Value(Bytes, Option<Lease>),
    /// Nothing, and we have the right to fill it.
    Won(Lease),
    /// Nothing yet: somebody else is filling it.
    Taken,
    /// Nothing, and no right.
    Miss,
    /// No answer.
    Unknown,
}

/// A change of one key.
#[derive(Debug, Clone)]
pub enum Op {
    /// Puts a value: with a lease, if the lease still holds.
    Set {
        /// Key, as [`codec::is_plain_key`] allows.
        key: Bytes,
        /// The value; longer than [`Config::value_bytes_max`] is refused.
        value: Bytes,
        /// How long it stands; at least 1.
        ttl_seconds: u32,
        /// Only under this lease.
        lease: Option<Lease>,
    },
    /// Removes a key: with a lease, if the lease still holds.
    Delete {
        /// Key.
        key: Bytes,
        /// Only under this lease.
        lease: Option<Lease>,
    },
}

impl Op {
    fn lease(&self) -> Option<Lease> {
        match self {
            Self::Set { lease, .. } | Self::Delete { lease, .. } => *lease,
        }
    }

    fn verb(&self) -> Verb {
        match self {
            Self::Set { .. } => Verb::Set,
            Self::Delete { .. } => Verb::Delete,
        }
    }
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It stands.
    Done,
    /// The lease did not hold: the key was changed or removed since.
    LostLease,
    /// The key was not there to be removed.
    NotFound,
    /// The node refused it, or we did: no room, too long, or a key that cannot be sent.
    Refused,
    /// No answer: it may or may not stand.
    Unknown,
}

/// Changes that go in one packet: verb, the slot and connection of their lease, places in what was asked.
type Group = (Verb, Option<(usize, u64)>, Vec<usize>);

/// The nodes of a fleet. Cheap to clone; connections end when the last clone is gone.
#[derive(Clone)]
pub struct Client {
    nodes: Arc<Vec<Arc<Node>>>,
    ring: Arc<Ring>,
    config: Arc<Config>,
}

impl Client {
    /// Begins to connect, on the runtime given, and does not wait for it.
    pub fn start(config: Config, runtime: &Handle) -> Self {
        let nodes = config.nodes.iter().map(|address| Node::start(address, &config, runtime)).collect();
        let ring = Ring::new(config.nodes.iter().map(String::as_str));
        Self { nodes: Arc::new(nodes), ring: Arc::new(ring), config: Arc::new(config) }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The node that keeps a key with this hash.
    pub fn node_of(&self, hash: u64) -> usize {
        self.ring.node_of(hash)
    }

    /// Whether a node is connected and its breaker closed.
    pub fn is_usable(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_usable())
    }

    /// The number of the newest connection to a node; a larger one than before means that something was reconnected.
    pub fn newest_connection(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |n| n.shared.connections.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// What a node says about keys, in the order asked. Those without an answer in time are [`Found::Unknown`].
    pub async fn get(&self, node: usize, keys: &[Bytes], terms: Option<LeaseTerms>) -> Vec<Found> {
        let unknown = || vec![Found::Unknown; keys.len()];
        let Some(at) = self.nodes.get(node).filter(|at| at.is_usable()) else { return unknown() };
        let slots = at.up();
        if slots.is_empty() {
            return unknown();
        }
        // A large batch goes over all connections, a small one over the one whose turn it is.
        let packet = keys.len().div_ceil(slots.len()).clamp(64, KEYS_PER_PACKET);
        let mut sent: Vec<Option<Pending>> = Vec::with_capacity(keys.len().div_ceil(packet));
        for part in keys.chunks(packet) {
            let opaque = at.numbers(part.len());
            let mut bytes = BytesMut::with_capacity(part.len() * 64);
            for (n, key) in part.iter().enumerate() {
                codec::encode_get(&mut bytes, key, opaque.wrapping_add(n as u32), terms);
            }
            sent.push(at.any_slot().and_then(|slot| at.send(slot, None, Verb::Get, opaque, part.len(), bytes)));
        }
        let mut found = Vec::with_capacity(keys.len());
        for (pending, part) in sent.into_iter().zip(keys.chunks(packet)) {
            let end = found.len() + part.len();
            if let Some(pending) = pending {
                let answered = at.answers(pending).await;
                let lease = |cas| Lease { node, slot: answered.slot, connection: answered.connection, cas };
                found.extend(answered.responses.into_iter().map(|response| read(response, &lease)));
            }
            found.resize(end, Found::Unknown);
        }
        found
    }

    /// Makes changes at a node, and says in their order what came of each. They may be made in any order.
    pub async fn write(&self, node: usize, ops: &[Op]) -> Vec<Wrote> {
        let mut wrote = vec![Wrote::Unknown; ops.len()];
        let Some(at) = self.nodes.get(node) else { return wrote };
        // By verb, and by the connection of the lease.
        let mut groups: Vec<Group> = Vec::new();
        for (n, op) in ops.iter().enumerate() {
            if let Op::Set { value, .. } = op
                && value.len() > self.config.value_bytes_max
            {
                wrote[n] = Wrote::Refused;
                continue;
            }
            let on = match op.lease() {
                Some(lease) if lease.node != node => {
                    wrote[n] = Wrote::LostLease;
                    continue;
                }
                lease => lease.map(|l| (l.slot, l.connection)),
            };
            match groups
                .iter_mut()
                .find(|(verb, there, group)| (*verb, *there) == (op.verb(), on) && group.len() < KEYS_PER_PACKET)
            {
                Some((_, _, group)) => group.push(n),
                None => groups.push((op.verb(), on, vec![n])),
            }
        }
        let mut sent = Vec::with_capacity(groups.len());
        for (verb, on, group) in &groups {
            let opaque = at.numbers(group.len());
            let mut bytes = BytesMut::new();
            for (n, place) in group.iter().enumerate() {
                let opaque = opaque.wrapping_add(n as u32);
                match &ops[*place] {
                    Op::Set { key, value, ttl_seconds, lease } => {
                        codec::encode_set(&mut bytes, key, opaque, value, (*ttl_seconds).max(1), lease.map(|l| l.cas));
                    }
                    Op::Delete { key, lease } => codec::encode_delete(&mut bytes, key, opaque, lease.map(|l| l.cas)),
                }
            }
            let slot = on.map_or_else(|| at.any_slot(), |(slot, _)| Some(slot));
            sent.push(slot.and_then(|slot| at.send(slot, on.map(|(_, c)| c), *verb, opaque, group.len(), bytes)));
        }
        for (pending, (_, on, group)) in sent.into_iter().zip(&groups) {
            let Some(pending) = pending else {
                // The connection of a lease is gone, and the lease with it; or too much waits there.
                if on.is_some() {
                    group.iter().for_each(|n| wrote[*n] = Wrote::LostLease);
                }
                continue;
            };
            let answered = at.answers(pending).await;
            for (response, n) in answered.responses.iter().zip(group) {
                wrote[*n] = match response.status {
                    Status::Done => Wrote::Done,
                    Status::NotFound if on.is_some() => Wrote::LostLease,
                    Status::NotFound => Wrote::NotFound,
                    Status::Exists | Status::NotStored => Wrote::LostLease,
                    _ => Wrote::Refused,
                };
            }
        }
        wrote
    }

    /// What can be said about each node.
    pub fn figures(&self) -> Vec<NodeFigures> {
        self.nodes.iter().map(|node| node.figures()).collect()
    }
}

/// A stub has no bytes, and no value of ours is empty: so a stub is never taken for a value.
fn read(response: Response, lease: &impl Fn(u64) -> Lease) -> Found {
    let won = response.cas.filter(|_| response.won).map(lease);
    match (response.status, response.value.is_empty(), won) {
        (Status::Value, false, won) => Found::Value(response.value, won),
        (Status::Value, true, Some(lease)) => Found::Won(lease),
        (Status::Value, true, None) => Found::Taken,
        (Status::Miss, ..) => Found::Miss,
        _ => Found::Unknown,
    }
}
