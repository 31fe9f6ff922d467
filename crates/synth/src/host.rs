//! The hosts of all accounts and the directory in which they are found: repositories, keys, handles, standing.
//!
//! Events become frames here. One account's events must come in order; those of different accounts may come from
//! different threads at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use gp_atproto::{
    Cid, Tid,
    crypto::{SigningKey, VerifyingKey},
    datetime,
    frame::{AccountMessage, IdentityMessage, Message},
    verify::RepoState,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    population::Person,
    repo::{Made, Repo},
    script::{Act, Event, LABELER, Write},
};

/// What the network says about an account, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFacts {
    /// The account's DID.
    pub did: String,
    /// The handle in its DID document. Another account may own it.
    pub handle: String,
    /// The key with which it signs, as a `Multikey`.
    pub signing_key: String,
    /// The key with which it signs labels, for labelers.
    pub label_key: Option<String>,
    /// The newest commit and its revision.
    pub head: Option<(Cid, Tid)>,
    /// `None` in good standing, otherwise `deactivated`, `takendown`, `suspended` or `deleted`.
    pub status: Option<String>,
    /// Whether the directory says that the DID is gone.
    pub is_tombstone: bool,
}

/// Answers what identity directories and hosts are asked.
pub(crate) trait Directory: Send + Sync {
    fn account(&self, did: &str) -> Option<AccountFacts>;
    /// The DID that owns a handle.
    fn owner(&self, handle: &str) -> Option<String>;
    /// A repository as a CAR, whatever the account's standing.
    fn car(&self, did: &str) -> Option<Vec<u8>>;
    /// Accounts in order of joining, from number `from`.
    fn list(&self, from: usize, limit: usize) -> Vec<AccountFacts>;
}

#[derive(Default)]
struct Hosted {
    repo: Repo,
    handle: String,
    /// Replaces the person's first key.
    later_key: Option<SigningKey>,
    status: Option<&'static str>,
    is_tombstone: bool,
    has_joined: bool,
}

pub(crate) struct Host {
    people: Arc<[Person]>,
    keep_blocks: bool,
    accounts: Vec<Mutex<Hosted>>,
    by_did: HashMap<Box<str>, u32>,
    handles: RwLock<HashMap<String, u32>>,
}

impl Host {
    pub(crate) fn new(people: Arc<[Person]>, keep_blocks: bool) -> Host {
        let by_did = people.iter().zip(0..).map(|(person, index)| (person.did.as_str().into(), index)).collect();
        let accounts = people.iter().map(|_| Mutex::default()).collect();
        Host { people, keep_blocks, accounts, by_did, handles: RwLock::default() }
    }

    pub(crate) fn index_of(&self, did: &str) -> Option<u32> {
        self.by_did.get(did).copied()
    }

    pub(crate) fn person(&self, actor: u32) -> &Person {
        &self.people[actor as usize]
    }

    fn with<T>(&self, actor: u32, f: impl FnOnce(&mut Hosted) -> T) -> T {
        f(&mut self.accounts[actor as usize].lock())
    }

    /// Enters what concerns more than one account, which has to happen in the order of the events.
    fn note(&self, event: &Event) {
        if let Act::Identity { handle } = &event.act {
            self.take_handle(event.actor, handle);
        }
    }

    /// Carries out the rest of an event and returns its frame.
    fn frame(&self, event: &Event) -> Bytes {
        let (seq, time_us, did) = (event.seq, event.time_us, self.person(event.actor).did.as_str());
        let time = datetime::format_ms(time_us);
        match &event.act {
            Act::Commit { rev, writes } => self.commit(event.actor, *rev, writes).frame(seq, did, time_us),
            Act::Identity { handle } => {
                Message::Identity(IdentityMessage { seq, did, handle: Some(handle), time: &time, time_us })
                    .encode()
                    .into()
            }
            Act::Account { status } => {
                self.set_status(event.actor, *status);
                let message =
                    AccountMessage { seq, did, active: status.is_none(), status: *status, time: &time, time_us };
                Message::Account(message).encode().into()
            }
            Act::Sync => {
                let frame = self.with(event.actor, |it| it.repo.sync_frame(seq, did, time_us));
                frame.expect("an account has a commit before anybody speaks of it")
            }
        }
    }

