//! The last ten minutes, for the page that an operator opens when something is wrong: it shows at once how it came.
//!
//! Every two seconds a sample is taken of what the process counts anyway, and the oldest one goes. All of it together
//! is well under a megabyte, however many callers and calls there are. Nothing of it is lost to `/metrics`, nor the
//! other way round: the peaks here are kept apart.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Code, Operator,
    metrics::{Process, memory_limit_bytes},
    price::{SIZE_CLASSES, size_class},
    server::Shared,
};

/// Time between two samples.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Samples of ten minutes.
const SAMPLES: usize = 300;
/// How long the operator's side may take to say how far it has come.
const STATUS_MAX: Duration = Duration::from_secs(1);

/// Small, medium and large calls, as ranges of size classes: up to 50 keys, up to 1,000, and more.
const GROUPS: [std::ops::Range<usize>; 3] = [0..3, 3..5, 5..SIZE_CLASSES.len()];

/// Calls of one size in one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Sized {
    calls: u64,
    p50_us: u64,
    p99_us: u64,
}

/// A caller in one sample. Those who did nothing are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Asked {
    caller: usize,
    calls: u64,
    keys: u64,
    /// Keys of its largest call, and which call that was.
    largest: u64,
    rpc: &'static str,
    inflight_keys: u64,
}

/// Two seconds.
#[derive(Clone, Debug, Default, Serialize)]
struct Sample {
    at_ms: i64,
    ok: u64,
    /// The caller's fault.
    invalid: u64,
    shed: u64,
    failed: u64,
    gone: u64,
    sizes: [Sized; GROUPS.len()],
    near_hits: u64,
    near_misses: u64,
    /// Peaks within the sample.
    store_inflight: u64,
    units_inflight: u64,
    waiting: u64,
    bytes_inflight: u64,
    resident_bytes: u64,
    connections: u64,
    time_wait: u64,
    ports_used: f64,
    open_fds: u64,
    seq: Option<i64>,
    lag_seconds: Option<f64>,
    pending: Option<u64>,
    drops: u64,
    callers: Vec<Asked>,
}

/// What was counted since start when the last sample was taken.
#[derive(Clone, Debug, Default)]
struct Before {
    ended: [u64; Code::ALL.len()],
    shed: u64,
    gone: u64,
    sizes: [Vec<u64>; GROUPS.len()],
    near: (u64, u64),
    drops: Option<u64>,
    callers: Vec<(u64, u64)>,
}

/// The ring of samples.
#[derive(Debug, Default)]
pub(crate) struct History {
    store_inflight: AtomicU64,
    units_inflight: AtomicU64,
    waiting: AtomicU64,
    bytes_inflight: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    samples: VecDeque<Sample>,
    before: Before,
}

/// What the operator's side says of its progress.
#[derive(Debug, Default, PartialEq)]
struct Progress {
    seq: Option<i64>,
    lag_seconds: Option<f64>,
    pending: Option<u64>,
    drops: Option<u64>,
}

impl Progress {
    fn of(status: &Value) -> Self {
        let firehose = &status["firehose"];
        Self {
            seq: firehose["seq"].as_i64(),
            lag_seconds: firehose["lag_seconds"].as_f64(),
            pending: status["pending"].as_u64(),
            drops: status["drops"].as_object().map(|drops| drops.values().filter_map(Value::as_u64).sum()),
        }
    }
}

impl History {
    /// Looks at what comes and goes between two samples. Called more often than they are taken.
    pub(crate) fn peek(&self, shared: &Shared) {
        let admission = shared.admission.figures();
        self.store_inflight.fetch_max(shared.cx.store.reads_in_flight(), Relaxed);
        self.units_inflight.fetch_max(admission.in_flight.into(), Relaxed);
        self.waiting.fetch_max(admission.waiting as u64, Relaxed);
        self.bytes_inflight.fetch_max(shared.budget.held(), Relaxed);
    }

