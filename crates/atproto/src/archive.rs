//! Whole repositories of any size, read from wherever their bytes were put, without holding them in memory.
//!
//! ```text
//! index: hash every block, note where it is -> commit: whose, signed -> open: walk the tree, build it anew, compare
//! ```
//!
//! The check is complete: every block is hashed before anything reads it, the commit is of the account and signed by its
//! key, and the tree that the leaves make must be the tree that is signed, which covers order, layers, prefixes and
//! bridging at once. What stays in memory is about 48 bytes for each block and 30 for each record that is kept.

use std::{borrow::Cow, cell::Cell, cmp::Ordering, io};

use sha2::{Digest, Sha256};

use crate::{
    car::{CarError, HEADER_BYTES_MAX, check_hash, read_header},
    cid::{Cid, CidRef, varint},
    commit::Commit,
    crypto::VerifyingKey,
    mst,
    verify::{REV_SKEW_US, RepoState, VerifyError},
};

/// Largest block that is read. Records end at a megabyte, and tree nodes far below.
pub const BLOCK_BYTES_MAX: usize = 8 << 20;

/// Read at once while blocks are hashed.
const READ_BYTES: usize = 1 << 20;

/// Longest number in front of a block.
const VARINT_BYTES_MAX: usize = 10;

/// Where the bytes of a repository are.
pub trait Source {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `at`, all of which must be there.
    fn read(&self, at: u64, len: usize) -> io::Result<Cow<'_, [u8]>>;
}

impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Cow<'_, [u8]>> {
        let found = usize::try_from(at).ok().and_then(|at| self.get(at..at.checked_add(len)?));
        found.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not what it should be.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Where it was put cannot be read any more. The network has no part in that.
    #[error("cannot read back what was put aside: {0}")]
    Source(#[from] io::Error),
}

impl From<CarError> for ArchiveError {
    fn from(error: CarError) -> Self {
        Self::Verify(error.into())
    }
}

/// Where a block is.
#[derive(Clone, Copy, Debug)]
struct Place {
    digest: [u8; 32],
    at: u64,
    len: u32,
    codec: u8,
}

/// A CAR all of whose blocks were compared with their CIDs. Nothing is known of what they say.
#[derive(Debug)]
pub struct Archive<S> {
    source: S,
    root: Cid,
    /// In the order of digests.
    places: Vec<Place>,
}

