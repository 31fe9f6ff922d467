//! Private state: three logs of operations, read by long polls and applied in their order.
//!
//! The position in a log is stored in the same write as the effect, so an operation takes effect once. An operation
//! that cannot be applied is kept as a dead letter and never stops the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gp_index::{mutes, private, progress};
use gp_proto::bsync as wire;
use gp_store::{Cache, Column, Key, Kind, Table, View};
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{BsyncConfig, Error, drop::DropReason, shared::Shared, socket::Backoff};

/// Operations on private state that could not be applied, for a person to look at.
pub(crate) static DEAD_LETTER: Table = Table {
    id: 65, // On disk. Never reused, never renumbered.
    name: "ingest_dead_letter",
    partition: &[Column { name: "log", kind: Kind::Tag }],
    clustering: &[Column { name: "id", kind: Kind::Bytes }],
    value: &[Column { name: "reason_and_operation", kind: Kind::Bytes }],
    cache: Cache::Never,
    bucket_rows: None,
};

/// Largest operation kept as a dead letter.
const DEAD_LETTER_BYTES_MAX: usize = 64 << 10;

/// Largest page that is read.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// Operations applied in one job.
const OPS_PER_JOB: usize = 200;

/// The server numbers an operation before it is visible, so for a moment a later one can be read while an earlier one
/// is still on its way. A page at the end of a log that leaves a number out is asked for once more after this time; a
/// number that is missing then was never used.
const GAP_WAIT: Duration = Duration::from_millis(250);

/// A poll that brings nothing sooner than this is followed by a pause, since the server does not wait.
const POLL_MIN: Duration = Duration::from_millis(100);

/// The three logs. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    Mute = 1,
    Notif = 2,
    Op = 3,
}

impl Log {
    const ALL: [Self; 3] = [Self::Mute, Self::Notif, Self::Op];

    fn name(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Notif => "notif",
            Self::Op => "op",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Mute => "ScanMuteOperations",
            Self::Notif => "ScanNotifOperations",
            Self::Op => "ScanOperations",
        }
    }

    fn source(self) -> String {
        format!("bsync:{}", self.name())
    }
}

/// One operation of any log.
#[derive(Debug, Clone)]
enum Operation {
    Mute(wire::MuteOperation),
    Notif(wire::NotifOperation),
    Op(wire::Operation),
}

impl Operation {
    fn id(&self) -> Option<i64> {
        let id = match self {
            Self::Mute(it) => &it.id,
            Self::Notif(it) => &it.id,
            Self::Op(it) => &it.id,
        };
        id.parse().ok().filter(|id| *id >= 0)
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Mute(it) => it.encode_to_vec(),
            Self::Notif(it) => it.encode_to_vec(),
            Self::Op(it) => it.encode_to_vec(),
        }
    }
}

/// Follows the three logs.
pub(crate) struct Bsync {
    config: BsyncConfig,
    positions: [AtomicI64; 3],
    errors: Mutex<[Option<String>; 3]>,
    applied_total: AtomicU64,
}

impl Bsync {
    /// Begins after the stored positions.
    pub(crate) async fn new(shared: &Shared, config: BsyncConfig) -> Result<Arc<Self>, Error> {
        let positions: [AtomicI64; 3] = Default::default();
        for log in Log::ALL {
            let stored = progress::of(&shared.cx.store, &log.source()).await?;
            positions[log as usize - 1].store(stored.unwrap_or(0), Relaxed);
        }
        Ok(Arc::new(Self { config, positions, errors: Mutex::default(), applied_total: AtomicU64::new(0) }))
    }

    pub(crate) fn logs() -> [Log; 3] {
        Log::ALL
    }

