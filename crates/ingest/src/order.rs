//! Lanes: events of one account keep their order, events of different accounts are verified side by side.
//!
//! A lane is a thread of its own, since hashes and signatures would starve everybody else on the async runtime. It
//! never waits for the network: an event whose account's key is not at hand is put aside together with what follows
//! for the same account, and the lane goes on with the others. What a lane has verified it hands to the writer in
//! order.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hasher},
    panic::AssertUnwindSafe,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use gp_atproto::{Tid, crypto::VerifyingKey};
use gp_index::repos;
use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::{
    Error,
    apply::Urge,
    decode::{self, Body, Refusal},
    drop::{DropReason, SkipReason},
    facts::{Facts, Item},
    flight::Flight,
    identity::Want,
    jobs::Ask,
    shared::Shared,
};

/// A key is asked for again after this time even if nothing tells that it changed.
const KEY_FOR: Duration = Duration::from_secs(24 * 3600);

/// "This account has no key" is remembered for this long.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// After a key could not be had in time, the next events of the account do not wait for it for this long.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(5);

/// A bad signature makes us ask for the account's key again, but only so many times ...
const DOUBTS_MAX: u8 = 4;

/// ... in this time, so that forged events do not become a flood of look-ups.
const DOUBTS_PER: Duration = Duration::from_secs(10);

/// Whether a handle is due for a check is looked up this often for an active account.
const CHECK_EVERY: Duration = Duration::from_secs(3600);

/// Between attempts to get a key while events wait for it.
const KEY_RETRY: Duration = Duration::from_millis(500);

/// An event on its way through a lane.
pub(crate) struct Event {
    pub(crate) did: Arc<str>,
    pub(crate) time_us: i64,
    pub(crate) body: Body,
    pub(crate) frame: Bytes,
    pub(crate) flight: Flight,
    /// Its signature did not fit the key we had; the key was asked for again.
    pub(crate) doubted: bool,
}

enum Message {
    Event(Box<Event>),
    /// What was found out about an account whose events were put aside.
    Known {
        did: Arc<str>,
        found: Found,
    },
}

enum Found {
    /// The revision applied, zero if none. The key has not been asked for yet: it may not be needed.
    Applied(Tid),
    Key(VerifyingKey),
    Refused(DropReason),
    Unavailable,
}

/// All lanes.
pub(crate) struct Lanes {
    inboxes: Vec<Arc<Inbox>>,
    hasher: std::hash::RandomState,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where a lane's work arrives. It has no bound of its own: what is in it holds a place in [`crate::flight::Room`].
#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
}

#[derive(Default)]
struct InboxState {
    messages: VecDeque<Message>,
    closed: bool,
}

impl Inbox {
    fn push(&self, message: Message) {
        let mut state = self.state.lock();
        if !state.closed {
            state.messages.push_back(message);
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Takes everything that has arrived; nothing once closed.
    fn take(&self) -> Option<VecDeque<Message>> {
        let mut state = self.state.lock();
        while state.messages.is_empty() {
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
        Some(std::mem::take(&mut state.messages))
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.messages.clear();
        drop(state);
        self.arrived.notify_one();
    }
}

impl Lanes {
    /// Starts the threads. Must be called on the runtime that look-ups are to run on.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let count = shared.config.lanes.max(1);
        let inboxes: Vec<Arc<Inbox>> = (0..count).map(|_| Arc::default()).collect();
        let mut threads = Vec::with_capacity(count);
        for (number, inbox) in inboxes.iter().enumerate() {
            let mut lane = Lane {
                shared: Arc::clone(shared),
                inbox: Arc::clone(inbox),
                runtime: tokio::runtime::Handle::current(),
                accounts: Accounts::new(shared.config.accounts_in_memory_max / count),
            };
            let thread = std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || lane.run());
            threads.push(thread.map_err(|e| Error::Failed(format!("a thread cannot be started: {e}")))?);
        }
        Ok(Self { inboxes, hasher: std::hash::RandomState::new(), threads: Mutex::new(threads) })
    }

    /// Hands an event to the lane of its account.
    pub(crate) fn send(&self, event: Event) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(event.did.as_bytes());
        let lane = (hasher.finish() % self.inboxes.len() as u64) as usize;
        self.inboxes[lane].push(Message::Event(Box::new(event)));
    }