impl<S: Source> Archive<S> {
    /// Reads all of it once and hashes every block, at most `blocks_max` of them.
    pub fn index(source: S, blocks_max: usize) -> Result<Self, ArchiveError> {
        let (root, mut at) = header(&source)?;
        let mut places = Vec::new();
        let end = source.len();
        let mut want = READ_BYTES;
        while at < end {
            let chunk = source.read(at, usize::try_from(end - at).unwrap_or(usize::MAX).min(want))?;
            let whole = chunk.len() as u64 == end - at;
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let mut behind = rest;
                let len = match varint(&mut behind) {
                    Ok(len) => usize::try_from(len).map_err(|_| CarError::Truncated)?,
                    Err(_) if rest.len() < VARINT_BYTES_MAX && !whole => break,
                    Err(_) => return Err(CarError::Truncated.into()),
                };
                if len > BLOCK_BYTES_MAX {
                    return Err(CarError::BlockTooLarge.into());
                }
                let Some((section, after)) = behind.split_at_checked(len) else {
                    if whole {
                        return Err(CarError::Truncated.into());
                    }
                    break;
                };
                let (cid, data) = CidRef::from_prefix(section).map_err(|_| CarError::BlockCid)?;
                if places.len() == blocks_max {
                    return Err(CarError::TooManyBlocks.into());
                }
                check_hash(cid, data)?;
                // Nothing in a repository can name a block of any other form.
                if let Some(cid) = cid.to_cid() {
                    let before = (chunk.len() - after.len() - data.len()) as u64;
                    places.push(Place {
                        digest: *cid.digest(),
                        at: at + before,
                        len: data.len() as u32, // at most BLOCK_BYTES_MAX
                        codec: cid.as_bytes()[1],
                    });
                }
                rest = after;
            }
            let read = chunk.len() - rest.len();
            // A block that is larger than what was read is read whole the next time.
            want = if read == 0 { BLOCK_BYTES_MAX + VARINT_BYTES_MAX } else { READ_BYTES };
            at += read as u64;
        }
        places.sort_unstable_by_key(|place| (place.digest, place.codec, place.at));
        Ok(Self { source, root, places })
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.places.len()
    }

    /// The newest commit, which must be of `did`, signed by `key`, and not of a time after `now_us`, in microseconds
    /// since the epoch: nothing could ever follow it.
    pub fn commit(&self, did: &str, key: &VerifyingKey, now_us: u64) -> Result<RepoState, ArchiveError> {
        let block = self.find(&self.root).ok_or(VerifyError::CommitMissing)?;
        let block = self.block(block)?;
        let commit = Commit::decode(&block).map_err(VerifyError::from)?;
        if commit.did != did {
            return Err(VerifyError::Did.into());
        }
        if commit.rev.micros() > now_us.saturating_add(REV_SKEW_US) {
            return Err(VerifyError::RevInFuture.into());
        }
        commit.verify_signature(key).map_err(VerifyError::from)?;
        Ok(RepoState { rev: commit.rev, commit: self.root, data: commit.data })
    }

    /// Walks the tree that `state` signs and checks all of it. Records of collections that `keep` refuses are checked
    /// like the others and then forgotten.
    pub fn open(self, state: RepoState, keep: impl Fn(&str) -> bool) -> Result<Records<S>, ArchiveError> {
        let mut leaves = Leaves::default();
        let (mut builder, mut sink) = (mst::Builder::new(), |_, _| {});
        let (mut failure, unreadable) = (None, Cell::new(None));
        let nodes = Nodes { archive: &self, unreadable: &unreadable };
        let walked = mst::walk(state.data, &nodes, &mut |key, cid| {
            if failure.is_some() {
                return;
            }
            let pushed = builder.push(key, *cid, &mut sink).map_err(VerifyError::from);
            let found = self.find(cid).ok_or(VerifyError::RecordMissing);
            match pushed.and(found).and_then(|place| leaves.push(key, place, &keep).ok_or(VerifyError::Tree)) {
                Ok(()) => {}
                Err(error) => failure = Some(error),
            }
        });
        if let Some(error) = unreadable.take() {
            return Err(ArchiveError::Source(error));
        }
        walked.map_err(VerifyError::from)?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        if builder.finish(&mut sink) != state.data {
            return Err(VerifyError::Tree.into());
        }
        Ok(Records { archive: self, state, leaves })
    }

    /// The number of the place of a block.
    fn find(&self, cid: &Cid) -> Option<usize> {
        let wanted = (cid.digest(), cid.as_bytes()[1]);
        let at = self.places.partition_point(|place| (&place.digest, place.codec) < wanted);
        self.places.get(at).filter(|place| (&place.digest, place.codec) == wanted).map(|_| at)
    }

    fn block(&self, place: usize) -> io::Result<Cow<'_, [u8]>> {
        let Place { at, len, .. } = self.places[place];
        self.source.read(at, len as usize)
    }
}

/// The one root, and where the blocks begin.
fn header(source: &impl Source) -> Result<(Cid, u64), ArchiveError> {
    let most = (HEADER_BYTES_MAX + VARINT_BYTES_MAX) as u64;
    let bytes = source.read(0, source.len().min(most) as usize)?;
    let mut rest = &bytes[..];
    let len = varint(&mut rest).map_err(|_| CarError::Truncated)?;
    let len = usize::try_from(len).map_err(|_| CarError::Truncated)?;
    if len > HEADER_BYTES_MAX {
        return Err(CarError::HeaderTooLong.into());
    }
    let header = rest.get(..len).ok_or(CarError::Truncated)?;
    let roots = read_header(header)?;
    match roots[..] {
        [root] => Ok((root.to_cid().ok_or(VerifyError::Root)?, (bytes.len() - rest.len() + len) as u64)),
        _ => Err(VerifyError::Root.into()),
    }
}

/// The tree's nodes. What cannot be read is remembered, since a walk only knows missing nodes.
struct Nodes<'a, S> {
    archive: &'a Archive<S>,
    unreadable: &'a Cell<Option<io::Error>>,
}

