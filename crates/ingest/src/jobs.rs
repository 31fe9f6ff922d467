//! Follow-up work per account: identity checks, whole readings of repos, deletions.
//!
//! Work that must survive a crash has a row that is written together with what made it necessary, and removed together
//! with its effect. A bounded number of jobs is kept in memory; further ones wait in their rows. There is at most one
//! job of a kind per account: asking again while it runs makes it run once more.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::FutureExt;
use gp_store::{Cache, Column, Key, Kind, Scan, Store, Table, View};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error,
    pending::{Guard, Pending},
    socket::jitter,
};

/// Work to be done for an account, kept until it is done.
pub(crate) static JOB: Table = Table {
    id: 64, // On disk. Never reused, never renumbered.
    name: "ingest_job",
    partition: &[Column { name: "kind", kind: Kind::Tag }],
    clustering: &[Column { name: "did", kind: Kind::Bytes }],
    value: &[Column { name: "job_row", kind: Kind::Bytes }],
    cache: Cache::Never,
    bucket_rows: None,
};

/// Rows read at once when jobs are taken from disk.
const ROWS_PER_READ: usize = 1000;

/// A job that was given up is not begun again for this long, unless an operator asks.
const GIVEN_UP_FOR: Duration = Duration::from_secs(600);

/// A job that waits for something goes on after this time even if nobody tells it to.
const WAITS_FOR: Duration = Duration::from_secs(600);

/// Most accounts remembered as given up.
const GIVEN_UP_MAX: usize = 10_000;

/// Failing jobs listed in the status.
const LISTED_MAX: usize = 20;

/// Kinds of follow-up work. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JobKind {
    /// Resolve the document, check the handle both ways.
    Refresh = 1,
    /// Read the repo whole.
    Resync = 2,
    /// Find out whether the account is gone, and if so remove what is kept of it.
    Delete = 3,
}

impl JobKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::Resync => "resync",
            Self::Delete => "delete",
        }
    }
}

/// What a job's row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobRow {
    /// Unique. A job that ends removes its row only if this is still what it began with.
    pub(crate) stamp: u64,
    /// What was asked for must reach this revision; empty if any will do. Of a deletion, the revision that the time of
    /// its event would make.
    pub(crate) min_rev: String,
}

impl JobRow {
    fn write(&self) -> Vec<u8> {
        let mut out = self.stamp.to_be_bytes().to_vec();
        out.extend_from_slice(self.min_rev.as_bytes());
        out
    }

    fn read(stored: &[u8]) -> Option<Self> {
        let (stamp, rev) = stored.split_first_chunk::<8>()?;
        Some(Self { stamp: u64::from_be_bytes(*stamp), min_rev: std::str::from_utf8(rev).ok()?.to_owned() })
    }
}

fn key(kind: JobKind, did: &str) -> Key {
    Key::of(&JOB).tag(kind as u8).cluster().atom(did.as_bytes()).key()
}

/// The row of a job, as the writer sees it.
pub(crate) fn row(view: &View<'_>, kind: JobKind, did: &str) -> gp_index::Result<Option<JobRow>> {
    Ok(view.get(&key(kind, did))?.and_then(|stored| JobRow::read(&stored)))
}

/// The row of a job, as applied.
pub(crate) async fn row_of(store: &Store, kind: JobKind, did: &str) -> gp_index::Result<Option<JobRow>> {
    Ok(store.get_one(&key(kind, did)).await?.and_then(|stored| JobRow::read(&stored)))
}

/// Writes the row of a job. One that was there asks for no less afterwards.
pub(crate) fn put(view: &mut View<'_>, kind: JobKind, did: &str, min_rev: &str) -> gp_index::Result<()> {
    static STAMP: AtomicU64 = AtomicU64::new(0);
    // Counted on from the clock, so that stamps of an earlier process do not come again.
    let _ = STAMP.compare_exchange(0, gp_index::system_now_us().unsigned_abs() << 8, SeqCst, SeqCst);
    let before = row(view, kind, did)?;
    let min_rev =
        before.map(|row| row.min_rev).filter(|rev| rev.as_str() > min_rev).unwrap_or_else(|| min_rev.to_owned());
    view.put(key(kind, did), JobRow { stamp: STAMP.fetch_add(1, SeqCst), min_rev }.write());
    Ok(())
}

