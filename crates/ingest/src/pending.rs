//! How much work is queued or running, follow-ups included.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Counts work that is queued or running. Cheap to clone; all clones count together.
///
/// Who hands work on takes a guard for the follow-up before it gives back its own, so the count is zero only when
/// nothing is left to do.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    count: AtomicU64,
    settled: Notify,
}

/// One piece of work. It ends when this is dropped.
pub(crate) struct Guard {
    inner: Arc<Inner>,
}

impl Pending {
    /// Begins a piece of work.
    pub(crate) fn begin(&self) -> Guard {
        self.inner.count.fetch_add(1, SeqCst);
        Guard { inner: Arc::clone(&self.inner) }
    }

    /// Pieces of work that have begun and not ended.
    pub(crate) fn count(&self) -> u64 {
        self.inner.count.load(SeqCst)
    }

    /// Waits until nothing is left to do.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.inner.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            settled.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.inner.count.fetch_sub(1, SeqCst) == 1 {
            self.inner.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settles_when_the_last_guard_is_dropped() {
        let pending = Pending::default();
        pending.settled().await;
        let (first, second) = (pending.begin(), pending.begin());
        let waits = tokio::spawn({
            let pending = pending.clone();
            async move { pending.settled().await }
        });
        drop(first);
        assert_eq!(pending.count(), 1);
        assert!(!waits.is_finished());
        drop(second);
        waits.await.unwrap();
        assert_eq!(pending.count(), 0);
    }
}