    /// Carries out many events on several threads and returns their frames in the same order.
    pub(crate) fn perform_all(&self, events: &[Event], threads: usize) -> Vec<Bytes> {
        // Events of one account form a task; threads take tasks, the longest first.
        let mut by_actor: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            by_actor.entry(event.actor).or_default().push(at);
        }
        let mut tasks: Vec<Vec<usize>> = by_actor.into_values().collect();
        tasks.sort_by_key(|task| (usize::MAX - task.len(), task[0]));
        events.iter().for_each(|event| self.note(event));
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.extend(task.iter().map(|at| (*at, self.frame(&events[*at]))));
            }
            done
        };
        let mut frames = vec![Bytes::new(); events.len()];
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let theirs = workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic"));
            for (at, frame) in mine.into_iter().chain(theirs) {
                frames[at] = frame;
            }
        });
        frames
    }

    /// Commits without announcing it.
    pub(crate) fn commit(&self, actor: u32, rev: Tid, writes: &[Write]) -> Made {
        let person = self.person(actor);
        self.with(actor, |it| {
            it.has_joined = true;
            let key = it.later_key.as_ref().unwrap_or_else(|| person.key());
            it.repo.commit(&person.did, key, rev, writes, self.keep_blocks)
        })
    }

    /// What a commit would be, signed with any key. The repo stays as it is.
    pub(crate) fn pretend(&self, actor: u32, rev: Tid, writes: &[Write], key: &SigningKey) -> Made {
        let did = &self.person(actor).did;
        let mut copy = self.with(actor, |it| it.repo.clone());
        copy.commit(did, key, rev, writes, false)
    }

    /// A `#sync` about the newest commit.
    pub(crate) fn sync_frame(&self, actor: u32, seq: i64, time_us: i64) -> Option<Bytes> {
        let did = &self.person(actor).did;
        self.with(actor, |it| it.repo.sync_frame(seq, did, time_us))
    }

    pub(crate) fn state(&self, actor: u32) -> Option<RepoState> {
        self.with(actor, |it| it.repo.state())
    }

    pub(crate) fn record(&self, actor: u32, path: &str) -> Option<Cid> {
        self.with(actor, |it| it.repo.get(path))
    }

    pub(crate) fn key(&self, actor: u32) -> SigningKey {
        self.with(actor, |it| it.later_key.clone()).unwrap_or_else(|| self.person(actor).key().clone())
    }

    /// From now on the account signs with its `n`th later key.
    pub(crate) fn rotate_key(&self, actor: u32, n: u32) {
        let key = self.person(actor).later_key(n);
        self.with(actor, |it| it.later_key = Some(key));
    }

    /// The document of `actor` says `handle`, and the handle points back.
    pub(crate) fn take_handle(&self, actor: u32, handle: &str) {
        let mut handles = self.handles.write();
        let old = self.with(actor, |it| std::mem::replace(&mut it.handle, handle.to_owned()));
        if handles.get(&old) == Some(&actor) {
            handles.remove(&old);
        }
        handles.insert(handle.to_owned(), actor);
    }

    pub(crate) fn set_status(&self, actor: u32, status: Option<&'static str>) {
        self.with(actor, |it| {
            it.status = status;
            if status == Some("deleted") {
                it.repo = Repo::default();
            }
        });
    }

    pub(crate) fn bury(&self, actor: u32) {
        self.with(actor, |it| it.is_tombstone = true);
    }

    pub(crate) fn facts(&self, actor: u32) -> Option<AccountFacts> {
        let person = self.people.get(actor as usize)?;
        let key: VerifyingKey = self.key(actor).verifying_key();
        self.with(actor, |it| {
            (it.has_joined || !it.handle.is_empty()).then(|| AccountFacts {
                did: person.did.clone(),
                handle: it.handle.clone(),
                signing_key: key.to_multikey(),
                label_key: (actor == LABELER).then(|| label_key(person).verifying_key().to_multikey()),
                head: it.repo.state().map(|state| (state.commit, state.rev)),
                status: it.status.map(str::to_owned),
                is_tombstone: it.is_tombstone,
            })
        })
    }
}

/// The key with which a labeler signs labels.
pub(crate) fn label_key(person: &Person) -> SigningKey {
    person.later_key(u32::MAX)
}

impl Directory for Host {
    fn account(&self, did: &str) -> Option<AccountFacts> {
        self.facts(self.index_of(did)?)
    }

    fn owner(&self, handle: &str) -> Option<String> {
        let actor = *self.handles.read().get(handle)?;
        Some(self.person(actor).did.clone())
    }

    fn car(&self, did: &str) -> Option<Vec<u8>> {
        self.with(self.index_of(did)?, |it| it.repo.car())
    }

    fn list(&self, from: usize, limit: usize) -> Vec<AccountFacts> {
        (from..self.people.len()).map_while(|actor| self.facts(actor as u32)).take(limit).collect()
    }
}
