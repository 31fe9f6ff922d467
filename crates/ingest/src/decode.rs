//! From a frame of the firehose to an event, and from an event and a key to facts.
//!
//! Reading the envelope is cheap and done where frames arrive. Hashes, proofs and signatures are not, and are done on
//! the lanes.

use std::sync::Arc;

use bytes::Bytes;
use gp_atproto::{
    Tid,
    crypto::VerifyingKey,
    frame::{self, CommitMessage, FrameError, Message},
    verify::{self, CheckedCommit, RepoState, VerifyError},
};
use gp_index::apply::Action;

use crate::{
    drop::DropReason,
    facts::{CommitFacts, Facts, OpFacts, SyncFacts},
};

/// An event may claim to come from so far in the future, in microseconds; beyond it counts as arriving now.
const CLOCK_SKEW_MAX_US: i64 = 5 * 60 * 1_000_000;

/// The envelope of a frame.
#[derive(Debug)]
pub(crate) enum Envelope {
    /// About an account.
    Event(Head),
    /// `#info`, by name.
    Info(String),
    /// The stream ends for this reason.
    Error {
        /// As `FutureCursor`.
        name: String,
        /// For people.
        message: String,
    },
    /// Nothing that could be used.
    Drop {
        reason: DropReason,
        /// Its position, if that can be told.
        seq: Option<i64>,
        detail: String,
    },
}

/// What the envelope of an event says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) seq: i64,
    pub(crate) did: Arc<str>,
    /// The event's own time, in microseconds.
    pub(crate) time_us: i64,
    pub(crate) body: Body,
}

/// The kind of an event, and what can be said of it without looking at blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Commit { rev: Tid },
    Sync { rev: Tid },
    Identity,
    Account { active: bool, status: Option<Box<str>> },
}

/// Reads the envelope of a frame.
pub(crate) fn envelope(frame: &[u8], now_us: i64) -> Envelope {
    let message = match Message::decode(frame) {
        Ok(message) => message,
        Err(error) => {
            let peek = frame::peek(frame);
            return Envelope::Drop { reason: reason_of_frame(&error), seq: peek.seq, detail: error.to_string() };
        }
    };
    let time = |time_us: i64| if time_us > now_us.saturating_add(CLOCK_SKEW_MAX_US) { now_us } else { time_us };
    let head =
        |seq, did: &str, time_us, body| Envelope::Event(Head { seq, did: did.into(), time_us: time(time_us), body });
    let invalid = |seq, detail: &str| Envelope::Drop {
        reason: DropReason::MessageInvalid,
        seq: Some(seq),
        detail: detail.into(),
    };
    match message {
        Message::Commit(it) => head(it.seq, it.repo, it.time_us, Body::Commit { rev: it.rev }),
        Message::Sync(it) => match Tid::parse(it.rev) {
            Ok(rev) => head(it.seq, it.did, it.time_us, Body::Sync { rev }),
            Err(_) => invalid(it.seq, "message has a malformed rev"),
        },
        Message::Identity(it) => head(it.seq, it.did, it.time_us, Body::Identity),
        Message::Account(it) => {
            head(it.seq, it.did, it.time_us, Body::Account { active: it.active, status: it.status.map(Into::into) })
        }
        Message::Info(it) => Envelope::Info(it.name.to_owned()),
        Message::Error(it) => {
            Envelope::Error { name: it.error.to_owned(), message: it.message.unwrap_or_default().to_owned() }
        }
        Message::Unknown(kind) => {
            Envelope::Drop { reason: DropReason::MessageUnknown, seq: frame::peek(frame).seq, detail: kind.to_owned() }
        }
    }
}

fn reason_of_frame(error: &FrameError) -> DropReason {
    match error {
        FrameError::Cbor(_) | FrameError::Header | FrameError::Body => DropReason::FrameMalformed,
        FrameError::Missing(_) | FrameError::Field(_) => DropReason::MessageInvalid,
        FrameError::BlocksTooLarge | FrameError::TooManyOps => DropReason::CommitTooLarge,
    }
}

