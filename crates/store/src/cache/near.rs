//! Answers kept in memory, bounded by bytes, never older than the last applied change.
//!
//! A reader that misses takes a ticket before it asks the engine and may only keep its answer if no change of the key
//! has been applied since. Without the ticket an answer read before a change could be kept after it, for good.
//!
//! While a change is being applied nothing of its key is kept at all. Otherwise one reader could see the change in the
//! engine, and then, through an answer that another had read before, not see it again.
//!
//! For the same reason a load under way is shared only among readers that came before the next change of its key.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache as Quick};

use super::load::Load;
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
    stripes: Vec<Mutex<Stripe>>,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Nothing is answered nor kept: nobody says what changes.
    blind: AtomicBool,
}

#[derive(Default)]
struct Stripe {
    /// Grows with every change that begins.
    version: u64,
    /// Changes begun and not ended.
    in_flux: u32,
    /// Loads under way that whoever comes may share, and the place of the key in each.
    loads: HashMap<Bytes, (Arc<Load>, usize)>,
}

/// What a reader of a key that is not kept has to do.
pub(crate) enum Joined {
    /// Load it, and keep it if the ticket still holds; others may share the load.
    Leads(Ticket),
    /// Load it for itself: the key is being changed.
    Alone,
    /// Wait for the load of somebody who came before.
    Follows(Arc<Load>, usize),
}

/// Proof of what a reader could have seen.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(Option<u64>);

impl Ticket {
    /// Proof of nothing.
    pub(crate) const NONE: Self = Self(None);
}

