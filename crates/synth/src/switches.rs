//! What can be made to go wrong with the servers, from outside, while they run.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::dice::{Dice, Purpose};

/// What all subscribers are told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The connection breaks without a word.
    Drop,
    /// The connection is closed in good order, with code 1000.
    Close,
}

#[derive(Debug)]
struct Drops {
    dice: Dice,
    frames_min: u64,
    frames_max: u64,
}

#[derive(Debug)]
struct Failure {
    path_prefix: String,
    status: u16,
    left: u64,
}

#[derive(Debug)]
pub(crate) struct Switches {
    orders: watch::Sender<(u64, Order)>,
    drops: Mutex<Option<Drops>>,
    pace: Mutex<Option<(usize, Duration)>>,
    failures: Mutex<Vec<Failure>>,
    delay: Mutex<Option<(String, Duration)>>,
}

/// Where a subscriber hears orders.
pub(crate) struct Orders(watch::Receiver<(u64, Order)>);

impl Orders {
    /// The next order; never returns if there will be none.
    pub(crate) async fn next(&mut self) -> Order {
        match self.0.changed().await {
            Ok(()) => self.0.borrow_and_update().1,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Switches {
    pub(crate) fn new() -> Switches {
        Switches {
            orders: watch::Sender::new((0, Order::Drop)),
            drops: Mutex::default(),
            pace: Mutex::default(),
            failures: Mutex::default(),
            delay: Mutex::default(),
        }
    }

    pub(crate) fn give(&self, order: Order) {
        self.orders.send_modify(|(count, last)| {
            *count += 1;
            *last = order;
        });
    }

    pub(crate) fn orders(&self) -> Orders {
        Orders(self.orders.subscribe())
    }

    /// From now on each new connection breaks after a number of frames drawn from this range.
    pub(crate) fn set_drops(&self, seed: u64, range: Option<(u64, u64)>) {
        let dice = Dice::new(seed, Purpose::Drops);
        *self.drops.lock() = range.map(|(min, max)| Drops { dice, frames_min: min, frames_max: max.max(min) });
    }

    pub(crate) fn frames_before_drop(&self) -> Option<u64> {
        let mut drops = self.drops.lock();
        let drops = drops.as_mut()?;
        let range = (drops.frames_max - drops.frames_min + 1) as usize;
        Some(drops.frames_min + drops.dice.below(range) as u64)
    }

    pub(crate) fn set_pace(&self, pace: Option<(usize, Duration)>) {
        *self.pace.lock() = pace;
    }

    /// Frames at once, and the pause after them.
    pub(crate) fn pace(&self, usual_max: usize) -> (usize, Duration) {
        let (frames_max, pause) = self.pace.lock().unwrap_or((usual_max, Duration::ZERO));
        (frames_max.clamp(1, usual_max), pause)
    }

    pub(crate) fn fail(&self, path_prefix: &str, status: u16, times: u64) {
        self.failures.lock().push(Failure { path_prefix: path_prefix.to_owned(), status, left: times });
    }

    pub(crate) fn stop_failing(&self) {
        self.failures.lock().clear();
    }

    /// The status with which a request for this path is to fail, if it is.
    pub(crate) fn failure_of(&self, path: &str) -> Option<u16> {
        let mut failures = self.failures.lock();
        let at = failures.iter().position(|failure| path.starts_with(&failure.path_prefix))?;
        let status = failures[at].status;
        failures[at].left -= 1;
        if failures[at].left == 0 {
            failures.remove(at);
        }
        Some(status)
    }

    pub(crate) fn set_delay(&self, delay: Option<(String, Duration)>) {
        *self.delay.lock() = delay;
    }

    pub(crate) fn delay_of(&self, path: &str) -> Option<Duration> {
        self.delay.lock().as_ref().filter(|(prefix, _)| path.starts_with(prefix)).map(|(_, delay)| *delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_spent() {
        let switches = Switches::new();
        switches.fail("/did:", 503, 2);
        assert_eq!(switches.failure_of("/xrpc/x"), None);
        assert_eq!(switches.failure_of("/did:plc:x"), Some(503));
        assert_eq!(switches.failure_of("/did:plc:y"), Some(503));
        assert_eq!(switches.failure_of("/did:plc:x"), None);
    }

    #[test]
    fn drops_are_drawn_from_their_range_and_repeat_with_the_seed() {
        let draw = || {
            let switches = Switches::new();
            assert_eq!(switches.frames_before_drop(), None);
            switches.set_drops(4, Some((10, 20)));
            (0..50).map(|_| switches.frames_before_drop().unwrap()).collect::<Vec<_>>()
        };
        assert!(draw().iter().all(|frames| (10..=20).contains(frames)));
        assert_eq!(draw(), draw());
    }
}