    /// Stops the lanes. What they still hold is not applied and comes again after a restart. A lane that is stuck
    /// behind a writer that cannot write is left to the end of the process.
    pub(crate) async fn stop(&self, deadline: Instant) {
        self.inboxes.iter().for_each(|inbox| inbox.close());
        let threads: Vec<JoinHandle<()>> = self.threads.lock().drain(..).collect();
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("a lane panicked");
            }
        }
    }
}

/// What a lane knows of an account.
#[derive(Default)]
struct Account {
    key: KeyState,
    /// The key must have been asked for at or after this moment.
    key_since: Option<Instant>,
    /// Events put aside until the key is known.
    waiting: Option<VecDeque<Box<Event>>>,
    /// The highest revision handed to the writer, or applied when the account was looked up; zero if there is none.
    rev: Option<Tid>,
    /// The account's row is there, as far as this lane knows.
    touched: bool,
    /// Times the key was doubted since then.
    doubts: u8,
    doubts_since: Option<Instant>,
    checked_at: Option<Instant>,
}

impl Account {
    fn may_doubt(&mut self, now: Instant) -> bool {
        if self.doubts_since.is_none_or(|since| now.duration_since(since) >= DOUBTS_PER) {
            (self.doubts, self.doubts_since) = (0, Some(now));
        }
        self.doubts = self.doubts.saturating_add(1);
        self.doubts <= DOUBTS_MAX
    }
}

#[derive(Default)]
enum KeyState {
    #[default]
    Unknown,
    Known(Box<VerifyingKey>, Instant),
    Refused(DropReason, Instant),
    Unavailable(Instant),
}

/// The accounts of a lane, the less recently used half of them forgotten when there are too many.
struct Accounts {
    young: HashMap<Arc<str>, Account>,
    old: HashMap<Arc<str>, Account>,
    young_max: usize,
}

impl Accounts {
    fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_max: (max / 2).max(16) }
    }

    fn get(&mut self, did: &Arc<str>) -> &mut Account {
        if !self.young.contains_key(did) {
            if self.young.len() >= self.young_max {
                let mut forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
                // Those with events put aside stay.
                forgotten.retain(|_, account| account.waiting.is_some());
                self.young = forgotten;
            }
            let account = self.old.remove(did).unwrap_or_default();
            self.young.insert(Arc::clone(did), account);
        }
        self.young.entry(Arc::clone(did)).or_default()
    }
}

struct Lane {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    runtime: tokio::runtime::Handle,
    accounts: Accounts,
}

/// What to do with an event next.
enum Step {
    Submit(Facts),
    LookUp,
    Drop(DropReason),
}

impl Lane {
    fn run(&mut self) {
        while let Some(messages) = self.inbox.take() {
            for message in messages {
                match message {
                    Message::Event(event) => self.event(event),
                    Message::Known { did, found } => self.known(&did, found),
                }
            }
        }
    }

    fn known(&mut self, did: &Arc<str>, found: Found) {
        let account = self.accounts.get(did);
        let now = Instant::now();
        match found {
            Found::Applied(rev) => account.rev = account.rev.max(Some(rev)),
            Found::Key(key) => account.key = KeyState::Known(Box::new(key), now),
            Found::Refused(reason) => account.key = KeyState::Refused(reason, now + REFUSED_FOR),
            Found::Unavailable => account.key = KeyState::Unavailable(now + UNAVAILABLE_FOR),
        }
        let Some(mut waiting) = account.waiting.take() else { return };
        while let Some(event) = waiting.pop_front() {
            self.event(event);
            // The event may have to wait once more; then the others wait behind it.
            if let Some(again) = &mut self.accounts.get(did).waiting {
                again.append(&mut waiting);
                return;
            }
        }
    }

