//! `#commit` events: the rules of inductive verification one by one, then at random.

use groundplane_atproto::{
    Cid, Tid,
    car::CarError,
    commit::Commit,
    crypto::{Curve, SignatureError, SigningKey},
    frame::{Action, Message},
    mst::{self, MstError},
    verify::{Chain, REV_SKEW_US, Reaction, RepoState, VerifiedCommit, VerifyError, verify_commit},
};
use proptest::prelude::*;

use crate::world::{Account, DID, Event, NOW_US, Write, path, record};

/// The verdict on an event that went over the wire. The operations are reduced to action, path and presence.
fn judge(account: &Account, event: &Event, stored: Option<&RepoState>) -> Result<(Chain, RepoState), VerifyError> {
    let blocks = event.car();
    let frame = Message::Commit(event.message(&blocks)).encode();
    let Ok(Message::Commit(message)) = Message::decode(&frame) else { panic!("the frame must be readable") };
    let verified = verify_commit(&message, &account.verifying_key(), stored, NOW_US)?;
    assert_eq!(verified.ops.len(), event.ops.len());
    for (op, (action, path, cid, _)) in verified.ops.iter().zip(&event.ops) {
        assert_eq!((op.action, op.cid), (*action, *cid));
        assert_eq!(&format!("{}/{}", op.collection, op.rkey), path);
        if let (Some(record), Some(cid)) = (op.record, op.cid) {
            assert!(cid.verify(record));
        }
    }
    let VerifiedCommit { state, chain, .. } = verified;
    Ok((chain, state))
}

fn write(n: u32) -> Write {
    (path(n), Some(record(n)))
}

fn delete(n: u32) -> Write {
    (path(n), None)
}

fn update(n: u32) -> Write {
    (path(n), Some(record(n + 1_000_000)))
}

/// An account of some size, what is stored of it, and its next event.
fn next_event(writes: &[Write]) -> (Account, RepoState, Event) {
    let mut account = Account::with_records(Curve::K256, 60);
    let stored = account.state();
    let event = account.commit(writes);
    (account, stored, event)
}

fn verdict_of(writes: &[Write], tamper: impl FnOnce(&mut Event)) -> Result<Chain, VerifyError> {
    let (account, stored, mut event) = next_event(writes);
    tamper(&mut event);
    judge(&account, &event, Some(&stored)).map(|(chain, _)| chain)
}

#[test]
fn a_commit_that_follows_is_linked_on_both_curves() {
    for curve in [Curve::K256, Curve::P256] {
        let mut account = Account::with_records(curve, 60);
        let stored = account.state();
        let event = account.commit(&[write(100), update(1), delete(2)]);
        assert_eq!(judge(&account, &event, Some(&stored)), Ok((Chain::Linked, account.state())));
    }
}

#[test]
fn the_first_commit_begins_at_the_empty_tree() {
    let mut account = Account::new(Curve::K256);
    let event = account.commit(&[write(1), write(2)]);
    assert_eq!((event.since, event.prev_data), (None, None));
    assert_eq!(judge(&account, &event, None), Ok((Chain::First, account.state())));

    let mut empty = Account::new(Curve::K256);
    let event = empty.commit(&[]);
    assert_eq!(judge(&empty, &event, None), Ok((Chain::First, empty.state())));
    // The next one follows the empty tree, so it may also be the first that we see.
    let stored = empty.state();
    let event = empty.commit(&[write(1)]);
    assert_eq!(judge(&empty, &event, Some(&stored)), Ok((Chain::Linked, empty.state())));
    assert_eq!(judge(&empty, &event, None), Ok((Chain::First, empty.state())));
}

#[test]
fn a_repository_seen_in_the_middle_is_unknown() {
    let (account, _, event) = next_event(&[write(100)]);
    let error = judge(&account, &event, None).unwrap_err();
    assert_eq!((error, error.reaction()), (VerifyError::Unknown, Reaction::Resync));
    // A first commit over stored records is a new beginning, which only the whole repository can explain.
    let mut fresh = Account::new(Curve::K256);
    fresh.clock += 1_000_000;
    let event = fresh.commit(&[write(1)]);
    assert_eq!(judge(&fresh, &event, Some(&account.state())), Err(VerifyError::Data));
}

