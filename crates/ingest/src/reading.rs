//! Reads one repo whole: from the account's host, verified completely, applied as the difference to what is kept.
//!
//! ```text
//! begin (events of the repo are kept aside) -> download -> hash, signature, tree -> difference -> end (events follow)
//! ```
//!
//! Resyncs and the backfill both come here, so a repo is applied in one way only, and by one of them at a time. Live
//! events go before it: its jobs are small, few of them wait for the writer, and they give way while much is in flight.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gp_atproto::{
    archive::{Archive, ArchiveError, Records, Source},
    car::CarError,
    crypto::VerifyingKey,
    verify::VerifyError,
};
use gp_index::{
    apply::{Action, Applied, Op},
    collections,
    repos::{self, RepoStatus},
};
use gp_store::View;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Error,
    apply::Begun,
    decode,
    facts::SyncFacts,
    http::{Download, Downloaded, Lost, Trust},
    identity::{Document, Want, escape},
    jobs::Ask,
    shared::Shared,
    spool::Spooled,
};

/// Records compared or applied in one job, so that the writer has time for others in between.
const RECORDS_PER_JOB: usize = 100;

/// Bytes of records applied in one job; a single record may be larger.
const BYTES_PER_JOB: usize = 2 << 20;

/// Jobs of all readings together that wait for the writer or are with it.
const JOBS_AT_ONCE_MAX: usize = 2;

/// Bodies up to this size stay in memory, others lie in a file.
const MEMORY_BODY_BYTES: usize = 2 << 20;

/// Bodies up to this size need no permit for large ones.
const SMALL_BODY_BYTES: u64 = 64 << 20;

/// Large bodies at the same time.
const LARGE_BODIES_MAX: usize = 1;

/// Longest wait for a host to begin its answer. It may have to gather the repo first.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Longest time that one job gives way to live events, so that a stream that never ends does not hold it for ever.
const GIVES_WAY_MAX: Duration = Duration::from_millis(250);

/// How often it looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

const CAR_ACCEPT: &str = "application/vnd.ipld.car";

macro_rules! troubles {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $label:literal;)*) => {
        /// Why a repo could not be read. A closed set: names are labels of metrics, numbers are on disk, never reused
        /// and never renumbered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FailReason {
            $($(#[$doc])* $variant = $number,)*
        }

        impl FailReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label of metrics and of lists.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }

            pub(crate) fn of_number(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| *reason as u32 == number)
            }
        }
    };
}

troubles! {
    /// The directory could not say who the account is, or its document names no key or no host.
    Identity = 1, "identity";
    /// Nobody answers at the account's host, or the connection breaks.
    Unreachable = 2, "host_unreachable";
    /// The host wants to be left alone for a while.
    Busy = 3, "host_busy";
    /// The host answered with an error.
    HostError = 4, "host_error";
    /// The repo came too slowly, or not in time.
    Slow = 5, "too_slow";
    /// The repo is larger than is read.
    TooLarge = 6, "too_large";
    /// What came is no whole repo: a block is damaged or missing, or the tree is not the one that is signed.
    Corrupt = 7, "corrupt";
    /// The signature does not hold under the account's key, also after the key was asked for again.
    Signature = 8, "signature";
    /// What came is older than what is known to exist.
    Outdated = 9, "outdated";
    /// The host keeps the repo back: taken down, suspended, deactivated.
    Refused = 10, "refused";
    /// The host has no such repo.
    NotFound = 11, "not_found";
    /// It could not be put aside or applied here.
    OwnDisk = 12, "own_disk";
}

/// A reading that came to nothing.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) reason: FailReason,
    pub(crate) error: Error,
    /// When the host wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
    /// Nothing was known of the account before this reading.
    pub(crate) account_is_new: bool,
}

impl Trouble {
    pub(crate) fn new(reason: FailReason, error: Error) -> Self {
        Self { reason, error, retry_after: None, account_is_new: false }
    }

    fn failed(reason: FailReason, why: String) -> Self {
        Self::new(reason, Error::Failed(why))
    }

    /// Asking again will not help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.error, Error::Absent(_) | Error::Refused(_) | Error::Invalid(_))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::new(FailReason::OwnDisk, error)
    }
}