    fn event(&mut self, mut event: Box<Event>) {
        let account = self.accounts.get(&event.did);
        if let Some(waiting) = &mut account.waiting {
            waiting.push_back(event);
            return;
        }
        let now = Instant::now();
        let step = match &event.body {
            Body::Identity => {
                // The key may be another one now. What comes next must not be checked with the old one.
                (account.key, account.key_since) = (KeyState::Unknown, Some(now));
                account.touched = true;
                return self.submit_identity(*event);
            }
            Body::Account { active, status } => {
                let (active, status) = (*active, status.clone());
                account.touched = true;
                return self.submit_account(*event, active, status);
            }
            Body::Commit { rev } | Body::Sync { rev } => match &account.key {
                // A second copy, from another relay or of a replay, needs no look at its signature. A `#sync` repeats
                // the revision of the commit before it, and is looked at.
                _ if account
                    .rev
                    .is_some_and(|seen| *rev < seen || (*rev == seen && matches!(event.body, Body::Commit { .. }))) =>
                {
                    self.shared.drops.skip(SkipReason::Stale, 1);
                    Step::Submit(Facts::Nothing)
                }
                KeyState::Known(key, at) if now.duration_since(*at) < KEY_FOR => {
                    let now_us = (self.shared.cx.now_us)();
                    // A bug in there must cost one event, not the lane and with it a share of all accounts.
                    let verified =
                        std::panic::catch_unwind(AssertUnwindSafe(|| decode::verify(&event.frame, key, now_us)));
                    let verified = verified.unwrap_or_else(|_| {
                        tracing::error!(did = %event.did, rev = %rev.text().as_str(), "the verification of an event panicked");
                        Err(Refusal::Panicked)
                    });
                    match verified {
                        Ok(facts) => {
                            account.rev = account.rev.max(Some(*rev));
                            Step::Submit(facts)
                        }
                        Err(Refusal::Signature) => {
                            if event.doubted || !account.may_doubt(now) {
                                tracing::debug!(did = %event.did, rev = %rev.text().as_str(), "signature does not hold");
                                Step::Drop(DropReason::SignatureInvalid)
                            } else {
                                account.key_since = Some(now);
                                event.doubted = true;
                                Step::LookUp
                            }
                        }
                        Err(Refusal::Panicked) => Step::Drop(DropReason::VerifierPanicked),
                        Err(Refusal::Drop(reason, error)) => {
                            tracing::debug!(did = %event.did, rev = %rev.text().as_str(), reason = reason.name(), %error, "event dropped");
                            Step::Drop(reason)
                        }
                    }
                }
                KeyState::Refused(reason, until) if now < *until => Step::Drop(*reason),
                KeyState::Unavailable(until) if now < *until => {
                    self.shared.drops.skip(SkipReason::Unverifiable, 1);
                    account.rev = account.rev.max(Some(*rev));
                    Step::Submit(Facts::Unverified { rev: rev.text().as_str().into() })
                }
                _ => Step::LookUp,
            },
        };
        match step {
            Step::Submit(facts) => self.submit(*event, facts),
            Step::LookUp => self.look_up(event),
            Step::Drop(reason) => {
                self.shared.drops.lost(reason);
                self.submit(*event, Facts::Nothing);
            }
        }
    }

    /// Puts an event aside and asks for what is missing.
    fn look_up(&mut self, event: Box<Event>) {
        let did = Arc::clone(&event.did);
        let account = self.accounts.get(&did);
        let want = account.key_since.map_or(Want::Any, Want::Since);
        let applied_known = account.rev.is_some();
        account.waiting = Some(VecDeque::from([event]));
        let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
        self.runtime.spawn(async move {
            let found = if applied_known {
                shared.stop.run_until_cancelled(find_key(&shared, &did, want)).await.flatten()
            } else {
                // An error here shows itself again, and for good, in the writer.
                let applied = repos::state_of(&shared.cx.store, &did).await.ok().flatten();
                Some(Found::Applied(applied.and_then(|state| Tid::parse(&state.rev).ok()).unwrap_or(Tid(0))))
            };
            if let Some(found) = found {
                inbox.push(Message::Known { did, found });
            }
        });
    }

    fn submit(&mut self, event: Event, facts: Facts) {
        let account = self.accounts.get(&event.did);
        let touch = !std::mem::replace(&mut account.touched, true);
        let now = Instant::now();
        let check = account.checked_at.is_none_or(|at| now.duration_since(at) >= CHECK_EVERY);
        if check {
            account.checked_at = Some(now);
        }
        let Event { did, time_us, flight, .. } = event;
        let shared = Arc::clone(&self.shared);
        let told = Arc::clone(&did);
        let item = Arc::new(Item { did, time_us, facts });
        let shown = Arc::clone(&item);
        self.shared.write(
            // What it decides on the way is of no interest.
            move |shared, view| drop(shared.rehearser.event(view, &shown, touch)),
            move |view| shared.applier.event(view, &item, touch),
            move |shared, after| {
                if after.refresh {
                    shared.refreshes.ask(&told, Ask { stored: true, ..Ask::default() });
                } else if check && !shared.refreshes.ask(&told, Ask { weak: true, ..Ask::default() }) {
                    shared.drops.skip(SkipReason::RefreshPostponed, 1);
                }
                if let Some(urge) = after.resync {
                    let ask =
                        Ask { stored: true, weak: urge == Urge::Whenever, urgent: urge == Urge::Now, ..Ask::default() };
                    shared.resyncs.ask(&told, ask);
                }
                flight.done();
            },
        );
    }

