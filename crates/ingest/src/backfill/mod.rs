//! The network's repos, read whole: those that lists of repos name and that are not here, or not as new.
//!
//! ```text
//! list -> rows of what is left -> pass: who is it? -> host's turn -> reading (as a resync) -> row goes, totals
//!                   ^------------------- what failed, or whose host rests, is met again in a later pass
//! ```
//!
//! All that is left stands on disk, so memory is bounded and a start goes on where the process ended. Live events go on
//! beside it, and before it: how a reading and they meet stands in `apply`. What is here is the order of the work, and
//! patience.

mod hosts;
mod list;
mod rows;
mod status;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use gp_index::repos::{self, RepoStatus};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    BackfillConfig, Error, Result,
    config::relay_base,
    identity::Want,
    jobs::Ask,
    pending::Guard,
    reading::{Asked, By, FailReason, Read, Readings, Trouble},
    shared::{Mode, Shared},
};
use hosts::{Entry, Hosts, concerns_host};
use list::ListState;
use rows::{RepoRow, SHARDS, Totals};
use status::Rate;

pub(crate) use rows::BACKFILL;
pub use status::BackfillFigures;

/// Repos that are being looked up, wait for their host or are read, at the same time.
const WINDOW_MAX: usize = 512;

/// Repos of one host that wait for it. Beyond it those of other hosts come first.
const HOST_WAITING_MAX: usize = WINDOW_MAX / 4;

/// Rows read at once.
const ROWS_PER_READ: usize = 500;

/// Look-ups of identities at the same time.
const LOOKUPS_MAX: usize = 32;

/// The directory is patient and impatient like a host.
const DIRECTORY: &str = "the directory";

/// Shortest and longest pause between two passes over what is left.
const PASS_PAUSE_FIRST: Duration = Duration::from_millis(500);
const PASS_PAUSE_LAST: Duration = Duration::from_secs(30);

/// How often the progress is told in the log.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// A document that is older than this is asked for again.
const DOCUMENT_NEW_FOR: Duration = Duration::from_secs(60);

/// Failures in one page of their list.
const FAILURES_PER_PAGE: usize = 200;

/// A backfill, whether it is under way or done.
pub(crate) struct Backfill {
    config: BackfillConfig,
    readings: Arc<Readings>,
    hosts: Hosts,
    directory: Hosts,
    running: Semaphore,
    /// Repos that somebody has in hand.
    in_hand: Mutex<HashSet<Arc<str>>>,
    reading_now: AtomicUsize,
    totals: Mutex<Totals>,
    lists: Mutex<Vec<ListState>>,
    /// Raised when the lists are to be read from their beginning.
    lists_from: watch::Sender<u64>,
    /// Raised when rows come that a pass under way may have missed.
    changes: AtomicU64,
    wake: Notify,
    rate: Mutex<Rate>,
    /// Failed attempts since start, by reason.
    failed: Vec<AtomicU64>,
}

/// A repo that somebody has in hand.
struct InHand {
    backfill: Arc<Backfill>,
    did: Arc<str>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.backfill.in_hand.lock().remove(&self.did);
    }
}

/// What became of a repo.
enum Became {
    Read(Read),
    /// Something else brought it.
    Overtaken,
    Failed(Trouble),
    /// Its host rests, is busy with others, or somebody else reads it: later. With the host, if that is news.
    Later(Option<String>),
}

/// One line of the list of failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The repo.
    pub did: String,
    /// Its host, if it is known.
    pub host: String,
    /// Why the last attempt failed.
    pub reason: &'static str,
    /// What exactly.
    pub error: String,
    /// Attempts that failed.
    pub attempts: u32,
    /// When it is tried again, in microseconds; none if it was given up.
    pub next_at_us: Option<i64>,
}

/// Where a list of failures goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailuresFrom {
    shard: u8,
    after: Option<String>,
}