impl<S: Source> mst::Blocks for Nodes<'_, S> {
    fn node(&self, cid: &Cid) -> Option<Cow<'_, [u8]>> {
        match self.archive.block(self.archive.find(cid)?) {
            Ok(block) => Some(block),
            Err(error) => {
                self.unreadable.set(Some(error));
                None
            }
        }
    }
}

/// Keys and places of the records that are kept, in the order of keys.
#[derive(Debug, Default)]
struct Leaves {
    collections: Vec<Box<str>>,
    /// All record keys one behind the other; each leaf knows where its own ends.
    rkeys: Vec<u8>,
    leaves: Vec<Leaf>,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    place: u32,
    rkey_end: u32,
    collection: u32,
}

impl Leaves {
    /// Nothing comes back for a repository that is too large to be one.
    fn push(&mut self, key: &[u8], place: usize, keep: &impl Fn(&str) -> bool) -> Option<()> {
        let (collection, rkey) = std::str::from_utf8(key).ok()?.split_once('/')?;
        if !keep(collection) {
            return Some(());
        }
        // Keys come in order, so a collection's records come together.
        if self.collections.last().is_none_or(|last| **last != *collection) {
            self.collections.push(collection.into());
        }
        self.rkeys.extend_from_slice(rkey.as_bytes());
        self.leaves.push(Leaf {
            place: u32::try_from(place).ok()?,
            rkey_end: u32::try_from(self.rkeys.len()).ok()?,
            collection: u32::try_from(self.collections.len() - 1).ok()?,
        });
        Some(())
    }

    fn rkey(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.leaves[before].rkey_end);
        let bytes = &self.rkeys[start as usize..self.leaves[at].rkey_end as usize];
        std::str::from_utf8(bytes).expect("it was cut out of a text")
    }

    fn collection(&self, at: usize) -> &str {
        &self.collections[self.leaves[at].collection as usize]
    }
}

/// The records of a repository that was checked.
#[derive(Debug)]
pub struct Records<S> {
    archive: Archive<S>,
    state: RepoState,
    leaves: Leaves,
}

impl<S: Source> Records<S> {
    /// What to store once the records are applied.
    pub fn state(&self) -> RepoState {
        self.state
    }

    /// Where the bytes are.
    pub fn source(&self) -> &S {
        &self.archive.source
    }

    /// How many records were kept.
    pub fn len(&self) -> usize {
        self.leaves.leaves.len()
    }

    /// Whether none was kept.
    pub fn is_empty(&self) -> bool {
        self.leaves.leaves.is_empty()
    }

    /// The first half of the key of record number `at`, which must be below [`Records::len`]. Records are in ascending
    /// order of their keys.
    pub fn collection(&self, at: usize) -> &str {
        self.leaves.collection(at)
    }

    /// The second half of its key.
    pub fn rkey(&self, at: usize) -> &str {
        self.leaves.rkey(at)
    }

    /// Its CID.
    pub fn cid(&self, at: usize) -> Cid {
        let place = &self.archive.places[self.leaves.leaves[at].place as usize];
        let mut bytes = *Cid::dag_cbor_with_digest(place.digest).as_bytes();
        bytes[1] = place.codec;
        Cid::from_bytes(&bytes).expect("the parts of a CID make one")
    }

    /// Its block. Read again from a place that others may write to, it is hashed again.
    pub fn block(&self, at: usize) -> Result<Cow<'_, [u8]>, ArchiveError> {
        let place = self.leaves.leaves[at].place as usize;
        let block = self.archive.block(place)?;
        if matches!(block, Cow::Owned(_)) && Sha256::digest(&block)[..] != self.archive.places[place].digest {
            return Err(CarError::HashMismatch.into());
        }
        Ok(block)
    }

    /// Where the block of a record begins in the source, and its length.
    pub fn place(&self, at: usize) -> (u64, usize) {
        let Place { at, len, .. } = self.archive.places[self.leaves.leaves[at].place as usize];
        (at, len as usize)
    }

    /// The number of the record with this key.
    pub fn find(&self, collection: &str, rkey: &str) -> Option<usize> {
        let order = |at: usize| -> Ordering {
            let key = |collection: &str, rkey: &str| [collection, "/", rkey].concat();
            match (self.collection(at) == collection, self.leaves.rkey(at)) {
                (true, found) => found.cmp(rkey),
                (false, found) => key(self.collection(at), found).cmp(&key(collection, rkey)),
            }
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match order(middle) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }
}