    /// Takes a sample.
    pub(crate) async fn sample(&self, shared: &Shared, operator: &dyn Operator) {
        let progress = match tokio::time::timeout(STATUS_MAX, operator.status()).await {
            Ok(Ok(status)) => Progress::of(&status),
            _ => Progress::default(),
        };
        self.take(shared, &progress);
    }

    fn take(&self, shared: &Shared, progress: &Progress) {
        self.peek(shared);
        let calls = &shared.metrics.calls;
        let mut inner = self.inner.lock();
        let Inner { samples, before } = &mut *inner;

        let ended = calls.ended_by_code();
        let since = |code: Code| ended[code as usize].saturating_sub(before.ended[code as usize]);
        let total: u64 = Code::ALL.into_iter().map(since).sum();
        let ok = since(Code::Ok) + since(Code::NotFound);
        let invalid = since(Code::InvalidArgument) + since(Code::Unimplemented) + since(Code::Unauthenticated);
        let shed_total = calls.shed_total();
        let shed = shed_total.saturating_sub(before.shed);
        let gone_total = calls.cancelled_total();

        let mut sizes = [Sized::default(); GROUPS.len()];
        for ((sized, group), before) in sizes.iter_mut().zip(GROUPS).zip(&mut before.sizes) {
            let (bounds, now) = calls.durations(group);
            let since: Vec<u64> =
                now.iter().enumerate().map(|(at, n)| n.saturating_sub(before.get(at).copied().unwrap_or(0))).collect();
            *sized = Sized {
                calls: since.iter().sum(),
                p50_us: quantile(bounds, &since, 0.5),
                p99_us: quantile(bounds, &since, 0.99),
            };
            *before = now;
        }

        let mut by_caller = vec![(0, 0); calls.callers().len()];
        for ((_, caller), totals) in calls.totals() {
            by_caller[caller].0 += totals.calls;
            by_caller[caller].1 += totals.keys;
        }
        let mut callers = Vec::new();
        for (caller, (called, keys)) in by_caller.iter().enumerate() {
            let last = before.callers.get(caller).copied().unwrap_or_default();
            let peak = calls.take_peak(caller);
            let asked = Asked {
                caller,
                calls: called.saturating_sub(last.0),
                keys: keys.saturating_sub(last.1),
                largest: peak.keys,
                rpc: calls.rpc_name(peak.rpc),
                inflight_keys: peak.inflight_keys,
            };
            if asked.calls > 0 || asked.largest > 0 || asked.inflight_keys > 0 {
                callers.push(asked);
            }
        }

        let store = shared.cx.store.figures();
        let (process, sockets) = (Process::read(), shared.sockets.figures());
        let sample = Sample {
            at_ms: (shared.cx.now_us)() / 1_000,
            ok,
            invalid,
            shed,
            failed: total.saturating_sub(ok + invalid + shed),
            gone: gone_total.saturating_sub(before.gone),
            sizes,
            near_hits: store.near_hits.saturating_sub(before.near.0),
            near_misses: store.near_misses.saturating_sub(before.near.1),
            store_inflight: self.store_inflight.swap(0, Relaxed),
            units_inflight: self.units_inflight.swap(0, Relaxed),
            waiting: self.waiting.swap(0, Relaxed),
            bytes_inflight: self.bytes_inflight.swap(0, Relaxed),
            resident_bytes: process.resident_bytes,
            connections: shared.connections.open(),
            time_wait: sockets.in_time_wait(),
            ports_used: sockets.ports_used_most(),
            open_fds: process.open_fds,
            seq: progress.seq,
            lag_seconds: progress.lag_seconds,
            pending: progress.pending,
            drops: match (progress.drops, before.drops) {
                (Some(now), Some(before)) => now.saturating_sub(before),
                _ => 0,
            },
            callers,
        };
        *before = Before {
            ended,
            shed: shed_total,
            gone: gone_total,
            sizes: std::mem::take(&mut before.sizes),
            near: (store.near_hits, store.near_misses),
            drops: progress.drops.or(before.drops),
            callers: by_caller,
        };
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The samples after a time, and what is needed to read them.
    pub(crate) fn show(&self, shared: &Shared, after_ms: i64) -> Value {
        let calls = &shared.metrics.calls;
        let process = Process::read();
        let logs = shared.metrics.logs();
        let shapes: Vec<Value> = calls
            .shapes()
            .into_iter()
            .rev()
            .map(|it| {
                json!({
                    "at_ms": it.at_us / 1_000,
                    "rpc": calls.rpc_name(it.rpc),
                    "caller": calls.caller_name(it.caller),
                    "keys": it.keys,
                    "size_class": SIZE_CLASSES[size_class(it.keys)],
                })
            })
            .collect();
        let inner = self.inner.lock();
        let samples: Vec<&Sample> = inner.samples.iter().filter(|it| it.at_ms > after_ms).collect();
        json!({
            "every_ms": u64::try_from(SAMPLE_EVERY.as_millis()).unwrap_or(u64::MAX),
            "now_ms": (shared.cx.now_us)() / 1_000,
            "started_ms": (process.start_time_seconds * 1e3) as i64,
            "callers": calls.callers(),
            "limits": {
                "store_inflight": shared.cx.store.figures().reads_in_flight_max,
                "units_inflight": shared.admission.figures().limit,
                "bytes_inflight": shared.budget.max(),
                "memory_bytes": memory_limit_bytes(),
                "open_fds": process.max_fds,
                "connections": shared.config.connections_max,
            },
            "log": {
                "events": logs.events_total(),
                "written": logs.written_total(),
                "suppressed": logs.suppressed().map(|(_, lines)| lines).sum::<u64>(),
            },
            "shapes": shapes,
            "samples": samples,
        })
    }
}

/// An estimate of a quantile: within a bucket, observations are taken to be spread evenly. 0 if there are none.
fn quantile(bounds: &[u64], counts: &[u64], q: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let rank = (total as f64 * q).max(1.0);
    let (mut seen, mut lower) = (0.0, 0);
    for (at, count) in counts.iter().enumerate() {
        // What is above all bounds is somewhere above the last one.
        let upper = bounds.get(at).copied().unwrap_or(lower);
        let next = seen + *count as f64;
        if *count > 0 && next >= rank {
            let part = (rank - seen) / *count as f64;
            return lower + ((upper - lower) as f64 * part) as u64;
        }
        (seen, lower) = (next, upper);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_its_bucket() {
        let bounds = [250, 500, 1_000];
        assert_eq!(quantile(&bounds, &[0, 0, 0, 0], 0.5), 0);
        assert_eq!(quantile(&bounds, &[100, 0, 0, 0], 0.5), 125);
        assert_eq!(quantile(&bounds, &[50, 50, 0, 0], 0.99), 495);
        assert_eq!(quantile(&bounds, &[0, 0, 1, 0], 0.5), 1_000, "of one observation the bound is all that is known");
        assert_eq!(quantile(&bounds, &[99, 0, 0, 1], 0.999), 1_000);
    }

    #[test]
    fn progress_is_read_from_the_status_and_may_be_missing() {
        let status = json!({
            "firehose": {"seq": 12, "lag_seconds": 0.5}, "pending": 3, "drops": {"a": 1, "b": 2},
        });
        let progress = Progress { seq: Some(12), lag_seconds: Some(0.5), pending: Some(3), drops: Some(3) };
        assert_eq!(Progress::of(&status), progress);
        assert_eq!(Progress::of(&json!({})), Progress::default());
    }

    #[test]
    fn groups_cover_every_size_class_once() {
        let all: Vec<usize> = GROUPS.into_iter().flatten().collect();
        assert_eq!(all, (0..SIZE_CLASSES.len()).collect::<Vec<_>>());
        assert_eq!([size_class(50), size_class(51), size_class(1_000), size_class(1_001)], [2, 3, 4, 5]);
    }
}
