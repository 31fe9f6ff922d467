//! The one writer: takes jobs in order, lets each read and change a view, and applies many of them in one batch.
//!
//! Counts are cells next to the rows they count, so a job reads before it writes. Because there is one writer, no
//! other change can come between; because a group of jobs is one batch, the cost of a write is shared.
//!
//! ```text
//! submit -> queue -> job, job, job on one view -> one batch -> engine -> each job's Done -> sync, at the latest when due
//! ```
//!
//! In front of a network the jobs of a group are rehearsed first, so that what they will read is read together (`ahead`).
//!
//! When the disk is full the group waits here, and its senders behind it, until there is room. When the engine fails
//! the writer takes nothing more: [`Writer::failed`] says so, and the process should end.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Error, Result, Store, View,
    ahead::{Ahead, Known, Rehearsal},
};

/// How often in one idle time the engine may tidy up: what it tidies may leave something to tidy.
const RESTS_MAX: u32 = 2;

/// While the disk is full, the writer looks at least this often whether it should stop.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often the watch looks at the writer.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// A stall that goes on is told again after so long.
const STALL_TOLD_EVERY: Duration = Duration::from_secs(30);

/// Bounds of the writer.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// Jobs that may wait. Beyond it, callers wait.
    pub jobs_waiting_max: usize,
    /// Jobs applied as one batch.
    pub jobs_per_group_max: usize,
    /// Changed rows after which a group is applied.
    pub rows_per_group_max: usize,
    /// Bytes of changes after which a group is applied.
    pub bytes_per_group_max: u64,
    /// Applied changes survive a power cut after at most this time.
    pub sync_every: Duration,
    /// While the disk is full, the writer looks again this often.
    pub full_retry_every: Duration,
    /// After so long without a job the engine is given the time to tidy up.
    pub rest_after: Duration,
    /// A group or a sync that takes longer than this is told in the log, while it lasts.
    pub stall_after: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            jobs_waiting_max: 4096,
            jobs_per_group_max: 512,
            rows_per_group_max: 8192,
            bytes_per_group_max: 16 << 20,
            sync_every: Duration::from_secs(1),
            full_retry_every: Duration::from_millis(100),
            rest_after: Duration::from_secs(10),
            stall_after: Duration::from_secs(5),
        }
    }
}

/// Called once the group of a job has been applied, or could not be.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// A job, and its reads if it can foresee them.
struct Work {
    job: Box<dyn FnOnce(&mut View<'_>) -> Done + Send>,
    rehearsal: Option<Rehearsal>,
}

/// The way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Work>,
    state: Arc<State>,
}

/// What the writer can say about itself, since start.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriterFigures {
    /// Jobs waiting or being applied.
    pub pending: u64,
    /// Jobs run.
    pub jobs_total: u64,
    /// Batches applied.
    pub groups_total: u64,
    /// Microseconds spent in running jobs, their reads included.
    pub run_us_total: u64,
    /// Microseconds spent in applying batches.
    pub apply_us_total: u64,
    /// The longest that one batch took, in microseconds.
    pub apply_us_max: u64,
    /// Microseconds for which a batch or a sync that has not ended yet has been under way; 0 between them.
    pub busy_us: u64,
}

struct State {
    began: Instant,
    full: AtomicBool,
    failed: AtomicBool,
    closing: AtomicBool,
    pending: AtomicU64,
    jobs: AtomicU64,
    groups: AtomicU64,
    run_us: AtomicU64,
    apply_us: AtomicU64,
    apply_us_max: AtomicU64,
    /// When the engine call under way began, in microseconds since `began`, plus one; 0 when there is none.
    busy_since: AtomicU64,
}

