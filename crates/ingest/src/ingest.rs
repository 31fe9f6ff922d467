//! The ingest side as a whole: starting, stopping, and what an operator can ask of it.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use gp_index::{Cx, progress};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    Config, Error, Identity, Result, accounts,
    backfill::{Backfill, BackfillFigures, Failure, FailuresFrom},
    bsync::Bsync,
    config::relay_base,
    drop::Drops,
    firehose::Relay,
    jobs::{Ask, Queue},
    labels::Labeler,
    order::Lanes,
    reading::Readings,
    refresh::{self, CHECKS_PER_SECOND_MAX, Pace},
    resync::Resyncs,
    shared::{Mode, Shared},
};

/// Longest wait of a pause for work in flight. Only a very large repo takes longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Longest wait, when stopping, for what has been told to end and for the last positions.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// How often a wait for work in flight looks again.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The ingest side. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    relays: Vec<Arc<Relay>>,
    labelers: Vec<Arc<Labeler>>,
    bsync: Option<Arc<Bsync>>,
    resyncs: Arc<Resyncs>,
    backfill: Option<Arc<Backfill>>,
    /// Attempts at jobs.
    attempts: TaskTracker,
    readers: Mutex<Vec<JoinHandle<()>>>,
    keepers: Mutex<Vec<JoinHandle<()>>>,
    /// One operator call that changes the mode at a time.
    control: tokio::sync::Mutex<()>,
}

/// What dashboards and metrics want to know in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Position of the first relay.
    pub seq: i64,
    /// Whether the first relay is being read.
    pub connected: bool,
    /// Microseconds since its last applied event happened; none before the first.
    pub behind_us: Option<i64>,
    /// Work queued or running, follow-ups included.
    pub pending: u64,
    /// Events read and not yet applied.
    pub events_in_flight: u64,
    /// Bytes of those.
    pub bytes_in_flight: u64,
    /// Repos being read whole.
    pub resyncs_running: u64,
    /// Identity checks under way.
    pub refreshes_running: u64,
    /// Deletions under way.
    pub deletions_running: u64,
}

impl Ingest {
    /// Starts to follow everything that is configured. Upstreams need not be there yet. `cx.identity` should be a clone
    /// of `identity`, so that both use one cache. Must be called on a multi-threaded runtime.
    pub async fn start(cx: Cx, identity: Identity, mut config: Config) -> Result<Self> {
        let mut urls = Vec::new();
        for url in &config.relay_urls {
            let base = relay_base(url).map_err(Error::Invalid)?;
            if !urls.contains(&base) {
                urls.push(base);
            }
        }
        config.relay_urls = urls;
        let (bsync_config, labeler_urls, relay_urls) =
            (config.bsync.clone(), config.labeler_urls.clone(), config.relay_urls.clone());
        let backfill_config = config.backfill.clone().filter(|backfill| !backfill.urls.is_empty());
        let shared = Shared::new(cx, identity, config);
        let mut relays = Vec::new();
        for url in relay_urls {
            let stored = progress::of(&shared.cx.store, &Relay::source(&url)).await?;
            relays.push(Relay::new(url, stored));
        }
        let mut labelers: Vec<Arc<Labeler>> = Vec::new();
        for url in labeler_urls.iter().filter(|url| !url.trim().is_empty()) {
            let labeler = Labeler::new(&shared, url).await?;
            if labelers.iter().all(|other| other.name() != labeler.name()) {
                labelers.push(labeler);
            }
        }
        let bsync = match bsync_config {
            Some(config) => Some(Bsync::new(&shared, config).await?),
            None => None,
        };
        let readings = Readings::new();
        let backfill = match backfill_config {
            Some(config) => Some(Backfill::new(&shared, Arc::clone(&readings), config).await?),
            None => None,
        };
        let inner = Arc::new(Inner {
            lanes: Arc::new(Lanes::start(&shared)?),
            resyncs: Resyncs::new(&shared, readings),
            backfill,
            relays,
            labelers,
            bsync,
            attempts: TaskTracker::new(),
            readers: Mutex::default(),
            keepers: Mutex::default(),
            control: tokio::sync::Mutex::default(),
            shared,
        });
        inner.spawn();
        Ok(Self { inner })
    }