impl From<gp_index::Error> for Trouble {
    fn from(error: gp_index::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<ArchiveError> for Trouble {
    fn from(error: ArchiveError) -> Self {
        let reason = match &error {
            ArchiveError::Verify(VerifyError::Signature(_)) => FailReason::Signature,
            ArchiveError::Verify(VerifyError::Car(CarError::TooManyBlocks | CarError::BlockTooLarge)) => {
                FailReason::TooLarge
            }
            ArchiveError::Verify(_) => FailReason::Corrupt,
            ArchiveError::Source(_) => FailReason::OwnDisk,
        };
        Self::failed(reason, format!("the repo that was read does not verify: {error}"))
    }
}

/// What is asked of a reading.
pub(crate) struct Asked {
    /// Who the account is.
    pub(crate) document: Arc<Document>,
    pub(crate) by: By,
}

/// Who asks for a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A job of the repo. The relays are asked as well where the host cannot be reached. After its last attempt nothing
    /// is left of the job.
    Resync { last: bool },
    /// The backfill: it gives way to live events, asks nobody but the host, and keeps its own account of what failed. A
    /// job of the repo stays.
    Backfill,
}

/// A repo that was read and applied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// Whether nothing is missing. If something is, the repo's job says so, and asks for another reading.
    pub(crate) complete: bool,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// What all readings share.
pub(crate) struct Readings {
    large: Arc<Semaphore>,
    turns: Semaphore,
    /// Repos being read, and whether a resync waits for the end.
    busy: Mutex<HashMap<Arc<str>, bool>>,
    done_total: AtomicU64,
    records_total: AtomicU64,
    applied_total: AtomicU64,
    deleted_total: AtomicU64,
    bytes_total: AtomicU64,
}

/// What was read since start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReadFigures {
    pub(crate) repos: u64,
    pub(crate) records: u64,
    pub(crate) applied: u64,
    pub(crate) deleted: u64,
    pub(crate) bytes: u64,
}

/// The right to read a repo. Nobody else reads it meanwhile.
pub(crate) struct Claim {
    did: Arc<str>,
    readings: Arc<Readings>,
    /// Tells the resync that may wait for it.
    shared: Arc<Shared>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.readings.busy.lock().remove(&self.did) == Some(true) {
            self.shared.resyncs.ready(&self.did);
        }
    }
}

/// A repo that was checked, and the order in which its records are applied.
struct Snapshot {
    facts: SyncFacts,
    records: Records<Spooled>,
    order: Vec<u32>,
}

/// Some records of a snapshot, applied in one job.
struct Part {
    of: Arc<Snapshot>,
    places: Vec<u32>,
    /// Their blocks, where reading them may wait for a disk.
    blocks: Option<Vec<Vec<u8>>>,
}

