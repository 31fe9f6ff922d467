//! The auditor: compares what is kept with what is stored, all the time, a few keys a second.
//!
//! The caches are built so that nothing stale stays. The auditor is there for what nobody thought of: it goes by no rule of
//! theirs, it reads both sides and compares. It looks at keys that changed or were filled lately, and at those that it
//! found kept, again and again. What differs may differ for a moment with good reason: a change is on its way. So it is
//! looked at once more after longer than any change may take, and only what still says the same old thing is stale. It is
//! removed, counted and told.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Cache, Key, Result, Store};

/// Keys that are watched. A turn through all of them takes as many seconds as the rate goes into it.
const WATCHED_MAX: usize = 65_536;

/// A key that is not kept anywhere is looked at so many times more: it may be filled with something old at any moment.
const EMPTY_LOOKS_MAX: u8 = 8;

/// Of what is filled in this process one key in so many is watched; of what changes every one where memcached is in front.
const FILLS_PER_WATCH: u64 = 16;

/// Suspects that wait for their second look; with more, a difference is not looked into.
const SUSPECTS_MAX: usize = 4_096;

/// What differs is looked at again after so long: longer than a process may answer from memory without news.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(3);

/// How often keys are compared.
const ROUND_EVERY: Duration = Duration::from_millis(500);

/// What is stale is told this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Where something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kept {
    Near = 0,
    Far = 1,
}

/// What the auditor found in one cache, since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// Answers that were as the store has them.
    pub fresh: u64,
    /// Answers that were old for longer than any change may take. They were removed.
    pub stale: u64,
    /// Answers that differed and then did not, or were gone: a change was on its way.
    pub inconclusive: u64,
}

/// What the auditor found.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditFigures {
    /// In the memory of this process.
    pub near: Audited,
    /// In memcached.
    pub far: Audited,
    /// Keys that are watched now.
    pub watched: u64,
    /// Keys that are compared in a second at most; 0 where no auditor runs.
    pub keys_per_second: u32,
}

/// Keys to look at, and what was found.
#[derive(Default)]
pub(crate) struct Audit {
    watched: Mutex<Watched>,
    suspects: Mutex<VecDeque<Suspect>>,
    fills: AtomicU64,
    found: [Counts; 2],
    keys_per_second: AtomicU64,
}

#[derive(Default)]
struct Counts {
    fresh: AtomicU64,
    stale: AtomicU64,
    inconclusive: AtomicU64,
}

#[derive(Default)]
struct Watched {
    /// Keys, and how often in a row they were found kept nowhere.
    queue: VecDeque<(Key, u8)>,
    there: HashSet<Key>,
}

impl Watched {
    fn push(&mut self, key: &Key, empty: u8) {
        if !self.there.insert(key.clone()) {
            return;
        }
        if self.queue.len() >= WATCHED_MAX
            && let Some((oldest, _)) = self.queue.pop_front()
        {
            self.there.remove(&oldest);
        }
        self.queue.push_back((key.clone(), empty));
    }

    fn take(&mut self, count: usize) -> Vec<(Key, u8)> {
        let count = count.min(self.queue.len());
        let taken: Vec<(Key, u8)> = self.queue.drain(..count).collect();
        for (key, _) in &taken {
            self.there.remove(key);
        }
        taken
    }
}

/// An answer that is not as the store has it.
struct Suspect {
    key: Key,
    place: Kept,
    said: Option<Bytes>,
    since: Instant,
}

impl Audit {
    /// A row was changed, here or by another process.
    pub(crate) fn changed(&self, keys: &mut dyn Iterator<Item = &Key>, all: bool) {
        if self.keys_per_second.load(Relaxed) == 0 {
            return;
        }
        if all {
            let mut watched = self.watched.lock();
            keys.for_each(|key| watched.push(key, 0));
        } else {
            keys.for_each(|key| self.filled(key));
        }
    }

    /// An answer was kept.
    pub(crate) fn filled(&self, key: &Key) {
        if self.keys_per_second.load(Relaxed) > 0 && self.fills.fetch_add(1, Relaxed).is_multiple_of(FILLS_PER_WATCH) {
            self.watched.lock().push(key, 0);
        }
    }

    fn count(&self, place: Kept) -> &Counts {
        &self.found[place as usize]
    }

