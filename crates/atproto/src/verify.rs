//! Does an event prove what it says? Inductive verification of `#commit`, and of `#sync`.
//!
//! A commit is checked in two steps, which may run on different threads:
//!
//! 1. [`check_commit`] needs the event and the account's key only. It says that the signed tree holds what the
//!    operations say, and which root the tree had before them.
//! 2. [`CheckedCommit::follow`] compares that with what is stored of the repository, and gives the operations and the
//!    new state, or says that something is missing in between.
//!
//! [`verify_commit`] does both. Nothing here keeps state; what an error means for the repository is its
//! [`Reaction`].

use smallvec::SmallVec;

use crate::{
    car::{Car, CarError, EVENT_BLOCKS_MAX},
    cid::Cid,
    commit::{Commit, CommitError},
    crypto::{SignatureError, VerifyingKey},
    frame::{Action, CommitMessage, RepoOp, SyncMessage},
    mst::{self, Change, MstError, Partial, empty_root},
    tid::Tid,
};

/// How far a revision may lie in the future, in microseconds.
pub const REV_SKEW_US: u64 = 5 * 60 * 1_000_000;

/// What is stored of a repository between events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepoState {
    /// The revision of the last commit.
    pub rev: Tid,
    /// The CID of the last commit.
    pub commit: Cid,
    /// The root of its tree.
    pub data: Cid,
}

/// How an accepted commit hangs together with what was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Nothing was stored, and the commit begins at the empty tree.
    First,
    /// The tree before the operations is the stored one.
    Linked,
    /// The host sends no proof of the tree before. The commit is signed and holds its records, and its `since` is the
    /// stored revision; whether that is enough is for the caller to decide.
    Unproven,
}

/// A verified operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedOp<'a> {
    /// Create, update or delete.
    pub action: Action,
    /// The first half of the path.
    pub collection: &'a str,
    /// The second half of the path.
    pub rkey: &'a str,
    /// The record's CID; `None` for deletions.
    pub cid: Option<Cid>,
    /// The record's block, which hashes to `cid`. It may be missing only where a later operation of the same commit
    /// overwrites or deletes the record.
    pub record: Option<&'a [u8]>,
}

/// A commit that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCommit<'a> {
    /// What to store once the operations are applied.
    pub state: RepoState,
    /// How it follows what was stored.
    pub chain: Chain,
    /// The operations in the order of the event.
    pub ops: Vec<VerifiedOp<'a>>,
}

