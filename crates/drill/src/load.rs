//! Open-loop load: calls are sent when they are due, whether earlier ones were answered or not, and what each took
//! counts from the moment it was due. A server that stands still cannot hide it.
//!
//! A call is made as the AppView's client makes it: on UNAVAILABLE, ABORTED or a broken connection it is tried again at
//! once on another host, three times in all. Every other code is final.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    data::{self, GET_POSTS, Requests},
    wire::{Call, Connection},
};

/// How often the AppView's client tries a call in all.
const TRIES_MAX: u32 = 3;
/// Calls that may be under way at once; what is due beyond it is counted as not sent.
const UNDER_WAY_MAX: usize = 20_000;
/// After which time a caller gives up on an answer that does not come.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a connection that could not be opened is left alone.
const REOPEN_AFTER: Duration = Duration::from_millis(20);
/// Every so many answers are decoded and compared with what was asked.
const LOOK_AT_EVERY: usize = 64;

/// Code of UNAVAILABLE, and of a host that is not there.
const UNAVAILABLE: u32 = 14;
const ABORTED: u32 = 10;
/// Not a code of gRPC: no answer came.
pub const NO_ANSWER: u32 = 98;
/// Not a code of gRPC: the answer does not fit the request.
pub const WRONG: u32 = 99;

/// One connection of a host, opened when it is first wanted, and again when it has broken.
#[derive(Default)]
struct Slot {
    open: Option<Connection>,
    failed_at: Option<Instant>,
}

struct Host {
    address: SocketAddr,
    slots: Vec<tokio::sync::Mutex<Slot>>,
}

impl Host {
    async fn connection(&self, at: usize) -> Option<Connection> {
        let mut slot = self.slots[at % self.slots.len()].lock().await;
        if let Some(open) = &slot.open
            && !open.is_closed()
        {
            return Some(open.clone());
        }
        if slot.failed_at.is_some_and(|at| at.elapsed() < REOPEN_AFTER) {
            return None;
        }
        slot.open = Connection::open(self.address).await.ok();
        slot.failed_at = slot.open.is_none().then(Instant::now);
        slot.open.clone()
    }
}

/// The planes that callers know. Clones share their connections.
#[derive(Clone)]
pub struct Hosts {
    hosts: Arc<Vec<Host>>,
    next: Arc<AtomicUsize>,
}

impl Hosts {
    /// Hosts with so many connections to all of them together.
    pub fn new(addresses: &[SocketAddr], connections: usize) -> Self {
        let each = (connections / addresses.len().max(1)).max(1);
        let host = |address: &SocketAddr| Host {
            address: *address,
            slots: std::iter::repeat_with(Default::default).take(each).collect(),
        };
        Self { hosts: Arc::new(addresses.iter().map(host).collect()), next: Arc::default() }
    }

    /// Makes a call as the AppView does: the code it ended with, its answer, and how many tries it took. Nobody waits
    /// longer than `patience`.
    pub async fn call(&self, call: &Call<'_>, patience: Duration) -> (u32, bytes::Bytes, u32) {
        let turn = self.next.fetch_add(1, Relaxed);
        let mut code = UNAVAILABLE;
        for tried in 0..TRIES_MAX {
            let host = &self.hosts[(turn + tried as usize) % self.hosts.len()];
            let Some(mut connection) = host.connection(turn / self.hosts.len()).await else { continue };
            match timeout(patience, connection.call(call)).await {
                Ok(Ok(reply)) if reply.code != UNAVAILABLE && reply.code != ABORTED => {
                    return (reply.code, reply.message, tried + 1);
                }
                Ok(Ok(reply)) => code = reply.code,
                Ok(Err(_)) => code = UNAVAILABLE,
                Err(_) => return (NO_ANSWER, bytes::Bytes::new(), tried + 1),
            }
        }
        (code, bytes::Bytes::new(), TRIES_MAX)
    }
}

/// What callers felt.
#[derive(Clone, Debug)]
pub struct Felt {
    /// Microseconds from the moment a call was due until its answer, of those that were answered.
    took_us: Histogram<u64>,
    /// Calls by the code they ended with.
    pub codes: BTreeMap<u32, u64>,
    /// Keys of answered calls.
    pub keys: u64,
    /// Tries of all calls.
    pub tries: u64,
    /// For how long.
    pub lasted: Duration,
}

impl Default for Felt {
    fn default() -> Self {
        Self {
            // A minute is longer than anybody waits; three digits are more than anybody reads.
            took_us: Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are allowed"),
            codes: BTreeMap::new(),
            keys: 0,
            tries: 0,
            lasted: Duration::ZERO,
        }
    }
}