#[test]
fn stale_commits_are_dropped_whatever_else_is_wrong_with_them() {
    let (account, _, mut event) = next_event(&[write(100)]);
    event.blocks.clear();
    let error = judge(&account, &event, Some(&account.state())).unwrap_err();
    assert_eq!((error, error.reaction()), (VerifyError::Stale, Reaction::Drop));
}

#[test]
fn a_missed_commit_breaks_the_chain() {
    let mut account = Account::with_records(Curve::K256, 60);
    let stored = account.state();
    account.commit(&[write(100)]);
    let event = account.commit(&[write(101)]);
    let error = judge(&account, &event, Some(&stored)).unwrap_err();
    assert_eq!((error, error.reaction()), (VerifyError::Data, Reaction::Resync));
    // Missed commits that cancel out leave the tree, but not the revision.
    let mut account = Account::with_records(Curve::K256, 60);
    let stored = account.state();
    account.commit(&[write(100)]);
    account.commit(&[delete(100)]);
    let event = account.commit(&[write(101)]);
    assert_eq!(judge(&account, &event, Some(&stored)), Err(VerifyError::Since));
}

#[test]
fn since_may_be_null_where_the_tree_is_proven() {
    assert_eq!(verdict_of(&[write(100)], |event| event.since = None), Ok(Chain::Linked));
}

#[test]
fn a_commit_without_operations_only_signs_again() {
    let mut account = Account::with_records(Curve::K256, 60);
    let stored = account.state();
    account.key = SigningKey::from_bytes(Curve::P256, &[7; 32]).unwrap();
    let mut event = account.commit(&[]);
    event.since = None;
    event.blocks.truncate(1); // the commit block alone
    assert_eq!(judge(&account, &event, Some(&stored)), Ok((Chain::Linked, account.state())));
    event.prev_data = None;
    assert_eq!(judge(&account, &event, Some(&stored)), Ok((Chain::Linked, account.state())));
    assert_eq!(judge(&account, &event, None), Err(VerifyError::Unknown));
    let other = RepoState { data: mst::empty_root(), ..stored };
    assert_eq!(judge(&account, &event, Some(&other)), Err(VerifyError::Data));
}

#[test]
fn hosts_without_proofs_are_unproven_at_best() {
    let without_prev_data = |event: &mut Event| event.prev_data = None;
    assert_eq!(verdict_of(&[write(100)], without_prev_data), Ok(Chain::Unproven));
    let without_prev = |event: &mut Event| event.ops.iter_mut().for_each(|op| op.3 = None);
    assert_eq!(verdict_of(&[update(1), delete(2)], without_prev), Ok(Chain::Unproven));
    let neither = |event: &mut Event| {
        without_prev(event);
        without_prev_data(event);
    };
    assert_eq!(verdict_of(&[update(1), delete(2), write(100)], neither), Ok(Chain::Unproven));
    // What the operations say must hold in the signed tree all the same.
    let lie = |event: &mut Event| {
        neither(event);
        event.ops[1].0 = Action::Update;
        event.ops[1].2 = event.ops[0].2;
    };
    assert_eq!(verdict_of(&[update(1), delete(2)], lie), Err(VerifyError::Proof(MstError::Contradiction)));
    // And the revision has to follow.
    let gap = |event: &mut Event| {
        neither(event);
        event.since = Some(Tid(1));
    };
    assert_eq!(verdict_of(&[update(1)], gap), Err(VerifyError::Since));
    let no_since = |event: &mut Event| {
        neither(event);
        event.since = None;
    };
    assert_eq!(verdict_of(&[write(100)], no_since), Err(VerifyError::Since));
    let (account, _, mut event) = next_event(&[write(100)]);
    event.prev_data = None;
    assert_eq!(judge(&account, &event, None), Err(VerifyError::Unknown));
}