/// Why an event is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The signature does not fit; with a newer key it may.
    Signature,
    /// It is worthless.
    Drop(DropReason, VerifyError),
    /// The verification did not come to an end.
    Panicked,
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        let reason = match error {
            VerifyError::Signature(_) => return Self::Signature,
            VerifyError::Car(_) => DropReason::BlocksMalformed,
            VerifyError::Root | VerifyError::CommitMissing | VerifyError::Commit(_) => DropReason::CommitMalformed,
            VerifyError::Did | VerifyError::Rev => DropReason::CommitMismatch,
            VerifyError::RevInFuture => DropReason::RevInFuture,
            VerifyError::OpShape | VerifyError::OpPath => DropReason::OpInvalid,
            VerifyError::RecordMissing => DropReason::RecordsMissing,
            VerifyError::Proof(_) | VerifyError::PrevData | VerifyError::Tree => DropReason::ProofInvalid,
            // These are about what is stored, which is not looked at here.
            VerifyError::Stale | VerifyError::Unknown | VerifyError::Since | VerifyError::Data => {
                DropReason::ProofInvalid
            }
        };
        Self::Drop(reason, error)
    }
}

/// Checks hashes, proof and signature of a commit or a `#sync`. Costs tens of microseconds.
pub(crate) fn verify(frame: &Bytes, key: &VerifyingKey, now_us: i64) -> Result<Facts, Refusal> {
    let now_us = now_us.unsigned_abs();
    match Message::decode(frame) {
        Ok(Message::Commit(message)) => {
            let checked = verify::check_commit(&message, key, now_us)?;
            Ok(Facts::Commit(commit_facts(frame, &message, &checked)))
        }
        Ok(Message::Sync(message)) => {
            let claim = verify::check_sync(&message, key, now_us)?;
            Ok(Facts::Sync(sync_facts(&claim)))
        }
        _ => Ok(Facts::Nothing),
    }
}

pub(crate) fn sync_facts(state: &RepoState) -> SyncFacts {
    SyncFacts { rev: state.rev.text().as_str().into(), commit: state.commit, data: state.data }
}

fn commit_facts(frame: &Bytes, message: &CommitMessage<'_>, checked: &CheckedCommit<'_>) -> CommitFacts {
    let state = checked.state();
    // A version that a later operation of the same commit replaces may come without its block: there is nothing to do
    // for it then (T6). The check has made sure that no other block is missing.
    let told = checked.ops().iter().filter(|op| op.cid.is_none() || op.record.is_some());
    let ops = told.filter_map(|op| {
        Some(OpFacts {
            action: action(op.action)?,
            collection: op.collection.into(),
            rkey: op.rkey.into(),
            cid: op.cid,
            record: op.record.map(|record| frame.slice_ref(record)),
        })
    });
    CommitFacts {
        rev: state.rev.text().as_str().into(),
        since: message.since.map(|since| since.text().as_str().into()),
        before: tree_before(message, checked),
        commit: state.commit,
        data: state.data,
        ops: ops.collect(),
    }
}

/// The proven root of the tree before a commit: the only candidate, if the commit follows a repo that is there.
fn tree_before(message: &CommitMessage<'_>, checked: &CheckedCommit<'_>) -> Option<gp_atproto::Cid> {
    let candidate = match message.prev_data {
        Some(prev) => prev,
        None if message.ops.is_empty() => checked.state().data,
        None => gp_atproto::mst::empty_root(),
    };
    let stored = RepoState { rev: message.since.unwrap_or(Tid(0)), commit: message.commit, data: candidate };
    match checked.clone().follow(Some(&stored)) {
        Ok(it) if it.chain == verify::Chain::Linked => Some(candidate),
        _ => None,
    }
}