    /// Stops reading and waits until the work in flight is done; positions stay. Does nothing if paused already.
    pub async fn pause(&self) -> Result<()> {
        let _one = self.inner.control.lock().await;
        self.inner.hold().await?;
        let deadline = Instant::now() + PAUSE_MAX;
        if !self.inner.wait_until(deadline, |shared| shared.pending_count() == 0).await {
            return Err(Error::Failed(format!(
                "paused, but {} pieces of work are still under way",
                self.inner.shared.pending_count()
            )));
        }
        self.inner.queues().for_each(|queue| queue.pause(true));
        Ok(())
    }

    /// Goes on reading where it was left. Does nothing if not paused.
    pub async fn resume(&self) -> Result<()> {
        let _one = self.inner.control.lock().await;
        self.inner.go_on()
    }

    /// Reads everything again that the relays retain, over the data that is there. Positions start over; what is
    /// applied already changes nothing. A paused side stays paused until it is resumed.
    pub async fn replay(&self) -> Result<()> {
        let _one = self.inner.control.lock().await;
        let was_running = *self.inner.shared.mode.borrow() == Mode::Running;
        self.inner.hold().await?;
        for relay in &self.inner.relays {
            relay.tracker.restart();
        }
        if was_running { self.inner.go_on() } else { Ok(()) }
    }

    /// Reads the repo of an account whole, now, and waits for the outcome. The account need not have been seen before.
    pub async fn resync(&self, did: &str) -> Result<()> {
        self.ask(&self.inner.shared.resyncs, did).await
    }

    /// Finds out who an account is, now, and waits for the outcome. The account need not have been seen before.
    pub async fn refresh(&self, did: &str) -> Result<()> {
        self.ask(&self.inner.shared.refreshes, did).await
    }

    /// Removes what is kept of an account if nobody hosts it any more, and waits for the outcome. Refused if somebody
    /// does.
    pub async fn delete(&self, did: &str) -> Result<()> {
        self.ask(&self.inner.shared.deletions, did).await
    }

    fn backfill(&self) -> Result<&Arc<Backfill>> {
        let none = || Error::Invalid("no backfill is configured: start the process with --backfill".into());
        self.inner.backfill.as_ref().ok_or_else(none)
    }

    /// Tries again, now, the repos of the backfill that failed, those that were given up included. Returns how many.
    pub async fn backfill_retry(&self) -> Result<u64> {
        self.backfill()?.retry(&self.inner.shared).await
    }

    /// Reads the lists of the backfill from their beginning again: what is not here, or not as new, is read.
    pub async fn backfill_again(&self) -> Result<()> {
        self.backfill()?.again(&self.inner.shared).await
    }

    /// A page of the repos that the backfill could not read, and where the next page begins.
    pub async fn backfill_failures(&self, from: FailuresFrom) -> Result<(Vec<Failure>, Option<FailuresFrom>)> {
        self.backfill()?.failures(&self.inner.shared, from).await
    }

    /// How far the backfill is, if there is one.
    pub fn backfill_figures(&self) -> Option<BackfillFigures> {
        self.inner.backfill.as_ref().map(|backfill| backfill.figures())
    }

    async fn ask(&self, queue: &Arc<Queue>, did: &str) -> Result<()> {
        if !gp_atproto::did::is_valid(did) {
            return Err(Error::Invalid(format!("`{did}` is not a DID")));
        }
        let (waiter, told) = oneshot::channel();
        queue.ask(&did.into(), Ask { forced: true, urgent: true, waiter: Some(waiter), ..Ask::default() });
        told.await.unwrap_or(Err(Error::Stopped))
    }

    /// The position of the first relay: the highest such that everything up to it is applied and visible. 0 without
    /// relays and before the first event.
    pub fn seq(&self) -> i64 {
        self.inner.relays.first().map_or(0, |relay| relay.tracker.seq())
    }

    /// Work queued or running, follow-ups included; 0 when settled.
    pub fn pending(&self) -> u64 {
        self.inner.shared.pending_count()
    }

