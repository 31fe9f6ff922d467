//! The script: what happens in the network, and in which order.
//!
//! One thread of one mind writes it. It knows everybody, draws who does what next and emits [`Event`]s with their
//! records already encoded, since a like needs the CID of what it likes. Trees, signatures and frames come later and
//! in parallel (`repo`, `history`); they add nothing that the script would need to know.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use gp_atproto::{Cid, Tid, aturi};

use crate::{
    dice::{Dice, Purpose},
    population::Person,
    records::{self, Allow, Block, Strong},
    spec::Spec,
};

mod accounts;
mod milestones;
mod posts;
mod relations;
mod society;

use milestones::Milestone;

/// Everybody looks at this account: about a tenth of all accounts follow it.
pub(crate) const HUB: u32 = 0;
/// This account follows more accounts than anybody.
pub(crate) const READER: u32 = 1;
/// Runs the labeler.
pub(crate) const LABELER: u32 = 2;
/// Verifies others, and is to be trusted with it.
pub(crate) const VERIFIER: u32 = 3;
/// Keeps lists and starter packs.
pub(crate) const KEEPER: u32 = 4;
/// Runs feed generators.
pub(crate) const FEEDS: u32 = 5;
/// Accounts below this number stay as they are: no change of status, handle or key.
pub(crate) const FIRST_ORDINARY: u32 = 10;

/// Part of all records that are likes, follows, reposts and blocks; as measured on the real network.
const RELATIONS_SHARE: f64 = 0.88;
/// Steps out of which something is taken back.
const REMOVALS_SHARE: f64 = 0.035;
/// Everybody has joined when this part of the records is written.
const JOINED_BY: f64 = 0.55;
/// Reactions and follows that are remembered, to be taken back later.
const REMEMBERED_MAX: usize = 4_096;
/// Most operations of one commit; the protocol allows 200.
const OPS_MAX: usize = 180;

const NONE: u32 = u32::MAX;

/// Something that the host of an account announces.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) seq: i64,
    pub(crate) time_us: i64,
    pub(crate) actor: u32,
    pub(crate) act: Act,
}

#[derive(Debug)]
pub(crate) enum Act {
    /// The first commit of an account has no predecessor; the repo knows.
    Commit {
        rev: Tid,
        writes: Vec<Write>,
    },
    /// From now on the directory names this handle.
    Identity {
        handle: String,
    },
    /// `None` is an account in good standing.
    Account {
        status: Option<&'static str>,
    },
    Sync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
}

/// One operation of a commit. `block` is there for creates and updates.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) action: Action,
    pub(crate) collection: &'static str,
    pub(crate) rkey: Rkey,
    pub(crate) block: Option<Block>,
}

impl Write {
    pub(crate) fn create(collection: &'static str, rkey: Rkey, block: Block) -> Write {
        Write { action: Action::Create, collection, rkey, block: Some(block) }
    }

    pub(crate) fn update(collection: &'static str, rkey: Rkey, block: Block) -> Write {
        Write { action: Action::Update, collection, rkey, block: Some(block) }
    }

    pub(crate) fn delete(collection: &'static str, rkey: Rkey) -> Write {
        Write { action: Action::Delete, collection, rkey, block: None }
    }

