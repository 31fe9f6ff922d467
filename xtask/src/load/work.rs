//! Who calls, and when: callers that wait for their answers, and calls that are sent when they are due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::pages::Pages;
use crate::bench::{cpu_seconds, load::Caller};

/// Calls that may be under way at once; what is due beyond it is counted as not sent.
const UNDER_WAY_MAX: usize = 256;

/// How long answers are waited for after the last call was sent. One that has not come then took that long at least.
const PATIENCE: Duration = Duration::from_secs(20);

/// One kind of work on one plane.
pub(crate) enum Work {
    /// A call, one request after the other and from the start again.
    Calls(Caller, Vec<Bytes>),
    /// All calls of a page.
    Pages(Pages),
}

impl Work {
    /// Calls of one method.
    pub(crate) fn calls(url: &str, http2: bool, method: &str, requests: Vec<Bytes>) -> Self {
        Self::Calls(Caller::wide(url, http2, method, UNDER_WAY_MAX), requests)
    }

    /// How many different things are asked.
    pub(crate) fn kinds(&self) -> usize {
        match self {
            Self::Calls(_, requests) => requests.len(),
            Self::Pages(pages) => pages.kinds(),
        }
    }

    /// Does it once.
    pub(crate) async fn make(&self, n: usize) -> Result<()> {
        match self {
            Self::Calls(caller, requests) => caller.call(requests[n % requests.len()].clone()).await,
            Self::Pages(pages) => pages.load(n).await,
        }
    }
}

/// What callers felt.
pub(crate) struct Felt {
    took_us: Histogram<u64>,
    /// How many were due a second.
    pub(crate) offered_per_second: f64,
    /// Calls that were answered badly, or not in time.
    pub(crate) failed: u64,
    /// Of these, calls that were not sent: too many were under way.
    pub(crate) not_sent: u64,
}

impl Felt {
    fn new(offered_per_second: f64) -> Result<Self, hdrhistogram::CreationError> {
        // A minute is longer than anybody waits; three digits are more than anybody reads.
        let took_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { took_us, offered_per_second, failed: 0, not_sent: 0 })
    }

    fn note(&mut self, done: bool, took: Duration) {
        // One that fails is no quick answer.
        self.failed += u64::from(!done);
        if done {
            self.took_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
        }
    }

    /// How many were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.took_us.len()
    }

    /// Milliseconds within which this part of the answers came; not a number if none did.
    pub(crate) fn ms(&self, part: f64) -> f64 {
        if self.took_us.is_empty() { f64::NAN } else { self.took_us.value_at_quantile(part) as f64 / 1e3 }
    }
}

/// Sends what is due when it is due, for some time. What each took counts from the moment it was due: a plane that stands
/// still cannot hide it by not being asked.
pub(crate) async fn open(work: &Arc<Work>, per_second: f64, time: Duration) -> Felt {
    let felt = Arc::new(Mutex::new(Felt::new(per_second).expect("these bounds are allowed")));
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for n in 0.. {
        let due = begun + Duration::from_secs_f64(n as f64 / per_second);
        if due.duration_since(begun) >= time {
            break;
        }
        // What is late already is sent at once, but others have their turn first.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        } else if n % 32 == 0 {
            tokio::task::yield_now().await;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= UNDER_WAY_MAX {
            let mut felt = felt.lock();
            felt.failed += 1;
            felt.not_sent += 1;
            continue;
        }
        let (work, felt) = (Arc::clone(work), Arc::clone(&felt));
        under_way.spawn(async move {
            let done = work.make(n).await.is_ok();
            felt.lock().note(done, due.elapsed());
        });
    }
    let left = timeout(PATIENCE, async { while under_way.join_next().await.is_some() {} }).await;
    if left.is_err() {
        felt.lock().failed += under_way.len() as u64;
        under_way.shutdown().await;
    }
    let mut felt = felt.lock();
    std::mem::replace(&mut *felt, Felt::new(per_second).expect("these bounds are allowed"))
}

/// What callers reached who wait for their answers.
pub(crate) struct Most {
    pub(crate) answered: u64,
    pub(crate) seconds: f64,
    /// Middle latency.
    pub(crate) p50_ms: f64,
    /// Processor time of the plane for each, in microseconds, if it was asked for.
    pub(crate) cpu_us: Option<f64>,
}

impl Most {
    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds.max(1e-9)
    }
}

/// So many callers who each have one call under way, for some time, or until each has made one call.
pub(crate) async fn closed(work: &Arc<Work>, at_once: usize, time: Duration, pid: Option<u32>) -> Most {
    let begun = Instant::now();
    let cpu = pid.map(cpu_seconds);
    let next = Arc::new(AtomicUsize::new(0));
    let felt = Arc::new(Mutex::new(Felt::new(0.0).expect("these bounds are allowed")));
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let (work, next, felt) = (Arc::clone(work), Arc::clone(&next), Arc::clone(&felt));
        callers.spawn(async move {
            loop {
                let sent = Instant::now();
                let done = work.make(next.fetch_add(1, Relaxed)).await.is_ok();
                felt.lock().note(done, sent.elapsed());
                if begun.elapsed() >= time {
                    return;
                }
            }
        });
    }
    while callers.join_next().await.is_some() {}
    let felt = felt.lock();
    let used = pid.zip(cpu).map(|(pid, before)| cpu_seconds(pid) - before);
    Most {
        answered: felt.answered(),
        seconds: begun.elapsed().as_secs_f64(),
        p50_ms: felt.ms(0.5),
        cpu_us: used.map(|seconds| seconds * 1e6 / felt.answered().max(1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_answered_is_counted_and_never_quick() {
        // Nobody listens there.
        let address = crate::shell::free_addresses().unwrap()[0];
        let work = Arc::new(Work::calls(&address.to_string(), true, "GetTimeline", vec![Bytes::from_static(b"x")]));
        let felt = open(&work, 200.0, Duration::from_millis(200)).await;
        assert_eq!((felt.answered(), felt.failed, felt.not_sent), (0, 40, 0));
        assert!(felt.ms(0.99).is_nan());
        let most = closed(&work, 3, Duration::ZERO, None).await;
        assert_eq!(most.answered, 0);
    }
}
