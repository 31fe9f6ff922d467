//! Notices that the runtime does not move: its workers are blocked, and calls stand still.
//!
//! The runtime gives a sign of life again and again, and a thread that does not depend on it counts the time without
//! one, and says so in the log while it lasts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How often the runtime gives a sign of life.
pub(crate) const BEAT: Duration = Duration::from_millis(100);
/// How late a sign may be before the runtime counts as stalled.
const LATE_MAX: Duration = Duration::from_millis(50);
/// How often the thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A stall of this length is worth a line in the log.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// The signs of life, and how long they were missing.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// When the last sign was given, in microseconds since `began`; 0 while none are expected.
    last_us: AtomicU64,
    stalled_us: AtomicU64,
}

impl Pulse {
    /// Starts the thread that looks. It ends soon after the last other holder has gone.
    pub(crate) fn start() -> Arc<Self> {
        let pulse = Arc::new(Self::new(Instant::now()));
        let watched = Arc::downgrade(&pulse);
        let looks = std::thread::Builder::new().name("stall-watch".into()).spawn(move || {
            let mut watch = Watch::default();
            loop {
                std::thread::sleep(LOOK_EVERY);
                let Some(pulse) = watched.upgrade() else { return };
                watch.look(&pulse, Instant::now());
            }
        });
        if let Err(error) = looks {
            tracing::warn!(%error, "stalls of the runtime will not be noticed: no thread could be started for it");
        }
        pulse
    }

    fn new(began: Instant) -> Self {
        Self { began, last_us: AtomicU64::new(0), stalled_us: AtomicU64::new(0) }
    }

    /// Begins to expect signs of life, until the answer is dropped.
    pub(crate) fn beating(self: &Arc<Self>) -> Beating {
        Beating(Arc::clone(self))
    }

    fn beat(&self, now: Instant) {
        self.last_us.store(self.us(now).max(1), Relaxed);
    }

    /// For how long signs were missing, since start.
    pub(crate) fn stalled(&self) -> Duration {
        Duration::from_micros(self.stalled_us.load(Relaxed))
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Somebody who gives signs of life. Dropped, none are expected any more.
pub(crate) struct Beating(Arc<Pulse>);

impl Beating {
    /// A sign of life.
    pub(crate) fn beat(&self) {
        self.0.beat(Instant::now());
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.last_us.store(0, Relaxed);
    }
}

#[derive(Default)]
struct Watch {
    /// Until when the stall under way is counted.
    counted_us: u64,
    /// The sign after which the stall under way began, if a line was written of it.
    told_of: Option<u64>,
}

impl Watch {
    fn look(&mut self, pulse: &Pulse, now: Instant) {
        let (now, last) = (pulse.us(now), pulse.last_us.load(Relaxed));
        let due = last + u64::try_from(BEAT.as_micros()).unwrap_or(u64::MAX);
        let late = if last == 0 { 0 } else { now.saturating_sub(due) };
        if late <= u64::try_from(LATE_MAX.as_micros()).unwrap_or(u64::MAX) {
            self.told_of = None;
            return;
        }
        let from = due.max(self.counted_us);
        pulse.stalled_us.fetch_add(now.saturating_sub(from), Relaxed);
        self.counted_us = now;
        if u128::from(late) > WORTH_A_LINE.as_micros() && self.told_of != Some(last) {
            self.told_of = Some(last);
            tracing::warn!(
                "the runtime has not moved for a second: something blocks its workers, or the host is overloaded"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_sign_is_counted_once_and_while_it_lasts() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let (pulse, mut watch) = (Pulse::new(began), Watch::default());
        pulse.beat(at(1_000));
        watch.look(&pulse, at(1_140));
        assert_eq!(pulse.stalled(), Duration::ZERO, "a little late is no stall");
        watch.look(&pulse, at(1_400));
        watch.look(&pulse, at(1_400));
        assert_eq!(pulse.stalled(), Duration::from_millis(300), "it lasts");
        watch.look(&pulse, at(2_600));
        assert_eq!(pulse.stalled(), Duration::from_millis(1_500));
        pulse.beat(at(2_650));
        watch.look(&pulse, at(2_700));
        assert_eq!(pulse.stalled(), Duration::from_millis(1_500), "it is over");
        let pulse = Arc::new(pulse);
        drop(pulse.beating());
        watch.look(&pulse, at(9_000));
        assert_eq!(pulse.stalled(), Duration::from_millis(1_500), "nobody is there to give one");
    }

    #[test]
    fn the_thread_sees_that_nobody_gives_a_sign() {
        let pulse = Pulse::start();
        let beating = pulse.beating();
        beating.beat();
        let begun = Instant::now();
        while pulse.stalled() < Duration::from_millis(100) {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