impl Part {
    /// Visits each as the operation that brings it.
    fn each(&self, mut visit: impl FnMut(&Op<'_>) -> gp_index::Result<()>) -> gp_index::Result<()> {
        let records = &self.of.records;
        for (number, at) in self.places.iter().map(|at| *at as usize).enumerate() {
            let in_memory;
            let block = match &self.blocks {
                Some(blocks) => &blocks[number][..],
                None => {
                    in_memory = records.block(at).map_err(|_| UNREADABLE)?;
                    &in_memory[..]
                }
            };
            visit(&Op {
                action: Action::Create,
                collection: records.collection(at),
                rkey: records.rkey(at),
                cid: Some(records.cid(at)),
                record: Some(block),
            })?;
        }
        Ok(())
    }
}

impl Readings {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            large: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
            turns: Semaphore::new(JOBS_AT_ONCE_MAX),
            busy: Mutex::default(),
            done_total: AtomicU64::new(0),
            records_total: AtomicU64::new(0),
            applied_total: AtomicU64::new(0),
            deleted_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
        })
    }

    /// The right to read a repo, unless somebody has it. A resync is told at the end of that, if it `waits`.
    pub(crate) fn claim(self: &Arc<Self>, shared: &Arc<Shared>, did: &Arc<str>, waits: bool) -> Option<Claim> {
        let mut busy = self.busy.lock();
        if let Some(waited) = busy.get_mut(did) {
            *waited |= waits;
            return None;
        }
        busy.insert(Arc::clone(did), false);
        Some(Claim { did: Arc::clone(did), readings: Arc::clone(self), shared: Arc::clone(shared) })
    }

    /// Reads a repo and applies it.
    pub(crate) async fn read(&self, shared: &Arc<Shared>, claim: &Claim, asked: &Asked) -> Result<Read, Trouble> {
        let did = &claim.did;
        let (Some(key), Some(pds)) = (&asked.document.key, &asked.document.pds) else {
            let why = format!("the document of {did} names no key or no host");
            return Err(Trouble::new(FailReason::Identity, Error::Refused(why)));
        };
        let (job, begin, now_us) = (Arc::clone(shared), Arc::clone(did), (shared.cx.now_us)());
        let begun = shared.run(move |view| job.applier.begin_resync(view, &begin, now_us)).await?;
        if begun.new {
            shared.refreshes.ask(did, Ask { stored: true, ..Ask::default() });
        }
        let snapshot = match self.snapshot(shared, did, pds, key, &begun, asked).await {
            Ok(snapshot) => Arc::new(snapshot),
            Err(trouble) => {
                let trouble = Trouble { account_is_new: begun.new, ..trouble };
                return Err(self.leave(shared, did, begun, asked, trouble).await);
            }
        };
        // From here on what is kept is neither as before nor as it should be; only a whole reading helps.
        let begun = Begun { before: RepoStatus::Desynced, ..begun };
        let (records, bytes) = (snapshot.records.len() as u64, snapshot.records.source().len());
        match self.apply(shared, did, snapshot, begun.clone(), asked).await {
            Ok(complete) => {
                self.done_total.fetch_add(1, Relaxed);
                Ok(Read { complete, records, bytes })
            }
            Err(error) => Err(self.leave(shared, did, begun, asked, error.into()).await),
        }
    }

    /// Leaves the repo as it was, or waiting for the next attempt.
    async fn leave(
        &self,
        shared: &Arc<Shared>,
        did: &Arc<str>,
        begun: Begun,
        asked: &Asked,
        trouble: Trouble,
    ) -> Trouble {
        let give_up = match asked.by {
            By::Resync { last } => last || trouble.is_final(),
            By::Backfill => !begun.asked_before,
        };
        let (job, did) = (Arc::clone(shared), Arc::clone(did));
        let left = shared.run(move |view| job.applier.abandon_resync(view, &did, &begun, give_up)).await;
        match left {
            Ok(()) => trouble,
            Err(error) => error.into(),
        }
    }

    /// Fetches and verifies a repo, from its host or else from a relay.
    async fn snapshot(
        &self,
        shared: &Arc<Shared>,
        did: &Arc<str>,
        pds: &str,
        key: &VerifyingKey,
        begun: &Begun,
        asked: &Asked,
    ) -> Result<Snapshot, Trouble> {
        let body = match self.fetch(shared, Trust::Network, pds, did).await {
            Ok(body) => body,
            // What a host refuses to give is not to be had elsewhere.
            Err(trouble) if trouble.is_final() || asked.by == By::Backfill => return Err(trouble),
            Err(trouble) => {
                let mut fetched = Err(trouble);
                for relay in &shared.config.relay_urls {
                    // `ws` becomes `http`, `wss` becomes `https`.
                    let base = relay.replacen("ws", "http", 1);
                    if let Ok(body) = self.fetch(shared, Trust::Operator, &base, did).await {
                        fetched = Ok(body);
                        break;
                    }
                }
                fetched?
            }
        };
        self.bytes_total.fetch_add(body.len(), Relaxed);
        let (blocks_max, now_us) = (shared.config.repo_blocks_max, (shared.cx.now_us)().unsigned_abs());
        let archive = blocking(move || Archive::index(body, blocks_max)).await??;
        let state = match archive.commit(did, key, now_us) {
            Err(ArchiveError::Verify(VerifyError::Signature(error))) => {
                // The key may have changed since it was asked for, so it is asked for once more.
                let held = ArchiveError::from(VerifyError::from(error));
                match shared.identity.document(did, Want::Since(Instant::now())).await {
                    Ok(document) => match &document.key {
                        Some(newer) if newer.to_compressed() != key.to_compressed() => {
                            archive.commit(did, newer, now_us)?
                        }
                        _ => return Err(held.into()),
                    },
                    Err(error) => return Err(Trouble::new(FailReason::Identity, error)),
                }
            }
            other => other?,
        };
        let facts = decode::sync_facts(&state);
        let wanted = begun.row.min_rev.as_str().max(begun.rev.as_str());
        if *facts.rev < *wanted {
            let why = format!("the host still gives revision {}, {wanted} is known to exist", facts.rev);
            return Err(Trouble::failed(FailReason::Outdated, why));
        }
        let records = blocking(move || archive.open(state, |name| collections::of(name).is_some())).await??;
        let mut order: Vec<u32> = (0..u32::try_from(records.len()).unwrap_or(u32::MAX)).collect();
        // The tree gives them by collection and key, so records of one collection stay in the order of their keys.
        order.sort_by_key(|at| turn(records.collection(*at as usize)));
        Ok(Snapshot { facts, records, order })
    }

    async fn fetch(&self, shared: &Shared, trust: Trust, base: &str, did: &str) -> Result<Spooled, Trouble> {
        let url = format!("{base}/xrpc/com.atproto.sync.getRepo?did={}", escape(did));
        let bounds = Download {
            answer_max: ANSWER_MAX,
            time_max: shared.config.repo_read_max,
            bytes_per_second_min: shared.config.repo_bytes_per_second_min,
            bytes_max: shared.config.repo_bytes_max,
            small_bytes: SMALL_BODY_BYTES,
            memory_bytes_max: MEMORY_BODY_BYTES,
            folder: shared.config.spool_dir.clone(),
        };
        let found = shared.identity.http().download(trust, &url, CAR_ACCEPT, &self.large, &bounds).await;
        let (answer, retry_after) = match found {
            Ok(Downloaded::Body(body)) => return Ok(body),
            Ok(Downloaded::Refusal { answer, retry_after }) => (answer, retry_after),
            Err(lost) => return Err(lost.into()),
        };
        let name = answer.error_name();
        let word = name.as_deref().unwrap_or_default();
        let (reason, error) = match word {
            "RepoNotFound" => (FailReason::NotFound, Error::Absent(format!("{base} has no repo of {did}"))),
            "RepoTakendown" | "RepoSuspended" | "RepoDeactivated" => {
                (FailReason::Refused, Error::Refused(format!("{base} keeps the repo of {did} back: {word}")))
            }
            _ => {
                let reason = if matches!(answer.status, 429 | 503) { FailReason::Busy } else { FailReason::HostError };
                (reason, Error::Failed(format!("{base} answered {} {word}", answer.status)))
            }
        };
        Err(Trouble { retry_after, ..Trouble::new(reason, error) })
    }

    /// Applies a snapshot as the difference to what is kept: first what is gone, then what is new or changed. Returns
    /// whether the repo is complete.
    async fn apply(
        &self,
        shared: &Arc<Shared>,
        did: &Arc<str>,
        snapshot: Arc<Snapshot>,
        begun: Begun,
        asked: &Asked,
    ) -> Result<bool, Error> {
        let time_us = (shared.cx.now_us)();
        let mut same = vec![false; snapshot.records.len()];
        let mut after: Option<(String, String)> = None;
        loop {
            let _turn = self.turn(shared, asked).await?;
            let (job, did, read, from) = (Arc::clone(shared), Arc::clone(did), Arc::clone(&snapshot), after.take());
            let (page_same, deleted, last) = shared
                .run(move |view| {
                    let page = repos::records(view, &did, from.as_ref(), RECORDS_PER_JOB)?;
                    let (mut same, mut applied) = (Vec::new(), Applied::default());
                    for (collection, rkey, cid) in &page {
                        match read.records.find(collection, rkey) {
                            Some(at) if read.records.cid(at) == *cid => same.push(at),
                            Some(_) => {}
                            None => {
                                let op = Op { action: Action::Delete, collection, rkey, cid: None, record: None };
                                job.applier.op(view, &did, &read.facts.rev, &op, time_us, &mut applied)?;
                            }
                        }
                    }
                    job.applier.count(&applied);
                    let more = page.len() == RECORDS_PER_JOB;
                    let last =
                        page.into_iter().next_back().filter(|_| more).map(|(collection, rkey, _)| (collection, rkey));
                    Ok((same, applied.deleted, last))
                })
                .await?;
            for at in page_same {
                same[at] = true;
            }
            self.deleted_total.fetch_add(u64::from(deleted), Relaxed);
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.records_total.fetch_add(snapshot.records.len() as u64, Relaxed);
        let changed: Vec<u32> = snapshot.order.iter().copied().filter(|at| !same[*at as usize]).collect();
        drop(same);
        let mut rest = &changed[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(jobful(&snapshot.records, rest));
            rest = after;
            let blocks = blocks(&snapshot, chunk).await?;
            let _turn = self.turn(shared, asked).await?;
            let count = chunk.len() as u64;
            let part = Arc::new(Part { of: Arc::clone(&snapshot), places: chunk.to_vec(), blocks });
            let (job, did) = (Arc::clone(shared), Arc::clone(did));
            let (foreseen, of, shown) = (Arc::clone(shared), Arc::clone(&did), Arc::clone(&part));
            let rehearsal = move |view: &mut View<'_>| {
                let mut applied = Applied::default();
                // An error here shows itself again in earnest, if it is one.
                let _ = shown.each(|op| {
                    let _ = foreseen.rehearser.op(view, &of, &shown.of.facts.rev, op, time_us, &mut applied);
                    Ok(())
                });
            };
            shared
                .run_foreseen(rehearsal, move |view| {
                    let mut applied = Applied::default();
                    part.each(|op| job.applier.op(view, &did, &part.of.facts.rev, op, time_us, &mut applied))?;
                    job.applier.count(&applied);
                    Ok(())
                })
                .await?;
            self.applied_total.fetch_add(count, Relaxed);
        }
        let (job, did) = (Arc::clone(shared), Arc::clone(did));
        shared.run(move |view| job.applier.end_resync(view, &did, &snapshot.facts, &begun)).await
    }

    /// Waits until the next job may be handed to the writer.
    async fn turn(&self, shared: &Shared, asked: &Asked) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
        let until = Instant::now() + GIVES_WAY_MAX;
        while asked.by == By::Backfill
            && shared.room.taken().0 > shared.config.events_in_flight_max / 4
            && Instant::now() < until
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.turns.acquire().await.map_err(|_| Error::Stopped)
    }

    /// What was read since start.
    pub(crate) fn figures(&self) -> ReadFigures {
        ReadFigures {
            repos: self.done_total.load(Relaxed),
            records: self.records_total.load(Relaxed),
            applied: self.applied_total.load(Relaxed),
            deleted: self.deleted_total.load(Relaxed),
            bytes: self.bytes_total.load(Relaxed),
        }
    }
}

