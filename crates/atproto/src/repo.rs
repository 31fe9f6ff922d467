//! Whole repositories in memory, as `com.atproto.sync.getRepo` exports them. The check is that of [`crate::archive`].

use crate::{
    archive::{Archive, ArchiveError, Records},
    car::{CarError, REPO_BLOCKS_MAX},
    cid::Cid,
    crypto::VerifyingKey,
    verify::{RepoState, VerifyError},
};

/// A repository that was checked, borrowed from its CAR.
#[derive(Debug)]
pub struct Repo<'a> {
    car: &'a [u8],
    records: Records<&'a [u8]>,
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
        let check = || -> Result<Records<&'a [u8]>, ArchiveError> {
            let archive = Archive::index(car, REPO_BLOCKS_MAX)?;
            let state = archive.commit(did, key, now_us)?;
            archive.open(state, |_| true)
        };
        let records = check().map_err(|error| match error {
            ArchiveError::Verify(error) => error,
            // A slice is all there: whoever asks beyond its end was told so by the CAR.
            ArchiveError::Source(_) => CarError::Truncated.into(),
        })?;
        Ok(Repo { car, records })
    }

    /// What to store once the records are applied.
    pub fn state(&self) -> RepoState {
        self.records.state()
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All records in ascending order of keys.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RepoRecord<'_>> {
        (0..self.len()).map(|at| {
            let (begin, len) = self.records.place(at);
            RepoRecord {
                collection: self.records.collection(at),
                rkey: self.records.rkey(at),
                cid: self.records.cid(at),
                record: &self.car[begin as usize..begin as usize + len],
            }
        })
    }
}
