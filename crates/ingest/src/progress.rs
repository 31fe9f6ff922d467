//! How far a stream of events is applied: the highest position up to which nothing is missing.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use gp_index::Cx;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A position is stored at most this long after it was reached.
const STORE_EVERY: Duration = Duration::from_millis(200);

/// ... or after this many events.
const STORE_EVENTS: u64 = 1000;

/// Follows the events of one stream from reading to their effects.
///
/// Events are begun in the order of their positions and end in any order. [`Tracker::seq`] is the position before
/// which everything has ended: its effects are stored and visible.
pub(crate) struct Tracker {
    /// The stream's name in the store.
    source: String,
    window: Mutex<Window>,
    /// A copy of `Window::applied` that is read without the lock; 0 before the first event.
    seq: AtomicI64,
    /// Event time of the last applied event, in microseconds; 0 before the first.
    time_us: AtomicI64,
    ended: AtomicU64,
    reached: Notify,
}

#[derive(Default)]
struct Window {
    /// Raised by a restart, so that what was begun before it cannot move what comes after.
    epoch: u32,
    /// Number of the event at the front.
    first: u64,
    events: VecDeque<Begun>,
    /// The highest position begun.
    read: Option<i64>,
    applied: Option<i64>,
}

struct Begun {
    seq: i64,
    time_us: i64,
    ended: bool,
}

/// An event that was begun. Unless it is ended, the position stays before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    epoch: u32,
    number: u64,
}

impl Tracker {
    /// Begins after a stored position.
    pub(crate) fn new(source: String, stored: Option<i64>) -> Arc<Self> {
        Arc::new(Self {
            source,
            window: Mutex::new(Window { read: stored, applied: stored, ..Window::default() }),
            seq: AtomicI64::new(stored.unwrap_or(0)),
            time_us: AtomicI64::new(0),
            ended: AtomicU64::new(0),
            reached: Notify::new(),
        })
    }

    /// Where to go on reading: after this position, or anywhere if there is none.
    pub(crate) fn read_to(&self) -> Option<i64> {
        self.window.lock().read
    }

    /// Begins an event. Nothing for one at or before a position already read: its effects, if any, are not waited for.
    pub(crate) fn begin(&self, seq: i64, time_us: i64) -> Option<Ticket> {
        let mut window = self.window.lock();
        if window.read.is_some_and(|read| seq <= read) {
            return None;
        }
        window.read = Some(seq);
        window.events.push_back(Begun { seq, time_us, ended: false });
        Some(Ticket { epoch: window.epoch, number: window.first + window.events.len() as u64 - 1 })
    }

    /// Ends an event: its effects are stored and visible, or it has none.
    pub(crate) fn end(&self, ticket: Ticket) {
        let mut window = self.window.lock();
        if ticket.epoch != window.epoch || ticket.number < window.first {
            return;
        }
        let at = (ticket.number - window.first) as usize;
        let Some(event) = window.events.get_mut(at) else { return };
        event.ended = true;
        let mut moved = false;
        while let Some(front) = window.events.front().filter(|e| e.ended) {
            let (seq, time_us) = (front.seq, front.time_us);
            window.events.pop_front();
            window.first += 1;
            window.applied = Some(seq);
            self.seq.store(seq, SeqCst);
            self.time_us.store(time_us, SeqCst);
            moved = true;
        }
        drop(window);
        if moved && (self.ended.fetch_add(1, SeqCst) + 1).is_multiple_of(STORE_EVENTS) {
            self.reached.notify_one();
        }
    }

    /// The highest position up to which everything is applied; 0 before the first event.
    pub(crate) fn seq(&self) -> i64 {
        self.seq.load(SeqCst)
    }

    /// When the last applied event happened, in microseconds; 0 before the first.
    pub(crate) fn time_us(&self) -> i64 {
        self.time_us.load(SeqCst)
    }

    /// Events begun and not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.window.lock().events.len()
    }

    /// Begins again before the oldest event. Events begun earlier no longer count.
    pub(crate) fn restart(&self) {
        self.begin_again(Some(0));
    }

    /// Begins again wherever the stream is now.
    pub(crate) fn forget(&self) {
        self.begin_again(None);
    }

    fn begin_again(&self, read: Option<i64>) {
        let mut window = self.window.lock();
        window.epoch += 1;
        window.first = 0;
        window.events.clear();
        window.read = read;
        window.applied = None;
        self.seq.store(0, SeqCst);
        self.time_us.store(0, SeqCst);
    }

    fn applied(&self) -> Option<i64> {
        self.window.lock().applied
    }

    /// Stores the position whenever it has moved, until dropped or until the writer is gone.
    ///
    /// The writer applies jobs in order, and a position is only read here after the effects before it were applied,
    /// so what is stored is never ahead of them.
    pub(crate) async fn keep(&self, cx: &Cx) {
        let mut stored = self.applied();
        loop {
            let _ = tokio::time::timeout(STORE_EVERY, self.reached.notified()).await;
            match self.store(cx, stored).await {
                Ok(now) => stored = now,
                Err(()) => return,
            }
        }
    }

    /// Stores the position unless it is `stored` already; returns what is stored now.
    pub(crate) async fn store(&self, cx: &Cx, stored: Option<i64>) -> Result<Option<i64>, ()> {
        let applied = self.applied();
        let Some(seq) = applied.filter(|_| applied != stored) else { return Ok(stored) };
        let source = self.source.clone();
        let put = cx.writer.run(move |view| {
            gp_index::progress::set(view, &source, seq);
            Ok::<_, gp_index::Error>(())
        });
        match put.await {
            Ok(()) => Ok(applied),
            Err(error) => {
                tracing::warn!(source = self.source, %error, "a position could not be stored");
                Err(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_waits_for_the_slowest_event() {
        let tracker = Tracker::new("x".into(), Some(10));
        assert_eq!((tracker.seq(), tracker.read_to()), (10, Some(10)));
        let a = tracker.begin(12, 1).unwrap();
        let b = tracker.begin(15, 2).unwrap();
        let c = tracker.begin(16, 3).unwrap();
        tracker.end(c);
        tracker.end(b);
        assert_eq!((tracker.seq(), tracker.in_flight()), (10, 3));
        tracker.end(a);
        assert_eq!((tracker.seq(), tracker.time_us(), tracker.in_flight()), (16, 3, 0));
        tracker.end(b);
        assert_eq!(tracker.seq(), 16);
    }

    #[test]
    fn what_was_read_before_is_not_begun_again() {
        let tracker = Tracker::new("x".into(), None);
        let a = tracker.begin(5, 0).unwrap();
        assert!(tracker.begin(5, 0).is_none());
        assert!(tracker.begin(4, 0).is_none());
        tracker.end(a);
        assert_eq!(tracker.seq(), 5);
    }

    #[test]
    fn a_restart_forgets_what_was_begun_before() {
        let tracker = Tracker::new("x".into(), None);
        let old = tracker.begin(5, 0).unwrap();
        tracker.restart();
        assert_eq!((tracker.seq(), tracker.read_to()), (0, Some(0)));
        let new = tracker.begin(1, 0).unwrap();
        tracker.end(old);
        assert_eq!(tracker.seq(), 0);
        tracker.end(new);
        assert_eq!(tracker.seq(), 1);
    }
}
