//! What the writer read or wrote lately, so that it need not ask the engine again.
//!
//! A job reads counts, claims and parents before it writes, and the same ones come again and again: the count of a post
//! that many like, the claim that was just put. The writer is alone, so its own answers stay true until it changes
//! them itself; a change applied by anybody else is seen by the generation.

use bytes::Bytes;
use quick_cache::{Weighter, unsync::Cache as Quick};

use crate::{Batch, Key};

/// Bytes that an entry costs beside its key and value.
const ENTRY_OVERHEAD_BYTES: u64 = 96;

/// Larger values are not kept: one of them would push out hundreds of counts.
const VALUE_KEPT_BYTES_MAX: usize = 16 << 10;

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Option<Bytes>> for Weight {
    fn weight(&self, key: &Bytes, value: &Option<Bytes>) -> u64 {
        ENTRY_OVERHEAD_BYTES + key.len() as u64 + value.as_ref().map_or(0, Bytes::len) as u64
    }
}

/// Answers the writer had lately, present and absent ones.
pub(crate) struct Recent {
    kept: Quick<Bytes, Option<Bytes>, Weight>,
    bytes_max: u64,
    generation: u64,
    hits: u64,
    misses: u64,
}

impl Recent {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / 256).unwrap_or(usize::MAX).clamp(64, 4_000_000);
        Self { kept: Quick::with_weighter(entries, bytes_max, Weight), bytes_max, generation: 0, hits: 0, misses: 0 }
    }

    /// The kept answer, or the generation to hand to [`Recent::fill`] with the engine's answer.
    pub(crate) fn get(&mut self, key: &Key) -> Result<Option<Bytes>, u64> {
        match self.kept.get(&key.bytes()[..]) {
            Some(value) => {
                self.hits += 1;
                Ok(value.clone())
            }
            None => {
                self.misses += 1;
                Err(self.generation)
            }
        }
    }

    /// Keeps the engine's answer unless something was applied since it was asked.
    pub(crate) fn fill(&mut self, key: &Key, value: Option<&Bytes>, generation: u64) {
        if generation == self.generation {
            self.set(key, value);
        }
    }

    /// Takes over what was applied.
    pub(crate) fn applied(&mut self, batch: &Batch) {
        self.generation += 1;
        for change in batch.changes() {
            self.set(&change.key, change.value.as_ref());
        }
    }

    /// Forgets everything, after a batch of which it is not certain whether it was applied.
    pub(crate) fn forget(&mut self) {
        self.generation += 1;
        self.kept.clear();
    }

    fn set(&mut self, key: &Key, value: Option<&Bytes>) {
        if self.bytes_max == 0 {
            return;
        }
        if value.is_some_and(|v| v.len() > VALUE_KEPT_BYTES_MAX) {
            self.kept.remove(&key.bytes()[..]);
            return;
        }
        // Copied: what comes from the engine or from a job may be a view of a much larger buffer.
        self.kept.insert(Bytes::copy_from_slice(key.bytes()), value.map(|v| Bytes::copy_from_slice(v)));
    }

    /// Answers given and not given since start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table};

    static T: Table = Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never };

    fn key(n: u32) -> Key {
        Key::of(&T).atom(b"p").cluster().u32_desc(n).key()
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let mut recent = Recent::new(1 << 20);
        let generation = recent.get(&key(1)).unwrap_err();
        let mut batch = Batch::new();
        batch.put(key(2), vec![2]);
        recent.applied(&batch);
        recent.fill(&key(1), None, generation);
        assert!(recent.get(&key(1)).is_err());
        assert_eq!(recent.get(&key(2)), Ok(Some(Bytes::from_static(&[2]))));
        let generation = recent.get(&key(1)).unwrap_err();
        recent.fill(&key(1), None, generation);
        assert_eq!(recent.get(&key(1)), Ok(None), "absent is an answer");
    }

    #[test]
    fn it_stays_within_its_bytes_and_drops_values_that_grew_too_large() {
        let mut recent = Recent::new(100_000);
        let mut batch = Batch::new();
        for n in 0..10_000 {
            batch.put(key(n), vec![0; 50]);
        }
        recent.applied(&batch);
        assert!(recent.kept.weight() <= 100_000);
        let mut small = Batch::new();
        small.put(key(1), vec![1]);
        recent.applied(&small);
        let mut large = Batch::new();
        large.put(key(1), vec![0; VALUE_KEPT_BYTES_MAX + 1]);
        recent.applied(&large);
        assert!(recent.get(&key(1)).is_err());
    }
}