    fn submit_identity(&mut self, event: Event) {
        let Event { did, time_us, flight, .. } = event;
        let (shared, told) = (Arc::clone(&self.shared), Arc::clone(&did));
        let shown = Arc::clone(&did);
        self.shared.write(
            move |shared, view| drop(shared.rehearser.identity(view, &shown, time_us)),
            move |view| shared.applier.identity(view, &did, time_us),
            move |shared, ask| {
                if ask {
                    shared.refreshes.ask(&told, Ask { stored: true, forced: true, urgent: true, ..Ask::default() });
                }
                flight.done();
            },
        );
    }

    fn submit_account(&mut self, event: Event, active: bool, status: Option<Box<str>>) {
        let Event { did, time_us, flight, .. } = event;
        let (shared, told, shown) = (Arc::clone(&self.shared), Arc::clone(&did), (Arc::clone(&did), status.clone()));
        self.shared.write(
            move |shared, view| {
                drop(shared.rehearser.account(view, &shown.0, active, shown.1.as_deref(), time_us));
            },
            move |view| shared.applier.account(view, &did, active, status.as_deref(), time_us),
            move |shared, after| {
                let stored = || Ask { stored: true, urgent: true, ..Ask::default() };
                if after.refresh {
                    shared.refreshes.ask(&told, stored());
                }
                if after.resync {
                    shared.resyncs.ask(&told, stored());
                }
                if after.delete {
                    shared.deletions.ask(&told, stored());
                }
                flight.done();
            },
        );
    }
}

/// Finds the key of an account, trying for as long as events may wait for it. Nothing when we are stopping.
async fn find_key(shared: &Shared, did: &str, want: Want) -> Option<Found> {
    let deadline = Instant::now() + shared.config.identity_hold_max;
    loop {
        let found = match tokio::time::timeout_at(deadline, shared.identity.document_or_stale(did, want)).await {
            Ok(Ok(document)) => document.key.clone().map_or(Found::Refused(DropReason::KeyMissing), Found::Key),
            Ok(Err(Error::Absent(_))) => Found::Refused(DropReason::IdentityAbsent),
            Ok(Err(Error::Invalid(_))) => Found::Refused(DropReason::KeyMissing),
            Ok(Err(Error::Stopped)) => return None,
            Err(_) => Found::Unavailable,
            Ok(Err(_)) => {
                let next = Instant::now() + KEY_RETRY;
                if next < deadline {
                    tokio::time::sleep_until(next).await;
                    continue;
                }
                Found::Unavailable
            }
        };
        return Some(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_used_half_of_the_accounts_is_forgotten_but_not_those_with_events() {
        let mut accounts = Accounts::new(32);
        let did = |n: usize| Arc::<str>::from(format!("did:plc:{n}"));
        accounts.get(&did(0)).touched = true;
        accounts.get(&did(1)).waiting = Some(VecDeque::new());
        for n in 2..100 {
            accounts.get(&did(n));
            assert!(accounts.young.len() + accounts.old.len() <= 34);
        }
        assert!(!accounts.get(&did(0)).touched);
        assert!(accounts.get(&did(1)).waiting.is_some());
    }

    #[test]
    fn a_key_is_doubted_a_few_times_and_then_not_for_a_while() {
        let (mut account, now) = (Account::default(), Instant::now());
        let doubts = (0..10).filter(|_| account.may_doubt(now)).count();
        assert_eq!(doubts, usize::from(DOUBTS_MAX));
        assert!(account.may_doubt(now + DOUBTS_PER));
    }

    #[test]
    fn a_closed_inbox_ends_the_lane() {
        let inbox = Inbox::default();
        inbox.close();
        assert!(inbox.take().is_none());
    }
}