#[test]
fn repeated_paths_count_as_their_sum() {
    // Delete and create again, update twice, create and update, create and delete: each with the record before the
    // commit as `prev`, as a host reports it.
    let updated_twice = (path(4), Some(record(77)));
    let again = (path(3), Some(record(78)));
    let writes =
        [delete(3), again, update(4), updated_twice, write(100), update(100), write(101), delete(101), write(102)];
    assert_eq!(verdict_of(&writes, |_| ()), Ok(Chain::Linked));
    // The overwritten record need not be there; the one that stands must be.
    let of = |n: u32| Cid::for_dag_cbor(&record(n));
    assert_eq!(verdict_of(&writes, |event| event.drop_block(of(100))), Ok(Chain::Linked));
    assert_eq!(verdict_of(&writes, |event| event.drop_block(of(101))), Ok(Chain::Linked));
    assert_eq!(verdict_of(&writes, |event| event.drop_block(of(1_000_100))), Err(VerifyError::RecordMissing));
    assert_eq!(verdict_of(&writes, |event| event.drop_block(of(78))), Err(VerifyError::RecordMissing));
}

#[test]
fn putting_the_same_record_again_changes_nothing_and_is_legal() {
    assert_eq!(verdict_of(&[(path(5), Some(record(5)))], |_| ()), Ok(Chain::Linked));
}

#[test]
fn operations_of_the_wrong_shape() {
    let shape = |writes: &[Write], tamper: fn(&mut Event)| verdict_of(writes, tamper).unwrap_err();
    let some = Cid::for_dag_cbor(b"some");
    assert_eq!(shape(&[write(100)], |event| event.ops[0].2 = None), VerifyError::OpShape);
    assert_eq!(shape(&[update(1)], |event| event.ops[0].2 = None), VerifyError::OpShape);
    assert_eq!(shape(&[delete(1)], |event| event.ops[0].2 = event.ops[0].3), VerifyError::OpShape);
    assert_eq!(shape(&[write(100)], |event| event.ops[0].0 = Action::Unknown), VerifyError::OpShape);
    assert_eq!(verdict_of(&[write(100)], |event| event.ops[0].3 = Some(some)), Err(VerifyError::OpShape));
    for bad in ["", "nokey", "a/", "/b", "a/b/c", "a/é", "a/b c"] {
        assert_eq!(verdict_of(&[write(100)], |event| event.ops[0].1 = bad.into()), Err(VerifyError::OpPath), "{bad}");
    }
}

#[test]
fn operations_that_do_not_lead_from_one_tree_to_the_other() {
    let some = Cid::for_dag_cbor(&record(9));
    let contradiction = Err(VerifyError::Proof(MstError::Contradiction));
    assert_eq!(verdict_of(&[write(100)], |event| event.prev_data = Some(some)), Err(VerifyError::PrevData));
    assert_eq!(verdict_of(&[update(1)], |event| event.ops[0].3 = Some(some)), Err(VerifyError::PrevData));
    assert_eq!(verdict_of(&[write(100), write(101)], |event| drop(event.ops.pop())), Err(VerifyError::PrevData));
    // A record of the CAR under the wrong path, an update told as a creation, a deletion of what is still there.
    assert_eq!(verdict_of(&[write(100), write(101)], |event| event.ops[0].2 = event.ops[1].2), contradiction);
    let create = |event: &mut Event| (event.ops[0].0, event.ops[0].3) = (Action::Create, None);
    assert_eq!(verdict_of(&[update(1)], create), Err(VerifyError::PrevData));
    let undeleted = |event: &mut Event| event.ops[0].0 = Action::Delete;
    assert_eq!(verdict_of(&[update(1)], |event| (undeleted(event), event.ops[0].2 = None).1), contradiction);
    let elsewhere = |event: &mut Event| event.ops[0].1 = path(200);
    assert!(matches!(verdict_of(&[write(100)], elsewhere), Err(VerifyError::Proof(_) | VerifyError::PrevData)));
}