    /// The key in the tree.
    pub(crate) fn path(&self) -> String {
        match self.rkey {
            Rkey::Tid(tid) => format!("{}/{}", self.collection, tid.text().as_str()),
            Rkey::Word(word) => format!("{}/{word}", self.collection),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rkey {
    Tid(Tid),
    Word(&'static str),
}

/// What the script knows of an account that has joined.
#[derive(Debug)]
struct Member {
    /// Time of the newest TID, in microseconds.
    last_us: u64,
    clock_id: u16,
    standing: Standing,
    handle: String,
    /// How many profiles have been written; zero is none.
    profile_editions: u32,
    joined_via: Option<Strong>,
    following: Vec<u32>,
    /// The newest followers.
    followers: VecDeque<u32>,
    posts: Vec<u32>,
    has_status: bool,
    has_declaration: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Active,
    Inactive,
    Deleted,
}

#[derive(Debug)]
struct Post {
    author: u32,
    tid: Tid,
    cid: Cid,
    root: u32,
    parent: u32,
    /// Index into `gates`.
    gate: u32,
    alive: bool,
    /// Neither reply nor embed: may be edited.
    plain: bool,
    /// Never deleted, because something else relies on it.
    fixed: bool,
}

/// A thread gate as it stands.
#[derive(Debug)]
struct Gate {
    post: u32,
    allow: Option<Vec<Allow>>,
    hidden: Vec<String>,
}

/// A reaction or an edge that may be taken back.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    actor: u32,
    tid: Tid,
    /// Post or account.
    subject: u32,
}

#[derive(Debug)]
struct List {
    owner: u32,
    strong: Strong,
    purpose: records::ListPurpose,
    items: Vec<(Tid, u32)>,
    /// A thread gate relies on its members.
    fixed: bool,
}

#[derive(Debug)]
struct Pack {
    strong: Strong,
    list: usize,
}

#[derive(Debug)]
struct LongThread {
    posts: Vec<u32>,
    target: usize,
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records created, whether or not they still stand.
    pub records: u64,
    /// Likes, reposts, follows and blocks among them.
    pub relations: u64,
    /// Likes among them.
    pub likes: u64,
    /// Follows among them.
    pub follows: u64,
    /// Posts among them.
    pub posts: u64,
    /// Updates.
    pub updates: u64,
    /// Deletions.
    pub deletes: u64,
    /// Commits.
    pub commits: u64,
    /// Events of all kinds.
    pub events: u64,
}

pub(crate) struct Script {
    people: Arc<[Person]>,
    accounts: u32,
    records: u64,
    ops_per_commit: f64,
    start_us: i64,
    end_us: i64,
    clock_us: i64,
    seq: i64,
    dice: Dice,
    members: Vec<Member>,
    /// Members in the order of how much they do, the busiest first.
    activity: Vec<u32>,
    posts: Vec<Post>,
    liked: HashSet<u64>,
    reposted: HashSet<u64>,
    followed: HashSet<u64>,
    blocked: HashSet<u64>,
    likes: Vec<Remembered>,
    reposts: Vec<(Remembered, Cid)>,
    follows: Vec<Remembered>,
    blocks: Vec<Remembered>,
    gates: Vec<Gate>,
    /// Pairs whose follow relation a gate has judged: it must not change afterwards, or the outcome would depend on
    /// when a consumer looks.
    judged: HashSet<u64>,
    lists: Vec<List>,
    gate_list: Option<usize>,
    packs: Vec<Pack>,
    generators: Vec<Strong>,
    labeler: Option<Strong>,
    publications: Vec<Strong>,
    long_thread: Option<LongThread>,
    reader_queue: Vec<u32>,
    milestones: VecDeque<(f64, Milestone)>,
    tally: Tally,
    out: Vec<Event>,
}

impl Script {
    pub(crate) fn new(spec: &Spec, people: Arc<[Person]>) -> Script {
        Script {
            people,
            accounts: spec.accounts,
            records: spec.records,
            ops_per_commit: spec.ops_per_commit.max(1.0),
            start_us: spec.now_us - spec.span_us,
            end_us: spec.now_us,
            clock_us: spec.now_us - spec.span_us,
            seq: spec.first_seq - 1,
            dice: Dice::new(spec.seed, Purpose::Script),
            members: Vec::new(),
            activity: Vec::new(),
            posts: Vec::new(),
            liked: HashSet::new(),
            reposted: HashSet::new(),
            followed: HashSet::new(),
            blocked: HashSet::new(),
            likes: Vec::new(),
            reposts: Vec::new(),
            follows: Vec::new(),
            blocks: Vec::new(),
            gates: Vec::new(),
            judged: HashSet::new(),
            lists: Vec::new(),
            gate_list: None,
            packs: Vec::new(),
            generators: Vec::new(),
            labeler: None,
            publications: Vec::new(),
            long_thread: None,
            reader_queue: Vec::new(),
            milestones: milestones::all(),
            tally: Tally::default(),
            out: Vec::new(),
        }
    }

    /// Whether the history is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.tally.records >= self.records && self.milestones.is_empty() && self.members.len() >= self.accounts as usize
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// What has happened since the last call.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn pending(&self) -> usize {
        self.out.len()
    }

    /// The next thing of the history.
    pub(crate) fn next(&mut self) {
        let progress = (self.tally.records as f64 / self.records.max(1) as f64).min(1.0);
        // Time is denser towards the end, as in a network that grows.
        let left = 1.0 - progress;
        let left_us = ((self.end_us - self.start_us) as f64 * left * (0.4 + 0.6 * left)) as i64;
        self.pass_time_to(self.end_us - left_us);
        self.act(progress);
    }

    /// The next thing after the history, at the time `now_us`.
    pub(crate) fn next_live(&mut self, now_us: i64) {
        self.pass_time_to(now_us);
        self.act(1.0);
    }

    /// Moves the clock to `time_us`, and in any case onwards.
    pub(crate) fn pass_time_to(&mut self, time_us: i64) {
        let pause_us = 1_000 + self.dice.below(9_000) as i64;
        self.clock_us = (self.clock_us + pause_us).max(time_us);
    }

    fn act(&mut self, progress: f64) {
        if self.milestones.front().is_some_and(|(at, _)| *at <= progress) && self.members.len() >= self.founders() {
            let (_, milestone) = self.milestones.pop_front().expect("just looked at");
            return self.reach(milestone);
        }
        let joined = self.members.len();
        let due = progress >= JOINED_BY * joined as f64 / f64::from(self.accounts);
        if joined < self.accounts as usize && (due || joined < self.founders()) {
            return self.join();
        }
        if self.reader_queue.len() >= 20 {
            return self.reader_follows();
        }
        if progress > 0.3 && self.dice.chance(self.affairs_rate()) {
            return self.account_affair();
        }
        if self.dice.chance(REMOVALS_SHARE) && self.take_something_back() {
            return;
        }
        let wanted = self.tally.relations as f64 <= RELATIONS_SHARE * self.tally.records as f64;
        if wanted && self.posts.len() >= 5 && self.relate() {
            return;
        }
        self.write_something(progress);
    }

    /// Accounts with a part to play, and a few ordinary ones, come first.
    fn founders(&self) -> usize {
        (self.accounts as usize).min(FIRST_ORDINARY as usize + 4)
    }

    /// Changes of status, handle and the like: about one for every fifty accounts.
    fn affairs_rate(&self) -> f64 {
        0.03 * f64::from(self.accounts) / self.records.max(1) as f64
    }

    // ------------------------------------------------------------------------------------------ who

    fn person(&self, actor: u32) -> &Person {
        &self.people[actor as usize]
    }

    fn did(&self, actor: u32) -> &str {
        &self.person(actor).did
    }

    fn member(&mut self, actor: u32) -> &mut Member {
        &mut self.members[actor as usize]
    }

    fn is_active(&self, actor: u32) -> bool {
        self.members[actor as usize].standing == Standing::Active
    }

    /// Somebody who does something now; a few do most.
    fn somebody(&mut self) -> u32 {
        for _ in 0..8 {
            let actor = self.activity[self.dice.towards_front(self.activity.len())];
            if self.is_active(actor) {
                return actor;
            }
        }
        HUB
    }

    /// Somebody who is looked at; the first accounts are the most popular.
    fn somebody_popular(&mut self) -> u32 {
        let ordinary = self.members.len() - 1;
        1 + self.dice.towards_front(ordinary) as u32
    }

    // ------------------------------------------------------------------------------------------ writing

    fn next_tid(&mut self, actor: u32) -> Tid {
        let now_us = self.clock_us as u64;
        let member = self.member(actor);
        member.last_us = (member.last_us + 1).max(now_us);
        Tid::from_parts(member.last_us, member.clock_id)
    }

    fn created_at(&mut self) -> String {
        let time_us = self.clock_us - self.dice.below(400_000) as i64;
        records::created_at(&mut self.dice, time_us)
    }

    fn uri(&self, actor: u32, collection: &str, tid: Tid) -> String {
        aturi::of_record(self.did(actor), collection, tid.text().as_str())
    }

    fn strong_post(&self, post: u32) -> Strong {
        let it = &self.posts[post as usize];
        Strong { uri: self.uri(it.author, records::POST, it.tid), cid: it.cid }
    }

    fn emit(&mut self, actor: u32, act: Act) {
        // Sequence numbers grow, but not always by one.
        self.seq += if self.dice.below(50) == 0 { 1 + self.dice.below(5) as i64 } else { 1 };
        self.tally.events += 1;
        self.out.push(Event { seq: self.seq, time_us: self.clock_us, actor, act });
    }

    /// Commits what an actor has written.
    fn commit(&mut self, actor: u32, writes: Vec<Write>) {
        for write in &writes {
            match write.action {
                Action::Create => {
                    self.tally.records += 1;
                    self.tally.relations += u64::from(records::is_relation(write.collection));
                    self.tally.likes += u64::from(write.collection == records::LIKE);
                    self.tally.follows += u64::from(write.collection == records::FOLLOW);
                    self.tally.posts += u64::from(write.collection == records::POST);
                }
                Action::Update => self.tally.updates += 1,
                Action::Delete => self.tally.deletes += 1,
            }
        }
        self.tally.commits += 1;
        let rev = self.next_tid(actor);
        self.emit(actor, Act::Commit { rev, writes });
    }

    /// How many operations go into the commit that is being put together.
    fn batch(&mut self) -> usize {
        let more = 1.0 - 1.0 / self.ops_per_commit;
        let mut ops = 1;
        while ops < OPS_MAX && self.dice.chance(more) {
            ops += 1;
        }
        ops
    }

    // ------------------------------------------------------------------------------------------ for faults and hints

    /// Appends an event that something outside the script has thought of, and returns its sequence number.
    pub(crate) fn reserve_seq(&mut self) -> i64 {
        self.seq += 1;
        self.tally.events += 1;
        self.seq
    }

    pub(crate) fn clock_us(&self) -> i64 {
        self.clock_us
    }

    /// Reserves a TID in an account's repo.
    pub(crate) fn reserve_tid(&mut self, actor: u32) -> Tid {
        self.next_tid(actor)
    }

    pub(crate) fn joined(&self) -> u32 {
        self.members.len() as u32
    }

    pub(crate) fn is_in_good_standing(&self, actor: u32) -> bool {
        (actor as usize) < self.members.len() && self.is_active(actor)
    }

    /// An ordinary account in good standing, for a fault to happen to.
    pub(crate) fn victim(&mut self, dice: &mut Dice) -> u32 {
        for _ in 0..64 {
            let actor = dice.below(self.members.len()) as u32;
            if actor >= FIRST_ORDINARY && self.is_active(actor) {
                return actor;
            }
        }
        FIRST_ORDINARY
    }

    pub(crate) fn long_thread_root(&self) -> Option<String> {
        let root = *self.long_thread.as_ref()?.posts.first()?;
        Some(self.strong_post(root).uri)
    }

    pub(crate) fn starter_pack(&self) -> Option<String> {
        self.packs.first().map(|it| it.strong.uri.clone())
    }

    pub(crate) fn generator(&self) -> Option<String> {
        self.generators.first().map(|it| it.uri.clone())
    }

    pub(crate) fn list(&self) -> Option<String> {
        self.lists.first().map(|it| it.strong.uri.clone())
    }

    /// Every post that was ever written, the oldest first.
    pub(crate) fn post_uris(&self) -> Vec<String> {
        self.posts.iter().map(|post| self.uri(post.author, records::POST, post.tid)).collect()
    }

    /// The newest post of the hub that still stands.
    pub(crate) fn hub_post(&self) -> Option<String> {
        let posts = &self.members.first()?.posts;
        let post = posts.iter().rev().find(|it| self.posts[**it as usize].alive)?;
        Some(self.strong_post(*post).uri)
    }
}

/// Two numbers of 32 bits as one of 64.
fn pair(a: u32, b: u32) -> u64 {
    u64::from(a) << 32 | u64::from(b)
}

/// Remembers one more, in the place of any other when there are enough.
fn remember<T>(memory: &mut Vec<T>, one: T, dice: &mut Dice) {
    if memory.len() < REMEMBERED_MAX {
        memory.push(one);
    } else {
        let at = dice.below(memory.len());
        memory[at] = one;
    }
}