    /// Position, and then pending work. Read in this order, "the position is reached and nothing is pending" is never
    /// true too early: whatever follows from an event is counted before the event is in the position.
    pub fn snapshot(&self) -> (i64, u64) {
        let seq = self.seq();
        (seq, self.pending())
    }

    /// What was lost, and what needed nothing to be done, by reason.
    pub fn drops(&self) -> &Drops {
        &self.inner.shared.drops
    }

    /// Who accounts are.
    pub fn identity(&self) -> &Identity {
        &self.inner.shared.identity
    }

    /// The most important numbers.
    pub fn figures(&self) -> Figures {
        let (seq, pending) = self.snapshot();
        let shared = &self.inner.shared;
        let (events, bytes) = shared.room.taken();
        let relay = self.inner.relays.first();
        Figures {
            seq,
            connected: relay.is_some_and(|relay| relay.is_connected()),
            behind_us: relay.and_then(|relay| relay.behind_us((shared.cx.now_us)())),
            pending,
            events_in_flight: events as u64,
            bytes_in_flight: bytes as u64,
            resyncs_running: shared.resyncs.running() as u64,
            refreshes_running: shared.refreshes.running() as u64,
            deletions_running: shared.deletions.running() as u64,
        }
    }

    /// What can be said of the ingest side, for `GET /status`.
    pub fn status(&self) -> Value {
        let inner = &self.inner;
        let shared = &inner.shared;
        let running = *shared.mode.borrow() == Mode::Running;
        let now_us = (shared.cx.now_us)();
        // Positions first, pending work after them; see `snapshot`.
        let relays: Vec<Value> = inner.relays.iter().map(|relay| relay.status(running, now_us)).collect();
        let labelers: Vec<Value> = inner.labelers.iter().map(|labeler| labeler.status(running)).collect();
        let bsync = match &inner.bsync {
            Some(bsync) => bsync.status(running),
            None => json!({"url": null, "running": false, "op": 0, "mute": 0, "notif": 0}),
        };
        let pending = shared.pending_count();
        let mut firehose = match relays.first() {
            Some(Value::Object(first)) => first.clone(),
            _ => Map::from_iter([
                ("url".into(), Value::Null),
                ("running".into(), false.into()),
                ("seq".into(), 0.into()),
                ("lag_seconds".into(), Value::Null),
            ]),
        };
        let (events, bytes) = shared.room.taken();
        firehose.insert("events_in_flight".into(), events.into());
        firehose.insert("bytes_in_flight".into(), bytes.into());
        firehose.insert("relays".into(), relays.into());
        let identity = shared.identity.figures();
        json!({
            "firehose": firehose,
            "bsync": bsync,
            "labelers": labelers,
            "pending": pending,
            "drops": shared.drops.drops_json(),
            "skipped": shared.drops.skips_json(),
            "paused": *shared.mode.borrow() == Mode::Paused,
            "error": shared.failure(),
            "resync": inner.resyncs.status(shared),
            "refresh": shared.refreshes.status(),
            "delete": shared.deletions.status(),
            "backfill": inner.backfill.as_ref().map(|backfill| backfill.status()),
            "identity": {
                "hits": identity.hits,
                "stale_hits": identity.stale_hits,
                "lookups": identity.lookups,
                "absent": identity.absent,
                "failed": identity.failed,
                "handle_lookups": identity.handle_lookups,
                "in_flight": identity.in_flight,
                "documents": identity.documents,
                "document_bytes": identity.document_bytes,
            },
        })
    }