fn action(action: frame::Action) -> Option<Action> {
    match action {
        frame::Action::Create => Some(Action::Create),
        frame::Action::Update => Some(Action::Update),
        frame::Action::Delete => Some(Action::Delete),
        frame::Action::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use gp_atproto::frame::{AccountMessage, IdentityMessage, InfoMessage, StreamError, SyncMessage};

    use super::*;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    const TIME: &str = "2026-01-02T03:04:05.678Z";

    fn account(active: bool, status: Option<&str>) -> Envelope {
        let message = Message::Account(AccountMessage { seq: 7, did: DID, active, status, time: TIME, time_us: 0 });
        envelope(&message.encode(), 1 << 60)
    }

    #[test]
    fn envelopes_of_all_kinds() {
        let Envelope::Event(head) = account(false, Some("odd")) else { panic!() };
        assert_eq!((head.seq, &*head.did, head.time_us), (7, DID, 1_767_323_045_678_000));
        assert_eq!(head.body, Body::Account { active: false, status: Some("odd".into()) });
        assert!(matches!(account(true, None), Envelope::Event(_)));
        let info = Message::Info(InfoMessage { name: "OutdatedCursor", message: None }).encode();
        assert!(matches!(envelope(&info, 0), Envelope::Info(name) if name == "OutdatedCursor"));
        let error = Message::Error(StreamError { error: "FutureCursor", message: Some("x") }).encode();
        assert!(matches!(envelope(&error, 0), Envelope::Error { name, .. } if name == "FutureCursor"));
        assert!(matches!(envelope(b"\xa0", 0), Envelope::Drop { reason: DropReason::FrameMalformed, seq: None, .. }));
        assert!(matches!(
            envelope(&Message::Unknown("#tombstone").encode(), 0),
            Envelope::Drop { reason: DropReason::MessageUnknown, .. }
        ));
        let sync =
            Message::Sync(SyncMessage { seq: 9, did: DID, blocks: &[], rev: "bad", time: TIME, time_us: 0 }).encode();
        assert!(matches!(envelope(&sync, 0), Envelope::Drop { reason: DropReason::MessageInvalid, seq: Some(9), .. }));
    }

    #[test]
    fn a_time_from_the_future_counts_as_now() {
        let message =
            Message::Identity(IdentityMessage { seq: 1, did: DID, handle: None, time: TIME, time_us: 0 }).encode();
        let Envelope::Event(head) = envelope(&message, 5) else { panic!() };
        assert_eq!(head.time_us, 5);
        let Envelope::Event(head) = envelope(&message, 1_767_323_045_000_000) else { panic!() };
        assert_eq!(head.time_us, 1_767_323_045_678_000);
    }

    // ------------------------------------------------------------------------------------------ verification

    use gp_atproto::{
        Cid,
        car::CarWriter,
        commit::Commit,
        crypto::{Curve, SigningKey},
        datetime,
        frame::{CommitMessage, RepoOp},
        mst::Tree,
    };

    const PATH: &str = "app.bsky.feed.post/3jzfcijpj2z2a";

    type Blocks = Vec<(Cid, Vec<u8>)>;

    fn key() -> SigningKey {
        SigningKey::from_bytes(Curve::K256, &[3; 32]).unwrap()
    }

    /// The frame of a first commit with one record, after somebody has had a go at it.
    fn made(tamper: impl FnOnce(&mut CommitMessage<'_>, &mut Blocks)) -> Bytes {
        let record = gp_atproto::multibase::hex_decode("a16568656c6c6f65776f726c64").unwrap();
        let cid = Cid::for_dag_cbor(&record);
        let mut tree = Tree::default();
        tree.put(PATH.as_bytes(), cid).unwrap();
        let rev = Tid::parse("3jzfcijpj2z2a").unwrap();
        let (commit, block) = Commit::create(DID, rev, tree.root(), &key());
        let mut blocks: Blocks = vec![(commit, block)];
        blocks.extend(tree.proof([PATH.as_bytes()]));
        blocks.push((cid, record));
        let op = RepoOp { action: frame::Action::Create, path: PATH, cid: Some(cid), prev: None };
        let time = datetime::format_ms(1_700_000_000_000_000);
        let mut message = CommitMessage {
            seq: 1,
            repo: DID,
            commit,
            rev,
            since: None,
            blocks: &[],
            ops: vec![op],
            prev_data: None,
            time: &time,
            time_us: 0,
        };
        tamper(&mut message, &mut blocks);
        let mut car = CarWriter::new(&[blocks[0].0]);
        for (cid, block) in &blocks {
            car.block(cid.as_ref(), block);
        }
        let car = car.finish();
        Message::Commit(CommitMessage { blocks: &car, ..message }).encode().into()
    }

    fn outcome(frame: &Bytes) -> Result<Facts, Refusal> {
        verify(frame, &key().verifying_key(), 1_800_000_000_000_000)
    }

    #[test]
    fn a_sound_commit_says_what_it_did() {
        let frame = made(|_, _| {});
        let Ok(Facts::Commit(facts)) = outcome(&frame) else { panic!("{:?}", outcome(&frame)) };
        assert_eq!(
            (&*facts.rev, facts.since.as_deref(), facts.before),
            ("3jzfcijpj2z2a", None, Some(gp_atproto::mst::empty_root()))
        );
        let op = &facts.ops[0];
        assert_eq!((op.action, &*op.collection, &*op.rkey), (Action::Create, "app.bsky.feed.post", "3jzfcijpj2z2a"));
        assert!(op.cid.unwrap().verify(op.record.as_deref().unwrap()));
    }

    #[test]
    fn every_damage_has_its_reason() {
        let other = Cid::for_dag_cbor(b"other");
        let reason = |tamper: &dyn Fn(&mut CommitMessage<'_>, &mut Blocks)| match outcome(&made(tamper)) {
            Err(Refusal::Drop(reason, _)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&|it, _| it.commit = other), DropReason::CommitMalformed);
        assert_eq!(
            reason(&|it, blocks| {
                blocks[0] = (blocks[1].0, blocks[1].1.clone());
                it.commit = blocks[0].0;
            }),
            DropReason::CommitMalformed
        );
        assert_eq!(reason(&|it, _| it.repo = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), DropReason::CommitMismatch);
        assert_eq!(reason(&|it, _| it.rev = Tid(it.rev.0 + 1)), DropReason::CommitMismatch);
        assert_eq!(reason(&|it, _| it.ops[0].cid = None), DropReason::OpInvalid);
        assert_eq!(reason(&|it, _| it.ops[0].path = "nonsense"), DropReason::OpInvalid);
        assert_eq!(reason(&|it, _| it.ops[0].action = frame::Action::Unknown), DropReason::OpInvalid);
        assert_eq!(reason(&|_, blocks| drop(blocks.pop())), DropReason::RecordsMissing);
        assert_eq!(reason(&|it, _| it.prev_data = Some(other)), DropReason::ProofInvalid);
        assert_eq!(
            reason(&|it, blocks| {
                it.ops[0].cid = Some(blocks[1].0);
            }),
            DropReason::ProofInvalid
        );
        assert_eq!(reason(&|_, blocks| blocks[1].1.push(0)), DropReason::BlocksMalformed);
        let frame = made(|_, _| {});
        let early = verify(&frame, &key().verifying_key(), 1_000_000);
        assert!(matches!(early, Err(Refusal::Drop(DropReason::RevInFuture, _))));
        let stranger = SigningKey::from_bytes(Curve::P256, &[4; 32]).unwrap().verifying_key();
        assert_eq!(verify(&frame, &stranger, 1_800_000_000_000_000).unwrap_err(), Refusal::Signature);
    }

    #[test]
    fn a_commit_without_proof_of_what_was_before_is_told_apart() {
        let frame = made(|it, _| it.since = Some(Tid(1)));
        let Ok(Facts::Commit(facts)) = outcome(&frame) else { panic!("{:?}", outcome(&frame)) };
        assert_eq!(facts.before, None);
    }
}