/// Why an event was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The CAR is not readable or holds forged blocks.
    #[error("CAR: {0}")]
    Car(#[from] CarError),
    /// The CAR's root is not the commit that the event names, or there are several where there must be one.
    #[error("the CAR's root is not the commit")]
    Root,
    /// The commit block is not in the CAR.
    #[error("the commit block is missing")]
    CommitMissing,
    /// The commit block is not a commit.
    #[error("commit: {0}")]
    Commit(#[from] CommitError),
    /// The commit is of another account.
    #[error("the commit is of another account")]
    Did,
    /// The event and the commit name different revisions.
    #[error("the commit has another revision than the event")]
    Rev,
    /// The revision lies more than [`REV_SKEW_US`] in the future.
    #[error("the revision lies in the future")]
    RevInFuture,
    /// The signature does not hold under the key.
    #[error("signature: {0}")]
    Signature(#[from] SignatureError),
    /// An operation has a CID too many or too few, or an unknown action.
    #[error("an operation is malformed")]
    OpShape,
    /// The path of an operation is not the key of a record.
    #[error("an operation has an invalid path")]
    OpPath,
    /// A record that stands after the event is not among the blocks.
    #[error("a record block is missing")]
    RecordMissing,
    /// The tree contradicts an operation, or cannot be followed.
    #[error("proof: {0}")]
    Proof(#[from] MstError),
    /// Undoing the operations gives another root than `prevData`.
    #[error("the operations do not lead from prevData to data")]
    PrevData,
    /// The tree that the leaves make is not the tree that is signed.
    #[error("the tree is not the tree of its leaves")]
    Tree,
    /// Not newer than what is stored.
    #[error("not newer than the stored revision")]
    Stale,
    /// Nothing is stored, and this is not a beginning.
    #[error("the repository is not known yet")]
    Unknown,
    /// The commit follows another revision than the stored one.
    #[error("the commit follows another revision")]
    Since,
    /// The commit follows another tree than the stored one.
    #[error("the commit follows another tree")]
    Data,
}

/// What an error means for the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Seen before or overtaken: forget the event.
    Drop,
    /// Refresh the account's key and check once more; if the key is the same or that fails too, as [`Reaction::Reject`].
    RefreshKey,
    /// The event is worthless. Whether the repository is to be fetched is a question of policy.
    Reject,
    /// Events are missing in between: fetch the repository.
    Resync,
}

impl VerifyError {
    /// What to do about it.
    pub fn reaction(&self) -> Reaction {
        match self {
            VerifyError::Stale => Reaction::Drop,
            VerifyError::Signature(_) => Reaction::RefreshKey,
            VerifyError::Unknown | VerifyError::Since | VerifyError::Data => Reaction::Resync,
            VerifyError::Car(_)
            | VerifyError::Root
            | VerifyError::CommitMissing
            | VerifyError::Commit(_)
            | VerifyError::Did
            | VerifyError::Rev
            | VerifyError::RevInFuture
            | VerifyError::OpShape
            | VerifyError::OpPath
            | VerifyError::RecordMissing
            | VerifyError::Proof(_)
            | VerifyError::PrevData
            | VerifyError::Tree => Reaction::Reject,
        }
    }

    /// A name for metrics, from a closed set.
    pub fn name(&self) -> &'static str {
        match self {
            VerifyError::Car(_) => "car",
            VerifyError::Root => "root",
            VerifyError::CommitMissing => "commit_missing",
            VerifyError::Commit(_) => "commit",
            VerifyError::Did => "did",
            VerifyError::Rev => "rev",
            VerifyError::RevInFuture => "rev_in_future",
            VerifyError::Signature(_) => "signature",
            VerifyError::OpShape => "op_shape",
            VerifyError::OpPath => "op_path",
            VerifyError::RecordMissing => "record_missing",
            VerifyError::Proof(_) => "proof",
            VerifyError::PrevData => "prev_data",
            VerifyError::Tree => "tree",
            VerifyError::Stale => "stale",
            VerifyError::Unknown => "unknown_repo",
            VerifyError::Since => "since",
            VerifyError::Data => "data",
        }
    }
}

/// A commit that proves what it says; whether it follows what is stored is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCommit<'a> {
    state: RepoState,
    since: Option<Tid>,
    /// The tree before the operations; `None` where the host gives no proof of it.
    before: Option<Cid>,
    ops: Vec<VerifiedOp<'a>>,
}

/// Checks a commit event against the key and what is stored of the repository.
///
/// `now_us` is the time in microseconds since the epoch. An event that is not newer than what is stored is refused
/// before anything costly is done.
pub fn verify_commit<'a>(
    message: &CommitMessage<'a>,
    key: &VerifyingKey,
    stored: Option<&RepoState>,
    now_us: u64,
) -> Result<VerifiedCommit<'a>, VerifyError> {
    if stored.is_some_and(|stored| message.rev <= stored.rev) {
        return Err(VerifyError::Stale);
    }
    check_commit(message, key, now_us)?.follow(stored)
}

/// Checks everything about a commit event that does not depend on what is stored.
///
/// The signature comes last, as it costs more than all the rest.
pub fn check_commit<'a>(
    message: &CommitMessage<'a>,
    key: &VerifyingKey,
    now_us: u64,
) -> Result<CheckedCommit<'a>, VerifyError> {
    let car = Car::parse(message.blocks, EVENT_BLOCKS_MAX)?;
    if car.roots()[0] != message.commit {
        return Err(VerifyError::Root);
    }
    let commit = load_commit(&car, message.commit, message.repo, message.rev, now_us)?;
    let ops = verified_ops(message, &car)?;
    let before = tree_before(message, &car, commit.data)?;
    commit.verify_signature(key)?;
    Ok(CheckedCommit {
        state: RepoState { rev: commit.rev, commit: message.commit, data: commit.data },
        since: message.since,
        before,
        ops,
    })
}

