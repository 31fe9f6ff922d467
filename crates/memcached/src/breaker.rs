//! When a node is left alone. Sans I/O: time comes in.
//!
//! ```text
//! closed --(failures in a row)--> open --(wait, then one probe)--> half-open --(answers in a row)--> closed
//!                                  ^----------(no answer: wait longer)---'
//! ```
//!
//! Probes are the node's own small questions, so no call pays for finding out that a node is still slow.

use std::time::{Duration, Instant};

/// Questions in a row without any answer in time after which a node is left alone.
const FAILURES_IN_A_ROW: u32 = 5;

/// Probes in a row that must be answered in time before a node is used again.
const ANSWERS_IN_A_ROW: u32 = 3;

/// The first wait before a probe.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait before a probe.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Probes only, and some were answered.
    HalfOpen,
    /// Probes only.
    Open,
}

/// The breaker of one node.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    failures: u32,
    answers: u32,
    wait: Duration,
    probe_at: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, answers: 0, wait: WAIT_MIN, probe_at: None }
    }
}

impl Breaker {
    /// What it lets through.
    pub fn state(&self) -> State {
        self.state
    }

    /// A question of a call was answered in time, at least in part.
    pub fn answered(&mut self) {
        self.failures = 0;
    }

    /// A question of a call was not answered in time. Says whether the breaker opened by it.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures += 1;
        if self.state != State::Closed || self.failures < FAILURES_IN_A_ROW {
            return false;
        }
        self.state = State::Open;
        self.wait = WAIT_MIN;
        self.answers = 0;
        self.probe_at = Some(now + self.wait);
        true
    }

    /// Whether a probe is due. Each `true` must be followed by [`Breaker::probed`].
    pub fn probe_due(&mut self, now: Instant) -> bool {
        self.probe_at.take_if(|at| *at <= now).is_some()
    }

    /// What came of a probe.
    pub fn probed(&mut self, in_time: bool, now: Instant) {
        if in_time {
            self.answers += 1;
            self.state = State::HalfOpen;
            if self.answers >= ANSWERS_IN_A_ROW {
                *self = Self::default();
                return;
            }
        } else {
            self.answers = 0;
            self.state = State::Open;
            self.wait = (self.wait * 2).min(WAIT_MAX);
        }
        // Answers come one after the other; silence is asked less and less often.
        self.probe_at = Some(now + if in_time { WAIT_MIN } else { self.wait });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_on_silence_probes_ever_less_and_closes_on_answers_in_a_row() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            (1..FAILURES_IN_A_ROW).for_each(|_| assert!(!breaker.failed(start)));
            breaker.answered();
        }
        assert_eq!(breaker.state(), State::Closed, "an answer between failures starts the count anew");
        (1..FAILURES_IN_A_ROW).for_each(|_| assert!(!breaker.failed(start)));
        assert!(breaker.failed(start));
        assert!(!breaker.failed(start), "it opens once");
        assert!(!breaker.probe_due(start));
        let (mut now, mut probes) = (start, 0);
        while now < start + Duration::from_secs(60) {
            now += Duration::from_millis(10);
            if breaker.probe_due(now) {
                probes += 1;
                breaker.probed(false, now);
                assert_eq!(breaker.state(), State::Open);
            }
        }
        assert!((30..36).contains(&probes), "{probes} probes in a minute");
        let mut answered = 0;
        while breaker.state() != State::Closed {
            now += Duration::from_millis(10);
            if breaker.probe_due(now) {
                answered += 1;
                breaker.probed(answered != 2, now);
            }
        }
        assert_eq!(answered, 2 + ANSWERS_IN_A_ROW, "one silence in between starts the count anew");
        assert!(!breaker.probe_due(now + WAIT_MAX));
    }
}
