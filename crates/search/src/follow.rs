//! Which rows of the list of changes are certain.
//!
//! In a cluster a row of the list may be read before the other rows of its batch are written. A document made then would
//! be of the rows before, and nobody would name it again. So a row counts once its batch is known to be written: the
//! store has told it, which is all there is to it in the process that writes. A process that only reads may have been
//! told nothing; there a row counts as well when a later group of the list is there, since the one writer begins a batch
//! when the one before is written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use gp_store::{Observed, Store};

use crate::log::{self, Entry};

/// A row that nobody tells of and that nothing follows is certain after so long: its batch was told before we listened,
/// or its writer has given it up. If another one finishes it still, we are told that track was lost.
const CERTAIN_AFTER: Duration = Duration::from_secs(70);

/// How many rows of the list are worked through again when track was lost. A batch has a few at most.
pub(crate) const ROWS_AGAIN: u64 = 64;

/// What is heard of the list.
pub(crate) struct Following {
    /// Whether another process writes it.
    pub(crate) another: bool,
    /// The last number that was told.
    told: AtomicU64,
    /// Track was lost, or nothing has been heard yet.
    lost: AtomicBool,
}

/// The newest row seen, and since when it is.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    number: u64,
    since: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Self { number: 0, since: Instant::now() }
    }
}

impl Following {
    /// Follows the list of a store from now on.
    pub(crate) fn of(store: &Store, another: bool) -> Arc<Self> {
        let following = Arc::new(Self { another, told: AtomicU64::new(0), lost: AtomicBool::new(true) });
        let heard_by = Arc::downgrade(&following);
        store.observe(move |what| {
            if let Some(following) = heard_by.upgrade() {
                following.hear(what);
            }
        });
        following
    }

    fn hear(&self, what: Observed<'_>) {
        match what {
            Observed::Lost => self.lost.store(true, SeqCst),
            // What is found is looked up in the store before it leaves.
            Observed::Silent(_) => {}
            Observed::Applied(batch) => {
                let put = batch.changes().iter().filter(|change| change.value.is_some());
                if let Some(number) = put.filter_map(|change| log::number_in(&change.key)).max() {
                    self.told.fetch_max(number, SeqCst);
                }
            }
        }
    }

    /// Everything up to a number stands, as before anything is written.
    pub(crate) fn begin_at(&self, number: u64) {
        self.told.fetch_max(number, SeqCst);
    }

    /// The last number that was told.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(SeqCst)
    }

    /// Whether track was lost since this was asked last.
    pub(crate) fn take_lost(&self) -> bool {
        self.lost.swap(false, SeqCst)
    }

    /// How many of some rows, read in order, are certain where another process writes.
    pub(crate) fn certain(&self, entries: &[Entry], seen: &mut Seen) -> usize {
        let Some(newest) = entries.last() else { return 0 };
        if seen.number != newest.number {
            *seen = Seen { number: newest.number, since: Instant::now() };
        }
        if seen.since.elapsed() >= CERTAIN_AFTER {
            return entries.len();
        }
        let told = self.told();
        entries.iter().take_while(|it| it.number <= told || it.at_us != newest.at_us).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, at_us: i64) -> Entry {
        Entry { number, at_us, subjects: Vec::new(), named: 1 }
    }

    #[test]
    fn the_newest_group_is_certain_once_it_was_told_or_followed_or_is_old() {
        let following = Following { another: true, told: AtomicU64::new(0), lost: AtomicBool::new(false) };
        let mut seen = Seen::default();
        // Two rows of one group are of one batch.
        let entries = [entry(1, 10), entry(2, 20), entry(3, 20)];
        assert_eq!(following.certain(&entries, &mut seen), 1);
        following.told.store(3, SeqCst);
        assert_eq!(following.certain(&entries, &mut seen), 3);
        // The writer after has another clock.
        let entries = [entry(4, 5), entry(5, 1)];
        assert_eq!(following.certain(&entries, &mut seen), 1);
        seen.since = Instant::now().checked_sub(CERTAIN_AFTER).unwrap();
        assert_eq!(following.certain(&entries, &mut seen), 2);
        assert_eq!(following.certain(&[entry(4, 5), entry(5, 1), entry(6, 7)], &mut seen), 2, "a new one is not old");
    }
}
