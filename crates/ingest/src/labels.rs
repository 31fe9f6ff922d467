//! Labels: the streams of labelers, each label checked with its labeler's key.
//!
//! The position in a stream is stored in the same write as the labels before it.

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
use gp_index::progress;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

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

/// A bad signature makes us ask for the key again, at most this often.
const DOUBT_EVERY: Duration = Duration::from_secs(30);

/// While a labeler's key cannot be had, its stream waits, asking again this often.
const KEY_RETRY: Duration = Duration::from_secs(2);

/// Where a labeler may say who it is.
const SELF_DESCRIPTIONS: &[(&str, &str)] = &[
    ("/.well-known/ozone-metadata.json", "did"),
    ("/.well-known/did.json", "id"),
    ("/xrpc/com.atproto.server.describeServer", "did"),
];

/// One labeler that is followed.
pub(crate) struct Labeler {
    /// As configured: a URL or a DID.
    name: String,
    tracker: Arc<Tracker>,
    /// Who it is, once known. Labels of others are refused.
    did: Mutex<Option<Arc<str>>>,
    doubted_at: Mutex<Option<Instant>>,
    connected: AtomicBool,
    error: Mutex<Option<String>>,
    applied_total: AtomicU64,
    gaps_total: AtomicU64,
}

/// The good labels of a frame.
struct Good {
    seq: i64,
    labels: Vec<gp_index::labels::Label>,
    guard: Guard,
}