fn load_commit<'a>(car: &Car<'a>, cid: Cid, did: &str, rev: Tid, now_us: u64) -> Result<Commit<'a>, VerifyError> {
    let commit = Commit::decode(car.get(&cid).ok_or(VerifyError::CommitMissing)?)?;
    match () {
        () if commit.did != did => Err(VerifyError::Did),
        () if commit.rev != rev => Err(VerifyError::Rev),
        () if commit.rev.micros() > now_us.saturating_add(REV_SKEW_US) => Err(VerifyError::RevInFuture),
        () => Ok(commit),
    }
}

fn verified_ops<'a>(message: &CommitMessage<'a>, car: &Car<'a>) -> Result<Vec<VerifiedOp<'a>>, VerifyError> {
    let op = |op: &RepoOp<'a>| {
        if !mst::is_valid_key(op.path.as_bytes()) {
            return Err(VerifyError::OpPath);
        }
        let (collection, rkey) = op.path.split_once('/').ok_or(VerifyError::OpPath)?;
        let shaped = match op.action {
            Action::Create | Action::Update => op.cid.is_some(),
            Action::Delete => op.cid.is_none(),
            Action::Unknown => false,
        };
        if !shaped {
            return Err(VerifyError::OpShape);
        }
        Ok(VerifiedOp {
            action: op.action,
            collection,
            rkey,
            cid: op.cid,
            record: op.cid.and_then(|cid| car.get(&cid)),
        })
    };
    message.ops.iter().map(op).collect()
}

/// What a commit did to one path, over all of its operations on it.
struct Collapsed<'m, 'a> {
    first: &'m RepoOp<'a>,
    last: &'m RepoOp<'a>,
    single: bool,
}

impl Collapsed<'_, '_> {
    /// A host of before inductive proofs does not say what an update or a deletion replaced.
    fn is_legacy(&self) -> bool {
        matches!(self.first.action, Action::Update | Action::Delete) && self.first.prev.is_none()
    }

    fn change(&self) -> Change<'_> {
        Change { key: self.first.path.as_bytes(), before: self.first.prev, after: self.last.cid }
    }
}