impl Near {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / 400).unwrap_or(usize::MAX).clamp(1024, 20_000_000);
        Self {
            kept: Quick::with_weighter(entries, bytes_max, Weight),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            blind: AtomicBool::new(false),
        }
    }

    /// Answers and keeps nothing for as long as nobody says what changes.
    pub(crate) fn set_blind(&self, blind: bool) {
        self.blind.store(blind, SeqCst);
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind.load(SeqCst)
    }

    /// Forgets everything, and what is being read at this moment as well.
    pub(crate) fn forget_all(&self) {
        for stripe in &self.stripes {
            stripe.lock().version += 1;
        }
        self.kept.clear();
    }

    fn stripe(&self, key: &Key) -> &Mutex<Stripe> {
        // FNV-1a over the tail, where keys differ most.
        let bytes = key.bytes();
        let tail = &bytes[bytes.len().saturating_sub(16)..];
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for b in tail {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
        // The last byte has not come far in the hash yet: without this, keys that differ there only share a stripe.
        &self.stripes[(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % STRIPES]
    }

    /// The kept answer: absent counts as an answer. Whoever asks counts, and [says so](Near::asked) once for many keys: two
    /// processors that count in turns pay more for it than for looking.
    pub(crate) fn get(&self, key: &Key) -> Option<Option<Bytes>> {
        if self.is_blind() { None } else { self.kept.get(&key.bytes()[..]) }
    }

    /// So many answers were kept, and so many were not.
    pub(crate) fn asked(&self, hits: u64, misses: u64) {
        for (count, more) in [(&self.hits, hits), (&self.misses, misses)] {
            if more > 0 {
                count.fetch_add(more, Relaxed);
            }
        }
    }

    /// The kept answer, for somebody who only compares: it counts as no use of it.
    pub(crate) fn peek(&self, key: &Key) -> Option<Option<Bytes>> {
        if self.is_blind() { None } else { self.kept.peek(&key.bytes()[..]) }
    }

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        let stripe = self.stripe(key).lock();
        Ticket((stripe.in_flux == 0).then_some(stripe.version))
    }

    /// Takes part in a load of a key: in one under way, or in this one, in which it has the place given.
    pub(crate) fn join(&self, key: &Key, load: &Arc<Load>, place: usize) -> Joined {
        let mut stripe = self.stripe(key).lock();
        if stripe.in_flux > 0 {
            return Joined::Alone;
        }
        if let Some((load, place)) = stripe.loads.get(&key.bytes()[..]) {
            return Joined::Follows(Arc::clone(load), *place);
        }
        stripe.loads.insert(key.bytes().clone(), (Arc::clone(load), place));
        Joined::Leads(Ticket(Some(stripe.version)))
    }

    /// The load of a key has ended, or need not be shared any longer.
    pub(crate) fn leave(&self, key: &Key, load: &Arc<Load>) {
        let mut stripe = self.stripe(key).lock();
        if stripe.loads.get(&key.bytes()[..]).is_some_and(|(other, _)| Arc::ptr_eq(other, load)) {
            stripe.loads.remove(&key.bytes()[..]);
        }
    }

    /// Keeps an answer if no change of its key began since the ticket was taken, nor was under way then.
    pub(crate) fn fill(&self, key: &Key, ticket: Ticket, value: Option<&Bytes>) {
        let stripe = self.stripe(key).lock();
        if ticket.0 == Some(stripe.version) && !self.is_blind() {
            // Copied: what the engine gives is a view of a whole block, which the copy lets go.
            self.kept.insert(Bytes::copy_from_slice(key.bytes()), value.map(|v| Bytes::copy_from_slice(v)));
        }
    }

    /// Forgets a key of which a change is about to be applied, and keeps nothing of it until [`Near::end`].
    pub(crate) fn begin(&self, key: &Key) {
        let mut stripe = self.stripe(key).lock();
        stripe.version += 1;
        stripe.in_flux += 1;
        stripe.loads.remove(&key.bytes()[..]);
        self.kept.remove(&key.bytes()[..]);
    }

    /// The change has been applied, or could not be. Once for every [`Near::begin`].
    pub(crate) fn end(&self, key: &Key) {
        let mut stripe = self.stripe(key).lock();
        stripe.in_flux -= 1;
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

    static T: Table =
        Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Near, bucket_rows: None };

    #[test]
    fn an_answer_read_before_or_during_a_change_is_not_kept_after_it() {
        let near = Near::new(1 << 20);
        let key = Key::of(&T).atom(b"k").key();
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
        let before = near.ticket(&key);
        near.begin(&key);
        let during = near.ticket(&key);
        near.fill(&key, during, Some(&old));
        assert_eq!(near.get(&key), None);
        near.end(&key);
        near.fill(&key, before, Some(&old));
        near.fill(&key, during, Some(&old));
        assert_eq!(near.get(&key), None);
        let after = near.ticket(&key);
        near.fill(&key, after, Some(&new));
        assert_eq!(near.get(&key), Some(Some(new)));
        near.begin(&key);
        assert_eq!(near.get(&key), None, "nothing is answered from memory while a change is applied");
        near.end(&key);
    }

    #[test]
    fn keys_that_differ_in_their_last_byte_only_have_stripes_of_their_own() {
        let near = Near::new(1 << 20);
        let stripes: std::collections::BTreeSet<_> = (0..200_u8)
            .map(|n| std::ptr::from_ref(near.stripe(&Key::of(&T).atom(b"a key of some length").tag(n).key())))
            .collect();
        assert!(stripes.len() > 180, "{} stripes for 200 keys", stripes.len());
    }

    #[test]
    fn what_was_read_before_everything_was_forgotten_is_not_kept_and_blind_it_answers_nothing() {
        let near = Near::new(1 << 20);
        let (key, value) = (Key::of(&T).atom(b"k").key(), Bytes::from_static(b"v"));
        let before = near.ticket(&key);
        near.forget_all();
        near.fill(&key, before, Some(&value));
        assert_eq!(near.get(&key), None);
        let after = near.ticket(&key);
        near.fill(&key, after, Some(&value));
        assert_eq!(near.get(&key), Some(Some(value.clone())));
        near.set_blind(true);
        assert_eq!(near.get(&key), None);
        near.forget_all();
        near.set_blind(false);
        assert_eq!(near.get(&key), None);
    }
}