impl State {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            full: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            pending: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            run_us: AtomicU64::new(0),
            apply_us: AtomicU64::new(0),
            apply_us_max: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
        }
    }

    /// Runs an engine call under the eyes of the watch.
    fn watched<T>(&self, call: impl FnOnce() -> T) -> (T, u64) {
        let began = micros(self.began.elapsed());
        self.busy_since.store(began + 1, Ordering::Relaxed);
        let out = call();
        self.busy_since.store(0, Ordering::Relaxed);
        (out, micros(self.began.elapsed()) - began)
    }

    fn busy(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.began.elapsed().saturating_sub(Duration::from_micros(since - 1)),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Writer {
    /// Starts the writer's thread. It ends, everything taken applied and synced, when all senders are gone or
    /// [`Writer::close`] was called. While the disk is full it ends without applying, and the jobs are told so.
    pub fn start(store: Store, config: WriterConfig) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = mpsc::channel(config.jobs_waiting_max.max(1));
        let state = Arc::new(State::new());
        let cannot = |e| Error::Engine(format!("the writer's threads cannot be started: {e}"));
        // The watch ends when the writer drops its end of this channel.
        let (alive, watched) = std_mpsc::channel::<()>();
        let (shared, stall_after) = (Arc::clone(&state), config.stall_after);
        std::thread::Builder::new()
            .name("writer-watch".into())
            .spawn(move || watch(&watched, &shared, stall_after))
            .map_err(cannot)?;
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                let _alive = alive;
                let _last_words = LastWords(&shared);
                Loop {
                    store: &store,
                    config: &config,
                    state: &shared,
                    taken: VecDeque::new(),
                    unsynced_since: None,
                    rests_left: 0,
                    idle_since: Instant::now(),
                }
                .run(inbox);
            })
            .map_err(cannot)?;
        Ok((Self { jobs, state }, thread))
    }

    /// Runs a job and waits until its changes are applied. A job that fails changes nothing.
    pub async fn run<T, E>(
        &self,
        job: impl FnOnce(&mut View<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_work(None, job).await
    }

    /// [`Writer::run`] for a job that can be rehearsed: see [`Writer::submit_foreseen`].
    pub async fn run_foreseen<T, E>(
        &self,
        rehearsal: impl Fn(&mut View<'_>) + Send + 'static,
        job: impl FnOnce(&mut View<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_work(Some(Box::new(rehearsal)), job).await
    }

    async fn run_work<T, E>(
        &self,
        rehearsal: Option<Rehearsal>,
        job: impl FnOnce(&mut View<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job = move |view: &mut View<'_>| -> Done {
            let mark = view.mark();
            let answer = job(view);
            if answer.is_err() {
                view.roll_back(mark);
            }
            Box::new(move |applied| {
                // The caller may have gone; the changes stand all the same.
                let _ = tell.send(match applied {
                    Ok(()) => answer,
                    Err(e) => answer.and(Err(e.into())),
                });
            })
        };
        self.enqueue(Work { job: Box::new(job), rehearsal }).await?;
        told.await.map_err(|_| E::from(Error::Closed))?
    }

    /// Queues a job without waiting for it to be applied; waits only for a place in the queue.
    ///
    /// The job returns what to call after its group has been applied. Jobs that one task submits, one after the
    /// other, run in that order. A job whose keys or values are beyond the store's bounds changes nothing and is told
    /// [`Error::TooLarge`]; the others of its group are not touched.
    pub async fn submit(&self, job: impl FnOnce(&mut View<'_>) -> Done + Send + 'static) -> Result<()> {
        self.enqueue(Work { job: Box::new(job), rehearsal: None }).await
    }

    /// [`Writer::submit`] for a job that can be rehearsed: the rehearsal reads what the job will read. It runs any number
    /// of times on views that are thrown away, over rows that may be missing, and must change nothing but its view. In
    /// front of a network what it asks for is read before the job runs, together with what others ask for; an engine in
    /// this process is quick enough, and no rehearsal takes place.
    pub async fn submit_foreseen(
        &self,
        rehearsal: impl Fn(&mut View<'_>) + Send + 'static,
        job: impl FnOnce(&mut View<'_>) -> Done + Send + 'static,
    ) -> Result<()> {
        self.enqueue(Work { job: Box::new(job), rehearsal: Some(Box::new(rehearsal)) }).await
    }

    async fn enqueue(&self, work: Work) -> Result<()> {
        if self.state.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.state.pending.fetch_add(1, Ordering::AcqRel);
        // A caller that goes away while it waits for a place must not be counted for ever.
        let mut counted = Uncount(Some(&self.state.pending));
        self.jobs.send(work).await.map_err(|_| Error::Closed)?;
        counted.0 = None;
        Ok(())
    }

    /// Takes no more jobs, applies those that were taken, and lets the thread end, whoever still holds a sender.
    pub fn close(&self) {
        self.state.closing.store(true, Ordering::Release);
        // An empty job wakes the writer if it waits; a full queue means that it does not.
        self.state.pending.fetch_add(1, Ordering::AcqRel);
        let nothing = Work { job: Box::new(|_| Box::new(|_| {})), rehearsal: None };
        if self.jobs.try_send(nothing).is_err() {
            self.state.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Jobs waiting or being applied.
    pub fn pending(&self) -> u64 {
        self.state.pending.load(Ordering::Acquire)
    }

    /// Whether writing waits because the disk is full.
    pub fn disk_full(&self) -> bool {
        self.state.full.load(Ordering::Relaxed)
    }

    /// Whether writing has stopped for good: the engine failed, or a job panicked. The process should end; what was
    /// acknowledged is safe, and a restart usually heals.
    pub fn failed(&self) -> bool {
        self.state.failed.load(Ordering::Relaxed)
    }

    /// What the writer can say about itself.
    pub fn figures(&self) -> WriterFigures {
        let state = &self.state;
        WriterFigures {
            pending: self.pending(),
            jobs_total: state.jobs.load(Ordering::Relaxed),
            groups_total: state.groups.load(Ordering::Relaxed),
            run_us_total: state.run_us.load(Ordering::Relaxed),
            apply_us_total: state.apply_us.load(Ordering::Relaxed),
            apply_us_max: state.apply_us_max.load(Ordering::Relaxed),
            busy_us: micros(state.busy()),
        }
    }
}

/// Gives back a place in the count of pending jobs.
struct Uncount<'a>(Option<&'a AtomicU64>);

impl Drop for Uncount<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.0 {
            pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Tells of the end of the writer's thread if it was a panic.
struct LastWords<'a>(&'a State);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the writer panicked; no further changes are taken");
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// What came of waiting for a job.
enum Next {
    Job(Work),
    Late,
    Closed,
}

/// The writer's thread.
struct Loop<'a> {
    store: &'a Store,
    config: &'a WriterConfig,
    state: &'a State,
    /// Jobs taken from the queue to be rehearsed, of which the last group had no room for all.
    taken: VecDeque<Work>,
    /// When the oldest change was applied that no sync has covered yet.
    unsynced_since: Option<Instant>,
    rests_left: u32,
    idle_since: Instant,
}

impl Loop<'_> {
    fn run(mut self, mut inbox: mpsc::Receiver<Work>) {
        loop {
            if self.state.closing.load(Ordering::Acquire) {
                inbox.close();
            }
            let sync_at = self.unsynced_since.map(|since| since + self.config.sync_every);
            let rest_at = (self.rests_left > 0).then(|| self.idle_since + self.config.rest_after);
            let next = match self.taken.pop_front() {
                Some(job) => Next::Job(job),
                None => wait(&mut inbox, sync_at.into_iter().chain(rest_at).min()),
            };
            match next {
                Next::Job(first) => {
                    self.group(first, &mut inbox);
                    self.idle_since = Instant::now();
                }
                Next::Late => {}
                Next::Closed => break,
            }
            if self.unsynced_since.is_some_and(|since| since.elapsed() >= self.config.sync_every) {
                self.sync();
            }
            if self.rests_left > 0 && self.idle_since.elapsed() >= self.config.rest_after {
                self.rest();
            }
        }
        self.sync();
        self.store.seal();
    }

    /// Runs a job and those that wait behind it, and applies them together.
    fn group(&mut self, first: Work, inbox: &mut mpsc::Receiver<Work>) {
        let config = self.config;
        let began = Instant::now();
        let engine = self.store.local();
        let ahead = Ahead { engine, known: self.read_ahead(&first, inbox) };
        let engine = if ahead.known.is_empty() { engine } else { &ahead };
        let mut view = View::new(engine, Some(self.store.recent()));
        let mut jobs: Vec<(Done, Result<()>)> = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            view.begin_job();
            let done = (job.job)(&mut view);
            jobs.push((done, view.end_job()));
            let room = jobs.len() < config.jobs_per_group_max
                && view.len() < config.rows_per_group_max
                && view.bytes() < config.bytes_per_group_max;
            next = if room { self.taken.pop_front().or_else(|| inbox.try_recv().ok()) } else { None };
        }
        if !view.is_empty() {
            self.store.complete(&mut view);
        }
        let batch = view.into_batch();
        self.state.run_us.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
        let applied = self.apply(&batch, inbox);
        let taken = jobs.len() as u64;
        for (done, own) in jobs {
            done(own.and_then(|()| applied.clone()));
        }
        self.state.jobs.fetch_add(taken, Ordering::Relaxed);
        self.state.pending.fetch_sub(taken, Ordering::AcqRel);
    }

    /// Takes the jobs that wait and reads what they will read, where that is worth it: where to ask is a round trip.
    fn read_ahead(&mut self, first: &Work, inbox: &mut mpsc::Receiver<Work>) -> Known {
        let engine = self.store.local();
        if engine.remote().is_none() {
            return Known::default();
        }
        while self.taken.len() + 1 < self.config.jobs_per_group_max
            && let Ok(job) = inbox.try_recv()
        {
            self.taken.push_back(job);
        }
        let rehearsals = std::iter::once(first).chain(&self.taken).filter_map(|work| work.rehearsal.as_ref());
        Known::of(rehearsals, engine, self.store.recent())
    }

    /// Applies a batch, waiting for room on the disk as long as anybody may still want it applied.
    fn apply(&mut self, batch: &crate::Batch, inbox: &mpsc::Receiver<Work>) -> Result<()> {
        let state = self.state;
        loop {
            if state.failed.load(Ordering::Relaxed) {
                return Err(Error::Engine("writing stopped after an earlier failure: restart the process".into()));
            }
            if batch.is_empty() {
                return Ok(());
            }
            let (applied, took_us) = state.watched(|| self.store.apply_now(batch));
            match applied {
                Ok(()) => {
                    if state.full.swap(false, Ordering::Relaxed) {
                        tracing::info!("there is room on the disk again; writing goes on");
                    }
                    self.unsynced_since.get_or_insert_with(Instant::now);
                    self.rests_left = RESTS_MAX;
                    state.groups.fetch_add(1, Ordering::Relaxed);
                    state.apply_us.fetch_add(took_us, Ordering::Relaxed);
                    state.apply_us_max.fetch_max(took_us, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Error::Full) => {
                    // Nothing was applied and nothing is lost: the jobs wait here, and their senders behind them.
                    if !state.full.swap(true, Ordering::Relaxed) {
                        tracing::warn!("no room left on the disk; writing waits until some is freed, reading goes on");
                    }
                    // What was applied before should not have to wait for room to survive a power cut.
                    if self.unsynced_since.is_some() {
                        self.sync();
                    }
                    let until = Instant::now() + self.config.full_retry_every;
                    while Instant::now() < until {
                        if inbox.is_closed() || state.closing.load(Ordering::Acquire) {
                            return Err(Error::Full);
                        }
                        std::thread::sleep(STOP_LOOK_EVERY.min(self.config.full_retry_every));
                    }
                }
                Err(e @ Error::ReadOnly) => return Err(e),
                Err(e) => {
                    tracing::error!(error = %e, "writing failed; no further changes are taken");
                    state.failed.store(true, Ordering::Relaxed);
                    return Err(e);
                }
            }
        }
    }

    fn rest(&mut self) {
        self.rests_left -= 1;
        self.idle_since = Instant::now();
        if self.state.failed.load(Ordering::Relaxed) {
            return;
        }
        let (rested, _) = self.state.watched(|| self.store.local().rest());
        if let Err(e) = rested {
            tracing::error!(error = %e, "the storage engine could not tidy up; no further changes are taken");
            self.state.failed.store(true, Ordering::Relaxed);
        }
    }

    fn sync(&mut self) {
        if self.unsynced_since.take().is_none() {
            return;
        }
        let (synced, _) = self.state.watched(|| self.store.local().sync());
        if let Err(e) = synced {
            // What could not be synced may be gone after a power cut, and nobody knows how much of it.
            tracing::error!(error = %e, "changes could not be synced to the disk; no further changes are taken");
            self.state.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a job on this thread, at most until a moment.
fn wait(inbox: &mut mpsc::Receiver<Work>, until: Option<Instant>) -> Next {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match inbox.poll_recv(&mut context) {
            Poll::Ready(Some(job)) => return Next::Job(job),
            Poll::Ready(None) => return Next::Closed,
            Poll::Pending => {}
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return Next::Late,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

/// Tells of engine calls that do not end. A hung disk or a stuck engine shows here and nowhere else.
fn watch(alive: &std_mpsc::Receiver<()>, state: &State, stall_after: Duration) {
    let mut told: Option<Instant> = None;
    while alive.recv_timeout(WATCH_EVERY.min(stall_after)) == Err(std_mpsc::RecvTimeoutError::Timeout) {
        let busy = state.busy();
        if busy < stall_after {
            if told.take().is_some() {
                tracing::warn!("the storage engine answers again");
            }
        } else if told.is_none_or(|at| at.elapsed() >= STALL_TOLD_EVERY) {
            told = Some(Instant::now());
            tracing::error!(
                busy_ms = busy.as_millis() as u64,
                pending = state.pending.load(Ordering::Relaxed),
                "the storage engine does not answer: look at the disk; if it is idle, restart the process, nothing acknowledged is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Batch, Cache, Config, Key, Page, Scan, Table,
        engine::{Local, mem::Mem},
    };
    use bytes::Bytes;
    use std::sync::{Condvar, Mutex};

    static T: Table =
        Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Near, bucket_rows: None };

    fn key(n: u64) -> Key {
        Key::of(&T).atom(b"p").cluster().atom(&n.to_be_bytes()).key()
    }

    /// What the engine below does next.
    #[derive(Clone, Copy, PartialEq)]
    enum Mood {
        Works,
        Full,
        Breaks,
        BreaksOnSync,
        Hangs,
    }

    /// An engine that fails when told to.
    struct Moody {
        mem: Mem,
        shared: Arc<(Mutex<Mood>, Condvar)>,
        applied: Arc<AtomicU64>,
        synced: Arc<AtomicU64>,
        rested: Arc<AtomicU64>,
    }

    impl Local for Moody {
        fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
            self.mem.get(keys)
        }
        fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
            self.mem.get_one(key)
        }
        fn scan(&self, scan: &Scan) -> Result<Page> {
            self.mem.scan(scan)
        }
        fn apply(&self, batch: &Batch) -> Result<()> {
            let (mood, changed) = &*self.shared;
            let mood = *changed.wait_while(mood.lock().unwrap(), |m| *m == Mood::Hangs).unwrap();
            match mood {
                Mood::Full => return Err(Error::Full),
                Mood::Breaks => return Err(Error::Engine("broke".into())),
                _ => {}
            }
            self.applied.fetch_add(1, Ordering::SeqCst);
            self.mem.apply(batch)
        }
        fn sync(&self) -> Result<()> {
            if *self.shared.0.lock().unwrap() == Mood::BreaksOnSync {
                return Err(Error::Engine("broke".into()));
            }
            self.synced.store(self.applied.load(Ordering::SeqCst), Ordering::SeqCst);
            Ok(())
        }
        fn rest(&self) -> Result<()> {
            self.rested.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        fn bytes_used(&self) -> u64 {
            0
        }
        fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
            self.mem.each(table_id, visit)
        }
    }

    struct Rig {
        store: Store,
        writer: Writer,
        thread: JoinHandle<()>,
        shared: Arc<(Mutex<Mood>, Condvar)>,
        applied: Arc<AtomicU64>,
        synced: Arc<AtomicU64>,
        rested: Arc<AtomicU64>,
    }

    impl Rig {
        fn new(mood: Mood, config: WriterConfig) -> Self {
            let shared = Arc::new((Mutex::new(mood), Condvar::new()));
            let counter = || Arc::new(AtomicU64::new(0));
            let (applied, synced, rested) = (counter(), counter(), counter());
            let engine = Moody {
                mem: Mem::new(),
                shared: Arc::clone(&shared),
                applied: Arc::clone(&applied),
                synced: Arc::clone(&synced),
                rested: Arc::clone(&rested),
            };
            let store = Store::over(Box::new(engine), &[&T], &Config::default());
            let (writer, thread) = Writer::start(store.clone(), config).unwrap();
            Self { store, writer, thread, shared, applied, synced, rested }
        }

        fn now(&self, mood: Mood) {
            *self.shared.0.lock().unwrap() = mood;
            self.shared.1.notify_all();
        }

        async fn put(&self, n: u64) -> Result<()> {
            self.writer
                .run(move |view| {
                    view.put(key(n), n.to_be_bytes().to_vec());
                    Ok(())
                })
                .await
        }

        async fn end(self) {
            drop(self.writer);
            tokio::task::spawn_blocking(|| self.thread.join()).await.unwrap().unwrap();
        }
    }

    async fn until(mut there: impl FnMut() -> bool) {
        let began = Instant::now();
        while !there() {
            assert!(began.elapsed() < Duration::from_secs(30), "it did not come");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn jobs_that_wait_together_are_one_batch_and_a_bound_ends_it() {
        let rig = Rig::new(
            Mood::Hangs,
            WriterConfig { jobs_per_group_max: 10, rows_per_group_max: 30, ..WriterConfig::default() },
        );
        let submit = async |rows: u64| {
            let job = move |view: &mut View<'_>| -> Done {
                (0..rows).for_each(|n| view.put(key(n), vec![1]));
                Box::new(|applied| applied.unwrap())
            };
            rig.writer.submit(job).await.unwrap();
        };
        // The first is applied alone, because nothing waits behind it yet; the others wait while it hangs.
        submit(1).await;
        until(|| rig.writer.figures().busy_us > 0).await;
        for _ in 0..25 {
            submit(1).await;
        }
        for _ in 0..3 {
            submit(29).await;
        }
        rig.now(Mood::Works);
        until(|| rig.writer.pending() == 0).await;
        // 1, then 10, 10, and 5 small ones with the first two large ones (5 + 29 rows are past the bound), then one.
        let figures = rig.writer.figures();
        assert_eq!((figures.jobs_total, figures.groups_total), (29, rig.applied.load(Ordering::SeqCst)));
        assert!((4..=6).contains(&figures.groups_total), "{figures:?}");
        rig.end().await;
    }

    #[tokio::test]
    async fn a_full_disk_holds_jobs_in_order_and_loses_none() {
        let rig = Rig::new(
            Mood::Full,
            WriterConfig {
                full_retry_every: Duration::from_millis(1),
                jobs_per_group_max: 2,
                ..WriterConfig::default()
            },
        );
        let told = Arc::new(Mutex::new(Vec::new()));
        for n in 0..9 {
            let told = Arc::clone(&told);
            let job = move |view: &mut View<'_>| -> Done {
                view.put(key(n), vec![1]);
                Box::new(move |applied| told.lock().unwrap().push((n, applied.is_ok())))
            };
            rig.writer.submit(job).await.unwrap();
        }
        until(|| rig.writer.disk_full()).await;
        assert_eq!(rig.writer.pending(), 9);
        assert_eq!(rig.store.get_one(&key(0)).await.unwrap(), None);
        rig.now(Mood::Works);
        until(|| rig.writer.pending() == 0).await;
        assert!(!rig.writer.disk_full() && !rig.writer.failed());
        assert_eq!(*told.lock().unwrap(), (0..9).map(|n| (n, true)).collect::<Vec<_>>());
        rig.end().await;
    }

    #[tokio::test]
    async fn a_broken_engine_stops_writing_for_good_and_everybody_is_told() {
        let rig = Rig::new(Mood::Works, WriterConfig::default());
        rig.put(1).await.unwrap();
        rig.now(Mood::Breaks);
        assert!(matches!(rig.put(2).await, Err(Error::Engine(_))));
        assert!(rig.writer.failed());
        rig.now(Mood::Works);
        assert!(
            matches!(rig.put(3).await, Err(Error::Engine(_))),
            "the state after a failure is unknown, so nothing is added to it"
        );
        assert_eq!(rig.store.get(&[key(1), key(2), key(3)]).await.unwrap().iter().filter(|v| v.is_some()).count(), 1);
        rig.end().await;
    }

    #[tokio::test]
    async fn a_sync_that_fails_stops_writing_for_good() {
        let rig = Rig::new(Mood::BreaksOnSync, WriterConfig { sync_every: Duration::ZERO, ..WriterConfig::default() });
        rig.put(1).await.unwrap();
        until(|| rig.writer.failed()).await;
        assert!(rig.put(2).await.is_err());
        rig.end().await;
    }

    #[tokio::test]
    async fn what_was_applied_is_synced_when_due_and_at_the_end_and_no_idle_writer_syncs() {
        let rig =
            Rig::new(Mood::Works, WriterConfig { sync_every: Duration::from_millis(20), ..WriterConfig::default() });
        rig.put(1).await.unwrap();
        until(|| rig.synced.load(Ordering::SeqCst) == 1).await;
        rig.end().await;

        let rig =
            Rig::new(Mood::Works, WriterConfig { sync_every: Duration::from_secs(3600), ..WriterConfig::default() });
        for n in 0..20 {
            rig.put(n).await.unwrap();
        }
        assert_eq!(rig.synced.load(Ordering::SeqCst), 0, "one caller after the other does not pay for a sync each");
        let (synced, applied) = (Arc::clone(&rig.synced), Arc::clone(&rig.applied));
        rig.end().await;
        assert_eq!(synced.load(Ordering::SeqCst), applied.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn an_idle_engine_may_tidy_up_a_few_times_and_only_after_changes() {
        let config = WriterConfig {
            rest_after: Duration::from_millis(1),
            sync_every: Duration::from_millis(1),
            ..WriterConfig::default()
        };
        let rig = Rig::new(Mood::Works, config);
        for round in 1..=2 {
            rig.put(1).await.unwrap();
            until(|| rig.rested.load(Ordering::SeqCst) == u64::from(round * RESTS_MAX)).await;
            // Jobs that change nothing are no reason to tidy up again.
            for _ in 0..20 {
                rig.writer.run(|view| view.get(&key(1))).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(rig.rested.load(Ordering::SeqCst), u64::from(round * RESTS_MAX));
        }
        rig.end().await;
    }

    #[tokio::test]
    async fn a_job_that_panics_ends_the_writer_and_everybody_is_told() {
        let rig = Rig::new(Mood::Works, WriterConfig::default());
        rig.put(1).await.unwrap();
        let answer = rig.writer.run(|_| -> Result<()> { panic!("on purpose") }).await;
        assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
        until(|| rig.writer.failed()).await;
        assert!(matches!(rig.put(2).await, Err(Error::Closed)));
        assert!(tokio::task::spawn_blocking(|| rig.thread.join()).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_engine_that_hangs_shows_in_the_figures_while_it_does() {
        let rig =
            Rig::new(Mood::Hangs, WriterConfig { stall_after: Duration::from_millis(5), ..WriterConfig::default() });
        assert_eq!(rig.writer.figures().busy_us, 0);
        let writer = rig.writer.clone();
        let put = tokio::spawn(async move {
            writer
                .run(|view| {
                    view.put(key(1), vec![1]);
                    Ok::<_, Error>(())
                })
                .await
        });
        until(|| rig.writer.figures().busy_us > 10_000).await;
        rig.now(Mood::Works);
        put.await.unwrap().unwrap();
        let figures = rig.writer.figures();
        assert_eq!(figures.busy_us, 0);
        assert!(figures.apply_us_max > 10_000, "{figures:?}");
        rig.end().await;
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_no_trace_in_the_count() {
        let rig = Rig::new(Mood::Hangs, WriterConfig { jobs_waiting_max: 1, ..WriterConfig::default() });
        let submit = || {
            rig.writer.submit(|view| {
                view.put(key(1), vec![1]);
                Box::new(|_| {})
            })
        };
        submit().await.unwrap();
        until(|| rig.writer.figures().busy_us > 0).await;
        submit().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(5), submit()).await.is_err(), "the queue is full");
        assert_eq!(rig.writer.pending(), 2);
        rig.now(Mood::Works);
        until(|| rig.writer.pending() == 0).await;
        rig.end().await;
    }
}