#[test]
fn blocks_that_are_missing_or_forged() {
    let (account, stored, event) = next_event(&[write(100), delete(1)]);
    let dropped = |cid: Cid| {
        let mut event = event.clone();
        event.drop_block(cid);
        judge(&account, &event, Some(&stored)).unwrap_err()
    };
    assert_eq!(dropped(event.commit), VerifyError::CommitMissing);
    assert_eq!(dropped(account.tree.root()), VerifyError::Proof(MstError::MissingNode));
    assert_eq!(dropped(event.ops[0].2.unwrap()), VerifyError::RecordMissing);
    for at in 0..event.blocks.len() {
        let mut forged = event.clone();
        forged.blocks[at].1[3] ^= 1;
        let error = judge(&account, &forged, Some(&stored)).unwrap_err();
        assert_eq!((error, error.reaction()), (VerifyError::Car(CarError::HashMismatch), Reaction::Reject));
    }
    let mut more = event.clone();
    more.blocks.push((Cid::for_raw(b"nobody asked"), b"nobody asked".to_vec()));
    more.blocks.push(event.blocks[1].clone());
    assert!(judge(&account, &more, Some(&stored)).is_ok(), "further blocks do no harm");
    let mut other_root = event.clone();
    other_root.roots = vec![account.tree.root()];
    assert_eq!(judge(&account, &other_root, Some(&stored)), Err(VerifyError::Root));
    let blocks = [];
    let empty = verify_commit(&event.message(&blocks), &account.verifying_key(), Some(&stored), NOW_US);
    assert_eq!(empty.map(|_| ()), Err(VerifyError::Car(CarError::Truncated)));
}

/// Replaces the commit of an event by another one.
fn with_commit(event: &mut Event, (cid, block): (Cid, Vec<u8>)) {
    event.blocks[0] = (cid, block);
    (event.commit, event.roots) = (cid, vec![cid]);
}

#[test]
fn commits_that_are_not_what_the_event_says() {
    let (account, stored, event) = next_event(&[write(100)]);
    let (rev, data) = (event.rev, account.tree.root());
    let judged = |commit| {
        let mut event = event.clone();
        with_commit(&mut event, commit);
        judge(&account, &event, Some(&stored)).map(|(chain, _)| chain)
    };
    assert_eq!(judged(Commit::create(DID, rev, data, &account.key)), Ok(Chain::Linked));
    assert_eq!(judged(Commit::create("did:web:a.test", rev, data, &account.key)), Err(VerifyError::Did));
    assert_eq!(judged(Commit::create(DID, Tid(rev.0 + 1), data, &account.key)), Err(VerifyError::Rev));
    let proof = judged(Commit::create(DID, rev, stored.data, &account.key));
    assert!(matches!(proof, Err(VerifyError::Proof(_))), "the tree before is not the tree after");
    let stranger = SigningKey::from_bytes(Curve::K256, &[9; 32]).unwrap();
    let error = judged(Commit::create(DID, rev, data, &stranger)).unwrap_err();
    assert_eq!((error, error.reaction()), (VerifyError::Signature(SignatureError::Mismatch), Reaction::RefreshKey));
    let other_curve = SigningKey::from_bytes(Curve::P256, &[0x42; 32]).unwrap();
    assert!(matches!(judged(Commit::create(DID, rev, data, &other_curve)), Err(VerifyError::Signature(_))));
    let not_a_commit = (Cid::for_dag_cbor(&record(1)), record(1));
    assert!(matches!(judged(not_a_commit), Err(VerifyError::Commit(_))));

    let mut other_repo = event.clone();
    other_repo.repo = "did:web:a.test".into();
    assert_eq!(judge(&account, &other_repo, Some(&stored)), Err(VerifyError::Did));
}

#[test]
fn revisions_from_the_future() {
    let (account, stored, event) = next_event(&[write(100)]);
    let blocks = event.car();
    let at =
        |now_us| verify_commit(&event.message(&blocks), &account.verifying_key(), Some(&stored), now_us).map(|_| ());
    let made = event.rev.micros();
    assert_eq!(at(made - REV_SKEW_US), Ok(()));
    assert_eq!(at(made - REV_SKEW_US - 1), Err(VerifyError::RevInFuture));
}

