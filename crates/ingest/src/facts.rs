//! What a verified event says, owned, ready to be applied.

use std::sync::Arc;

use bytes::Bytes;
use gp_atproto::Cid;
use gp_index::apply::Action;

/// A verified event of a repo, on its way to the writer.
#[derive(Debug)]
pub(crate) struct Item {
    /// The repo.
    pub(crate) did: Arc<str>,
    /// The event's own time, in microseconds.
    pub(crate) time_us: i64,
    /// What happened.
    pub(crate) facts: Facts,
}

/// What happened to a repo.
#[derive(Debug)]
pub(crate) enum Facts {
    /// A commit whose signature and proof hold.
    Commit(CommitFacts),
    /// A `#sync` whose signature holds.
    Sync(SyncFacts),
    /// Something new, but whether it is genuine could not be found out in time.
    Unverified {
        /// Its revision.
        rev: Box<str>,
    },
    /// Something that was lost or is stale; it only shows that the account is there.
    Nothing,
}

/// What a commit says.
#[derive(Debug)]
pub(crate) struct CommitFacts {
    pub(crate) rev: Box<str>,
    pub(crate) since: Option<Box<str>>,
    pub(crate) commit: Cid,
    pub(crate) data: Cid,
    /// The root of the tree before, as undoing the operations proves it. Nothing if the host does not give enough to
    /// prove it with.
    pub(crate) before: Option<Cid>,
    /// In the order of the message.
    pub(crate) ops: Vec<OpFacts>,
}

/// One operation of a commit.
#[derive(Debug)]
pub(crate) struct OpFacts {
    pub(crate) action: Action,
    pub(crate) collection: Box<str>,
    pub(crate) rkey: Box<str>,
    pub(crate) cid: Option<Cid>,
    /// A slice of the frame.
    pub(crate) record: Option<Bytes>,
}

/// What a `#sync` says.
#[derive(Debug)]
pub(crate) struct SyncFacts {
    pub(crate) rev: Box<str>,
    pub(crate) commit: Cid,
    pub(crate) data: Cid,
}

impl Facts {
    /// The revision of the event.
    pub(crate) fn rev(&self) -> &str {
        match self {
            Self::Commit(it) => &it.rev,
            Self::Sync(it) => &it.rev,
            Self::Unverified { rev } => rev,
            Self::Nothing => "",
        }
    }
}

impl Item {
    /// Bytes it keeps alive, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let ops = match &self.facts {
            Facts::Commit(it) => it.ops.iter().map(|op| 128 + op.record.as_ref().map_or(0, Bytes::len)).sum(),
            _ => 0,
        };
        256 + ops
    }
}