/// A label that is in order but for its signature.
struct Claim {
    label: gp_index::labels::Label,
    signed: Vec<u8>,
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
        Ok(Arc::new(Self {
            tracker: Tracker::new(source, stored),
            name,
            did: Mutex::new(did),
            doubted_at: Mutex::default(),
            connected: AtomicBool::new(false),
            error: Mutex::default(),
            applied_total: AtomicU64::new(0),
            gaps_total: AtomicU64::new(0),
        }))
    }

    /// Follows the labeler until stopped.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut backoff = Backoff::default();
        while shared.may_read().await {
            let reading = shared.readers.begin();
            let ended = self.follow(&shared, &mut backoff).await;
            drop(reading);
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
                }
                Read::TooLarge(_) => shared.drops.lost(DropReason::FrameTooLarge),
                Read::FarTooLarge => {
                    shared.drops.lost(DropReason::FrameTooLarge);
                    return Some("a frame far too large".into());
                }
                Read::Closed(why) => return Some(why),
            }
        }
    }

    async fn open(&self, shared: &Arc<Shared>) -> Result<(Socket, String), String> {
        let base = self.base(shared).await.map_err(|e| e.to_string())?;
        let cursor = self.tracker.read_to().unwrap_or(0);
        let url = format!("{}/xrpc/com.atproto.label.subscribeLabels?cursor={cursor}", base.replacen("http", "ws", 1));
        let socket = Socket::open(&url, shared.config.frame_bytes_max).await?;
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
                for label in &message.labels {
                    match label.as_ref().ok().and_then(claim) {
                        Some(claim) => claims.push(claim),
                        None => shared.drops.lost(DropReason::LabelMalformed),
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
                return Err(format!("{}: {}", error.error, error.message.unwrap_or_default()));
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
        let labels = self.genuine(shared, base, claims).await?;
        Ok(Some(Good { seq, labels, guard }))
    }

    async fn store(&self, shared: &Arc<Shared>, good: Good) -> Result<(), String> {
        let Good { seq, labels, guard } = good;
        let Some(ticket) = self.tracker.begin(seq, (shared.cx.now_us)()) else { return Ok(()) };
        let (job, tracker, source) = (Arc::clone(shared), Arc::clone(&self.tracker), format!("labels:{}", self.name));
        self.applied_total.fetch_add(labels.len() as u64, Relaxed);
        let queued = shared.cx.writer.submit(move |view| {
            let mark = view.mark();
            let mut outcome = labels.iter().try_for_each(|label| gp_index::labels::apply(view, label, seq).map(drop));
            match &outcome {
                Ok(()) => progress::set(view, &source, seq),
                Err(gp_index::Error::Store(_)) => view.roll_back(mark),
                Err(error) => {
                    tracing::error!(%error, "labels were left out");
                    view.roll_back(mark);
                    job.drops.lost(DropReason::OwnState);
                    progress::set(view, &source, seq);
                    outcome = Ok(());
                }
            }
            Box::new(move |applied| match (outcome, applied) {
                (Ok(()), Ok(())) => {
                    tracker.end(ticket);
                    drop(guard);
                }
                (Err(error), _) => job.fail(&error),
                (_, Err(error)) => job.fail(&error.into()),
            })
        });
        queued.await.map_err(|e| e.to_string())
    }

    /// The labels that are by this labeler and signed by it. Waits while its key cannot be had.
    async fn genuine(
        &self,
        shared: &Arc<Shared>,
        base: &str,
        claims: Vec<Claim>,
    ) -> Result<Vec<gp_index::labels::Label>, String> {
        let mut good = Vec::with_capacity(claims.len());
        let mut by_src: Vec<(String, Vec<Claim>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for claim in claims {
            let at = *places.entry(claim.label.src.clone()).or_insert_with(|| {
                by_src.push((claim.label.src.clone(), Vec::new()));
                by_src.len() - 1
            });
            by_src[at].1.push(claim);
        }
        for (src, claims) in by_src {
            let known = self.did.lock().clone();
            if known.as_deref().is_some_and(|did| did != src) {
                claims.iter().for_each(|_| shared.drops.lost(DropReason::LabelSource));
                continue;
            }
            let Some((key, labeler)) = self.key(shared, &src, Want::Any).await else {
                claims.iter().for_each(|_| shared.drops.lost(DropReason::LabelSignature));
                continue;
            };
            if known.is_none() && labeler.is_some_and(|endpoint| !same_origin(&endpoint, base)) {
                claims.iter().for_each(|_| shared.drops.lost(DropReason::LabelSource));
                continue;
            }
            let (mut signed, mut rest) = split(key, claims).await?;
            if !rest.is_empty() && self.may_doubt() {
                let again = self.key(shared, &src, Want::Since(Instant::now())).await;
                if let Some((key, _)) = again {
                    let (more, bad) = split(key, rest).await?;
                    signed.extend(more);
                    rest = bad;
                }
            }
            rest.iter().for_each(|_| shared.drops.lost(DropReason::LabelSignature));
            if !signed.is_empty() && known.is_none() {
                // The first account whose labels hold here is the labeler.
                *self.did.lock() = Some(src.as_str().into());
            }
            good.extend(signed.into_iter().map(|claim| claim.label));
        }
        Ok(good)
    }

    fn may_doubt(&self) -> bool {
        let mut doubted_at = self.doubted_at.lock();
        let may = doubted_at.is_none_or(|at| at.elapsed() >= DOUBT_EVERY);
        if may {
            *doubted_at = Some(Instant::now());
        }
        may
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
            "gaps": self.gaps_total.load(Relaxed),
            "last_error": *self.error.lock(),
        })
    }
}

fn claim(label: &Label<'_>) -> Option<Claim> {
    let kept = gp_index::labels::Label {
        src: label.src.to_owned(),
        uri: label.uri.to_owned(),
        cid: label.cid.map(str::to_owned),
        val: label.val.to_owned(),
        neg: label.neg,
        cts: label.cts.to_owned(),
        exp: label.exp.map(str::to_owned),
    };
    kept.fault().is_none().then(|| Claim { label: kept, signed: label.signing_bytes(), sig: label.sig.to_vec() })
}

/// Splits labels into those signed by a key and the others. Costs tens of microseconds a label.
async fn split(key: VerifyingKey, claims: Vec<Claim>) -> Result<(Vec<Claim>, Vec<Claim>), String> {
    let split = move || claims.into_iter().partition(|claim| key.verify(&claim.signed, &claim.sig).is_ok());
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