/// Removes the row of a job if it still says what it said when the job began. Returns whether nothing is left to do.
pub(crate) fn remove(view: &mut View<'_>, kind: JobKind, did: &str, begun: Option<&JobRow>) -> gp_index::Result<bool> {
    match row(view, kind, did)? {
        None => Ok(true),
        Some(row) if Some(&row) == begun => {
            view.delete(key(kind, did));
            Ok(true)
        }
        Some(_) => Ok(false),
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done, and its row is gone.
    Done,
    /// Not now: try again, later each time.
    Retry(Error),
    /// Trying again will not help. The row is gone.
    GiveUp(Error),
    /// Somebody else is using what it needs; [`Queue::ready`] says when to go on.
    Waits,
}

/// One job, taken to be attempted.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) did: Arc<str>,
    /// Somebody asked for it explicitly: do it even if it does not seem due.
    pub(crate) forced: bool,
    /// Attempts that failed before.
    pub(crate) attempt: u32,
    /// This is the last attempt: it must leave things as if it were given up when it fails.
    pub(crate) last: bool,
}

/// Jobs of one kind.
pub(crate) struct Queue {
    kind: JobKind,
    bounds: Bounds,
    pending: Pending,
    inner: Mutex<Inner>,
    wake: Notify,
    /// Only jobs that somebody waits for are begun.
    paused: AtomicBool,
    /// Jobs that wait in their rows and not in memory.
    on_disk: AtomicU64,
    done_total: AtomicU64,
    failed_total: AtomicU64,
    given_up_total: AtomicU64,
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) running_max: usize,
    pub(crate) in_memory_max: usize,
    pub(crate) retry_delays: &'static [Duration],
    pub(crate) attempts_max: u32,
    pub(crate) attempts_pending_max: u32,
}

#[derive(Default)]
struct Inner {
    jobs: HashMap<Arc<str>, Job>,
    ready: VecDeque<Arc<str>>,
    later: BTreeMap<(Instant, u64), Arc<str>>,
    running: usize,
    /// Makes places in `later` unique.
    number: u64,
    given_up: HashMap<Arc<str>, Instant>,
}

#[derive(Default)]
struct Job {
    state: State,
    forced: bool,
    /// Asked for while it was running.
    again: bool,
    /// Told to go on while it was still on its way to waiting.
    told: bool,
    attempts: u32,
    error: Option<String>,
    guard: Option<Guard>,
    waiters: Vec<oneshot::Sender<Result<(), Error>>>,
}

#[derive(Default, PartialEq, Eq, Clone, Copy, Debug)]
enum State {
    #[default]
    Ready,
    Running,
    Later(Instant, u64),
}