    pub(crate) fn figures(&self) -> AuditFigures {
        let read = |counts: &Counts| Audited {
            fresh: counts.fresh.load(Relaxed),
            stale: counts.stale.load(Relaxed),
            inconclusive: counts.inconclusive.load(Relaxed),
        };
        AuditFigures {
            near: read(self.count(Kept::Near)),
            far: read(self.count(Kept::Far)),
            watched: self.watched.lock().queue.len() as u64,
            keys_per_second: u32::try_from(self.keys_per_second.load(Relaxed)).unwrap_or(u32::MAX),
        }
    }
}

impl Store {
    /// Begins to compare caches with the store, at most so many keys a second, until the store goes. On the runtime of
    /// whoever calls.
    pub fn start_audit(&self, keys_per_second: u32) {
        if keys_per_second == 0 || self.audit().keys_per_second.swap(keys_per_second.into(), Relaxed) > 0 {
            return;
        }
        let store = self.downgrade();
        tokio::spawn(async move {
            let rounds = 1_000 / ROUND_EVERY.as_millis() as u32;
            let per_round = keys_per_second.div_ceil(rounds.max(1)) as usize;
            let (mut told, mut untold): (Option<Instant>, u64) = (None, 0);
            loop {
                tokio::time::sleep(ROUND_EVERY).await;
                let Some(store) = store() else { return };
                match store.audit_round(per_round).await {
                    Ok(stale) => untold += stale,
                    Err(e) => tracing::debug!(error = %e, "the store could not be asked what the caches should say"),
                }
                if untold > 0 && told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told = Some(Instant::now());
                    tracing::error!(
                        stale = untold,
                        "the caches held old answers; they were removed. That must not be: keep the log, and see docs/cache.md"
                    );
                    untold = 0;
                }
            }
        });
    }

    /// What the auditor found.
    pub fn audit_figures(&self) -> AuditFigures {
        self.audit().figures()
    }

    /// Compares some keys, and looks once more at those that differed before. Answers how many were stale.
    async fn audit_round(&self, keys: usize) -> Result<u64> {
        let audit = Arc::clone(self.audit());
        let stale = self.second_look(&audit).await?;
        let taken = audit.watched.lock().take(keys);
        let keys: Vec<Key> = taken.iter().map(|(key, _)| key.clone()).collect();
        let kept = self.kept(&keys).await;
        {
            let there: HashSet<&Key> = kept.iter().map(|(key, ..)| key).collect();
            let mut watched = audit.watched.lock();
            for (key, empty) in &taken {
                // What is kept is looked at again some day; what is not may be filled.
                let empty = if there.contains(key) { 0 } else { empty + 1 };
                if empty <= EMPTY_LOOKS_MAX {
                    watched.push(key, empty);
                }
            }
        }
        let keys: Vec<Key> = kept.iter().map(|(key, ..)| key.clone()).collect();
        let stored = self.stored(&keys).await?;
        for ((key, place, said), stored) in kept.iter().zip(&stored) {
            if self.is_same(key, *place, said, stored) {
                audit.count(*place).fresh.fetch_add(1, Relaxed);
            } else {
                let mut suspects = audit.suspects.lock();
                if suspects.len() < SUSPECTS_MAX {
                    suspects.push_back(Suspect {
                        key: key.clone(),
                        place: *place,
                        said: said.clone(),
                        since: Instant::now(),
                    });
                }
            }
        }
        Ok(stale)
    }

    async fn second_look(&self, audit: &Audit) -> Result<u64> {
        let due: Vec<Suspect> = {
            let mut suspects = audit.suspects.lock();
            let due = suspects.iter().take_while(|it| it.since.elapsed() >= SECOND_LOOK_AFTER).count();
            suspects.drain(..due).collect()
        };
        if due.is_empty() {
            return Ok(0);
        }
        let keys: Vec<Key> = due.iter().map(|it| it.key.clone()).collect();
        let kept = self.kept(&keys).await;
        let stored = self.stored(&keys).await?;
        let mut stale = 0;
        for (it, stored) in due.iter().zip(&stored) {
            let still = kept.iter().any(|(key, place, said)| (key, place, said) == (&it.key, &it.place, &it.said));
            if !still || self.is_same(&it.key, it.place, &it.said, stored) {
                audit.count(it.place).inconclusive.fetch_add(1, Relaxed);
                continue;
            }
            stale += 1;
            audit.count(it.place).stale.fetch_add(1, Relaxed);
            match it.place {
                Kept::Near => {
                    self.near().begin(&it.key);
                    self.near().end(&it.key);
                }
                Kept::Far => self.forget_far(&it.key),
            }
        }
        Ok(stale)
    }

    /// What is kept of keys and where, in their order; nothing for a place that has no answer.
    async fn kept(&self, keys: &[Key]) -> Vec<(Key, Kept, Option<Bytes>)> {
        let near: Vec<Option<Option<Bytes>>> = keys.iter().map(|key| self.near().peek(key)).collect();
        let far = self.look_far(keys).await;
        let mut kept = Vec::with_capacity(keys.len());
        for ((key, near), far) in keys.iter().zip(near).zip(far) {
            kept.extend(near.map(|said| (key.clone(), Kept::Near, said)));
            kept.extend(far.map(|said| (key.clone(), Kept::Far, said)));
        }
        kept
    }

    async fn stored(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let mut rows = Vec::with_capacity(keys.len());
        for slice in keys.chunks(Store::KEYS_PER_VISIT) {
            rows.extend(self.read_fresh(slice.to_vec()).await?);
        }
        Ok(rows)
    }

    /// Whether an answer that is kept is what the store has: in memory it is kept as it leaves, in memcached as stored.
    fn is_same(&self, key: &Key, place: Kept, said: &Option<Bytes>, stored: &Option<Bytes>) -> bool {
        match (place, self.cache_of(key)) {
            (Kept::Near, Cache::NearAs(make)) => *said == stored.as_ref().map(|row| make(key, row)),
            _ => said == stored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Table};

    static T: Table = Table {
        id: 1,
        name: "t",
        partition: &[],
        clustering: &[],
        value: &[],
        cache: Cache::NearAs(shape),
        bucket_rows: None,
    };

    fn shape(_: &Key, row: &Bytes) -> Bytes {
        [b"<", &row[..]].concat().into()
    }

    fn key(n: u8) -> Key {
        Key::of(&T).atom(&[n]).key()
    }

    fn put(store: &Store, n: u8, value: &'static [u8]) {
        let mut batch = Batch::new();
        batch.put(key(n), value);
        store.apply_now(&batch).unwrap();
    }

    #[tokio::test]
    async fn an_old_answer_in_memory_is_found_told_and_removed_and_a_change_on_its_way_is_none() {
        let store = Store::mem(&[&T]);
        let audit = store.audit();
        (0..3).for_each(|n| put(&store, n, b"old"));
        store.get(&[key(0), key(1), key(2), key(9)]).await.unwrap();
        // Changes past the caches: nobody has told them.
        let mut batch = Batch::new();
        [1, 2].iter().for_each(|n| batch.put(key(*n), b"new".as_slice()));
        store.local().apply(&batch).unwrap();
        {
            let mut watched = audit.watched.lock();
            [0, 1, 2, 9, 7].iter().for_each(|n| watched.push(&key(*n), 0));
        }
        assert_eq!(store.audit_round(100).await.unwrap(), 0);
        assert_eq!(store.audit_figures().near, Audited { fresh: 2, stale: 0, inconclusive: 0 }, "nothing is hasty");
        // The news of one of them comes a little late.
        put(&store, 2, b"new");
        audit.suspects.lock().iter_mut().for_each(|it| it.since -= SECOND_LOOK_AFTER);
        assert_eq!(store.audit_round(0).await.unwrap(), 1);
        assert_eq!(store.audit_figures().near, Audited { fresh: 2, stale: 1, inconclusive: 1 });
        assert_eq!(store.near().peek(&key(1)), None, "it is removed");
        assert_eq!(store.get_one(&key(1)).await.unwrap().as_deref(), Some(&b"<new"[..]));
        // Keys 0 and 9 are kept, and 1 since it was read; 2 and 7 are not, and looked at some times more.
        assert_eq!(store.audit_figures().watched, 5);
        for _ in 0..=EMPTY_LOOKS_MAX {
            assert_eq!(store.audit_round(100).await.unwrap(), 0);
        }
        assert_eq!(store.audit_figures().watched, 3, "what is not kept is not watched for ever");
    }

    #[test]
    fn no_more_is_watched_than_the_bound_and_nothing_twice() {
        let mut watched = Watched::default();
        for n in 0..WATCHED_MAX as u32 + 10 {
            let key = Key::of(&T).atom(&n.to_be_bytes()).key();
            watched.push(&key, 0);
            watched.push(&key, 0);
        }
        assert_eq!((watched.queue.len(), watched.there.len()), (WATCHED_MAX, WATCHED_MAX));
        assert_eq!(watched.take(1), [(Key::of(&T).atom(&10_u32.to_be_bytes()).key(), 0)]);
    }
}
