//! Reads repos whole: from the account's host, verified completely, applied as the difference to what is kept.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use gp_atproto::{Cid, crypto::VerifyingKey, repo::Repo};
use gp_index::{
    apply::{Action, Applied, Op},
    collections,
    repos::{self, RepoStatus},
};
use gp_store::View;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Error,
    apply::Begun,
    decode,
    facts::SyncFacts,
    http::{LargeBody, Trust},
    identity::{Want, escape},
    jobs::{Ask, Outcome, Queue, Taken},
    shared::Shared,
};

/// Records compared or applied in one job, so that the writer has time for others in between.
const RECORDS_PER_JOB: usize = 200;

/// Bodies below this size need no permit for large ones.
const SMALL_BODY_BYTES: usize = 32 << 20;

/// Large bodies at the same time.
const LARGE_BODIES_MAX: usize = 1;

/// A document this new is asked for again only if the repo does not verify with it.
const DOCUMENT_NEW_FOR: Duration = Duration::from_secs(60);

const CAR_ACCEPT: &str = "application/vnd.ipld.car";

/// Reads repos whole, a few at a time, fewer from the same host.
pub(crate) struct Resyncs {
    hosts: Arc<Hosts>,
    running: Semaphore,
    large: Semaphore,
    done_total: AtomicU64,
    records_total: AtomicU64,
    applied_total: AtomicU64,
    deleted_total: AtomicU64,
    bytes_total: AtomicU64,
}

/// Who reads from which host, and who waits.
struct Hosts {
    per_host_max: usize,
    queue: Arc<Queue>,
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Default)]
struct Host {
    running: usize,
    waiting: VecDeque<Arc<str>>,
    /// The same as `waiting`: a job that came back by itself keeps its place.
    waits: HashSet<Arc<str>>,
}

/// Leave to read from a host.
struct HostPermit {
    host: String,
    hosts: Arc<Hosts>,
}

impl Hosts {
    /// Leave to read from a host, or a place in its queue: then the job is told when it is its turn.
    fn enter(self: &Arc<Self>, host: &str, did: &Arc<str>) -> Option<HostPermit> {
        let mut hosts = self.hosts.lock();
        let entry = hosts.entry(host.to_owned()).or_default();
        if entry.running >= self.per_host_max {
            if entry.waits.insert(Arc::clone(did)) {
                entry.waiting.push_back(Arc::clone(did));
            }
            return None;
        }
        entry.running += 1;
        Some(HostPermit { host: host.to_owned(), hosts: Arc::clone(self) })
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        let mut hosts = self.hosts.hosts.lock();
        let Some(entry) = hosts.get_mut(&self.host) else { return };
        entry.running -= 1;
        let mut free = self.hosts.per_host_max - entry.running;
        // One that is gone meanwhile must not keep the others waiting.
        while free > 0
            && let Some(next) = entry.waiting.pop_front()
        {
            entry.waits.remove(&next);
            free -= usize::from(self.hosts.queue.ready(&next));
        }
        if entry.running == 0 && entry.waiting.is_empty() {
            hosts.remove(&self.host);
        }
    }
}

/// A repo that was read and verified.
struct Snapshot {
    facts: SyncFacts,
    /// In the order in which they are applied.
    records: Vec<Record>,
    /// Where in `records` a record is.
    by_path: HashMap<String, usize>,
}

struct Record {
    collection: Box<str>,
    rkey: Box<str>,
    cid: Cid,
    block: Bytes,
}

impl Record {
    fn op(&self) -> Op<'_> {
        Op {
            action: Action::Create,
            collection: &self.collection,
            rkey: &self.rkey,
            cid: Some(self.cid),
            record: Some(&self.block),
        }
    }
}

