//! Answers kept in memory, bounded by bytes, never older than the last applied change.
//!
//! A reader that misses takes a ticket before it asks the engine and may only keep its answer if no change of the key
//! has been applied since. Without the ticket an answer read before a change could be kept after it, for good.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache as Quick};

use crate::Key;

/// Keys share tickets by hash. More stripes mean fewer answers refused for a neighbour's change.
const STRIPES: usize = 4096;

/// Bytes that an entry costs beside its key and value.
const ENTRY_OVERHEAD_BYTES: u64 = 96;

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Option<Bytes>> for Weight {
    fn weight(&self, key: &Bytes, value: &Option<Bytes>) -> u64 {
        ENTRY_OVERHEAD_BYTES + key.len() as u64 + value.as_ref().map_or(0, Bytes::len) as u64
    }
}

/// Answers kept in memory, present and absent ones.
pub(crate) struct Near {
    kept: Quick<Bytes, Option<Bytes>, Weight>,
    stripes: Vec<Mutex<u64>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Proof of what a reader could have seen.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

impl Near {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / 400).unwrap_or(usize::MAX).clamp(1024, 20_000_000);
        Self {
            kept: Quick::with_weighter(entries, bytes_max, Weight),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn stripe(&self, key: &Key) -> &Mutex<u64> {
        // FNV-1a over the tail, where keys differ most.
        let bytes = key.bytes();
        let tail = &bytes[bytes.len().saturating_sub(16)..];
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for b in tail {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
        &self.stripes[(hash >> 20) as usize % STRIPES]
    }

    /// The kept answer: absent counts as an answer.
    pub(crate) fn get(&self, key: &Key) -> Option<Option<Bytes>> {
        let found = self.kept.get(key.bytes());
        if found.is_some() { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        found
    }

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        Ticket(*self.stripe(key).lock())
    }

    /// Keeps an answer if nothing was applied to its key since the ticket was taken.
    pub(crate) fn fill(&self, key: &Key, ticket: Ticket, value: Option<Bytes>) {
        let stripe = self.stripe(key).lock();
        if *stripe == ticket.0 {
            self.kept.insert(key.bytes().clone(), value);
        }
    }

    /// Forgets a key after a change of it has been applied.
    pub(crate) fn forget(&self, key: &Key) {
        let mut stripe = self.stripe(key).lock();
        *stripe += 1;
        self.kept.remove(key.bytes());
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Relaxed)
    }

    pub(crate) fn weight(&self) -> u64 {
        self.kept.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table};

    static T: Table = Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Near };

    #[test]
    fn an_answer_read_before_a_change_is_not_kept_after_it() {
        let near = Near::new(1 << 20);
        let key = Key::of(&T).atom(b"k").key();
        let ticket = near.ticket(&key);
        near.forget(&key);
        near.fill(&key, ticket, Some(Bytes::from_static(b"old")));
        assert_eq!(near.get(&key), None);
        let ticket = near.ticket(&key);
        near.fill(&key, ticket, Some(Bytes::from_static(b"new")));
        assert_eq!(near.get(&key), Some(Some(Bytes::from_static(b"new"))));
    }
}
