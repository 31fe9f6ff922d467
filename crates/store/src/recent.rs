//! Rows that the writer found lately, so that it need not ask the engine again.
//!
//! A job reads before it writes, and some rows come again and again: the count of a post that many like, the row of a
//! busy account. The writer is alone, so its own answers stay true until it changes them itself; a change applied by
//! anybody else is seen by the generation.
//!
//! Only rows that a job asked for and that are there are kept. Most rows a job asks for are absent, and most rows it
//! puts are never asked for; to keep those costs more than it saves.

use bytes::Bytes;
use quick_cache::{Weighter, unsync::Cache as Quick};

use crate::{Batch, Key};

/// Bytes that an entry costs beside its key and value.
const ENTRY_OVERHEAD_BYTES: u64 = 96;

/// Larger values are not kept: one of them would push out hundreds of counts.
const VALUE_KEPT_BYTES_MAX: usize = 16 << 10;

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Bytes> for Weight {
    fn weight(&self, key: &Bytes, value: &Bytes) -> u64 {
        ENTRY_OVERHEAD_BYTES + (key.len() + value.len()) as u64
    }
}

/// Rows the writer found lately.
pub(crate) struct Recent {
    kept: Quick<Bytes, Bytes, Weight>,
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

    /// The value kept, or the generation to hand to [`Recent::fill`] with what the engine finds.
    pub(crate) fn get(&mut self, key: &Key) -> Result<Bytes, u64> {
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

    /// The value kept, for somebody who only looks ahead: it is not counted.
    pub(crate) fn peek(&self, key: &Key) -> Option<Bytes> {
        self.kept.peek(&key.bytes()[..]).cloned()
    }

    /// Keeps what the engine found, unless something was applied since it was asked.
    pub(crate) fn fill(&mut self, key: &Key, value: &Bytes, generation: u64) {
        if generation == self.generation && self.bytes_max > 0 && value.len() <= VALUE_KEPT_BYTES_MAX {
            self.kept.insert(copy(key.bytes()), copy(value));
        }
    }

    /// Takes over what was applied to rows that are kept.
    pub(crate) fn applied(&mut self, batch: &Batch) {
        self.generation += 1;
        for change in batch.changes() {
            let key = change.key.bytes();
            match &change.value {
                Some(value) if value.len() <= VALUE_KEPT_BYTES_MAX => {
                    if self.kept.contains_key(&key[..]) {
                        self.kept.insert(copy(key), copy(value));
                    }
                }
                _ => drop(self.kept.remove(&key[..])),
            }
        }
    }

    /// Forgets everything, after a batch of which it is not certain whether it was applied.
    pub(crate) fn forget(&mut self) {
        self.generation += 1;
        self.kept.clear();
    }

    /// Answers given and not given since start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }
}

/// What comes from the engine or from a job may be a view of a much larger buffer.
fn copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table};

    static T: Table =
        Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    fn key(n: u32) -> Key {
        Key::of(&T).atom(b"p").cluster().u32_desc(n).key()
    }

    fn puts(rows: impl IntoIterator<Item = (u32, usize)>) -> Batch {
        let mut batch = Batch::new();
        rows.into_iter().for_each(|(n, bytes)| batch.put(key(n), vec![7; bytes]));
        batch
    }

    #[test]
    fn what_was_found_before_a_change_is_not_kept_and_what_is_kept_follows_changes() {
        let mut recent = Recent::new(1 << 20);
        let old = Bytes::from_static(b"old");
        let generation = recent.get(&key(1)).unwrap_err();
        recent.applied(&puts([(2, 1)]));
        recent.fill(&key(1), &old, generation);
        assert!(recent.get(&key(1)).is_err(), "somebody may have changed it");
        assert!(recent.get(&key(2)).is_err(), "nobody asked for it");
        let generation = recent.get(&key(1)).unwrap_err();
        recent.fill(&key(1), &old, generation);
        assert_eq!(recent.get(&key(1)), Ok(old));
        recent.applied(&puts([(1, 2)]));
        assert_eq!(recent.get(&key(1)), Ok(Bytes::from_static(&[7, 7])));
        let mut batch = Batch::new();
        batch.delete(key(1));
        recent.applied(&batch);
        assert!(recent.get(&key(1)).is_err());
        assert_eq!(recent.counts(), (2, 5));
    }

    #[test]
    fn it_stays_within_its_bytes_and_drops_values_that_grew_too_large() {
        let mut recent = Recent::new(100_000);
        for n in 0..10_000 {
            let generation = recent.get(&key(n)).unwrap_err();
            recent.fill(&key(n), &Bytes::from(vec![0; 50]), generation);
        }
        assert!(recent.kept.weight() <= 100_000 && recent.kept.len() > 100);
        let last = (0..10_000).find(|n| recent.get(&key(*n)).is_ok()).unwrap();
        recent.applied(&puts([(last, VALUE_KEPT_BYTES_MAX + 1)]));
        let generation = recent.get(&key(last)).unwrap_err();
        recent.fill(&key(last), &Bytes::from(vec![0; VALUE_KEPT_BYTES_MAX + 1]), generation);
        assert!(recent.get(&key(last)).is_err());
        recent.forget();
        assert_eq!(recent.kept.len(), 0);
    }
}