impl Resyncs {
    pub(crate) fn new(shared: &Shared) -> Arc<Self> {
        let hosts = Hosts {
            per_host_max: shared.config.resyncs_per_host_max.max(1),
            queue: Arc::clone(&shared.resyncs),
            hosts: Mutex::default(),
        };
        Arc::new(Self {
            hosts: Arc::new(hosts),
            running: Semaphore::new(shared.config.resyncs_running_max.max(1)),
            large: Semaphore::new(LARGE_BODIES_MAX),
            done_total: AtomicU64::new(0),
            records_total: AtomicU64::new(0),
            applied_total: AtomicU64::new(0),
            deleted_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
        })
    }

    /// One attempt at reading a repo.
    pub(crate) async fn attempt(self: Arc<Self>, shared: Arc<Shared>, taken: Taken) -> Outcome {
        let did = &taken.did;
        // Key or host may be what changed, so they are asked for again. If they cannot be had, what we know will show.
        let now = Instant::now();
        let since = if taken.attempt == 0 { now.checked_sub(DOCUMENT_NEW_FOR).unwrap_or(now) } else { now };
        let (key, pds) = match shared.identity.document_or_stale(did, Want::Since(since)).await {
            Ok(document) => match (&document.key, &document.pds) {
                (Some(key), Some(pds)) => (key.clone(), pds.clone()),
                _ => {
                    return self
                        .failed(
                            &shared,
                            &taken,
                            None,
                            Error::Refused(format!("the document of {did} names no key or no host")),
                        )
                        .await;
                }
            },
            Err(error) => return self.failed(&shared, &taken, None, error).await,
        };
        // One turn is given back at the end of this function, whichever way it is left.
        let Some(_host) = self.hosts.enter(&pds, did) else { return Outcome::Waits };
        let Ok(_turn) = self.running.acquire().await else { return Outcome::Retry(Error::Stopped) };
        let (begin, now_us) = (Arc::clone(did), (shared.cx.now_us)());
        let begun = {
            let job = Arc::clone(&shared);
            shared.run(move |view| job.applier.begin_resync(view, &begin, now_us)).await
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => return Outcome::Retry(error),
        };
        if begun.new {
            shared.refreshes.ask(did, Ask { stored: true, ..Ask::default() });
        }
        let snapshot = match self.read(&shared, did, &pds, key, &begun).await {
            Ok(snapshot) => Arc::new(snapshot),
            Err(error) => return self.failed(&shared, &taken, Some(begun), error).await,
        };
        // From here on what is kept is neither as before nor as it should be; only a whole reading helps.
        let begun = Begun { before: RepoStatus::Desynced, ..begun };
        match self.apply(&shared, did, snapshot, begun.clone()).await {
            Ok(true) => {
                self.done_total.fetch_add(1, Relaxed);
                Outcome::Done
            }
            Ok(false) => Outcome::Retry(Error::Failed("the repo moved on while it was read".into())),
            Err(error) => self.failed(&shared, &taken, Some(begun), error).await,
        }
    }

    /// Leaves the repo as it was, or waiting for the next attempt.
    async fn failed(&self, shared: &Arc<Shared>, taken: &Taken, begun: Option<Begun>, error: Error) -> Outcome {
        let give_up = taken.last || matches!(error, Error::Absent(_) | Error::Refused(_) | Error::Invalid(_));
        let (did, job) = (Arc::clone(&taken.did), Arc::clone(shared));
        let left = shared
            .run(move |view| match &begun {
                Some(begun) => job.applier.abandon_resync(view, &did, begun, give_up),
                None if give_up => {
                    let row = crate::jobs::row(view, crate::jobs::JobKind::Resync, &did)?;
                    crate::jobs::remove(view, crate::jobs::JobKind::Resync, &did, row.as_ref()).map(drop)
                }
                None => Ok(()),
            })
            .await;
        match left {
            Ok(()) if give_up => Outcome::GiveUp(error),
            Ok(()) => Outcome::Retry(error),
            Err(error) => Outcome::Retry(error),
        }
    }

