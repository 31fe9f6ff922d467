//! `#sync` events.

use groundplane_atproto::{
    Cid, Tid,
    commit::Commit,
    crypto::{Curve, SigningKey},
    verify::{RepoState, SyncOutcome, VerifyError, check_sync, follow_sync},
};

use crate::world::{Account, DID, NOW_US, Sync, path, record};

fn judge(account: &Account, sync: &Sync) -> Result<RepoState, VerifyError> {
    let blocks = sync.car();
    check_sync(&sync.message(&blocks), &account.verifying_key(), NOW_US)
}

#[test]
fn what_a_sync_means_depends_on_what_is_stored() {
    let mut account = Account::with_records(Curve::P256, 20);
    let first = account.state();
    let claim = judge(&account, &account.sync()).unwrap();
    assert_eq!(claim, first);
    assert_eq!(follow_sync(claim, Some(&first)), SyncOutcome::Same, "hosts repeat the commit of a new account");
    assert_eq!(follow_sync(claim, None), SyncOutcome::Desynced(claim));

    account.commit(&[]);
    let signed_again = judge(&account, &account.sync()).unwrap();
    assert_eq!(follow_sync(signed_again, Some(&first)), SyncOutcome::Advance(signed_again));
    assert_eq!(follow_sync(first, Some(&signed_again)), SyncOutcome::Stale);

    account.commit(&[(path(100), Some(record(100)))]);
    let changed = judge(&account, &account.sync()).unwrap();
    assert_eq!(follow_sync(changed, Some(&first)), SyncOutcome::Desynced(changed));
    let fork = RepoState { data: first.data, ..changed };
    assert_eq!(follow_sync(fork, Some(&changed)), SyncOutcome::Desynced(fork), "the same revision, other records");

    let mut empty = Account::new(Curve::K256);
    empty.commit(&[]);
    assert_eq!(follow_sync(empty.state(), None), SyncOutcome::Advance(empty.state()), "nothing there to be fetched");
}

#[test]
fn a_sync_must_be_signed_and_be_of_what_it_says() {
    let account = Account::with_records(Curve::K256, 20);
    let state = account.state();
    let with = |tamper: &dyn Fn(&mut Sync)| {
        let mut sync = account.sync();
        tamper(&mut sync);
        judge(&account, &sync).unwrap_err()
    };
    let signed = |did: &str, rev: Tid, key: &SigningKey| {
        let (commit, block) = Commit::create(did, rev, state.data, key);
        with(&|sync| (sync.roots, sync.blocks) = (vec![commit], vec![(commit, block.clone())]))
    };
    let stranger = SigningKey::from_bytes(Curve::K256, &[9; 32]).unwrap();
    assert!(matches!(signed(DID, state.rev, &stranger), VerifyError::Signature(_)));
    assert_eq!(signed("did:web:a.test", state.rev, &account.key), VerifyError::Did);
    assert_eq!(signed(DID, Tid(state.rev.0 + 1), &account.key), VerifyError::Rev);
    assert_eq!(with(&|sync| sync.rev = "no tid".into()), VerifyError::Rev);
    assert_eq!(with(&|sync| sync.did = "did:web:a.test".into()), VerifyError::Did);
    assert_eq!(with(&|sync| sync.roots.push(Cid::for_raw(b""))), VerifyError::Root);
    assert_eq!(with(&|sync| sync.blocks.clear()), VerifyError::CommitMissing);
    let future = Tid::from_parts(NOW_US + 3_600_000_000, 0);
    let (commit, block) = Commit::create(DID, future, state.data, &account.key);
    let error = with(&|sync| {
        (sync.roots, sync.blocks, sync.rev) = (vec![commit], vec![(commit, block.clone())], future.to_string());
    });
    assert_eq!(error, VerifyError::RevInFuture);
}