impl Backfill {
    /// Sets it up; nothing is asked yet.
    pub(crate) async fn new(shared: &Shared, readings: Arc<Readings>, mut config: BackfillConfig) -> Result<Arc<Self>> {
        let mut urls: Vec<String> = Vec::new();
        for url in &config.urls {
            let base = relay_base(url).map_err(Error::Invalid)?;
            if !urls.contains(&base) {
                urls.push(base);
            }
        }
        config.urls = urls;
        let lists = vec![ListState::default(); config.urls.len()];
        let totals = rows::totals_of(&shared.cx.store).await?;
        Ok(Arc::new(Self {
            hosts: Hosts::new(config.repos_per_host_max, config.requests_per_host_second_max, HOST_WAITING_MAX),
            directory: Hosts::new(LOOKUPS_MAX, config.lookups_per_second_max, WINDOW_MAX),
            running: Semaphore::new(config.repos_running_max.max(1)),
            in_hand: Mutex::default(),
            reading_now: AtomicUsize::new(0),
            rate: Mutex::new(Rate::new(&totals)),
            totals: Mutex::new(totals),
            lists: Mutex::new(lists),
            lists_from: watch::Sender::new(0),
            changes: AtomicU64::new(0),
            wake: Notify::new(),
            failed: FailReason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            readings,
            config,
        }))
    }