    /// Stops: takes nothing more, lets the work in flight end as far as the time allows, stores positions. What is not
    /// done by then comes again after the next start. Takes at most [`Config::drain_max`] and a second, even if the
    /// store takes no more changes.
    pub async fn shutdown(&self) {
        let _one = self.inner.control.lock().await;
        let inner = &self.inner;
        let deadline = Instant::now() + inner.shared.config.drain_max;
        inner.shared.mode.send_replace(Mode::Stopping);
        inner.queues().for_each(|queue| queue.pause(true));
        let quiet = |shared: &Shared| {
            let running = shared.refreshes.running() + shared.resyncs.running() + shared.deletions.running();
            shared.readers.count() == 0 && shared.room.taken().0 == 0 && running == 0
        };
        inner.wait_until(deadline, quiet).await;
        inner.shared.stop.cancel();
        inner.attempts.close();
        let deadline = deadline.min(Instant::now()) + LAST_WORDS_MAX;
        let last_words = async {
            inner.attempts.wait().await;
            for relay in &inner.relays {
                let _ = relay.tracker.store(&inner.shared.cx, None).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, last_words).await;
        for task in inner.keepers.lock().drain(..).chain(inner.readers.lock().drain(..)) {
            task.abort();
        }
        inner.lanes.stop(deadline).await;
    }
}

impl Inner {
    fn spawn(self: &Arc<Self>) {
        let (mut readers, mut keepers) = (self.readers.lock(), self.keepers.lock());
        let shared = &self.shared;
        for relay in &self.relays {
            readers.push(tokio::spawn(Arc::clone(relay).run(Arc::clone(shared), Arc::clone(&self.lanes))));
            let (relay, shared) = (Arc::clone(relay), Arc::clone(shared));
            keepers.push(tokio::spawn(async move { relay.tracker.keep(&shared.cx).await }));
        }
        for labeler in &self.labelers {
            readers.push(tokio::spawn(Arc::clone(labeler).run(Arc::clone(shared))));
        }
        if let Some(bsync) = &self.bsync {
            for log in Bsync::logs() {
                readers.push(tokio::spawn(Arc::clone(bsync).run(Arc::clone(shared), log)));
            }
        }
        if let Some(backfill) = &self.backfill {
            readers.push(tokio::spawn(Arc::clone(backfill).run(Arc::clone(shared), shared.pending.begin())));
        }
        let pace = Arc::new(Pace::new(CHECKS_PER_SECOND_MAX));
        let job = Arc::clone(shared);
        keepers.push(self.work(&shared.refreshes, move |taken| {
            refresh::attempt(Arc::clone(&job), Arc::clone(&pace), taken).boxed()
        }));
        let (job, resyncs) = (Arc::clone(shared), Arc::clone(&self.resyncs));
        keepers.push(
            self.work(&shared.resyncs, move |taken| Arc::clone(&resyncs).attempt(Arc::clone(&job), taken).boxed()),
        );
        let job = Arc::clone(shared);
        keepers.push(self.work(&shared.deletions, move |taken| accounts::attempt(Arc::clone(&job), taken).boxed()));
    }

    fn work<F>(&self, queue: &Arc<Queue>, attempt: F) -> JoinHandle<()>
    where
        F: Fn(crate::jobs::Taken) -> futures::future::BoxFuture<'static, crate::jobs::Outcome> + Send + Sync + 'static,
    {
        let starting = Some(self.shared.pending.begin());
        let store = self.shared.cx.store.clone();
        tokio::spawn(Arc::clone(queue).run(store, self.attempts.clone(), self.shared.stop.clone(), starting, attempt))
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        [&self.shared.refreshes, &self.shared.resyncs, &self.shared.deletions].into_iter()
    }

    /// Stops reading and waits until everything that was read is applied.
    async fn hold(&self) -> Result<()> {
        if self.shared.stopping() {
            return Err(Error::Stopped);
        }
        self.shared.mode.send_replace(Mode::Paused);
        if self
            .wait_until(Instant::now() + PAUSE_MAX, |shared| shared.readers.count() == 0 && shared.room.taken().0 == 0)
            .await
        {
            return Ok(());
        }
        match self.shared.failure() {
            Some(why) => Err(Error::Failed(format!("the store failed, restart the process: {why}"))),
            None => Err(Error::Failed("the events in flight are not applied yet: try again".into())),
        }
    }

    fn go_on(&self) -> Result<()> {
        if let Some(why) = self.shared.failure() {
            return Err(Error::Failed(format!("the store failed, restart the process: {why}")));
        }
        if self.shared.stopping() {
            return Err(Error::Stopped);
        }
        self.queues().for_each(|queue| queue.pause(false));
        self.shared.mode.send_replace(Mode::Running);
        Ok(())
    }

    async fn wait_until(&self, deadline: Instant, reached: impl Fn(&Shared) -> bool) -> bool {
        while !reached(&self.shared) {
            if Instant::now() >= deadline || self.shared.failure().is_some() {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}