/// A block in memory is there; only one on disk can be unreadable, and that was read before.
const UNREADABLE: gp_index::Error = gp_index::Error::Corrupt { table: "repo", what: "block" };

/// How many of these records fit into one job; at least one.
fn jobful(records: &Records<Spooled>, of: &[u32]) -> usize {
    let mut bytes = 0;
    let fits = of.iter().take(RECORDS_PER_JOB).take_while(|at| {
        bytes += records.place(**at as usize).1;
        bytes <= BYTES_PER_JOB
    });
    fits.count().max(1)
}

/// The blocks of some records, if reading them may wait for a disk: the writer must not.
async fn blocks(snapshot: &Arc<Snapshot>, chunk: &[u32]) -> Result<Option<Vec<Vec<u8>>>, Error> {
    if !snapshot.records.source().may_block() {
        return Ok(None);
    }
    let (snapshot, chunk) = (Arc::clone(snapshot), chunk.to_vec());
    let read = blocking(move || {
        let blocks = chunk.iter().map(|at| snapshot.records.block(*at as usize).map(Cow::into_owned));
        blocks.collect::<Result<Vec<_>, ArchiveError>>()
    });
    read.await?.map(Some).map_err(|e| Error::Failed(e.to_string()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Failed(format!("the verification stopped: {e}")))
}

impl From<Lost> for Trouble {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Refused(error) => Self::new(FailReason::Unreachable, error),
            Lost::NoAnswer(why) => Self::failed(FailReason::Unreachable, why),
            Lost::Slow(why) => Self::failed(FailReason::Slow, why),
            Lost::TooLarge(bytes_max) => {
                let why = format!("the repo is larger than {bytes_max} bytes");
                Self::new(FailReason::TooLarge, Error::Refused(why))
            }
            Lost::Disk(error) => Self::failed(FailReason::OwnDisk, format!("the repo cannot be put aside: {error}")),
            Lost::Stopped => Self::new(FailReason::OwnDisk, Error::Stopped),
        }
    }
}