/// How a job is asked for.
#[derive(Default)]
pub(crate) struct Ask {
    /// It has a row, so it may be left on disk when memory is full.
    pub(crate) stored: bool,
    /// Do it even if it does not seem due.
    pub(crate) forced: bool,
    /// A job that is there already, running or not, will do.
    pub(crate) weak: bool,
    /// Something new is known: do it now, even if it failed lately or was given up.
    pub(crate) urgent: bool,
    /// Told how the next attempt ended.
    pub(crate) waiter: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Queue {
    pub(crate) fn new(kind: JobKind, bounds: Bounds, pending: Pending) -> Arc<Self> {
        Arc::new(Self {
            kind,
            bounds,
            pending,
            inner: Mutex::default(),
            wake: Notify::new(),
            paused: AtomicBool::new(false),
            on_disk: AtomicU64::new(0),
            done_total: AtomicU64::new(0),
            failed_total: AtomicU64::new(0),
            given_up_total: AtomicU64::new(0),
        })
    }

    /// Asks for a job. Returns false if it was refused because memory is full and it has no row.
    pub(crate) fn ask(&self, did: &Arc<str>, ask: Ask) -> bool {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        if let Some(job) = inner.jobs.get_mut(did) {
            if ask.weak {
                return true;
            }
            job.forced |= ask.forced;
            let hurry = ask.waiter.is_some() || ask.urgent;
            if hurry || !matches!(job.state, State::Later(..)) {
                job.guard.get_or_insert_with(|| self.pending.begin());
            }
            job.waiters.extend(ask.waiter);
            match job.state {
                State::Running => job.again = true,
                State::Later(at, number) if hurry => {
                    job.state = State::Ready;
                    inner.later.remove(&(at, number));
                    inner.ready.push_back(Arc::clone(did));
                }
                State::Ready | State::Later(..) => {}
            }
        } else {
            // A waiter's job is always taken: the number of operators is small.
            if inner.jobs.len() >= self.bounds.in_memory_max && ask.waiter.is_none() {
                if ask.stored {
                    self.on_disk.fetch_add(1, SeqCst);
                }
                return ask.stored;
            }
            let mut job = Job { forced: ask.forced, guard: Some(self.pending.begin()), ..Job::default() };
            let rested = inner.given_up.get(did).is_none_or(|until| *until <= now);
            if rested || ask.waiter.is_some() || ask.urgent {
                inner.given_up.remove(did);
                inner.ready.push_back(Arc::clone(did));
            } else {
                let until = inner.given_up.get(did).copied().unwrap_or(now);
                inner.number += 1;
                let number = inner.number;
                job.state = State::Later(until, number);
                job.guard = None;
                inner.later.insert((until, number), Arc::clone(did));
            }
            job.waiters.extend(ask.waiter);
            inner.jobs.insert(Arc::clone(did), job);
        }
        drop(inner);
        self.wake.notify_one();
        true
    }

    /// Lets a job go on that ended its attempt with [`Outcome::Waits`]. Returns whether there is such a job.
    pub(crate) fn ready(&self, did: &Arc<str>) -> bool {
        let mut inner = self.inner.lock();
        let Some(job) = inner.jobs.get_mut(did) else { return false };
        match job.state {
            State::Later(at, number) => {
                job.state = State::Ready;
                inner.later.remove(&(at, number));
                // It has waited already, so it goes first.
                inner.ready.push_front(Arc::clone(did));
            }
            State::Running => job.told = true,
            State::Ready => {}
        }
        drop(inner);
        self.wake.notify_one();
        true
    }

    fn take(&self) -> Option<Taken> {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        while let Some(entry) = inner.later.first_entry().filter(|e| e.key().0 <= now) {
            let did = entry.remove();
            if let Some(job) = inner.jobs.get_mut(&did) {
                job.state = State::Ready;
                inner.ready.push_back(did);
            }
        }
        if inner.running >= self.bounds.running_max {
            return None;
        }
        let did = if self.paused.load(SeqCst) {
            let at =
                inner.ready.iter().position(|did| inner.jobs.get(did).is_some_and(|job| !job.waiters.is_empty()))?;
            inner.ready.remove(at)?
        } else {
            inner.ready.pop_front()?
        };
        inner.running += 1;
        let job = inner.jobs.get_mut(&did)?;
        job.state = State::Running;
        job.again = false;
        let forced = std::mem::take(&mut job.forced);
        let last = job.attempts + 1 >= self.bounds.attempts_max;
        Some(Taken { forced, attempt: job.attempts, last, did })
    }

    fn finish(&self, taken: &Taken, outcome: Outcome) {
        let mut inner = self.inner.lock();
        inner.running -= 1;
        inner.number += 1;
        let (now, number) = (Instant::now(), inner.number);
        let Some(mut job) = inner.jobs.remove(&taken.did) else { return };
        let again = job.again;
        match outcome {
            Outcome::Done => {
                self.done_total.fetch_add(1, SeqCst);
                if again {
                    // Who came later waits for the second run.
                    job.state = State::Ready;
                    (job.attempts, job.error) = (0, None);
                    inner.ready.push_back(Arc::clone(&taken.did));
                    inner.jobs.insert(Arc::clone(&taken.did), job);
                } else {
                    // Whoever is told may look at the count at once.
                    job.guard = None;
                    tell(&mut job, &Ok(()));
                }
            }
            Outcome::Waits => {
                job.forced |= taken.forced;
                if std::mem::take(&mut job.told) {
                    job.state = State::Ready;
                    inner.ready.push_front(Arc::clone(&taken.did));
                } else {
                    job.state = State::Later(now + WAITS_FOR, number);
                    inner.later.insert((now + WAITS_FOR, number), Arc::clone(&taken.did));
                }
                inner.jobs.insert(Arc::clone(&taken.did), job);
            }
            Outcome::Retry(error) if !taken.last => {
                self.failed_total.fetch_add(1, SeqCst);
                let delays = self.bounds.retry_delays;
                let delay = delays.get(job.attempts as usize).or(delays.last()).copied().unwrap_or_default();
                let at = now + delay.mul_f64(jitter());
                job.attempts += 1;
                job.forced |= taken.forced;
                job.error = Some(error.to_string());
                if job.attempts >= self.bounds.attempts_pending_max {
                    job.guard = None;
                }
                tell(&mut job, &Err(error));
                job.state = State::Later(at, number);
                inner.later.insert((at, number), Arc::clone(&taken.did));
                inner.jobs.insert(Arc::clone(&taken.did), job);
            }
            Outcome::Retry(error) | Outcome::GiveUp(error) => {
                self.given_up_total.fetch_add(1, SeqCst);
                tracing::info!(job = self.kind.name(), did = %taken.did, %error, "given up");
                job.guard = None;
                tell(&mut job, &Err(error));
                if inner.given_up.len() >= GIVEN_UP_MAX {
                    inner.given_up.retain(|_, until| *until > now);
                }
                if inner.given_up.len() < GIVEN_UP_MAX {
                    inner.given_up.insert(Arc::clone(&taken.did), now + GIVEN_UP_FOR);
                }
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Only jobs that somebody waits for are begun from now on.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
        self.wake.notify_one();
    }

    /// Attempts under way.
    pub(crate) fn running(&self) -> usize {
        self.inner.lock().running
    }

    /// Jobs that wait on disk and are not counted by guards.
    pub(crate) fn on_disk(&self) -> u64 {
        self.on_disk.load(SeqCst)
    }

    /// What the queue can say about itself.
    pub(crate) fn status(&self) -> serde_json::Value {
        let inner = self.inner.lock();
        let mut failing: Vec<_> = inner.jobs.iter().filter(|(_, job)| job.error.is_some()).collect();
        failing.sort_by_key(|(did, job)| (std::cmp::Reverse(job.attempts), Arc::clone(did)));
        let failing_total = failing.len();
        let failing: Vec<_> = failing
            .into_iter()
            .take(LISTED_MAX)
            .map(|(did, job)| serde_json::json!({"did": &**did, "attempts": job.attempts, "error": job.error}))
            .collect();
        serde_json::json!({
            "queued": inner.jobs.len() - inner.running,
            "running": inner.running,
            "on_disk": self.on_disk(),
            "done": self.done_total.load(SeqCst),
            "failed_attempts": self.failed_total.load(SeqCst),
            "given_up": self.given_up_total.load(SeqCst),
            "failing_total": failing_total,
            "failing": failing,
        })
    }

    /// Takes jobs from disk and attempts jobs, until stopped. Attempts run as tasks of `tasks` and end with it too.
    ///
    /// `starting` is what keeps the count of pending work above zero until the first look at the disk.
    pub(crate) async fn run<F>(
        self: Arc<Self>,
        store: Store,
        tasks: TaskTracker,
        stop: CancellationToken,
        mut starting: Option<Guard>,
        attempt: F,
    ) where
        F: Fn(Taken) -> futures::future::BoxFuture<'static, Outcome>,
    {
        while !stop.is_cancelled() {
            let room = {
                let inner = self.inner.lock();
                inner.jobs.len() < self.bounds.in_memory_max / 2 + 1
            };
            if starting.is_some() || (room && self.on_disk() > 0) {
                match self.take_from_disk(&store).await {
                    Ok(()) => starting = None,
                    Err(error) => {
                        tracing::warn!(job = self.kind.name(), %error, "stored jobs cannot be read");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            while let Some(taken) = self.take() {
                let queue = Arc::clone(&self);
                let work = attempt(taken.clone());
                let stop = stop.clone();
                tasks.spawn(async move {
                    let work = std::panic::AssertUnwindSafe(work).catch_unwind();
                    let Some(outcome) = stop.run_until_cancelled(work).await else { return };
                    let outcome =
                        outcome.unwrap_or_else(|_| Outcome::Retry(Error::Failed("the attempt panicked".into())));
                    queue.finish(&taken, outcome);
                });
            }
            let next = self.inner.lock().later.first_key_value().map(|((at, _), _)| *at);
            let woken = async {
                match next {
                    Some(at) => {
                        let _ = tokio::time::timeout_at(at, self.wake.notified()).await;
                    }
                    None => self.wake.notified().await,
                }
            };
            stop.run_until_cancelled(woken).await;
        }
    }

    async fn take_from_disk(&self, store: &Store) -> gp_index::Result<()> {
        // What is left behind while looking is counted again below, by `ask`.
        self.on_disk.store(0, SeqCst);
        let guard = self.pending.begin();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut scan = Scan::of(Key::of(&JOB).tag(self.kind as u8).partition()).limit(ROWS_PER_READ);
            if let Some(after) = after.take() {
                scan = scan.after(after);
            }
            let page = store.scan(scan).await?;
            for row in &page.rows {
                let Ok(did) = std::str::from_utf8(row.clustering()) else { continue };
                let did: Arc<str> = did.into();
                let known = self.inner.lock().jobs.contains_key(&did);
                if !known {
                    self.ask(&did, Ask { stored: true, forced: true, ..Ask::default() });
                }
            }
            if !page.more || self.on_disk() > 0 {
                break;
            }
            after = page.rows.last().map(|row| row.clustering().to_vec());
        }
        drop(guard);
        Ok(())
    }
}

fn tell(job: &mut Job, outcome: &Result<(), Error>) {
    for waiter in job.waiters.drain(..) {
        let _ = waiter.send(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use gp_store::Batch;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        running_max: 2,
        in_memory_max: 4,
        retry_delays: &[Duration::from_millis(1)],
        attempts_max: 4,
        attempts_pending_max: 2,
    };

    fn queue() -> (Arc<Queue>, Pending) {
        let pending = Pending::default();
        (Queue::new(JobKind::Refresh, BOUNDS, pending.clone()), pending)
    }

    fn did(n: u8) -> Arc<str> {
        format!("did:plc:{n}").into()
    }

    #[tokio::test]
    async fn asking_while_it_runs_makes_it_run_once_more() {
        let (queue, pending) = queue();
        assert!(queue.ask(&did(1), Ask::default()));
        assert!(queue.ask(&did(1), Ask::default()));
        let taken = queue.take().unwrap();
        assert!(queue.take().is_none());
        let (tell, mut told) = oneshot::channel();
        queue.ask(&did(1), Ask { waiter: Some(tell), forced: true, ..Ask::default() });
        queue.finish(&taken, Outcome::Done);
        assert!(told.try_recv().is_err());
        assert_eq!(pending.count(), 1);
        let taken = queue.take().unwrap();
        assert!(taken.forced);
        queue.finish(&taken, Outcome::Done);
        assert!(told.try_recv().unwrap().is_ok());
        assert_eq!(pending.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_counted_for_a_while_and_then_given_up() {
        let (queue, pending) = queue();
        queue.ask(&did(1), Ask::default());
        for attempt in 1..=4 {
            tokio::time::advance(Duration::from_millis(10)).await;
            let taken = queue.take().unwrap();
            assert_eq!(taken.last, attempt == 4);
            queue.finish(&taken, Outcome::Retry(Error::Failed("no".into())));
            assert_eq!(pending.count(), u64::from(attempt < 2), "attempt {attempt}");
        }
        assert!(queue.inner.lock().jobs.is_empty());
        // Asked again at once, it rests, unless there is news.
        queue.ask(&did(1), Ask::default());
        assert!(queue.take().is_none());
        assert_eq!(pending.count(), 0);
        queue.ask(&did(1), Ask { urgent: true, ..Ask::default() });
        assert_eq!(pending.count(), 1);
        let taken = queue.take().unwrap();
        queue.finish(&taken, Outcome::GiveUp(Error::Failed("no".into())));
        queue.ask(&did(1), Ask::default());
        assert!(queue.take().is_none());
        tokio::time::advance(GIVEN_UP_FOR).await;
        assert!(queue.take().is_some());
    }

    #[tokio::test]
    async fn one_that_waits_goes_on_when_told_also_when_told_early() {
        let (queue, _) = queue();
        queue.ask(&did(1), Ask::default());
        let taken = queue.take().unwrap();
        assert!(queue.ready(&did(1)));
        queue.finish(&taken, Outcome::Waits);
        let taken = queue.take().unwrap();
        queue.finish(&taken, Outcome::Waits);
        assert!(queue.take().is_none());
        assert!(queue.ready(&did(1)));
        assert!(queue.take().is_some());
        assert!(!queue.ready(&did(2)));
    }

    #[tokio::test]
    async fn a_paused_queue_begins_only_what_somebody_waits_for() {
        let (queue, _) = queue();
        queue.pause(true);
        queue.ask(&did(1), Ask::default());
        assert!(queue.take().is_none());
        let (tell, _told) = oneshot::channel();
        queue.ask(&did(2), Ask { waiter: Some(tell), ..Ask::default() });
        assert_eq!(queue.take().unwrap().did, did(2));
        queue.pause(false);
        assert_eq!(queue.take().unwrap().did, did(1));
    }

    #[tokio::test]
    async fn stored_jobs_beyond_memory_wait_on_disk_and_count_as_pending() {
        let store = Store::mem(&[&JOB]);
        let mut batch = Batch::new();
        for n in 0..20 {
            batch.put(key(JobKind::Refresh, &did(n)), JobRow { stamp: 1, min_rev: String::new() }.write());
        }
        store.apply_now(&batch).unwrap();
        let (queue, pending) = queue();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = TaskTracker::new();
        let attempt = {
            let (seen, store) = (Arc::clone(&seen), store.clone());
            move |taken: Taken| {
                let (seen, store) = (Arc::clone(&seen), store.clone());
                async move {
                    let mut batch = Batch::new();
                    batch.delete(key(JobKind::Refresh, &taken.did));
                    store.apply_now(&batch).unwrap();
                    seen.lock().push(taken.did);
                    Outcome::Done
                }
                .boxed()
            }
        };
        let runs = tokio::spawn(Arc::clone(&queue).run(
            store.clone(),
            tasks,
            CancellationToken::new(),
            Some(pending.begin()),
            attempt,
        ));
        let settled = async {
            while pending.count() + queue.on_disk() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), settled).await.unwrap();
        runs.abort();
        let mut seen = seen.lock().clone();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn rows_read_as_written() {
        for min_rev in ["", "3jzfcijpj2z2a"] {
            let row = JobRow { stamp: 7, min_rev: min_rev.into() };
            assert_eq!(JobRow::read(&row.write()), Some(row));
        }
        assert_eq!(JobRow::read(&[1, 2]), None);
    }
}