/// Joins operations on the same path: hosts report the record before the whole commit with each of them.
fn collapse<'m, 'a>(ops: &'m [RepoOp<'a>]) -> SmallVec<[Collapsed<'m, 'a>; 4]> {
    let mut order: SmallVec<[&RepoOp<'a>; 8]> = ops.iter().collect();
    order.sort_by_key(|op| op.path); // stable: operations on one path keep their order
    let mut collapsed: SmallVec<[Collapsed<'m, 'a>; 4]> = SmallVec::new();
    for op in order {
        match collapsed.last_mut() {
            Some(group) if group.first.path == op.path => {
                group.last = op;
                group.single = false;
            }
            _ => collapsed.push(Collapsed { first: op, last: op, single: true }),
        }
    }
    collapsed
}

/// The root of the tree before the operations, by undoing them; `None` where the host does not give enough for it.
fn tree_before(message: &CommitMessage<'_>, car: &Car<'_>, data: Cid) -> Result<Option<Cid>, VerifyError> {
    let groups = collapse(&message.ops);
    let mut legacy = false;
    for group in &groups {
        // A create that replaces something is a contradiction, unless an earlier operation of the commit explains it.
        if group.single && group.first.action == Action::Create && group.first.prev.is_some() {
            return Err(VerifyError::OpShape);
        }
        if group.last.cid.is_some_and(|cid| car.get(&cid).is_none()) {
            return Err(VerifyError::RecordMissing);
        }
        legacy |= group.is_legacy();
    }
    let mut tree = Partial::new(data, car);
    let creates_only = groups.iter().all(|group| group.first.prev.is_none() && !group.is_legacy());
    match message.prev_data {
        Some(prev_data) if !legacy => {
            let before = tree.invert(groups.iter().map(Collapsed::change))?;
            if before == prev_data { Ok(Some(before)) } else { Err(VerifyError::PrevData) }
        }
        None if message.ops.is_empty() => Ok(Some(data)),
        None if message.since.is_none() && creates_only => {
            // The first commit of a repository comes without `prevData`: then there must be nothing before it.
            match tree.invert(groups.iter().map(Collapsed::change)) {
                Ok(before) if before == empty_root() => Ok(Some(before)),
                _ => forward(data, car, &groups),
            }
        }
        _ => forward(data, car, &groups),
    }
}

/// Checks that the signed tree holds what the operations say, where there is no proof of the tree before.
fn forward(data: Cid, car: &Car<'_>, groups: &[Collapsed<'_, '_>]) -> Result<Option<Cid>, VerifyError> {
    let mut tree = Partial::new(data, car);
    for group in groups {
        if tree.get(group.last.path.as_bytes())? != group.last.cid {
            return Err(VerifyError::Proof(MstError::Contradiction));
        }
    }
    Ok(None)
}

impl<'a> CheckedCommit<'a> {
    /// The state after the commit.
    pub fn state(&self) -> RepoState {
        self.state
    }

    /// The operations in the order of the event.
    pub fn ops(&self) -> &[VerifiedOp<'a>] {
        &self.ops
    }

    /// Compares with what is stored of the repository.
    pub fn follow(self, stored: Option<&RepoState>) -> Result<VerifiedCommit<'a>, VerifyError> {
        let chain = match (stored, self.before) {
            (None, Some(before)) if before == empty_root() => Chain::First,
            (None, _) => return Err(VerifyError::Unknown),
            (Some(stored), _) if self.state.rev <= stored.rev => return Err(VerifyError::Stale),
            (Some(stored), Some(before)) => {
                if before != stored.data {
                    return Err(VerifyError::Data);
                }
                // With the tree proven, `since` matters only where it names another revision: then something was
                // missed that changed records and changed them back. Without operations there is nothing to order.
                if self.since.is_some_and(|since| since != stored.rev) && !self.ops.is_empty() {
                    return Err(VerifyError::Since);
                }
                Chain::Linked
            }
            (Some(stored), None) if self.since == Some(stored.rev) => Chain::Unproven,
            (Some(_), None) => return Err(VerifyError::Since),
        };
        Ok(VerifiedCommit { state: self.state, chain, ops: self.ops })
    }
}

/// What a `#sync` event means for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// Older than what is stored: nothing to do.
    Stale,
    /// Exactly what is stored: nothing to do. Hosts say so once for every new account.
    Same,
    /// The same records under a newer commit: store this state.
    Advance(RepoState),
    /// Other records than the stored ones: fetch the repository, which is expected to be at this state or later.
    Desynced(RepoState),
}

/// Checks a `#sync` event and returns the state it claims.
pub fn check_sync(message: &SyncMessage<'_>, key: &VerifyingKey, now_us: u64) -> Result<RepoState, VerifyError> {
    let car = Car::parse(message.blocks, EVENT_BLOCKS_MAX)?;
    let rev = Tid::parse(message.rev).map_err(|_| VerifyError::Rev)?;
    let root = single_root(&car)?;
    let commit = load_commit(&car, root, message.did, rev, now_us)?;
    commit.verify_signature(key)?;
    Ok(RepoState { rev, commit: root, data: commit.data })
}

/// The only root of a CAR, for repositories and `#sync`.
pub(crate) fn single_root(car: &Car<'_>) -> Result<Cid, VerifyError> {
    match car.roots() {
        [root] => root.to_cid().ok_or(VerifyError::Root),
        _ => Err(VerifyError::Root),
    }
}

/// Compares the state that a `#sync` claims with what is stored.
pub fn follow_sync(claim: RepoState, stored: Option<&RepoState>) -> SyncOutcome {
    match stored {
        None if claim.data == empty_root() => SyncOutcome::Advance(claim),
        None => SyncOutcome::Desynced(claim),
        Some(stored) if claim.rev < stored.rev => SyncOutcome::Stale,
        Some(stored) if claim.data != stored.data => SyncOutcome::Desynced(claim),
        Some(stored) if claim.rev == stored.rev => SyncOutcome::Same,
        Some(_) => SyncOutcome::Advance(claim),
    }
}