/// When the records of a collection are applied: what others refer to comes first, so that gates stand before their
/// posts, lists before their items, and self-threads grow from the root (ingest 5.4).
fn turn(collection: &str) -> u8 {
    match collection {
        "app.bsky.actor.profile" => 0,
        "app.bsky.graph.list" | "app.bsky.feed.generator" | "app.bsky.labeler.service" => 1,
        "app.bsky.graph.follow" | "app.bsky.graph.listitem" => 2,
        "app.bsky.feed.threadgate" | "app.bsky.feed.postgate" => 3,
        "app.bsky.feed.post" => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_come_before_posts_and_profiles_before_all() {
        let mut order = [
            "app.bsky.feed.like",
            "app.bsky.feed.post",
            "app.bsky.feed.threadgate",
            "app.bsky.graph.list",
            "app.bsky.actor.profile",
        ];
        order.sort_by_key(|c| turn(c));
        assert_eq!(
            order,
            [
                "app.bsky.actor.profile",
                "app.bsky.graph.list",
                "app.bsky.feed.threadgate",
                "app.bsky.feed.post",
                "app.bsky.feed.like"
            ]
        );
    }

    #[test]
    fn numbers_on_disk_say_the_reasons_they_stand_for() {
        for reason in FailReason::ALL {
            assert_eq!(FailReason::of_number(*reason as u32), Some(*reason));
        }
        assert_eq!(FailReason::of_number(0), None);
        let names: std::collections::HashSet<&str> = FailReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), FailReason::ALL.len());
    }
}
