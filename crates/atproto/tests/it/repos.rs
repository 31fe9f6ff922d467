//! Whole repositories.

use groundplane_atproto::{
    Cid, Tid,
    car::{Car, CarError},
    cbor::Writer,
    commit::Commit,
    crypto::Curve,
    mst::MstError,
    repo::Repo,
    verify::VerifyError,
};
use proptest::prelude::*;

use crate::world::{Account, DID, NOW_US, car, path, record};

fn judge(account: &Account, bytes: &[u8]) -> Result<usize, VerifyError> {
    Repo::verify(bytes, DID, &account.verifying_key(), NOW_US).map(|repo| repo.len())
}

#[test]
fn a_repository_gives_all_its_records_in_order() {
    for (curve, n) in [(Curve::K256, 0), (Curve::P256, 1), (Curve::K256, 3_000)] {
        let account = Account::with_records(curve, n);
        let bytes = account.export();
        let repo = Repo::verify(&bytes, DID, &account.verifying_key(), NOW_US).unwrap();
        assert_eq!((repo.state(), repo.len(), repo.is_empty()), (account.state(), n as usize, n == 0));
        let mut want: Vec<_> = (0..n).map(|n| (path(n), record(n))).collect();
        want.sort_unstable();
        for (have, (path, record)) in repo.records().zip(&want) {
            assert_eq!(&format!("{}/{}", have.collection, have.rkey), path);
            assert_eq!((have.record, have.cid), (&record[..], Cid::for_dag_cbor(record)));
        }
        assert_eq!(repo.records().len(), want.len());
    }
}

/// The blocks of an exported CAR, to be changed.
fn blocks(bytes: &[u8]) -> Vec<(Cid, Vec<u8>)> {
    let car = Car::parse(bytes, 100_000).unwrap();
    car.blocks().iter().map(|block| (block.cid.to_cid().unwrap(), block.data.to_vec())).collect()
}

#[test]
fn every_block_is_needed_and_none_may_be_forged() {
    let account = Account::with_records(Curve::K256, 40);
    let all = blocks(&account.export());
    let root = account.state().commit;
    for at in 0..all.len() {
        let mut fewer = all.clone();
        let (cid, _) = fewer.remove(at);
        let error = judge(&account, &car(&[root], &fewer)).unwrap_err();
        match error {
            VerifyError::CommitMissing => assert_eq!(cid, root),
            VerifyError::RecordMissing => assert!(account.records.contains_key(&cid)),
            other => assert_eq!(other, VerifyError::Proof(MstError::MissingNode)),
        }
        let mut forged = all.clone();
        forged[at].1[0] ^= 1;
        assert_eq!(judge(&account, &car(&[root], &forged)), Err(VerifyError::Car(CarError::HashMismatch)));
    }
    assert_eq!(judge(&account, &car(&[root, root], &all)), Err(VerifyError::Root));
    assert_eq!(judge(&account, &[]), Err(VerifyError::Car(CarError::Truncated)));
}

#[test]
fn the_commit_must_be_of_the_account() {
    let account = Account::with_records(Curve::K256, 5);
    let bytes = account.export();
    let key = account.verifying_key();
    let other = Account::new(Curve::P256).verifying_key();
    let verify = |did, key, now| Repo::verify(&bytes, did, key, now).map(|repo| repo.len());
    assert_eq!(verify(DID, &key, NOW_US), Ok(5));
    assert_eq!(verify("did:web:a.test", &key, NOW_US), Err(VerifyError::Did));
    assert!(matches!(verify(DID, &other, NOW_US), Err(VerifyError::Signature(_))));
    assert_eq!(verify(DID, &key, 0), Err(VerifyError::RevInFuture));
}

/// Writes a node with the children and entries given, right or wrong.
fn node(left: Option<Cid>, entries: &[(&str, Cid, Option<Cid>)]) -> (Cid, Vec<u8>) {
    let mut writer = Writer::new();
    writer.map(2).text("e").list(entries.len());
    let mut before = "";
    for (key, value, right) in entries {
        let shared = before.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        writer.map(4).text("k").bytes(&key.as_bytes()[shared..]).text("p").int(shared as i64);
        writer.text("t").link_or_null(right.as_ref()).text("v").link(value.as_ref());
        before = key;
    }
    writer.text("l").link_or_null(left.as_ref());
    let bytes = writer.into_bytes();
    (Cid::for_dag_cbor(&bytes), bytes)
}

#[test]
fn a_signed_tree_of_the_wrong_shape_is_refused() {
    let account = Account::new(Curve::K256);
    let value = record(1);
    let cid = Cid::for_dag_cbor(&value);
    // Layers: like 0, post …2a 0, post …2b 1, follow 1.
    let (like, post_0) = ("app.bsky.feed.like/3jzfcijpj2z2c", "app.bsky.feed.post/3jzfcijpj2z2a");
    let (post_1, follow) = ("app.bsky.feed.post/3jzfcijpj2z2b", "app.bsky.graph.follow/3jzfcijpj2z2d");
    let judge = |nodes: &[(Cid, Vec<u8>)]| {
        let (commit, block) = Commit::create(DID, Tid::from_parts(NOW_US, 0), nodes[0].0, &account.key);
        let mut all = vec![(commit, block), (cid, value.clone())];
        all.extend_from_slice(nodes);
        judge(&account, &car(&[commit], &all))
    };
    let low = node(None, &[(like, cid, None), (post_0, cid, None)]);
    assert_eq!(judge(&[node(Some(low.0), &[(post_1, cid, None), (follow, cid, None)]), low.clone()]), Ok(4));
    let flat = node(None, &[(like, cid, None), (post_0, cid, None), (post_1, cid, None), (follow, cid, None)]);
    assert_eq!(judge(&[flat]), Err(VerifyError::Tree), "all keys in one node");
    let hanging = node(Some(low.0), &[(post_1, cid, None), (follow, cid, None)]);
    let bridge = node(Some(hanging.0), &[]);
    assert_eq!(judge(&[bridge, hanging, low.clone()]), Err(VerifyError::Tree), "a root without keys");
    let mid = node(Some(low.0), &[]);
    let too_deep = node(Some(mid.0), &[(post_1, cid, None), (follow, cid, None)]);
    assert_eq!(judge(&[too_deep, mid, low.clone()]), Err(VerifyError::Tree), "a bridge where none belongs");
    let misplaced = node(None, &[(post_1, cid, Some(low.0)), (follow, cid, None)]);
    assert_eq!(judge(&[misplaced, low.clone()]), Err(VerifyError::Proof(MstError::Order)), "children out of order");
    let empty = node(None, &[]);
    assert_eq!(judge(&[node(Some(empty.0), &[(post_1, cid, None)]), empty]), Err(VerifyError::Proof(MstError::Layer)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn damaged_repositories_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let account = Account::with_records(Curve::K256, 8);
        let mut bytes = account.export();
        let at = at.index(bytes.len());
        let same = std::mem::replace(&mut bytes[at], byte) == byte;
        // A damaged length can hide blocks, never change one.
        prop_assert!(same || judge(&account, &bytes).is_err());
        prop_assert!(judge(&account, &bytes[..at]).is_err());
    }
}
