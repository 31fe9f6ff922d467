//! Politeness to hosts: how many requests at once, how many a second, and rest for a host that fails, as a whole.
//!
//! A host that cannot be reached, or asks to be left alone, rests: none of its repos is tried meanwhile, and none of
//! their attempts is used up. After the rest one of them tries whether it is back.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{reading::FailReason, socket::jitter};

/// Hosts that are remembered. Beyond it those that are not in use and not at rest are forgotten.
const HOSTS_MAX: usize = 10_000;

/// The first rest of a host that fails; it doubles each time, up to the last.
const REST_FIRST: Duration = Duration::from_secs(5);
const REST_LAST: Duration = Duration::from_secs(15 * 60);

/// Longest rest that a host may ask for.
const REST_ASKED_MAX: Duration = Duration::from_secs(3600);

/// Repos that fail one after the other, without one that does not, before it is the host that fails.
const FAILURES_IN_A_ROW_MAX: u32 = 5;

/// Hosts at rest listed in the status.
const LISTED_MAX: usize = 20;

/// Who may be asked how much.
pub(crate) struct Hosts {
    per_host_max: usize,
    waiting_max: usize,
    every: Duration,
    hosts: Mutex<HashMap<Arc<str>, Arc<Host>>>,
}

struct Host {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// No request before this.
    next: Instant,
    failures: u32,
    rests: u32,
    rest_until: Option<Instant>,
    /// Since when nothing has gone well.
    ill_since: Option<Instant>,
    /// Somebody is finding out whether it is back.
    probed: bool,
    error: String,
}

/// A turn at a host. Say how it went: by itself, its end says nothing.
pub(crate) struct Visit {
    host: Arc<Host>,
    _permit: OwnedSemaphorePermit,
    probes: bool,
}

/// Whether a host may be asked now.
pub(crate) enum Entry {
    Go(Visit),
    /// It rests, or so many wait for it already that others should come first.
    Later,
}

impl Hosts {
    /// At most `per_host_max` requests to one host at once and `per_second_max` a second, and `waiting_max` that wait.
    pub(crate) fn new(per_host_max: usize, per_second_max: f64, waiting_max: usize) -> Self {
        let every = Duration::from_secs_f64(1.0 / per_second_max.max(0.001));
        Self { per_host_max: per_host_max.max(1), waiting_max, every, hosts: Mutex::default() }
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.get(name) {
            return Arc::clone(host);
        }
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.state.lock().rest_until.is_some());
        }
        let state = State {
            next: Instant::now(),
            failures: 0,
            rests: 0,
            rest_until: None,
            ill_since: None,
            probed: false,
            error: String::new(),
        };
        let host = Arc::new(Host {
            permits: Arc::new(Semaphore::new(self.per_host_max)),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(state),
        });
        hosts.insert(name.into(), Arc::clone(&host));
        host
    }

    /// Waits for a turn at a host.
    pub(crate) async fn enter(&self, name: &str) -> Entry {
        let host = self.host(name);
        if host.rests() || host.waiting.load(SeqCst) >= self.waiting_max {
            return Entry::Later;
        }
        let permit = {
            let _waits = Waits::begin(&host.waiting);
            Arc::clone(&host.permits).acquire_owned().await
        };
        let Ok(permit) = permit else { return Entry::Later };
        // What happened while it waited may have changed things.
        let Some((turn, probes)) = host.take_turn(self.every) else { return Entry::Later };
        let visit = Visit { host, _permit: permit, probes };
        tokio::time::sleep_until(turn).await;
        Entry::Go(visit)
    }

    /// Whether a host rests.
    pub(crate) fn rests(&self, name: &str) -> bool {
        self.hosts.lock().get(name).is_some_and(|host| host.rests())
    }

    /// For how long a host at rest has been ill, and what is the matter with it.
    pub(crate) fn ill_for(&self, name: &str) -> Option<(Duration, String)> {
        let host = self.hosts.lock().get(name).map(Arc::clone)?;
        let state = host.state.lock();
        state.rest_until?;
        Some((state.ill_since?.elapsed(), state.error.clone()))
    }

    /// Nobody rests any more.
    pub(crate) fn wake_all(&self) {
        for host in self.hosts.lock().values() {
            let mut state = host.state.lock();
            (state.failures, state.rests, state.rest_until, state.ill_since) = (0, 0, None, None);
        }
    }

    /// How many rest, and some of them.
    pub(crate) fn resting(&self) -> (usize, Vec<Value>) {
        let now = Instant::now();
        let mut resting: Vec<(Arc<str>, Duration, String)> = {
            let hosts = self.hosts.lock();
            let resting = hosts.iter().filter_map(|(name, host)| {
                let state = host.state.lock();
                let left = state.rest_until?.checked_duration_since(now)?;
                Some((Arc::clone(name), left, state.error.clone()))
            });
            resting.collect()
        };
        resting.sort();
        let listed = resting.iter().take(LISTED_MAX);
        let listed =
            listed.map(|(name, left, error)| json!({"host": &**name, "rests_seconds": left.as_secs(), "error": error}));
        (resting.len(), listed.collect())
    }
}

impl Host {
    fn rests(&self) -> bool {
        let state = self.state.lock();
        state.probed || state.rest_until.is_some_and(|until| Instant::now() < until)
    }