/// Some writes, told by small numbers so that they meet.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = (0u32..80, 0u32..4).prop_map(|(n, what)| match what {
        0 => delete(n),
        1 => update(n),
        2 => write(n),
        _ => write(n + 100),
    });
    prop::collection::vec(one, 0..14)
}

/// Leaves out deletions of what is not there, which no host would commit.
fn sensible(account: &Account, writes: &[Write]) -> Vec<Write> {
    let mut tree = account.tree.clone();
    let possible = |(path, record): &&Write| match record {
        Some(record) => tree.put(path.as_bytes(), Cid::for_dag_cbor(record)).is_ok(),
        None => tree.remove(path.as_bytes()).is_some(),
    };
    writes.iter().filter(possible).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_honest_history_is_accepted(start in 0u32..70, commits in prop::collection::vec(writes(), 1..6)) {
        let mut account = Account::new(Curve::K256);
        let event = account.commit(&(0..start).map(write).collect::<Vec<_>>());
        let mut stored = judge(&account, &event, None).unwrap().1;
        for writes in commits {
            let writes = sensible(&account, &writes);
            let event = account.commit(&writes);
            let (chain, state) = judge(&account, &event, Some(&stored)).unwrap();
            prop_assert_eq!((chain, state), (Chain::Linked, account.state()));
            stored = state;
        }
    }

    #[test]
    fn no_tampering_is_accepted(writes in writes(), which in any::<prop::sample::Index>(), how in 0usize..8) {
        let mut account = Account::with_records(Curve::K256, 60);
        let stored = account.state();
        let mut writes = sensible(&account, &writes);
        let mut seen = std::collections::HashSet::new();
        writes.retain(|(path, _)| seen.insert(path.clone()));
        writes.push((path(500), Some(record(500))));
        let honest = account.commit(&writes);
        let mut event = honest.clone();
        let at = which.index(event.ops.len());
        let other = Cid::for_dag_cbor(&record(500));
        match how {
            0 => drop(event.ops.remove(at)),
            1 => event.ops[at].2 = event.ops[at].2.map(|cid| if cid == other { account.tree.root() } else { other }),
            2 => event.ops[at].3 = Some(other),
            3 => event.ops[at].1 = path(501),
            4 => event.ops[at].0 = if event.ops[at].0 == Action::Delete { Action::Create } else { Action::Delete },
            5 => event.prev_data = Some(other),
            6 => event.since = Some(Tid(stored.rev.0 - 1)),
            _ => {
                let at = which.index(event.blocks.len());
                let byte = which.index(event.blocks[at].1.len());
                event.blocks[at].1[byte] ^= 0x10;
            }
        }
        // An operation that changes nothing (the same record put again) may be left out or told otherwise.
        let idle = |op: &(Action, String, Option<Cid>, Option<Cid>)| op.2.is_some() && op.2 == op.3;
        let verdict = judge(&account, &event, Some(&stored));
        if event.ops != honest.ops && idle(&honest.ops[at]) && verdict.is_ok() {
            prop_assert_eq!(how, 0);
        } else if event.ops == honest.ops && how < 5 {
            prop_assert!(verdict.is_ok());
        } else {
            prop_assert!(verdict.is_err(), "{how}");
        }
    }

    #[test]
    fn damaged_frames_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (account, stored, event) = next_event(&[write(100), update(1), delete(2)]);
        let blocks = event.car();
        let mut frame = Message::Commit(event.message(&blocks)).encode();
        let at = at.index(frame.len());
        let same = std::mem::replace(&mut frame[at], byte) == byte;
        if let Ok(Message::Commit(message)) = Message::decode(&frame) {
            let verdict = verify_commit(&message, &account.verifying_key(), Some(&stored), NOW_US);
            // Only fields that carry no proof may change unnoticed.
            let unproven = message.seq != 1 || message.time != crate::world::TIME || message.since.is_none();
            prop_assert!(same || unproven || verdict.is_err() || verdict.is_ok_and(|verified| verified.state == account.state()));
        }
    }
}