    /// Follows one log until stopped.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>, log: Log) {
        let mut backoff = Backoff::default();
        while shared.may_read().await {
            let reading = shared.readers.begin();
            let begun = Instant::now();
            let page = tokio::select! {
                page = self.page(&shared, log) => page,
                () = shared.must_not_read() => continue,
            };
            // A page that has arrived is applied whole, also when a pause begins meanwhile.
            let outcome = match page {
                Ok(page) if page.is_empty() => {
                    if begun.elapsed() < POLL_MIN {
                        tokio::time::sleep(POLL_MIN).await;
                    }
                    Ok(())
                }
                Ok(page) => {
                    let _guard = shared.pending.begin();
                    self.apply(&shared, log, page).await
                }
                Err(error) => Err(error),
            };
            drop(reading);
            match outcome {
                Ok(()) => {
                    backoff.reset();
                    self.errors.lock()[log as usize - 1] = None;
                }
                Err(error) => {
                    if backoff.failures() == 0 {
                        tracing::warn!(log = log.name(), %error, "private state cannot be read");
                    }
                    self.errors.lock()[log as usize - 1] = Some(error.to_string());
                    let delay = backoff.delay();
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = shared.must_not_read() => {}
                    }
                }
            }
        }
    }

    /// The next page of a log, without an operation that is still on its way having been passed over.
    async fn page(&self, shared: &Shared, log: Log) -> Result<Vec<Operation>, Error> {
        let page = self.poll(shared, log).await?;
        let full = usize::try_from(self.config.page_ops_max).is_ok_and(|max| page.len() >= max);
        // Behind a full page there is more, and what is in it was written a while ago.
        if full || !leaves_out(self.positions[log as usize - 1].load(Relaxed), &page) {
            return Ok(page);
        }
        tokio::time::sleep(GAP_WAIT).await;
        self.poll(shared, log).await
    }

    async fn poll(&self, shared: &Shared, log: Log) -> Result<Vec<Operation>, Error> {
        let position = self.positions[log as usize - 1].load(Relaxed);
        let cursor = if position == 0 { String::new() } else { position.to_string() };
        let limit = self.config.page_ops_max;
        // All three requests have the same shape.
        let body = wire::ScanMuteOperationsRequest { cursor, limit }.encode_to_vec();
        let url = format!("{}/bsync.Service/{}", self.config.url.trim_end_matches('/'), log.method());
        let answer = shared
            .identity
            .http()
            .post_proto(&url, &self.config.api_key, body, self.config.poll_max, PAGE_BYTES_MAX)
            .await?;
        if !answer.ok() {
            let said: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
            return Err(Error::Failed(format!("{} answered {}: {said}", log.method(), answer.status)));
        }
        let garbage =
            |e: prost::DecodeError| Error::Failed(format!("{} answered what is no message: {e}", log.method()));
        Ok(match log {
            Log::Mute => wire::ScanMuteOperationsResponse::decode(answer.body)
                .map_err(garbage)?
                .operations
                .into_iter()
                .map(Operation::Mute)
                .collect(),
            Log::Notif => wire::ScanNotifOperationsResponse::decode(answer.body)
                .map_err(garbage)?
                .operations
                .into_iter()
                .map(Operation::Notif)
                .collect(),
            Log::Op => wire::ScanOperationsResponse::decode(answer.body)
                .map_err(garbage)?
                .operations
                .into_iter()
                .map(Operation::Op)
                .collect(),
        })
    }

    async fn apply(&self, shared: &Arc<Shared>, log: Log, page: Vec<Operation>) -> Result<(), Error> {
        let position = &self.positions[log as usize - 1];
        let before = position.load(Relaxed);
        let mut page = page.into_iter().peekable();
        while page.peek().is_some() {
            let (job, time_us) = (Arc::clone(shared), (shared.cx.now_us)());
            let ops: Arc<[Operation]> = page.by_ref().take(OPS_PER_JOB).collect();
            let shown = Arc::clone(&ops);
            let count = ops.len() as u64;
            let mut last = position.load(Relaxed);
            let rehearsal = move |view: &mut View<'_>| {
                for op in shown.iter() {
                    let mark = view.mark();
                    if effect(view, op, time_us).is_err() {
                        view.roll_back(mark);
                    }
                }
            };
            let reached = shared
                .run_foreseen(rehearsal, move |view| {
                    for op in ops.iter() {
                        match op.id() {
                            // Without a place in the log it can neither be ordered nor kept.
                            None => job.drops.lost(DropReason::PrivateOp),
                            Some(id) if id <= last => {}
                            Some(id) => {
                                one(view, &job, log, id, op, time_us)?;
                                last = id;
                            }
                        }
                    }
                    progress::set(view, &log.source(), last);
                    Ok(last)
                })
                .await?;
            self.applied_total.fetch_add(count, Relaxed);
            position.store(reached, Relaxed);
        }
        if position.load(Relaxed) == before {
            return Err(Error::Failed(format!("{} answered operations that do not come after {before}", log.method())));
        }
        Ok(())
    }

    pub(crate) fn status(&self, running: bool) -> Value {
        let position = |log: Log| self.positions[log as usize - 1].load(Relaxed);
        let errors = self.errors.lock();
        json!({
            "url": self.config.url,
            "running": running,
            "op": position(Log::Op),
            "mute": position(Log::Mute),
            "notif": position(Log::Notif),
            "applied": self.applied_total.load(Relaxed),
            "last_error": errors.iter().flatten().next(),
        })
    }
}