    /// Reads and verifies a repo, from its host or else from a relay.
    async fn read(
        &self,
        shared: &Arc<Shared>,
        did: &Arc<str>,
        pds: &str,
        key: VerifyingKey,
        begun: &Begun,
    ) -> Result<Snapshot, Error> {
        let body = match self.fetch(shared, Trust::Network, pds, did).await {
            Ok(body) => body,
            // What a host refuses to give is not to be had elsewhere.
            Err(error) if !matches!(error, Error::Failed(_)) => return Err(error),
            Err(error) => {
                let mut fetched = Err(error);
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
        self.bytes_total.fetch_add(body.len() as u64, Relaxed);
        let (did, now_us) = (Arc::clone(did), (shared.cx.now_us)());
        let snapshot = tokio::task::spawn_blocking(move || snapshot(&body, &did, &key, now_us))
            .await
            .map_err(|e| Error::Failed(format!("the verification stopped: {e}")))??;
        let (read, wanted) = (&*snapshot.facts.rev, begun.row.min_rev.as_str().max(begun.rev.as_str()));
        if read < wanted {
            return Err(Error::Failed(format!("the host still gives revision {read}, {wanted} is known to exist")));
        }
        Ok(snapshot)
    }

    async fn fetch(&self, shared: &Shared, trust: Trust, base: &str, did: &str) -> Result<Bytes, Error> {
        let url = format!("{base}/xrpc/com.atproto.sync.getRepo?did={}", escape(did));
        let bounds = LargeBody {
            time_max: shared.config.repo_read_max,
            bytes_max: shared.config.repo_bytes_max,
            small_bytes: SMALL_BODY_BYTES,
        };
        let answer = shared.identity.http().get_large(trust, &url, CAR_ACCEPT, &self.large, bounds).await?;
        if answer.ok() {
            return Ok(answer.body);
        }
        match answer.error_name().as_deref() {
            Some("RepoNotFound") => Err(Error::Absent(format!("{base} has no repo of {did}"))),
            Some(word @ ("RepoTakendown" | "RepoSuspended" | "RepoDeactivated")) => {
                Err(Error::Refused(format!("{base} keeps the repo of {did} back: {word}")))
            }
            other => Err(Error::Failed(format!("{base} answered {} {}", answer.status, other.unwrap_or_default()))),
        }
    }

    /// Applies a snapshot as the difference to what is kept: first what is gone, then what is new or changed. Returns
    /// whether the repo is complete.
    async fn apply(
        &self,
        shared: &Arc<Shared>,
        did: &Arc<str>,
        snapshot: Arc<Snapshot>,
        begun: Begun,
    ) -> Result<bool, Error> {
        let time_us = (shared.cx.now_us)();
        let mut same = vec![false; snapshot.records.len()];
        let mut after: Option<(String, String)> = None;
        loop {
            let (job, did, read, from) = (Arc::clone(shared), Arc::clone(did), Arc::clone(&snapshot), after.take());
            let (page_same, deleted, last) = shared
                .run(move |view| {
                    let page = repos::records(view, &did, from.as_ref(), RECORDS_PER_JOB)?;
                    let (mut same, mut applied) = (Vec::new(), Applied::default());
                    for (collection, rkey, cid) in &page {
                        match read.by_path.get(&path(collection, rkey)) {
                            Some(at) if read.records[*at].cid == *cid => same.push(*at),
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
        let changed: Vec<usize> = (0..snapshot.records.len()).filter(|at| !same[*at]).collect();
        self.records_total.fetch_add(snapshot.records.len() as u64, Relaxed);
        for chunk in changed.chunks(RECORDS_PER_JOB) {
            let applied = chunk.len() as u64;
            let chunk: Arc<[usize]> = chunk.into();
            let (job, did, read) = (Arc::clone(shared), Arc::clone(did), Arc::clone(&snapshot));
            let shown = (Arc::clone(shared), Arc::clone(&did), Arc::clone(&snapshot), Arc::clone(&chunk));
            let rehearsal = move |view: &mut View<'_>| {
                let (shared, did, read, chunk) = &shown;
                let ops = chunk.iter().map(|at| read.records[*at].op());
                shared.rehearser.rehearse_ops(view, did, &read.facts.rev, ops, time_us);
            };
            shared
                .run_foreseen(rehearsal, move |view| {
                    let mut applied = Applied::default();
                    for op in chunk.iter().map(|at| read.records[*at].op()) {
                        job.applier.op(view, &did, &read.facts.rev, &op, time_us, &mut applied)?;
                    }
                    job.applier.count(&applied);
                    Ok(())
                })
                .await?;
            self.applied_total.fetch_add(applied, Relaxed);
        }
        let (job, did) = (Arc::clone(shared), Arc::clone(did));
        shared.run(move |view| job.applier.end_resync(view, &did, &snapshot.facts, &begun)).await
    }

    pub(crate) fn status(&self, shared: &Shared) -> Value {
        let (held_repos, held_bytes) = shared.applier.held.figures();
        let mut status = shared.resyncs.status();
        if let Value::Object(status) = &mut status {
            status.insert("repos_read".into(), self.done_total.load(Relaxed).into());
            status.insert("records_read".into(), self.records_total.load(Relaxed).into());
            status.insert("records_applied".into(), self.applied_total.load(Relaxed).into());
            status.insert("records_deleted".into(), self.deleted_total.load(Relaxed).into());
            status.insert("bytes_read".into(), self.bytes_total.load(Relaxed).into());
            status.insert("held".into(), json!({"repos": held_repos, "bytes": held_bytes}));
        }
        status
    }
}

fn path(collection: &str, rkey: &str) -> String {
    format!("{collection}/{rkey}")
}

/// Verifies a repo and keeps what is indexed of it. Costs about a microsecond a record.
fn snapshot(body: &Bytes, did: &str, key: &VerifyingKey, now_us: i64) -> Result<Snapshot, Error> {
    let repo = Repo::verify(body, did, key, now_us.unsigned_abs())
        .map_err(|e| Error::Failed(format!("the repo that was read does not verify: {e}")))?;
    let facts = decode::sync_facts(&repo.state());
    let mut records: Vec<Record> = repo
        .records()
        .filter(|record| collections::of(record.collection).is_some())
        .map(|record| Record {
            collection: record.collection.into(),
            rkey: record.rkey.into(),
            cid: record.cid,
            block: body.slice_ref(record.record),
        })
        .collect();
    // The tree gives them by collection and key, so records of one collection stay in the order of their keys.
    records.sort_by_key(|record| turn(&record.collection));
    let by_path = records.iter().enumerate().map(|(at, record)| (path(&record.collection, &record.rkey), at)).collect();
    Ok(Snapshot { facts, records, by_path })
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
    use crate::{
        jobs::{Bounds, JobKind},
        pending::Pending,
    };

    #[test]
    fn a_full_host_makes_others_wait_and_wakes_them_in_turn() {
        let bounds =
            Bounds { running_max: 9, in_memory_max: 99, retry_delays: &[], attempts_max: 1, attempts_pending_max: 1 };
        let queue = Queue::new(JobKind::Resync, bounds, Pending::default());
        let hosts = Arc::new(Hosts { per_host_max: 1, queue: Arc::clone(&queue), hosts: Mutex::default() });
        let did = |n: u8| Arc::<str>::from(format!("did:plc:{n}"));
        let first = hosts.enter("https://a", &did(1)).unwrap();
        assert!(hosts.enter("https://a", &did(2)).is_none());
        assert!(hosts.enter("https://b", &did(3)).is_some());
        assert!(hosts.enter("https://a", &did(4)).is_none());
        // The first in the queue is gone, so the second is told.
        queue.ask(&did(4), Ask::default());
        drop(first);
        assert!(hosts.hosts.lock().is_empty());
    }

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
}
