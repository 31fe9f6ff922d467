//! Labels: the streams of labelers, each label checked with its labeler's key.
//!
//! The position in a stream is stored in the same write as the labels before it. Storing a label twice changes nothing,
//! so whenever there is doubt about a stream, a part of it is read again.

mod doubt;
mod gaps;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use gp_atproto::{
    crypto::VerifyingKey,
    labels::{Label, LabelStreamMessage},
};
use gp_index::{labels::Place, progress};
use gp_store::View;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use self::{
    doubt::{Doubt, NEW_KEY},
    gaps::Gaps,
};
use crate::{
    Error,
    drop::DropReason,
    http::Trust,
    identity::Want,
    pending::Guard,
    progress::Tracker,
    shared::Shared,
    socket::{Backoff, Read, Socket},
};

/// Longest wait for an answer about who a labeler is.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Largest such answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A connection that has held this long was a success even if it brought nothing.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// While a labeler's key cannot be had, its stream waits, asking again this often.
const KEY_RETRY: Duration = Duration::from_secs(2);

/// Where a labeler may say who it is.
const SELF_DESCRIPTIONS: &[(&str, &str)] = &[
    ("/.well-known/ozone-metadata.json", "did"),
    ("/.well-known/did.json", "id"),
    ("/xrpc/com.atproto.server.describeServer", "did"),
];

/// Stored where there is nothing to be read again.
const NOTHING_AGAIN: i64 = -1;

/// One labeler that is followed.
pub(crate) struct Labeler {
    /// As configured: a URL or a DID.
    name: String,
    tracker: Arc<Tracker>,
    /// Who it is, once known. Labels of others are refused.
    did: Mutex<Option<Arc<str>>>,
    doubt: Mutex<Doubt>,
    gaps: Arc<Mutex<Gaps>>,
    /// While a part of the stream is read again: how far that has come. Connections begin here, not at the position.
    again_after: Mutex<Option<i64>>,
    /// The connection is of no more use: there is something to be read again.
    turn_back: AtomicBool,
    /// From where a restart would have to read again, as stored.
    stored_again_after: Mutex<Option<i64>>,
    connected: AtomicBool,
    error: Mutex<Option<String>>,
    applied_total: AtomicU64,
    refused_total: AtomicU64,
    gaps_total: AtomicU64,
    restarts_total: AtomicU64,
}

/// The good labels of a frame.
struct Good {
    seq: i64,
    labels: Vec<Placed>,
    guard: Guard,
}

/// A label and its place in its frame.
struct Placed {
    label: gp_index::labels::Label,
    index: u32,
}

/// A label that is in order but for its signature.
struct Claim {
    placed: Placed,
    /// What may have been signed.
    forms: Vec<Vec<u8>>,
    sig: Vec<u8>,
}

impl Labeler {
    pub(crate) async fn new(shared: &Shared, configured: &str) -> Result<Arc<Self>, Error> {
        let name = configured.trim().trim_end_matches('/').to_owned();
        let did = match gp_atproto::did::is_valid(&name) {
            true => Some(Arc::from(name.as_str())),
            false => {
                http_base(&name)?;
                None
            }
        };
        let source = format!("labels:{name}");
        let stored = progress::of(&shared.cx.store, &source).await?;
        let again_after =
            progress::of(&shared.cx.store, &again_source(&name)).await?.filter(|after| *after != NOTHING_AGAIN);
        Ok(Arc::new(Self {
            tracker: Tracker::new(source, stored),
            name,
            did: Mutex::new(did),
            doubt: Mutex::default(),
            gaps: Arc::default(),
            again_after: Mutex::new(again_after),
            turn_back: AtomicBool::new(false),
            stored_again_after: Mutex::new(again_after),
            connected: AtomicBool::new(false),
            error: Mutex::default(),
            applied_total: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
            gaps_total: AtomicU64::new(0),
            restarts_total: AtomicU64::new(0),
        }))
    }