impl Felt {
    fn note(&mut self, code: u32, took: Duration, keys: u32, tries: u32) {
        *self.codes.entry(code).or_default() += 1;
        self.tries += u64::from(tries);
        if code == 0 {
            self.keys += u64::from(keys);
            self.took_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
        }
    }

    /// Calls that were answered.
    pub fn answered(&self) -> u64 {
        self.codes.get(&0).copied().unwrap_or(0)
    }

    /// Calls that were not.
    pub fn failed(&self) -> u64 {
        self.calls() - self.answered()
    }

    /// Calls in all.
    pub fn calls(&self) -> u64 {
        self.codes.values().sum()
    }

    /// The part of all calls that was answered.
    pub fn success(&self) -> f64 {
        self.answered() as f64 / self.calls().max(1) as f64
    }

    /// Milliseconds within which this part of the answers came; not a number if none did.
    pub fn ms(&self, part: f64) -> f64 {
        if self.took_us.is_empty() { f64::NAN } else { self.took_us.value_at_quantile(part) as f64 / 1e3 }
    }

    /// Within which 99 of 100 answers came.
    pub fn p99_ms(&self) -> f64 {
        self.ms(0.99)
    }

    /// Keys answered a second.
    pub fn keys_per_second(&self) -> f64 {
        self.keys as f64 / self.lasted.as_secs_f64().max(1e-9)
    }

    /// Answered calls a second.
    pub fn answered_per_second(&self) -> f64 {
        self.answered() as f64 / self.lasted.as_secs_f64().max(1e-9)
    }

    /// Adds what was felt later.
    pub fn add(&mut self, later: &Felt) {
        let _ = self.took_us.add(&later.took_us);
        later.codes.iter().for_each(|(code, calls)| *self.codes.entry(*code).or_default() += calls);
        self.keys += later.keys;
        self.tries += later.tries;
        self.lasted += later.lasted;
    }

    /// The codes that were not 0, for people.
    pub fn failures(&self) -> String {
        let name = |code: u32| match code {
            NO_ANSWER => "no answer".to_owned(),
            WRONG => "wrong answer".to_owned(),
            code => gp_serve::Code::ALL.get(code as usize).map_or_else(|| code.to_string(), |it| it.name().to_owned()),
        };
        let list: Vec<String> =
            self.codes.iter().filter(|(code, _)| **code != 0).map(|(code, n)| format!("{n} {}", name(*code))).collect();
        if list.is_empty() { "none".into() } else { list.join(", ") }
    }
}

/// What a caller offers.
#[derive(Clone)]
pub struct Offer {
    /// Its name.
    pub caller: &'static str,
    /// The requests, one after the other and from the start again.
    pub requests: Requests,
    /// Calls a second.
    pub per_second: f64,
    /// The method.
    pub path: &'static str,
    /// How long its calls give the plane, if they say. The AppView's do not. A call that is late is given up.
    pub deadline: Option<Duration>,
    /// Whether answers are looked at, some of them: that there is one for each key.
    pub looks: bool,
}

impl Offer {
    /// Calls for posts.
    pub fn posts(caller: &'static str, requests: &Requests, per_second: f64) -> Self {
        Self { caller, requests: Arc::clone(requests), per_second, path: GET_POSTS, deadline: None, looks: true }
    }

    async fn make(&self, hosts: &Hosts, frame: bytes::Bytes) -> (u32, bytes::Bytes, u32) {
        let said = self.deadline.map(|it| format!("{}m", it.as_millis()));
        let call = Call { path: self.path, caller: self.caller, frame, deadline: said.as_deref() };
        hosts.call(&call, self.deadline.unwrap_or(ANSWER_MAX)).await
    }
}

