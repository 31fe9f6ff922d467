//! A small account that writes as a host does.

use std::collections::HashMap;

use groundplane_atproto::{
    Cid, Tid,
    car::CarWriter,
    commit::Commit,
    crypto::{Curve, SigningKey, VerifyingKey},
    frame::{Action, CommitMessage, RepoOp, SyncMessage},
    json,
    mst::Tree,
    verify::RepoState,
};

pub(crate) const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
pub(crate) const TIME: &str = "2024-01-02T03:04:05.678Z";
/// The moment of [`TIME`].
pub(crate) const NOW_US: u64 = 1_704_164_645_678_000;

/// A record that differs with `n`.
pub(crate) fn record(n: u32) -> Vec<u8> {
    let text = format!("Post number {n}, long enough to look like one that somebody wrote in a hurry.");
    json::to_cbor(&serde_json::json!({"$type": "app.bsky.feed.post", "text": text, "createdAt": TIME, "langs": ["en"]}))
        .unwrap()
}

pub(crate) fn path(n: u32) -> String {
    let collection = ["app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.graph.follow"][n as usize % 3];
    format!("{collection}/{}", Tid::from_parts(NOW_US - u64::from(n) * 1_000_000, 7))
}

#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) key: SigningKey,
    pub(crate) tree: Tree,
    pub(crate) records: HashMap<Cid, Vec<u8>>,
    pub(crate) state: Option<RepoState>,
    pub(crate) clock: u64,
}

/// What an account wants written: the path and the record, or none to delete.
pub(crate) type Write = (String, Option<Vec<u8>>);

/// A commit event that can be tampered with before it is borrowed as a message.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) repo: String,
    pub(crate) commit: Cid,
    pub(crate) rev: Tid,
    pub(crate) since: Option<Tid>,
    pub(crate) roots: Vec<Cid>,
    pub(crate) blocks: Vec<(Cid, Vec<u8>)>,
    pub(crate) ops: Vec<(Action, String, Option<Cid>, Option<Cid>)>,
    pub(crate) prev_data: Option<Cid>,
}

impl Account {
    pub(crate) fn new(curve: Curve) -> Account {
        let key = SigningKey::from_bytes(curve, &[0x42; 32]).unwrap();
        Account { key, tree: Tree::new(), records: HashMap::new(), state: None, clock: NOW_US - 1_000_000_000 }
    }

    /// An account with `n` records, and no event about how it got them.
    pub(crate) fn with_records(curve: Curve, n: u32) -> Account {
        let mut account = Account::new(curve);
        account.commit(&(0..n).map(|n| (path(n), Some(record(n)))).collect::<Vec<_>>());
        account
    }

    pub(crate) fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    pub(crate) fn state(&self) -> RepoState {
        self.state.unwrap()
    }

    /// Writes, as one commit, and returns the event. `prev` is the record before the whole commit on each operation.
    pub(crate) fn commit(&mut self, writes: &[Write]) -> Event {
        let before = self.tree.clone();
        let mut ops = Vec::new();
        let mut blocks = Vec::new();
        for (path, record) in writes {
            let key = path.as_bytes();
            let cid = record.as_ref().map(|record| Cid::for_dag_cbor(record));
            let there = match cid {
                Some(cid) => self.tree.put(key, cid).unwrap(),
                None => self.tree.remove(key),
            };
            let action = match (there, cid) {
                (None, _) => Action::Create,
                (Some(_), Some(_)) => Action::Update,
                (Some(_), None) => Action::Delete,
            };
            ops.push((action, path.clone(), cid, before.get(key)));
            if let (Some(cid), Some(record)) = (cid, record) {
                blocks.push((cid, record.clone()));
                self.records.insert(cid, record.clone());
            }
        }
        let proof = self.tree.proof(writes.iter().map(|(path, _)| path.as_bytes()));
        self.clock += 1_000;
        let rev = Tid::from_parts(self.clock, 1);
        let (commit, block) = Commit::create(DID, rev, self.tree.root(), &self.key);
        let mut all = vec![(commit, block)];
        all.extend(proof);
        all.extend(blocks);
        let event = Event {
            repo: DID.into(),
            commit,
            rev,
            since: self.state.map(|state| state.rev),
            roots: vec![commit],
            blocks: all,
            ops,
            prev_data: self.state.map(|state| state.data),
        };
        self.state = Some(RepoState { rev, commit, data: self.tree.root() });
        event
    }

    /// The `#sync` event of the last commit.
    pub(crate) fn sync(&self) -> Sync {
        let state = self.state();
        let (commit, block) = Commit::create(DID, state.rev, state.data, &self.key);
        Sync { did: DID.into(), rev: state.rev.to_string(), roots: vec![commit], blocks: vec![(commit, block)] }
    }

    /// The whole repository as a CAR.
    pub(crate) fn export(&self) -> Vec<u8> {
        let state = self.state();
        let (commit, block) = Commit::create(DID, state.rev, state.data, &self.key);
        let mut blocks = vec![(commit, block)];
        blocks.extend(self.tree.blocks());
        blocks.extend(self.tree.leaves().map(|(_, cid)| (cid, self.records[&cid].clone())));
        car(&[commit], &blocks)
    }
}

pub(crate) fn car(roots: &[Cid], blocks: &[(Cid, Vec<u8>)]) -> Vec<u8> {
    let mut writer = CarWriter::new(roots);
    for (cid, data) in blocks {
        writer.block(cid.as_ref(), data);
    }
    writer.finish()
}

impl Event {
    /// Lends the event as a message; `blocks` is its CAR.
    pub(crate) fn message<'a>(&'a self, blocks: &'a [u8]) -> CommitMessage<'a> {
        let op = |(action, path, cid, prev): &'a (Action, String, Option<Cid>, Option<Cid>)| RepoOp {
            action: *action,
            path,
            cid: *cid,
            prev: *prev,
        };
        CommitMessage {
            seq: 1,
            repo: &self.repo,
            commit: self.commit,
            rev: self.rev,
            since: self.since,
            blocks,
            ops: self.ops.iter().map(op).collect(),
            prev_data: self.prev_data,
            time: TIME,
            time_us: NOW_US as i64,
        }
    }

    pub(crate) fn car(&self) -> Vec<u8> {
        car(&self.roots, &self.blocks)
    }

    /// Takes the block with this CID out.
    pub(crate) fn drop_block(&mut self, cid: Cid) {
        self.blocks.retain(|(other, _)| *other != cid);
    }
}

pub(crate) struct Sync {
    pub(crate) did: String,
    pub(crate) rev: String,
    pub(crate) roots: Vec<Cid>,
    pub(crate) blocks: Vec<(Cid, Vec<u8>)>,
}

impl Sync {
    pub(crate) fn car(&self) -> Vec<u8> {
        car(&self.roots, &self.blocks)
    }

    pub(crate) fn message<'a>(&'a self, blocks: &'a [u8]) -> SyncMessage<'a> {
        SyncMessage { seq: 1, did: &self.did, blocks, rev: &self.rev, time: TIME, time_us: NOW_US as i64 }
    }
}
