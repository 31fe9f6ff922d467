//! Second tries of reads, within one budget that all share.
//!
//! A read that takes much longer than others is sent to another node as well, and one that failed there is sent to the
//! next. Both are right while few reads need it. When many do, the cluster has too much to do already, and every second
//! try makes it worse: so each read earns a twentieth of a try, and where nothing is left there is none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scylla::policies::{
    retry::{DefaultRetryPolicy, RequestInfo, RetryDecision, RetryPolicy, RetrySession},
    speculative_execution::{Context, SpeculativeExecutionPolicy},
};

/// What a second try costs; a read earns one.
const TRY_COSTS: i64 = 20;

/// Tries that can be saved up, so that a short trouble after a long calm is ridden out.
const TRIES_SAVED_MAX: i64 = 100;

/// A read is sent once more after so many times what reads take on average, within these bounds.
const SLOW_TIMES: u32 = 6;
const SLOW_LEAST: Duration = Duration::from_millis(15);
const SLOW_MOST: Duration = Duration::from_millis(500);

/// Of the average, one part in so many is the last read.
const AVERAGE_OVER: i64 = 64;

/// The budget, and what was spent of it.
#[derive(Debug)]
pub(super) struct Spare {
    saved: AtomicI64,
    /// What a read takes, in microseconds.
    average_us: AtomicI64,
    hedges: AtomicU64,
    retries: AtomicU64,
}

impl Default for Spare {
    fn default() -> Self {
        Self {
            saved: AtomicI64::new(TRIES_SAVED_MAX * TRY_COSTS),
            average_us: AtomicI64::new(2_000),
            hedges: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }
}

impl Spare {
    /// A read begins.
    pub(super) fn earn(&self) {
        if self.saved.load(Relaxed) < TRIES_SAVED_MAX * TRY_COSTS {
            self.saved.fetch_add(1, Relaxed);
        }
    }

    /// After how long a read is slow.
    pub(super) fn slow_after(&self) -> Duration {
        let average = Duration::from_micros(self.average_us.load(Relaxed).unsigned_abs());
        (average * SLOW_TIMES).clamp(SLOW_LEAST, SLOW_MOST)
    }

    /// A read has ended, which was slow from `slow_after` on and was sent once more then, if that could be paid for.
    pub(super) fn ended(&self, took: Duration, slow_after: Duration, may_hedge: bool) {
        if may_hedge && took > slow_after {
            self.saved.fetch_sub(TRY_COSTS, Relaxed);
            self.hedges.fetch_add(1, Relaxed);
        }
        let took_us = i64::try_from(took.min(SLOW_MOST).as_micros()).unwrap_or(i64::MAX);
        let average_us = self.average_us.load(Relaxed);
        self.average_us.store(average_us + (took_us - average_us) / AVERAGE_OVER, Relaxed);
    }

    /// Whether a second try can be paid for.
    pub(super) fn has(&self) -> bool {
        self.saved.load(Relaxed) >= TRY_COSTS
    }

    /// Pays for sending a failed read once more.
    fn pay_retry(&self) -> bool {
        let paid = self.saved.fetch_update(Relaxed, Relaxed, |saved| (saved >= TRY_COSTS).then_some(saved - TRY_COSTS));
        if paid.is_ok() {
            self.retries.fetch_add(1, Relaxed);
        }
        paid.is_ok()
    }

    /// Reads that were sent twice because they were slow, and because they failed, since start.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.hedges.load(Relaxed), self.retries.load(Relaxed))
    }
}

/// Sends slow reads once more, as far as the budget goes.
#[derive(Debug)]
pub(super) struct Hedges(pub(super) Arc<Spare>);

impl SpeculativeExecutionPolicy for Hedges {
    fn max_retry_count(&self, _: &Context) -> usize {
        usize::from(self.0.has())
    }

    fn retry_interval(&self, _: &Context) -> Duration {
        self.0.slow_after()
    }
}

/// Sends failed reads once more where the driver's own policy would, as far as the budget goes.
#[derive(Debug)]
pub(super) struct Retries(pub(super) Arc<Spare>);

impl RetryPolicy for Retries {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Session { usual: DefaultRetryPolicy::new().new_session(), spare: Arc::clone(&self.0) })
    }
}

struct Session {
    usual: Box<dyn RetrySession>,
    spare: Arc<Spare>,
}

impl RetrySession for Session {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        match self.usual.decide_should_retry(request) {
            again @ (RetryDecision::RetrySameTarget(_) | RetryDecision::RetryNextTarget(_)) => {
                if self.spare.pay_retry() { again } else { RetryDecision::DontRetry }
            }
            other => other,
        }
    }

    fn reset(&mut self) {
        self.usual.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_reads_fail_few_are_sent_twice() {
        let spare = Spare::default();
        let reads = 100_000;
        let mut attempts = 0_u64;
        for n in 0..reads {
            spare.earn();
            attempts += 1;
            if n % 5 == 0 && spare.pay_retry() {
                attempts += 1;
            }
        }
        let (_, retries) = spare.counts();
        let most = reads / TRY_COSTS as u64 + TRIES_SAVED_MAX as u64;
        assert!(retries <= most && retries > most / 2, "{retries} of {most}");
        assert!((attempts as f64) / (reads as f64) <= 1.10);
    }

    #[test]
    fn slow_reads_are_sent_twice_until_they_are_the_rule() {
        let spare = Spare::default();
        let slow = spare.slow_after();
        assert_eq!(slow, SLOW_LEAST);
        for _ in 0..200 {
            spare.earn();
            spare.ended(Duration::from_millis(200), slow, spare.has());
        }
        // What was saved up, and the twentieth.
        assert!((100..=112).contains(&spare.counts().0), "{:?}", spare.counts());
        assert!(spare.slow_after() > Duration::from_millis(200), "what most take is not slow");
        assert!(!spare.has());
    }
}