    /// As configured, without a slash at its end.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Follows the labeler until stopped.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut backoff = Backoff::default();
        while shared.may_read().await {
            let reading = shared.readers.begin();
            let begun = Instant::now();
            let ended = self.follow(&shared, &mut backoff).await;
            drop(reading);
            if self.connected.load(Relaxed) && begun.elapsed() >= SETTLED_AFTER {
                backoff.reset();
            }
            self.connected.store(false, Relaxed);
            let Some(why) = ended else { continue };
            if backoff.failures() == 0 {
                tracing::warn!(labeler = self.name, why, "the stream of labels ended");
            }
            *self.error.lock() = Some(why);
            let delay = backoff.delay();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shared.must_not_read() => {}
            }
        }
    }

    /// One connection; returns why it ended, or nothing if it was to be ended.
    async fn follow(&self, shared: &Arc<Shared>, backoff: &mut Backoff) -> Option<String> {
        let stop = shared.must_not_read();
        tokio::pin!(stop);
        let opened = tokio::select! {
            opened = self.open(shared) => opened,
            () = &mut stop => return None,
        };
        let (mut socket, base) = match opened {
            Ok(opened) => opened,
            Err(error) => return Some(error),
        };
        self.connected.store(true, Relaxed);
        loop {
            let read = tokio::select! {
                read = socket.next() => read,
                () = self.ask_again(shared) => return Some(NEW_KEY.into()),
                () = self.look_again() => {
                    socket.close().await;
                    return Some("some positions were left out: that part is read again".into());
                }
                () = &mut stop => {
                    socket.close().await;
                    return None;
                }
            };
            match read {
                Read::Frame(frame) => {
                    let checked = tokio::select! {
                        checked = self.check(shared, &base, &frame) => checked,
                        () = &mut stop => return None,
                    };
                    // From here on the frame counts as read, so this is not left half-way.
                    let stored = match checked {
                        Ok(Some(good)) => self.store(shared, good).await,
                        Ok(None) => Ok(()),
                        Err(why) => Err(why),
                    };
                    match stored {
                        Ok(()) => backoff.reset(),
                        Err(why) => return Some(why),
                    }
                    if self.turn_back.swap(false, Relaxed) {
                        socket.close().await;
                        return Some(NEW_KEY.into());
                    }
                }
                // Its position is inside what was thrown away; the next frame moves on past it.
                Read::TooLarge(_) => shared.drops.lost(DropReason::FrameTooLarge),
                Read::FarTooLarge => {
                    shared.drops.lost(DropReason::FrameTooLarge);
                    self.step_over();
                    return Some("a frame far too large was stepped over".into());
                }
                Read::Closed(why) => return Some(why),
            }
        }
    }

    async fn open(&self, shared: &Arc<Shared>) -> Result<(Socket, String), String> {
        let base = self.base(shared).await.map_err(|e| e.to_string())?;
        let read_to = self.tracker.read_to().unwrap_or(0);
        let again_after = *self.again_after.lock();
        let cursor = again_after.map_or(read_to, |after| after.min(read_to));
        let url = format!("{}/xrpc/com.atproto.label.subscribeLabels?cursor={cursor}", base.replacen("http", "ws", 1));
        let socket = Socket::open(&url, shared.config.frame_bytes_max).await?;
        self.turn_back.store(false, Relaxed);
        if self.did.lock().is_none() {
            self.ask_who(shared, &base).await;
        }
        Ok((socket, base))
    }

    /// The base URL of the labeler, `http` or `https`.
    async fn base(&self, shared: &Shared) -> Result<String, Error> {
        if !gp_atproto::did::is_valid(&self.name) {
            return http_base(&self.name);
        }
        let document = shared.identity.document(&self.name, Want::Any).await?;
        document
            .labeler
            .clone()
            .ok_or_else(|| Error::Refused(format!("the document of {} names no labeler", self.name)))
    }

    /// Asks a labeler that was configured by its URL who it is. What it says counts if that account has a key for labels.
    async fn ask_who(&self, shared: &Shared, base: &str) {
        for (path, field) in SELF_DESCRIPTIONS {
            let url = format!("{base}{path}");
            let Ok(answer) = shared.identity.http().query(Trust::Operator, &url, ANSWER_MAX, ANSWER_BYTES_MAX).await
            else {
                continue;
            };
            let Some(did) = answer.json().ok().and_then(|v| v.get(*field)?.as_str().map(Arc::<str>::from)) else {
                continue;
            };
            if !answer.ok() || !gp_atproto::did::is_valid(&did) {
                continue;
            }
            if shared.identity.document(&did, Want::Any).await.is_ok_and(|document| document.label_key.is_some()) {
                *self.did.lock() = Some(did);
                return;
            }
        }
    }

    /// Reads one frame and checks its labels. An error ends the connection; the frame then comes again.
    async fn check(&self, shared: &Arc<Shared>, base: &str, frame: &Bytes) -> Result<Option<Good>, String> {
        let (seq, claims) = match LabelStreamMessage::decode(frame) {
            Ok(LabelStreamMessage::Labels(message)) => {
                let mut claims = Vec::with_capacity(message.labels.len());
                for (index, label) in (0..).zip(&message.labels) {
                    match label.as_ref().ok().and_then(|label| claim(label, index)) {
                        Some(claim) => claims.push(claim),
                        None => self.refuse(shared, DropReason::LabelMalformed, 1),
                    }
                }
                (message.seq, claims)
            }
            Ok(LabelStreamMessage::Info(info)) => {
                if info.name == "OutdatedCursor" && self.tracker.read_to().is_some_and(|seq| seq > 0) {
                    self.gaps_total.fetch_add(1, Relaxed);
                    tracing::warn!(labeler = self.name, "labels were lost: the labeler no longer has them");
                }
                return Ok(None);
            }
            Ok(LabelStreamMessage::Error(error)) => {
                let why = format!("{}: {}", error.error, error.message.unwrap_or_default());
                if error.error == "FutureCursor" {
                    self.begin_again(&why);
                }
                return Err(why);
            }
            Ok(LabelStreamMessage::Unknown(_)) => {
                shared.drops.lost(DropReason::MessageUnknown);
                return Ok(None);
            }
            Err(_) => {
                shared.drops.lost(DropReason::FrameMalformed);
                return Ok(None);
            }
        };
        let guard = shared.pending.begin();
        let labels = self.genuine(shared, base, seq, claims).await?;
        Ok(Some(Good { seq, labels, guard }))
    }

    /// The labeler does not know our position: it has lost its own, or was set up anew. Everything it has is read
    /// again; what is stored already stays as it is.
    fn begin_again(&self, why: &str) {
        if self.tracker.read_to().is_some_and(|seq| seq > 0) {
            self.restarts_total.fetch_add(1, Relaxed);
            tracing::warn!(
                labeler = self.name,
                why,
                "the labeler is behind our position: its labels are read from the first one"
            );
            *self.again_after.lock() = None;
            *self.doubt.lock() = Doubt::default();
            *self.gaps.lock() = Gaps::default();
            self.tracker.restart();
        }
    }

    /// Moves the position by one, so that a frame that cannot be read does not come again for ever.
    fn step_over(&self) {
        let seq = self.tracker.read_to().unwrap_or(0) + 1;
        if let Some(ticket) = self.tracker.begin(seq, 0) {
            self.tracker.end(ticket);
        }
    }

    /// The frame `seq` is read: takes note of how far reading again has come. Returns what is to be stored about that,
    /// if anything.
    fn read_again(&self, seq: i64) -> Option<i64> {
        let mut again_after = self.again_after.lock();
        if !self.turn_back.load(Relaxed) {
            let read_to = self.tracker.read_to();
            *again_after =
                again_after.map(|after| after.max(seq)).filter(|after| read_to.is_some_and(|read| *after < read));
        }
        let wanted = [*again_after, self.doubt.lock().refused_after(), self.gaps.lock().first()];
        let wanted = wanted.into_iter().flatten().min();
        let mut stored = self.stored_again_after.lock();
        // Only the first and the last step are worth a write; in between a restart reads a little more.
        if wanted.is_some() == stored.is_some() && wanted >= *stored {
            return None;
        }
        *stored = wanted;
        Some(wanted.unwrap_or(NOTHING_AGAIN))
    }

    /// The position after which something will be read again; nothing if there is no doubt about anything.
    fn to_read_again(&self) -> Option<i64> {
        let again_after = *self.again_after.lock();
        let (refused, left_out) = (self.doubt.lock().refused_after(), self.gaps.lock().first());
        [again_after, refused, left_out].into_iter().flatten().min()
    }

    fn refuse(&self, shared: &Shared, reason: DropReason, count: usize) {
        self.refused_total.fetch_add(count as u64, Relaxed);
        (0..count).for_each(|_| shared.drops.lost(reason));
    }

    async fn store(&self, shared: &Arc<Shared>, good: Good) -> Result<(), String> {
        let Good { seq, labels, guard } = good;
        // What comes again, or comes late, is stored like the rest and leaves the position where it is.
        let read_to = self.tracker.read_to();
        let ticket = self.tracker.begin(seq, (shared.cx.now_us)());
        if let (Some(_), Some(from)) = (ticket, read_to) {
            self.gaps.lock().moved(from, seq);
        }
        let again_after = self.read_again(seq);
        if ticket.is_none() && labels.is_empty() && again_after.is_none() {
            return Ok(());
        }
        let (job, tracker, gaps) = (Arc::clone(shared), Arc::clone(&self.tracker), Arc::clone(&self.gaps));
        let (source, again_source) = (format!("labels:{}", self.name), again_source(&self.name));
        self.applied_total.fetch_add(labels.len() as u64, Relaxed);
        let labels: Arc<[Placed]> = labels.into();
        let shown = Arc::clone(&labels);
        let rehearsal = move |view: &mut View<'_>| {
            for Placed { label, index } in shown.iter() {
                // An error here shows itself again in earnest, if it is one.
                let _ = gp_index::labels::apply(view, label, Place { seq, index: *index });
            }
        };
        let queued = shared.cx.writer.submit_foreseen(rehearsal, move |view| {
            let mark = view.mark();
            let mut changed = false;
            let mut outcome = labels.iter().try_for_each(|Placed { label, index }| {
                changed |= gp_index::labels::apply(view, label, Place { seq, index: *index })?;
                Ok(())
            });
            if ticket.is_none() && changed {
                gaps.lock().found();
            }
            if let Err(error) = &outcome {
                view.roll_back(mark);
                if !matches!(error, gp_index::Error::Store(_)) {
                    tracing::error!(%error, "labels were left out");
                    job.drops.lost(DropReason::OwnState);
                    outcome = Ok(());
                }
            }
            if outcome.is_ok() {
                if ticket.is_some() {
                    progress::set(view, &source, seq);
                }
                if let Some(after) = again_after {
                    progress::set(view, &again_source, after);
                }
            }
            Box::new(move |applied| match (outcome, applied) {
                (Ok(()), Ok(())) => {
                    if let Some(ticket) = ticket {
                        tracker.end(ticket);
                    }
                    drop(guard);
                }
                (Err(error), _) => job.fail(&error),
                (_, Err(error)) => job.fail(&error.into()),
            })
        });
        queued.await.map_err(|e| e.to_string())
    }

    /// The labels of the frame `seq` that are by this labeler and signed by it. Waits while its key cannot be had.
    async fn genuine(
        &self,
        shared: &Arc<Shared>,
        base: &str,
        seq: i64,
        claims: Vec<Claim>,
    ) -> Result<Vec<Placed>, String> {
        let mut good = Vec::with_capacity(claims.len());
        let mut by_src: Vec<(String, Vec<Claim>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for claim in claims {
            let src = &claim.placed.label.src;
            let at = *places.entry(src.clone()).or_insert_with(|| {
                by_src.push((src.clone(), Vec::new()));
                by_src.len() - 1
            });
            by_src[at].1.push(claim);
        }
        for (src, claims) in by_src {
            let known = self.did.lock().clone();
            if known.as_deref().is_some_and(|did| did != src) {
                self.refuse(shared, DropReason::LabelSource, claims.len());
                continue;
            }
            let found = self.key(shared, &src, Want::Any).await;
            if known.is_none()
                && found.as_ref().is_some_and(|(_, at)| at.as_ref().is_some_and(|at| !same_origin(at, base)))
            {
                self.refuse(shared, DropReason::LabelSource, claims.len());
                continue;
            }
            let (mut signed, mut rest) = self.split(&src, found, claims).await?;
            let ask = !rest.is_empty() && self.doubt.lock().may_ask();
            if ask {
                let found = self.key(shared, &src, Want::Since(Instant::now())).await;
                let (more, bad) = self.split(&src, found, rest).await?;
                signed.extend(more);
                rest = bad;
            }
            if !rest.is_empty() {
                self.refuse(shared, DropReason::LabelSignature, rest.len());
                self.doubt.lock().refused(&src, seq.saturating_sub(1).max(0), ask);
            }
            if !signed.is_empty() && known.is_none() {
                // The first account whose labels hold here is the labeler.
                *self.did.lock() = Some(src.as_str().into());
            }
            good.extend(signed.into_iter().map(|claim| claim.placed));
        }
        Ok(good)
    }

    /// Splits the labels of one source into those signed by the key that was found for it and the others.
    async fn split(
        &self,
        src: &str,
        found: Option<(VerifyingKey, Option<String>)>,
        claims: Vec<Claim>,
    ) -> Result<(Vec<Claim>, Vec<Claim>), String> {
        self.saw_key(src, found.as_ref().map(|(key, _)| key));
        match found {
            Some((key, _)) => split(key, claims).await,
            None => Ok((Vec::new(), claims)),
        }
    }

    /// Takes note of the key of a source. If it is another than before, what was refused is read again.
    fn saw_key(&self, src: &str, key: Option<&VerifyingKey>) {
        let after = self.doubt.lock().saw(src, key.map(VerifyingKey::to_did_key));
        if let Some(after) = after {
            tracing::info!(labeler = self.name, after, "{NEW_KEY}");
            self.turn_back_to(after);
        }
    }

    /// Makes the next connection begin after a position.
    fn turn_back_to(&self, after: i64) {
        let mut again_after = self.again_after.lock();
        *again_after = Some(again_after.map_or(after, |already| already.min(after)));
        self.turn_back.store(true, Relaxed);
    }

    /// Waits until it is time to read a part again because positions were left out, and never ends if none were.
    async fn look_again(&self) {
        let due = self.gaps.lock().due();
        let Some(at) = due else { return std::future::pending().await };
        tokio::time::sleep_until(at).await;
        let after = self.gaps.lock().look(self.tracker.read_to().unwrap_or(0));
        if let Some(after) = after {
            self.turn_back_to(after);
        }
    }

    /// Asks for the key again as long as labels are in doubt, less and less often. Ends when there is another one, and
    /// never if there is nothing to ask.
    async fn ask_again(&self, shared: &Shared) {
        loop {
            let due = self.doubt.lock().due();
            let Some((src, at)) = due else { return std::future::pending().await };
            tokio::time::sleep_until(at).await;
            if !self.doubt.lock().may_ask() {
                continue;
            }
            let found = shared.identity.document_or_stale(&src, Want::Since(Instant::now())).await;
            self.saw_key(&src, found.ok().and_then(|document| document.label_key.clone()).as_ref());
            if self.turn_back.load(Relaxed) {
                return;
            }
        }
    }

    /// Key and endpoint of a labeler; nothing if it has no key. Asks until there is an answer.
    async fn key(&self, shared: &Shared, src: &str, want: Want) -> Option<(VerifyingKey, Option<String>)> {
        loop {
            match shared.identity.document_or_stale(src, want).await {
                Ok(document) => return Some((document.label_key.clone()?, document.labeler.clone())),
                Err(Error::Absent(_) | Error::Invalid(_) | Error::Refused(_)) => return None,
                Err(error) => {
                    *self.error.lock() = Some(error.to_string());
                    tokio::time::sleep(KEY_RETRY).await;
                }
            }
        }
    }

    pub(crate) fn status(&self, running: bool) -> Value {
        json!({
            "url": self.name,
            "seq": self.tracker.seq(),
            "did": self.did.lock().as_deref(),
            "running": running,
            "connected": self.connected.load(Relaxed),
            "applied": self.applied_total.load(Relaxed),
            "refused": self.refused_total.load(Relaxed),
            "gaps": self.gaps_total.load(Relaxed),
            "restarts": self.restarts_total.load(Relaxed),
            "again_after": self.to_read_again(),
            "last_error": *self.error.lock(),
        })
    }
}

