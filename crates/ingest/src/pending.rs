//! How much work is queued or running, follow-ups included.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// Counts work that is queued or running. Cheap to clone; all clones count together.
///
/// Who hands work on takes a guard for the follow-up before it gives back its own, so the count is zero only when
/// nothing is left to do.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    count: Arc<AtomicU64>,
}

/// One piece of work. It ends when this is dropped.
pub(crate) struct Guard {
    count: Arc<AtomicU64>,
}

impl Pending {
    /// Begins a piece of work.
    pub(crate) fn begin(&self) -> Guard {
        self.count.fetch_add(1, SeqCst);
        Guard { count: Arc::clone(&self.count) }
    }

    /// Pieces of work that have begun and not ended.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.count.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_has_begun_and_not_ended() {
        let pending = Pending::default();
        let (first, second) = (pending.begin(), pending.clone().begin());
        assert_eq!(pending.count(), 2);
        drop(first);
        assert_eq!(pending.count(), 1);
        drop(second);
        assert_eq!(pending.count(), 0);
    }
}