/// Whether a page that goes on after a position leaves a number out.
fn leaves_out(after: i64, page: &[Operation]) -> bool {
    let mut last = after;
    page.iter().filter_map(Operation::id).any(|id| {
        let gap = id > last.saturating_add(1);
        last = last.max(id);
        gap
    })
}

/// Applies one operation, or keeps it as a dead letter.
fn one(view: &mut View<'_>, shared: &Shared, log: Log, id: i64, op: &Operation, time_us: i64) -> gp_index::Result<()> {
    let mark = view.mark();
    let why = match effect(view, op, time_us) {
        Ok(()) => return Ok(()),
        // What the index says it keeps of an invalid operation stays.
        Err(error @ gp_index::Error::Invalid { .. }) => error,
        Err(error @ gp_index::Error::Store(_)) => return Err(error),
        Err(error) => {
            view.roll_back(mark);
            error
        }
    };
    shared.drops.lost(DropReason::PrivateOp);
    tracing::warn!(log = log.name(), id, error = %why, "an operation on private state was put aside");
    let mut letter = format!("{why}\n").into_bytes();
    let bytes = op.bytes();
    letter.extend_from_slice(&bytes[..bytes.len().min(DEAD_LETTER_BYTES_MAX)]);
    view.put(Key::of(&DEAD_LETTER).tag(log as u8).cluster().atom(&id.to_be_bytes()).key(), letter);
    Ok(())
}

fn effect(view: &mut View<'_>, op: &Operation, time_us: i64) -> gp_index::Result<()> {
    let invalid = gp_index::Error::invalid;
    match op {
        Operation::Mute(it) => {
            let what = match it.r#type() {
                wire::mute_operation::Type::Add => mutes::MuteOp::Add,
                wire::mute_operation::Type::Remove => mutes::MuteOp::Remove,
                wire::mute_operation::Type::Clear => mutes::MuteOp::Clear,
                wire::mute_operation::Type::Unspecified => return Err(invalid("type", "is not known")),
            };
            actor(&it.actor_did)?;
            if what != mutes::MuteOp::Clear && !(it.subject.starts_with("did:") || it.subject.starts_with("at://")) {
                return Err(invalid("subject", "is neither a DID nor an at-uri"));
            }
            let scope = if it.only_reposts { mutes::ONLY_REPOSTS } else { 0 }
                | if it.only_quoteposts { mutes::ONLY_QUOTES } else { 0 };
            mutes::apply_mute(view, what, &it.actor_did, &it.subject, scope, time_us)
        }
        Operation::Notif(it) => {
            actor(&it.actor_did)?;
            match it.priority {
                Some(priority) => private::set_priority(view, &it.actor_did, priority, time_us),
                None => Ok(()),
            }
        }
        Operation::Op(it) => {
            let method = match it.method() {
                wire::Method::Create => private::Method::Create,
                wire::Method::Update => private::Method::Update,
                wire::Method::Delete => private::Method::Delete,
                wire::Method::Unspecified => return Err(invalid("method", "is not known")),
            };
            actor(&it.actor_did)?;
            if it.namespace.is_empty() || it.key.is_empty() || it.key.len() > 512 || it.namespace.len() > 512 {
                return Err(invalid("key", "namespace or key is empty or too long"));
            }
            let payload = std::str::from_utf8(&it.payload).map_err(|_| invalid("payload", "is not text"))?;
            let op =
                private::Operation { method, actor: &it.actor_did, namespace: &it.namespace, key: &it.key, payload };
            private::apply(view, &op, time_us)
        }
    }
}

fn actor(did: &str) -> gp_index::Result<()> {
    if gp_atproto::did::is_valid(did) { Ok(()) } else { Err(gp_index::Error::invalid("actor_did", "is not a DID")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_leaves_out_what_is_missing_behind_the_position_and_between() {
        let page = |ids: &[&str]| -> Vec<Operation> {
            ids.iter().map(|id| Operation::Op(wire::Operation { id: (*id).into(), ..Default::default() })).collect()
        };
        for (after, ids, expected) in [
            (0, &["1", "2"][..], false),
            (0, &["2"], true),
            (7, &["8", "10"], true),
            (7, &["8", "junk", "9"], false),
            (7, &["6", "8"], false),
            (i64::MAX, &["1"], false),
            (5, &[], false),
        ] {
            assert_eq!(leaves_out(after, &page(ids)), expected, "{after} {ids:?}");
        }
    }
}