/// Where it is stored from where to read again.
fn again_source(name: &str) -> String {
    format!("labels-again:{name}")
}

fn claim(label: &Label<'_>, index: u32) -> Option<Claim> {
    let kept = gp_index::labels::Label {
        src: label.src.to_owned(),
        uri: label.uri.to_owned(),
        cid: label.cid.map(str::to_owned),
        val: label.val.to_owned(),
        neg: label.neg,
        cts: label.cts.to_owned(),
        exp: label.exp.map(str::to_owned),
    };
    let forms = label.signing_forms().collect();
    kept.fault().is_none().then(|| Claim { placed: Placed { label: kept, index }, forms, sig: label.sig.to_vec() })
}

/// Splits labels into those signed by a key and the others. Costs tens of microseconds a label.
async fn split(key: VerifyingKey, claims: Vec<Claim>) -> Result<(Vec<Claim>, Vec<Claim>), String> {
    let split = move || {
        claims.into_iter().partition(|claim| claim.forms.iter().any(|form| key.verify(form, &claim.sig).is_ok()))
    };
    tokio::task::spawn_blocking(split).await.map_err(|e| format!("the check of labels stopped: {e}"))
}

/// What an operator wrote as a labeler, as an `http` or `https` base URL.
fn http_base(written: &str) -> Result<String, Error> {
    let base = crate::config::relay_base(written).map_err(|why| Error::Invalid(why.replacen("relay", "labeler", 1)))?;
    Ok(base.replacen("ws", "http", 1))
}

fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_and_origins() {
        assert_eq!(http_base("mod.example").unwrap(), "https://mod.example");
        assert_eq!(http_base("ws://127.0.0.1:9/").unwrap(), "http://127.0.0.1:9");
        assert!(http_base("ftp://x").unwrap_err().to_string().starts_with("labeler `ftp"));
        assert!(same_origin("https://a.example", "https://a.example:443/x"));
        assert!(!same_origin("https://a.example", "https://b.example"));
    }
}