/// A load that goes on until it is ended.
pub struct Load {
    felt: Arc<Mutex<(Felt, Instant)>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Load {
    /// Begins.
    pub fn begin(hosts: &Hosts, offer: Offer) -> Self {
        let felt = Arc::new(Mutex::new((Felt::default(), Instant::now())));
        let stop = CancellationToken::new();
        let task = tokio::spawn(send(hosts.clone(), offer, Arc::clone(&felt), stop.clone()));
        Self { felt, stop, task }
    }

    /// What was felt since it was asked last.
    pub fn take(&self) -> Felt {
        let mut state = self.felt.lock();
        let (mut felt, since) = std::mem::replace(&mut *state, (Felt::default(), Instant::now()));
        felt.lasted = since.elapsed();
        felt
    }

    /// Waits, and says what was felt meanwhile, without what came before.
    pub async fn during(&self, time: Duration) -> Felt {
        drop(self.take());
        tokio::time::sleep(time).await;
        self.take()
    }

    /// Sends nothing more, waits for the answers that are due, and says what was felt since it was asked last.
    pub async fn end(self) -> Felt {
        self.stop.cancel();
        let _ = self.task.await;
        let state = self.felt.lock();
        Felt { lasted: state.1.elapsed(), ..state.0.clone() }
    }
}

async fn send(hosts: Hosts, offer: Offer, felt: Arc<Mutex<(Felt, Instant)>>, stop: CancellationToken) {
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for n in 0.. {
        let due = begun + Duration::from_secs_f64(n as f64 / offer.per_second);
        // What is late already is sent at once, but others have their turn first.
        if due > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = stop.cancelled() => break,
            }
        } else if n % 32 == 0 {
            tokio::task::yield_now().await;
        }
        if stop.is_cancelled() {
            break;
        }
        while calls.try_join_next().is_some() {}
        let (frame, keys) = offer.requests[n % offer.requests.len()].clone();
        if calls.len() >= UNDER_WAY_MAX {
            felt.lock().0.note(NO_ANSWER, Duration::ZERO, keys, 0);
            continue;
        }
        let (hosts, felt, offer) = (hosts.clone(), Arc::clone(&felt), offer.clone());
        calls.spawn(async move {
            let (mut code, message, tries) = offer.make(&hosts, frame).await;
            if code == 0
                && offer.looks
                && n.is_multiple_of(LOOK_AT_EVERY)
                && !data::has_an_entry_for_each(&message, keys as usize)
            {
                code = WRONG;
            }
            felt.lock().0.note(code, due.elapsed(), keys, tries);
        });
    }
    // Whoever ends the load has waited long enough for most of them.
    let _ = timeout(ANSWER_MAX, async { while calls.join_next().await.is_some() {} }).await;
}

/// Closed-loop calls, as many at a time as given: what the plane can do at most, C*, where it is what is slow.
pub async fn saturate(hosts: &Hosts, offer: &Offer, at_once: usize, time: Duration) -> Felt {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..at_once {
        let (hosts, offer) = (hosts.clone(), offer.clone());
        callers.spawn(async move {
            let (mut felt, mut n) = (Felt::default(), caller);
            while begun.elapsed() < time {
                let (frame, keys) = offer.requests[n % offer.requests.len()].clone();
                let sent = Instant::now();
                let (code, _, tries) = offer.make(&hosts, frame).await;
                felt.note(code, sent.elapsed(), keys, tries);
                n += at_once;
            }
            felt
        });
    }
    let mut all = Felt::default();
    while let Some(Ok(felt)) = callers.join_next().await {
        all.add(&felt);
    }
    all.lasted = begun.elapsed();
    all
}

/// How evenly something was shared, from 1/n (one has it all) to 1 (Jain's index).
pub fn evenness(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_felt_adds_up() {
        let mut felt = Felt::default();
        (1..=100).for_each(|ms| felt.note(0, Duration::from_millis(ms), 12, 1));
        felt.note(8, Duration::from_millis(1), 12, 1);
        assert_eq!((felt.calls(), felt.failed(), felt.keys, felt.tries), (101, 1, 1_200, 101));
        assert!((felt.p99_ms() - 99.0).abs() < 0.2, "{}", felt.p99_ms());
        assert_eq!(felt.failures(), "1 RESOURCE_EXHAUSTED");
        let mut twice = felt.clone();
        twice.add(&felt);
        assert_eq!((twice.calls(), twice.keys), (202, 2_400));
        assert!(Felt::default().p99_ms().is_nan());
    }

    #[test]
    fn shares_are_even_or_not() {
        assert_eq!(evenness(&[2.0, 2.0, 2.0]), 1.0);
        assert!((evenness(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_tried_three_times_and_counts_as_unavailable() {
        let address = crate::program::free_address().unwrap();
        let hosts = Hosts::new(&[address], 2);
        let requests: Requests = Arc::new(vec![(data::asking(["at://a/b/c"]), 1)]);
        let load = Load::begin(&hosts, Offer::posts("appview", &requests, 200.0));
        let felt = load.during(Duration::from_millis(300)).await;
        let rest = load.end().await;
        assert!(felt.calls() + rest.calls() > 20 && felt.answered() == 0, "{felt:?}");
        assert_eq!(felt.codes.keys().copied().collect::<Vec<_>>(), [UNAVAILABLE]);
    }
}