    /// When the next request may be made, and whether it finds out if the host is back; nothing while it rests.
    fn take_turn(&self, every: Duration) -> Option<(Instant, bool)> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let probes = match state.rest_until {
            Some(until) if now < until => return None,
            Some(_) if state.probed => return None,
            Some(_) => {
                state.probed = true;
                true
            }
            None => false,
        };
        let turn = state.next.max(now);
        state.next = turn + every;
        Some((turn, probes))
    }
}

impl Visit {
    /// Says how it went.
    pub(crate) fn went(&self, outcome: Result<(), (FailReason, &str, Option<Duration>)>) {
        let mut state = self.host.state.lock();
        match outcome {
            Err((reason, error, asked)) if concerns_host(reason) => {
                state.failures += 1;
                state.ill_since.get_or_insert_with(Instant::now);
                let at_once = matches!(reason, FailReason::Unreachable | FailReason::Busy);
                // Several were under way when it failed: that is one failure of the host.
                let rests_already = state.rest_until.is_some_and(|until| Instant::now() < until);
                if (at_once || self.probes || state.failures >= FAILURES_IN_A_ROW_MAX) && !rests_already {
                    let rest = REST_FIRST.saturating_mul(1 << state.rests.min(10)).min(REST_LAST).mul_f64(jitter());
                    let rest = asked.map_or(rest, |asked| asked.min(REST_ASKED_MAX).max(Duration::from_secs(1)));
                    state.rests += 1;
                    state.rest_until = Some(Instant::now() + rest);
                    state.error = error.to_owned();
                }
            }
            _ => {
                (state.failures, state.rests, state.rest_until, state.ill_since) = (0, 0, None, None);
                state.error.clear();
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.probes {
            self.host.state.lock().probed = false;
        }
    }
}

/// Whether a failure may be the host's; the others are the repo's own.
pub(crate) fn concerns_host(reason: FailReason) -> bool {
    matches!(reason, FailReason::Unreachable | FailReason::Busy | FailReason::HostError | FailReason::Slow)
}

struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn visit(hosts: &Hosts, name: &str) -> Option<Visit> {
        match hosts.enter(name).await {
            Entry::Go(visit) => Some(visit),
            Entry::Later => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_cannot_be_reached_rests_as_a_whole_and_is_probed_by_one() {
        let hosts = Hosts::new(2, 1000.0, 10);
        let (one, two) = (visit(&hosts, "a").await.unwrap(), visit(&hosts, "a").await.unwrap());
        for each in [&one, &two] {
            each.went(Err((FailReason::Unreachable, "nobody", None)));
        }
        drop((one, two));
        assert!(visit(&hosts, "a").await.is_none() && hosts.rests("a"));
        assert!(visit(&hosts, "b").await.is_some(), "others go on");
        assert_eq!(hosts.resting().0, 1);
        // Both were under way: one rest of the first length.
        tokio::time::advance(REST_FIRST.mul_f64(1.3)).await;
        let probe = visit(&hosts, "a").await.unwrap();
        assert!(visit(&hosts, "a").await.is_none(), "one finds out");
        probe.went(Err((FailReason::HostError, "still ill", None)));
        drop(probe);
        tokio::time::advance(REST_FIRST).await;
        assert!(visit(&hosts, "a").await.is_none(), "the second rest is longer");
        tokio::time::advance(REST_FIRST.mul_f64(1.6)).await;
        let probe = visit(&hosts, "a").await.unwrap();
        probe.went(Ok(()));
        drop(probe);
        let (one, two) = (visit(&hosts, "a").await, visit(&hosts, "a").await);
        assert!(one.is_some() && two.is_some());
        assert_eq!(hosts.resting().0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_says_itself_how_long_it_wants_to_rest() {
        let hosts = Hosts::new(1, 1000.0, 10);
        visit(&hosts, "a").await.unwrap().went(Err((FailReason::Busy, "429", Some(Duration::from_secs(77)))));
        tokio::time::advance(Duration::from_secs(76)).await;
        assert!(hosts.rests("a"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(visit(&hosts, "a").await.is_some());
        visit(&hosts, "b").await.unwrap().went(Err((FailReason::Busy, "429", Some(Duration::MAX))));
        tokio::time::advance(REST_ASKED_MAX).await;
        assert!(!hosts.rests("b"), "within reason");
    }

    #[tokio::test(start_paused = true)]
    async fn repos_that_fail_one_by_one_are_theirs_until_they_are_many() {
        let hosts = Hosts::new(1, 1000.0, 10);
        for n in 1..=2 * FAILURES_IN_A_ROW_MAX {
            let visit = visit(&hosts, "a").await.unwrap();
            let outcome = if n == 3 { Ok(()) } else { Err((FailReason::HostError, "500", None)) };
            visit.went(outcome);
            drop(visit);
            if hosts.rests("a") {
                assert_eq!(n, 3 + FAILURES_IN_A_ROW_MAX);
                return;
            }
        }
        panic!("it never rests");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_and_few_wait() {
        let hosts = Arc::new(Hosts::new(1, 10.0, 2));
        let begun = Instant::now();
        for _ in 0..11 {
            visit(&hosts, "a").await.unwrap().went(Ok(()));
        }
        assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
        let held = visit(&hosts, "a").await.unwrap();
        let wait = || {
            let hosts = Arc::clone(&hosts);
            tokio::spawn(async move { visit(&hosts, "a").await.is_some() })
        };
        let waiting = [wait(), wait()];
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert!(visit(&hosts, "a").await.is_none(), "two wait already");
        drop(held);
        for one in waiting {
            assert!(one.await.unwrap());
        }
    }
}