    /// Reads lists and repos until it is aborted. `starting` keeps the count of pending work above zero until then.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>, starting: Guard) {
        let mut parts = JoinSet::new();
        for number in 0..self.config.urls.len() {
            parts.spawn(list::read(Arc::clone(&self), Arc::clone(&shared), number));
        }
        let teller = Arc::clone(&self);
        parts.spawn(async move { teller.tell().await });
        self.passes(&shared, starting).await;
    }

    async fn passes(self: &Arc<Self>, shared: &Arc<Shared>, starting: Guard) {
        let mut tasks = JoinSet::new();
        let mut guard = Some(starting);
        let mut pause = PASS_PAUSE_FIRST;
        loop {
            if *shared.mode.borrow() != Mode::Running {
                while tasks.join_next().await.is_some() {}
                guard = None;
                if !shared.may_read().await {
                    return;
                }
            }
            let changes = self.changes.load(SeqCst);
            let begun = match self.pass(shared, &mut tasks).await {
                Ok(begun) => begun,
                Err(error) => {
                    tracing::warn!(%error, "the repos that are left cannot be read from the store");
                    0
                }
            };
            while tasks.len() > WINDOW_MAX / 2 {
                tasks.join_next().await;
            }
            while tasks.try_join_next().is_some() {}
            let whole = self.lists.lock().iter().all(|list| list.whole);
            let quiet = whole && changes == self.changes.load(SeqCst);
            if quiet && begun == 0 && tasks.is_empty() {
                // What is left waits for a time or for a host: that is not work under way.
                guard = None;
                if self.totals.lock().left() == 0 {
                    self.finish(shared).await;
                    self.wake.notified().await;
                    continue;
                }
            } else if *shared.mode.borrow() == Mode::Running {
                guard.get_or_insert_with(|| shared.pending.begin());
            }
            pause = if begun > 0 { PASS_PAUSE_FIRST } else { (pause * 2).min(PASS_PAUSE_LAST) };
            let pass_pause = pause.min(self.config.pass_pause_max);
            let paused = shared.must_not_read();
            tokio::select! {
                () = tokio::time::sleep(pass_pause) => {}
                () = self.wake.notified() => tokio::time::sleep(PASS_PAUSE_FIRST.min(pass_pause)).await,
                () = paused => {}
                // The last repo in hand may be the last there is.
                Some(_) = tasks.join_next(), if tasks.len() == 1 => {}
            }
        }
    }

    /// Goes once over all that is left and takes in hand what is due. Returns how much that was.
    async fn pass(self: &Arc<Self>, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<usize> {
        let mut begun = 0;
        for shard in 0..SHARDS {
            let mut after: Option<String> = None;
            loop {
                let (page, more) = rows::repos(&shared.cx.store, shard, after.as_deref(), ROWS_PER_READ).await?;
                after = page.last().map(|(did, _)| did.clone());
                for (did, row) in page {
                    while tasks.try_join_next().is_some() {}
                    if row.given_up || row.next_at_us > (shared.cx.now_us)() {
                        continue;
                    }
                    if !row.host.is_empty() && self.hosts.rests(&row.host) {
                        self.lose_patience(shared, &did, row).await?;
                        continue;
                    }
                    if self.directory.rests(DIRECTORY) && did.starts_with("did:plc:") {
                        continue;
                    }
                    let did: Arc<str> = did.into();
                    if !self.in_hand.lock().insert(Arc::clone(&did)) {
                        continue;
                    }
                    let in_hand = InHand { backfill: Arc::clone(self), did };
                    while tasks.len() >= WINDOW_MAX {
                        tasks.join_next().await;
                    }
                    if *shared.mode.borrow() != Mode::Running {
                        return Ok(begun);
                    }
                    begun += 1;
                    tasks.spawn(Arc::clone(self).one(Arc::clone(shared), in_hand, row));
                }
                if !more {
                    break;
                }
            }
        }
        Ok(begun)
    }

    /// A repo whose host has been ill for too long is given up without another try.
    async fn lose_patience(&self, shared: &Arc<Shared>, did: &str, row: RepoRow) -> Result<()> {
        let Some((ill_for, error)) = self.hosts.ill_for(&row.host) else { return Ok(()) };
        if ill_for < self.config.host_patience {
            return Ok(());
        }
        let why = format!("{} has failed for {} minutes: {error}", row.host, ill_for.as_secs() / 60);
        let trouble = Trouble::new(FailReason::Unreachable, Error::Refused(why));
        self.settle(shared, &did.into(), row, Became::Failed(trouble)).await
    }

    async fn one(self: Arc<Self>, shared: Arc<Shared>, in_hand: InHand, mut row: RepoRow) {
        let did = &in_hand.did;
        let became = self.attempt(&shared, did, &mut row).await;
        if let Err(error) = self.settle(&shared, did, row, became).await {
            tracing::warn!(%error, did = &**did, "what became of a repo cannot be noted; it is read again");
        }
    }

    async fn attempt(&self, shared: &Arc<Shared>, did: &Arc<str>, row: &mut RepoRow) -> Became {
        if is_there(shared, did, &row.rev).await {
            return Became::Overtaken;
        }
        let document = match self.document(shared, did).await {
            Ok(document) => document,
            Err(became) => return became,
        };
        let Some(host) = document.pds.clone().filter(|_| document.key.is_some()) else {
            let why = format!("the document of {did} names no key or no host");
            return Became::Failed(Trouble::new(FailReason::Identity, Error::Refused(why)));
        };
        let news = (row.host != host).then(|| host.clone());
        row.host.clone_from(&host);
        let visit = match self.hosts.enter(&host).await {
            Entry::Go(visit) => visit,
            Entry::Later => return Became::Later(news),
        };
        let Ok(_turn) = self.running.acquire().await else { return Became::Later(None) };
        // It may have waited for long.
        if *shared.mode.borrow() != Mode::Running {
            return Became::Later(None);
        }
        if is_there(shared, did, &row.rev).await {
            return Became::Overtaken;
        }
        let Some(claim) = self.readings.claim(shared, did, false) else { return Became::Later(None) };
        self.reading_now.fetch_add(1, SeqCst);
        let read = self.readings.read(shared, &claim, &Asked { document, by: By::Backfill }).await;
        self.reading_now.fetch_sub(1, SeqCst);
        match read {
            Ok(read) => {
                visit.went(Ok(()));
                Became::Read(read)
            }
            Err(trouble) => {
                visit.went(Err((trouble.reason, &trouble.error.to_string(), trouble.retry_after)));
                Became::Failed(trouble)
            }
        }
    }

    /// Who the account is. The directory is asked as patiently as a host.
    async fn document(&self, shared: &Shared, did: &Arc<str>) -> std::result::Result<Arc<crate::Document>, Became> {
        // One of yesterday may name the host that the account has left, and that host would say it is deactivated.
        let want = Instant::now().checked_sub(DOCUMENT_NEW_FOR).map_or(Want::Any, Want::Since);
        let name = if did.starts_with("did:plc:") { DIRECTORY } else { did };
        let Entry::Go(visit) = self.directory.enter(name).await else { return Err(Became::Later(None)) };
        match shared.identity.document(did, want).await {
            Ok(document) => {
                visit.went(Ok(()));
                Ok(document)
            }
            Err(error @ (Error::Absent(_) | Error::Invalid(_) | Error::Refused(_))) => {
                visit.went(Ok(()));
                Err(Became::Failed(Trouble::new(FailReason::Identity, error)))
            }
            Err(error) => {
                visit.went(Err((FailReason::HostError, &error.to_string(), None)));
                if name == DIRECTORY {
                    return Err(Became::Later(None));
                }
                Err(Became::Failed(Trouble::new(FailReason::Identity, error)))
            }
        }
    }

    /// Notes what became of a repo.
    async fn settle(&self, shared: &Arc<Shared>, did: &Arc<str>, mut row: RepoRow, became: Became) -> Result<()> {
        let now_us = (shared.cx.now_us)();
        let (owned, job) = (Arc::clone(did), Arc::clone(shared));
        let totals = match became {
            Became::Later(None) => return Ok(()),
            Became::Later(Some(_)) => {
                shared
                    .run(move |view| {
                        if rows::repo(view, &owned)?.is_some() {
                            rows::put_repo(view, &owned, &row);
                        }
                        rows::totals(view)
                    })
                    .await?
            }
            Became::Overtaken => self.end(shared, owned, |totals| totals.overtaken += 1).await?,
            Became::Read(read) => {
                if !read.complete {
                    // Events went past it. Its job is stored, and goes on from here.
                    shared.resyncs.ask(did, Ask { stored: true, urgent: true, ..Ask::default() });
                }
                let count = move |totals: &mut Totals| {
                    totals.read += 1;
                    totals.records += read.records;
                    totals.bytes += read.bytes;
                };
                self.end(shared, owned, count).await?
            }
            Became::Failed(Trouble { error: Error::Stopped, .. }) => return Ok(()),
            Became::Failed(trouble) => {
                self.note_failure(did, &trouble);
                row.fail(trouble.reason, &trouble.error);
                match trouble.reason {
                    FailReason::Refused | FailReason::NotFound => {
                        // Where anything was known of the account, events know better.
                        let status = status_of(&trouble.error).filter(|_| trouble.account_is_new);
                        let told = shared.run(move |view| match status {
                            Some(status) => job.applier.account(view, &owned, false, Some(status), now_us).map(drop),
                            None => Ok(()),
                        });
                        told.await?;
                        self.end(shared, Arc::clone(did), |totals| totals.refused += 1).await?
                    }
                    reason => {
                        // A host that fails as a whole uses up no attempts of its repos: patience with it ends by time.
                        let rests = concerns_host(reason) && self.hosts.rests(&row.host);
                        row.attempts += u32::from(!rests);
                        row.given_up = trouble.is_final() || row.attempts >= self.config.attempts_max.max(1);
                        let delays = self.config.retry_delays;
                        let delay = delays.get(row.attempts.saturating_sub(1) as usize).or(delays.last());
                        let delay = if rests { Duration::ZERO } else { delay.copied().unwrap_or_default() };
                        row.next_at_us = now_us + i64::try_from(delay.as_micros()).unwrap_or(i64::MAX / 2);
                        shared
                            .run(move |view| {
                                if rows::repo(view, &owned)?.is_some_and(|before| !before.given_up) {
                                    rows::put_repo(view, &owned, &row);
                                    if row.given_up {
                                        rows::count(view, |totals| totals.given_up += 1)?;
                                    }
                                }
                                rows::totals(view)
                            })
                            .await?
                    }
                }
            }
        };
        self.set_totals(totals);
        Ok(())
    }

    /// Removes the row of a repo and counts why.
    async fn end(
        &self,
        shared: &Shared,
        did: Arc<str>,
        count: impl FnOnce(&mut Totals) + Send + 'static,
    ) -> Result<Totals> {
        shared
            .run(move |view| {
                if rows::repo(view, &did)?.is_some() {
                    rows::delete_repo(view, &did);
                    rows::count(view, count)?;
                }
                rows::totals(view)
            })
            .await
    }

    fn note_failure(&self, did: &str, trouble: &Trouble) {
        if let Some(at) = FailReason::ALL.iter().position(|reason| *reason == trouble.reason) {
            self.failed[at].fetch_add(1, SeqCst);
        }
        tracing::debug!(did, reason = trouble.reason.name(), error = %trouble.error, "a repo could not be read");
    }

    fn set_totals(&self, read: Totals) {
        let mut totals = self.totals.lock();
        totals.follow(read);
        self.rate.lock().note(&totals);
    }

    fn note_list(&self, number: usize, change: impl FnOnce(&mut ListState)) {
        if let Some(list) = self.lists.lock().get_mut(number) {
            change(list);
        }
    }

    /// Notes that nothing is left, once.
    async fn finish(&self, shared: &Shared) {
        let now_us = (shared.cx.now_us)();
        let done = shared.run(move |view| {
            if rows::totals(view)?.done_at_us == 0 {
                rows::count(view, |totals| totals.done_at_us = now_us)?;
            }
            rows::totals(view)
        });
        match done.await {
            Ok(totals) => {
                self.set_totals(totals);
                self.say("the backfill is done");
            }
            Err(error) => tracing::warn!(%error, "the end of the backfill cannot be noted"),
        }
    }

    async fn tell(&self) {
        let mut every = tokio::time::interval(TELL_EVERY);
        every.tick().await;
        loop {
            every.tick().await;
            if self.totals.lock().done_at_us == 0 {
                self.say("backfill");
            }
        }
    }

    // ------------------------------------------------------------------------------------------ operators

    /// Tries again what was given up or waits for its time, and hosts that rest, now. Returns how many repos that are.
    pub(crate) async fn retry(&self, shared: &Arc<Shared>) -> Result<u64> {
        let (mut retried, mut from) = (0, FailuresFrom::default());
        loop {
            let (page, next) = self.page(shared, from).await?;
            let dids: Vec<String> = page.into_iter().map(|(did, _)| did).collect();
            let (count, totals) = shared
                .run(move |view| {
                    let (mut count, mut revived) = (0, 0);
                    for did in &dids {
                        let Some(mut row) = rows::repo(view, did)? else { continue };
                        revived += u64::from(row.given_up);
                        count += 1;
                        (row.given_up, row.attempts, row.next_at_us) = (false, 0, 0);
                        rows::put_repo(view, did, &row);
                    }
                    rows::count(view, |totals| {
                        totals.given_up = totals.given_up.saturating_sub(revived);
                        totals.done_at_us = if count > 0 { 0 } else { totals.done_at_us };
                    })?;
                    Ok((count, rows::totals(view)?))
                })
                .await?;
            retried += count;
            self.set_totals(totals);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.hosts.wake_all();
        self.directory.wake_all();
        self.changes.fetch_add(1, SeqCst);
        self.wake.notify_one();
        Ok(retried)
    }

    /// Reads the lists from their beginning again: what is not here, or not as new, is read.
    pub(crate) async fn again(&self, shared: &Shared) -> Result<()> {
        let urls = self.config.urls.clone();
        let totals = shared
            .run(move |view| {
                for url in &urls {
                    rows::put_source(view, url, &rows::SourceRow::default());
                }
                rows::count(view, |totals| {
                    let (left, given_up) = (totals.left(), totals.given_up);
                    *totals = Totals { queued: left + given_up, given_up, ..Totals::default() };
                })?;
                rows::count(view, |_| {})?;
                rows::totals(view)
            })
            .await?;
        self.lists.lock().iter_mut().for_each(|list| *list = ListState::default());
        *self.rate.lock() = Rate::new(&totals);
        self.set_totals(totals);
        self.lists_from.send_modify(|count| *count += 1);
        self.changes.fetch_add(1, SeqCst);
        self.wake.notify_one();
        Ok(())
    }

    /// A page of the repos that failed, and where the next one begins.
    pub(crate) async fn failures(
        &self,
        shared: &Shared,
        from: FailuresFrom,
    ) -> Result<(Vec<Failure>, Option<FailuresFrom>)> {
        let (page, next) = self.page(shared, from).await?;
        let failures = page.into_iter().filter_map(|(did, row)| {
            Some(Failure {
                reason: row.reason()?.name(),
                error: row.error.clone(),
                attempts: row.attempts,
                next_at_us: (!row.given_up).then_some(row.next_at_us),
                host: row.host,
                did,
            })
        });
        Ok((failures.collect(), next))
    }

    /// A page of all rows, those that did not fail left out.
    async fn page(
        &self,
        shared: &Shared,
        from: FailuresFrom,
    ) -> Result<(Vec<(String, RepoRow)>, Option<FailuresFrom>)> {
        let (page, more) = rows::repos(&shared.cx.store, from.shard, from.after.as_deref(), FAILURES_PER_PAGE).await?;
        let next = match page.last().filter(|_| more) {
            Some((did, _)) => Some(FailuresFrom { shard: from.shard, after: Some(did.clone()) }),
            None => (from.shard + 1 < SHARDS).then(|| FailuresFrom { shard: from.shard + 1, after: None }),
        };
        Ok((page.into_iter().filter(|(_, row)| row.reason().is_some()).collect(), next))
    }
}

/// Whether a repo is here, at least as new as its list says.
async fn is_there(shared: &Shared, did: &str, rev: &str) -> bool {
    let state = repos::state_of(&shared.cx.store, did).await.ok().flatten();
    state.is_some_and(|state| state.status == RepoStatus::Synced && !state.rev.is_empty() && *state.rev >= *rev)
}

/// The standing of an account whose repo its host keeps back.
fn status_of(error: &Error) -> Option<&'static str> {
    let Error::Refused(why) = error else { return None };
    match why.rsplit(": ").next()? {
        "RepoTakendown" => Some("takendown"),
        "RepoSuspended" => Some("suspended"),
        "RepoDeactivated" => Some("deactivated"),
        _ => None,
    }
}
