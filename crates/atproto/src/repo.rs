//! Whole repositories, as `com.atproto.sync.getRepo` exports them.
//!
//! The check is complete: every block is hashed, the commit is of the account and signed by its key, and the tree
//! that the leaves make must be the tree that is signed, which covers order, layers, prefixes and bridging at once.

use crate::{
    car::{Car, REPO_BLOCKS_MAX},
    cid::Cid,
    commit::Commit,
    crypto::VerifyingKey,
    mst,
    verify::{REV_SKEW_US, RepoState, VerifyError, single_root},
};

/// A repository that was checked, borrowed from its CAR.
#[derive(Clone, Debug)]
pub struct Repo<'a> {
    state: RepoState,
    car: Car<'a>,
    /// All keys one behind the other; each leaf knows where its own ends.
    keys: Vec<u8>,
    leaves: Vec<Leaf>,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    key_end: u32,
    block: u32,
    cid: Cid,
}

/// One record of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepoRecord<'r> {
    /// The first half of the key.
    pub collection: &'r str,
    /// The second half of the key.
    pub rkey: &'r str,
    /// The record's CID.
    pub cid: Cid,
    /// The record's block, which hashes to `cid`.
    pub record: &'r [u8],
}

impl<'a> Repo<'a> {
    /// Checks the CAR of the repository of `did`, whose key is `key`. `now_us` is the time in microseconds since the
    /// epoch; a revision from the future is refused, since nothing could ever follow it.
    pub fn verify(car: &'a [u8], did: &str, key: &VerifyingKey, now_us: u64) -> Result<Repo<'a>, VerifyError> {
        let car = Car::parse(car, REPO_BLOCKS_MAX)?;
        let root = single_root(&car)?;
        let commit = Commit::decode(car.get(&root).ok_or(VerifyError::CommitMissing)?)?;
        if commit.did != did {
            return Err(VerifyError::Did);
        }
        if commit.rev.micros() > now_us.saturating_add(REV_SKEW_US) {
            return Err(VerifyError::RevInFuture);
        }
        commit.verify_signature(key)?;
        let state = RepoState { rev: commit.rev, commit: root, data: commit.data };
        Repo::read(car, state)
    }

    fn read(car: Car<'a>, state: RepoState) -> Result<Repo<'a>, VerifyError> {
        let (mut keys, mut leaves) = (Vec::new(), Vec::new());
        let (mut builder, mut sink) = (mst::Builder::new(), |_, _| {});
        let mut failure = None;
        mst::walk(state.data, &car, &mut |key, cid| {
            if failure.is_some() {
                return;
            }
            if let Err(error) = builder.push(key, *cid, &mut sink) {
                failure = Some(VerifyError::Proof(error));
                return;
            }
            keys.extend_from_slice(key);
            match (car.find(cid.as_ref()), u32::try_from(keys.len())) {
                (Some(block), Ok(key_end)) => leaves.push(Leaf { key_end, block: block as u32, cid: *cid }),
                (None, _) => failure = Some(VerifyError::RecordMissing),
                (_, Err(_)) => failure = Some(VerifyError::Tree), // four gigabytes of keys are no repository
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if builder.finish(&mut sink) != state.data {
            return Err(VerifyError::Tree);
        }
        Ok(Repo { state, car, keys, leaves })
    }

    /// What to store once the records are applied.
    pub fn state(&self) -> RepoState {
        self.state
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// All records in ascending order of keys.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RepoRecord<'_>> {
        let mut start = 0;
        self.leaves.iter().map(move |leaf| {
            let key = &self.keys[std::mem::replace(&mut start, leaf.key_end as usize)..leaf.key_end as usize];
            let key = std::str::from_utf8(key).expect("tree keys are ASCII");
            let (collection, rkey) = key.split_once('/').expect("tree keys hold a slash");
            RepoRecord { collection, rkey, cid: leaf.cid, record: self.car.blocks()[leaf.block as usize].data }
        })
    }
}
