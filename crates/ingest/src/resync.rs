//! Repos of which something is missing: who is read when. How a repo is read stands in `reading`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Error,
    identity::Want,
    jobs::{self, JobKind, Outcome, Queue, Taken},
    reading::{Asked, By, Readings},
    shared::Shared,
};

/// A document this new is asked for again only if the repo does not verify with it.
const DOCUMENT_NEW_FOR: Duration = Duration::from_secs(60);

/// Reads repos whole of which something is missing, a few at a time, fewer from the same host.
pub(crate) struct Resyncs {
    hosts: Arc<Hosts>,
    running: Semaphore,
    readings: Arc<Readings>,
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

impl Resyncs {
    pub(crate) fn new(shared: &Shared, readings: Arc<Readings>) -> Arc<Self> {
        let hosts = Hosts {
            per_host_max: shared.config.resyncs_per_host_max.max(1),
            queue: Arc::clone(&shared.resyncs),
            hosts: Mutex::default(),
        };
        Arc::new(Self {
            hosts: Arc::new(hosts),
            running: Semaphore::new(shared.config.resyncs_running_max.max(1)),
            readings,
        })
    }

    /// One attempt at reading a repo.
    pub(crate) async fn attempt(self: Arc<Self>, shared: Arc<Shared>, taken: Taken) -> Outcome {
        let did = &taken.did;
        // Key or host may be what changed, so they are asked for again. If they cannot be had, what we know will show.
        let now = Instant::now();
        let since = if taken.attempt == 0 { now.checked_sub(DOCUMENT_NEW_FOR).unwrap_or(now) } else { now };
        let document = match shared.identity.document_or_stale(did, Want::Since(since)).await {
            Ok(document) => document,
            Err(error) => return self.not_begun(&shared, &taken, error).await,
        };
        let Some(pds) = document.pds.clone().filter(|_| document.key.is_some()) else {
            let why = format!("the document of {did} names no key or no host");
            return self.not_begun(&shared, &taken, Error::Refused(why)).await;
        };
        // One turn is given back at the end of this function, whichever way it is left.
        let Some(_host) = self.hosts.enter(&pds, did) else { return Outcome::Waits };
        let Ok(_turn) = self.running.acquire().await else { return Outcome::Retry(Error::Stopped) };
        // The backfill may be reading it.
        let Some(claim) = self.readings.claim(&shared, did, true) else { return Outcome::Waits };
        let asked = Asked { document, by: By::Resync { last: taken.last } };
        match self.readings.read(&shared, &claim, &asked).await {
            Ok(read) if read.complete => Outcome::Done,
            Ok(_) => Outcome::Retry(Error::Failed("the repo moved on while it was read".into())),
            Err(trouble) if taken.last || trouble.is_final() => Outcome::GiveUp(trouble.error),
            Err(trouble) => Outcome::Retry(trouble.error),
        }
    }

    /// Nothing was changed yet. If it is given up, its row goes.
    async fn not_begun(&self, shared: &Shared, taken: &Taken, error: Error) -> Outcome {
        let give_up = taken.last || matches!(error, Error::Absent(_) | Error::Refused(_) | Error::Invalid(_));
        if !give_up {
            return Outcome::Retry(error);
        }
        let did = Arc::clone(&taken.did);
        let left = shared.run(move |view| {
            let row = jobs::row(view, JobKind::Resync, &did)?;
            jobs::remove(view, JobKind::Resync, &did, row.as_ref()).map(drop)
        });
        match left.await {
            Ok(()) => Outcome::GiveUp(error),
            Err(error) => Outcome::Retry(error),
        }
    }

    pub(crate) fn status(&self, shared: &Shared) -> Value {
        let (held_repos, held_bytes) = shared.applier.held.figures();
        let mut status = shared.resyncs.status();
        if let Value::Object(status) = &mut status {
            let read = self.readings.figures();
            status.insert("repos_read".into(), read.repos.into());
            status.insert("records_read".into(), read.records.into());
            status.insert("records_applied".into(), read.applied.into());
            status.insert("records_deleted".into(), read.deleted.into());
            status.insert("bytes_read".into(), read.bytes.into());
            status.insert("held".into(), json!({"repos": held_repos, "bytes": held_bytes}));
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        jobs::{Ask, Bounds},
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
}
