//! One account's repository: its records, its tree, its signed root, and the commits that change them.

use std::collections::BTreeMap;

use bytes::Bytes;
use gp_atproto::{
    Cid, Tid,
    car::CarWriter,
    commit::Commit,
    crypto::SigningKey,
    datetime,
    frame::{self, CommitMessage, Message, RepoOp, SyncMessage},
    mst::Tree,
    verify::RepoState,
};

use crate::script::{Action, Write};

/// A repository.
#[derive(Clone, Default)]
pub(crate) struct Repo {
    tree: Tree,
    /// Record blocks by path.
    blocks: BTreeMap<Box<str>, Bytes>,
    head: Option<Head>,
}

/// The newest commit.
#[derive(Clone)]
struct Head {
    state: RepoState,
    block: Vec<u8>,
}

/// A commit with everything that an event about it carries, still open to tampering.
pub(crate) struct Made {
    pub(crate) state: RepoState,
    pub(crate) since: Option<Tid>,
    pub(crate) prev_data: Option<Cid>,
    pub(crate) commit_block: Vec<u8>,
    /// Tree nodes, the root first.
    pub(crate) nodes: Vec<(Cid, Vec<u8>)>,
    pub(crate) records: Vec<(Cid, Bytes)>,
    pub(crate) ops: Vec<MadeOp>,
}

pub(crate) struct MadeOp {
    pub(crate) action: Action,
    pub(crate) path: String,
    pub(crate) cid: Option<Cid>,
    pub(crate) prev: Option<Cid>,
}

impl Repo {
    pub(crate) fn state(&self) -> Option<RepoState> {
        self.head.as_ref().map(|head| head.state)
    }

    /// The CID of a record.
    pub(crate) fn get(&self, path: &str) -> Option<Cid> {
        self.tree.get(path.as_bytes())
    }

    /// Applies `writes` and signs the outcome.
    ///
    /// Several operations on one key are let through as real hosts do: each reports the record that stood before the
    /// commit, and only the last version travels.
    pub(crate) fn commit(
        &mut self,
        did: &str,
        key: &SigningKey,
        rev: Tid,
        writes: &[Write],
        keep_blocks: bool,
    ) -> Made {
        let mut before: BTreeMap<String, Option<Cid>> = BTreeMap::new();
        let mut ops = Vec::with_capacity(writes.len());
        for write in writes {
            let path = write.path();
            let cid = write.block.as_ref().map(|block| block.cid);
            let old = match cid {
                Some(cid) => self.tree.put(path.as_bytes(), cid).expect("paths of ours are valid keys"),
                None => self.tree.remove(path.as_bytes()),
            };
            let prev = *before.entry(path.clone()).or_insert(old);
            match &write.block {
                Some(block) if keep_blocks => drop(self.blocks.insert(path.as_str().into(), block.bytes.clone())),
                _ => drop(self.blocks.remove(path.as_str())),
            }
            ops.push(MadeOp { action: write.action, path, cid, prev });
        }
        let mut records: Vec<(Cid, Bytes)> = Vec::with_capacity(ops.len());
        for (op, write) in ops.iter().zip(writes) {
            let Some(block) = &write.block else { continue };
            if self.tree.get(op.path.as_bytes()) == Some(block.cid) && !records.iter().any(|(cid, _)| *cid == block.cid)
            {
                records.push((block.cid, block.bytes.clone()));
            }
        }
        let nodes = self.tree.proof(ops.iter().map(|op| op.path.as_bytes()));
        let data = self.tree.root();
        let (commit, commit_block) = Commit::create(did, rev, data, key);
        let state = RepoState { rev, commit, data };
        let last = self.head.replace(Head { state, block: commit_block.clone() });
        Made {
            state,
            since: last.as_ref().map(|last| last.state.rev),
            prev_data: last.as_ref().map(|last| last.state.data),
            commit_block,
            nodes,
            records,
            ops,
        }
    }

    /// A `#sync` about the newest commit.
    pub(crate) fn sync_frame(&self, seq: i64, did: &str, time_us: i64) -> Option<Bytes> {
        let head = self.head.as_ref()?;
        let mut car = CarWriter::new(&[head.state.commit]);
        car.block(head.state.commit.as_ref(), &head.block);
        let (blocks, time, rev) = (car.finish(), datetime::format_ms(time_us), head.state.rev.to_string());
        Some(Message::Sync(SyncMessage { seq, did, blocks: &blocks, rev: &rev, time: &time, time_us }).encode().into())
    }

    /// The whole repository as a CAR. `None` if there is none, or its blocks were not kept.
    pub(crate) fn car(&self) -> Option<Vec<u8>> {
        let head = self.head.as_ref()?;
        let mut car = CarWriter::new(&[head.state.commit]);
        car.block(head.state.commit.as_ref(), &head.block);
        for (cid, node) in self.tree.blocks() {
            car.block(cid.as_ref(), &node);
        }
        for (key, cid) in self.tree.leaves() {
            let path = std::str::from_utf8(key).expect("tree keys are ASCII");
            car.block(cid.as_ref(), self.blocks.get(path)?);
        }
        Some(car.finish())
    }

    /// Rebuilds a repository from its records and its newest commit, as they were read from somewhere.
    pub(crate) fn restore(blocks: BTreeMap<Box<str>, Bytes>, commit_block: Vec<u8>) -> Option<Repo> {
        let commit = Commit::decode(&commit_block).ok()?;
        let state = RepoState { rev: commit.rev, commit: Cid::for_dag_cbor(&commit_block), data: commit.data };
        let tree =
            Tree::from_sorted(blocks.iter().map(|(path, bytes)| (path.as_bytes(), Cid::for_dag_cbor(bytes)))).ok()?;
        (tree.root() == state.data).then_some(Repo { tree, blocks, head: Some(Head { state, block: commit_block }) })
    }
}

impl Made {
    /// The CAR: commit, nodes, records.
    pub(crate) fn car(&self) -> Vec<u8> {
        let mut car = CarWriter::new(&[self.state.commit]);
        car.block(self.state.commit.as_ref(), &self.commit_block);
        for (cid, node) in &self.nodes {
            car.block(cid.as_ref(), node);
        }
        for (cid, record) in &self.records {
            car.block(cid.as_ref(), record);
        }
        car.finish()
    }

    pub(crate) fn frame(&self, seq: i64, did: &str, time_us: i64) -> Bytes {
        self.frame_with(seq, did, time_us, &self.car())
    }

    /// The frame with a CAR that may not be the right one.
    pub(crate) fn frame_with(&self, seq: i64, did: &str, time_us: i64, blocks: &[u8]) -> Bytes {
        let time = datetime::format_ms(time_us);
        let ops = self.ops.iter().map(|op| RepoOp {
            action: match op.action {
                Action::Create => frame::Action::Create,
                Action::Update => frame::Action::Update,
                Action::Delete => frame::Action::Delete,
            },
            path: &op.path,
            cid: op.cid,
            prev: op.prev,
        });
        let message = CommitMessage {
            seq,
            repo: did,
            commit: self.state.commit,
            rev: self.state.rev,
            since: self.since,
            blocks,
            ops: ops.collect(),
            prev_data: self.prev_data,
            time: &time,
            time_us,
        };
        Message::Commit(message).encode().into()
    }
}
