//! An ideal consumer of a stream: verifies everything, believes nothing else, fetches what it has missed.

use std::collections::{BTreeMap, HashMap};

use gp_atproto::{
    Cid, cbor,
    crypto::VerifyingKey,
    frame::{Action, CommitMessage, Message},
    lexicon,
    repo::Repo,
    verify::{Reaction, RepoState, SyncOutcome, check_sync, follow_sync, verify_commit},
};
use groundplane_synth::Network;

#[derive(Default)]
pub(crate) struct Consumer {
    pub(crate) repos: HashMap<String, Known>,
    pub(crate) seq: i64,
    /// Events that were refused or passed over.
    pub(crate) refused: Vec<(i64, String)>,
    pub(crate) resyncs: u64,
    pub(crate) commits: u64,
}

#[derive(Default)]
pub(crate) struct Known {
    pub(crate) state: Option<RepoState>,
    pub(crate) records: BTreeMap<String, Cid>,
    pub(crate) handle: Option<String>,
    pub(crate) status: Option<String>,
}

impl Consumer {
    /// Reads everything that the network retains after what was read before.
    pub(crate) fn catch_up(&mut self, network: &Network) {
        for (seq, frame) in network.frames() {
            if seq > self.seq {
                self.take(network, seq, &frame);
                self.seq = seq;
            }
        }
    }

    fn take(&mut self, network: &Network, seq: i64, frame: &[u8]) {
        match Message::decode(frame) {
            Err(error) => self.refused.push((seq, error.to_string())),
            Ok(Message::Commit(commit)) => {
                assert_eq!(commit.seq, seq);
                self.commit(network, &commit);
            }
            Ok(Message::Sync(sync)) => {
                let claim = check_sync(&sync, &key(network, sync.did), now_us(network)).unwrap();
                let known = self.repos.entry(sync.did.to_owned()).or_default();
                match follow_sync(claim, known.state.as_ref()) {
                    SyncOutcome::Stale | SyncOutcome::Same => {}
                    SyncOutcome::Advance(state) => known.state = Some(state),
                    SyncOutcome::Desynced(_) => self.resync(network, sync.did),
                }
            }
            Ok(Message::Identity(identity)) => {
                // What the document says and the handle confirms.
                let handle = network.account(identity.did).map(|account| account.facts.handle);
                self.repos.entry(identity.did.to_owned()).or_default().handle = handle;
            }
            Ok(Message::Account(account)) => {
                let known = self.repos.entry(account.did.to_owned()).or_default();
                known.status = account.status.map(str::to_owned);
                assert_eq!(account.active, account.status.is_none());
                if account.status == Some("deleted") {
                    known.records.clear();
                    known.state = None;
                }
            }
            Ok(other) => self.refused.push((seq, format!("{other:?}"))),
        }
    }

    fn commit(&mut self, network: &Network, commit: &CommitMessage<'_>) {
        self.commits += 1;
        let known = self.repos.entry(commit.repo.to_owned()).or_default();
        match verify_commit(commit, &key(network, commit.repo), known.state.as_ref(), now_us(network)) {
            Ok(verified) => {
                known.state = Some(verified.state);
                for op in verified.ops {
                    let path = format!("{}/{}", op.collection, op.rkey);
                    match (op.action, op.cid, op.record) {
                        (Action::Delete, ..) => drop(known.records.remove(&path)),
                        (_, Some(cid), Some(record)) if is_kept(op.collection, record) => {
                            known.records.insert(path, cid);
                        }
                        _ => {} // not kept, or overwritten in the same commit
                    }
                }
            }
            Err(error) if error.reaction() == Reaction::Resync => self.resync(network, commit.repo),
            Err(error) => self.refused.push((commit.seq, error.to_string())),
        }
    }

    fn resync(&mut self, network: &Network, did: &str) {
        self.resyncs += 1;
        let car = network.repo_car(did).unwrap();
        let repo = Repo::verify(&car, did, &key(network, did), now_us(network)).unwrap();
        let known = self.repos.entry(did.to_owned()).or_default();
        known.state = Some(repo.state());
        known.records = repo
            .records()
            .filter(|it| is_kept(it.collection, it.record))
            .map(|it| (format!("{}/{}", it.collection, it.rkey), it.cid))
            .collect();
    }
}

fn is_kept(collection: &str, record: &[u8]) -> bool {
    is_versioned(collection)
        || lexicon::is_known_collection(collection)
            && lexicon::validate(collection, &cbor::decode(record).unwrap()).is_ok()
}

pub(crate) fn key(network: &Network, did: &str) -> VerifyingKey {
    VerifyingKey::from_multikey(&network.account(did).unwrap().facts.signing_key).unwrap()
}

/// A clock that has passed everything honest that has happened, and nothing from tomorrow.
pub(crate) fn now_us(_: &Network) -> u64 {
    crate::NOW_US as u64 + 60_000_000
}

/// Collections whose records are kept as they are, with their versions.
pub(crate) fn is_versioned(collection: &str) -> bool {
    matches!(collection, "site.standard.document" | "site.standard.publication")
}
